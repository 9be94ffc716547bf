"""Flows: labelled store -> split -> checkpoint folder; and what comparing such runs shows."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact

from reelcheck.card import ModelCard
from reelcheck.config import SplitSettings
from reelcheck.places import Place
from reelcheck.recipes import load_recipe
from reelcheck.settings import settings_hash
from reelcheck.train_config import EngineSettings, TrainSettings
from storage.copies import reading, writing
from storage.layout import (
    ModelLayout,
    StoreLayout,
    StudyLayout,
    find_preprocessed,
    is_no_crops,
)
from storage.schemas import SPLIT
from storage.tables import read_rows
from tasks import split as split_step
from tasks import train as train_step
from tasks.ablation import measure_variant, variants
from tasks.export import ensure_onnx_files
from tasks.parts import subset
from tasks.plots import AblationRow, LearningPoint
from tasks.report import report_with_pictures
from tasks.study import ablation_markdown, write_ablation, write_learning_curve


@flow(name="split", validate_parameters=True)
def split(
    store: Place, settings: SplitSettings | None = None, preprocessing: str | None = None
) -> dict[str, dict[str, int]]:
    """Divide a store's labelled videos into train, val and test without leaks.

    Args:
        store: a preprocessed store, by path or URL.
        settings: fractions and seed; None: those of the existing split, or the defaults.
        preprocessing: hash of the preprocessing to use, if the store holds several.

    Returns:
        Videos per part and label.
    """
    with writing(store, wanted=is_no_crops) as copy:
        return split_step.split(find_preprocessed(copy.path, preprocessing), settings)


@flow(name="train", validate_parameters=True)
def train(
    store: Place,
    model: Place,
    recipe: str | None = None,
    settings: TrainSettings | None = None,
    engine: EngineSettings | None = None,
    preprocessing: str | None = None,
    notes: tuple[str, ...] = (),
) -> ModelCard:
    """Train a detector on a store; videos that are in no part yet are dealt first.

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
    with _split_store(store, settings, preprocessing) as layout, writing(model) as copy:
        output = ModelLayout(copy.path)
        card = train_step.train(layout, output, settings, engine=engine, notes=notes)
        task(name="write ONNX files")(ensure_onnx_files)(output)
        report = report_with_pictures(output)
    create_markdown_artifact(report, key="training-report")
    return card


@flow(name="learning curve", validate_parameters=True)
def learning_curve(
    store: Place,
    out: Place,
    subset_sizes: Sequence[int],
    settings: TrainSettings | None = None,
    engine: EngineSettings | None = None,
    preprocessing: str | None = None,
) -> list[LearningPoint]:
    """Train on growing parts of the train videos and on all, and draw what more data gives.

    Args:
        store: a preprocessed, labelled store, by path or URL.
        out: folder for the models, the table and the picture.
        subset_sizes: numbers of train videos.
        settings: the training runs; None: the defaults.
        engine: how to use the machine; None: the defaults.
        preprocessing: hash of the preprocessing to use, if the store holds several.
    """
    settings = settings or TrainSettings()
    with _split_store(store, settings, preprocessing) as layout, writing(out) as copy:
        study = StudyLayout(copy.path)
        sizes, split_rows = sorted(set(subset_sizes)), read_rows(layout.split_path, SPLIT)
        for size in sizes:
            # All of them before the first is trained: too large a size is told at once.
            subset(split_rows, num_videos=size, seed=settings.seed)
        cards = [
            train_step.train(
                layout, study.model(str(size)), settings, engine=engine, num_train_videos=size
            )
            for size in sizes
        ]
        cards.append(train_step.train(layout, study.model("all"), settings, engine=engine))
        num_all = sum(cards[-1].num_videos["train"].values())
        points = [
            LearningPoint(
                share=sum(card.num_videos["train"].values()) / num_all,
                num_videos=sum(card.num_videos["train"].values()),
                val_auc=card.validation["auc"],
                val_f1=card.validation["f1"],
            )
            for card in cards
        ]
        write_learning_curve(study, points)
    return points


@flow(name="ablate", validate_parameters=True)
def ablate(
    store: Place,
    out: Place,
    settings: TrainSettings | None = None,
    engine: EngineSettings | None = None,
    preprocessing: str | None = None,
) -> list[AblationRow]:
    """Train with each generalisation switch off and on, and tabulate the held-out figures.

    Args:
        store: a preprocessed, labelled store, by path or URL.
        out: folder for the models, the table and the picture.
        settings: the run that is varied; None: the defaults.
        engine: how to use the machine; None: the defaults.
        preprocessing: hash of the preprocessing to use, if the store holds several.
    """
    settings = settings or TrainSettings()
    with _split_store(store, settings, preprocessing) as layout, writing(out) as copy:
        study = StudyLayout(copy.path)
        rows = []
        for variant in variants(settings):
            model = study.model(variant.name.replace(" ", "-"))
            card = train_step.train(layout, model, variant.settings, engine=engine)
            rows.append(measure_variant(variant, card, layout, model))
        write_ablation(study, rows)
    create_markdown_artifact(ablation_markdown(rows), key="ablation")
    return rows


@contextmanager
def _split_store(
    store: Place, settings: TrainSettings, preprocessing: str | None
) -> Iterator[StoreLayout]:
    """The store's preprocessing for a run, its labelled videos dealt, its crops at hand.

    Of several preprocessings that of the settings' recipe, where it is among them.
    """
    with writing(store, wanted=is_no_crops) as copy:
        if preprocessing is None and settings.recipe is not None:
            own = settings_hash(load_recipe(settings.recipe).preprocess)
            if (copy.path / own).is_dir():
                preprocessing = own
        split_step.split(find_preprocessed(copy.path, preprocessing), None)
    with reading(store) as folder:
        yield find_preprocessed(folder, preprocessing)
