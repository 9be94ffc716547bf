"""Flow: labelled store -> split -> checkpoint folder."""

from prefect.artifacts import create_markdown_artifact

from flows.prefect_server.temporary import flow
from flows.split import prepare_split_store
from reelcheck.card import ModelCard
from reelcheck.locations import Location
from reelcheck.recipes import load_recipe
from reelcheck.train_config import EngineSettings, TrainSettings
from storage.layout import (
    ModelLayout,
)
from storage.object_store.copies import open_for_writing
from tasks.checkpoints.steps import make_onnx_step
from tasks.training.report import embed_pictures
from tasks.training.steps import train_step


@flow(name="train", validate_parameters=True)
def train(
    store: Location,
    model: Location,
    recipe: str | None = None,
    settings: TrainSettings | None = None,
    engine: EngineSettings | None = None,
    preprocessing: str | None = None,
    notes: tuple[str, ...] = (),
) -> ModelCard:
    """Train a detector on a store; new videos are assigned to a split first.

    Args:
        store: a preprocessed, labelled store, by path or URL.
        model: folder for the checkpoint, by path or URL.
        recipe: name of a recipe, for what the settings leave out.
        settings: the training run; None: the recipe's, or the defaults.
        engine: how to use the machine; None: the recipe's, or the defaults.
        preprocessing: hash of the preprocessing to use, if the store holds several.
        notes: lines for the model card.
    """
    if recipe is not None:
        chosen = load_recipe(recipe)
        settings, engine = settings or chosen.train, engine or chosen.engine
    settings = settings or TrainSettings()
    with (
        prepare_split_store(store, settings, preprocessing) as layout,
        open_for_writing(model) as copy,
    ):
        output = ModelLayout(copy.path)
        card = train_step(layout, output, settings, engine=engine, notes=notes)
        make_onnx_step(output)
        report = embed_pictures(output)
    create_markdown_artifact(report, key="training-report")
    return card
