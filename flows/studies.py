"""Flows: how a model improves with more videos, and with each switch of training."""

from collections.abc import Sequence

from prefect.artifacts import create_markdown_artifact

from flows.prefect_server.temporary import flow
from flows.split import prepare_split_store
from reelcheck.locations import Location
from reelcheck.train_config import EngineSettings, TrainSettings
from storage.layout import (
    ModelLayout,
)
from storage.object_store.copies import open_for_writing
from storage.outputs import StudyLayout
from storage.schemas import SPLIT
from storage.tables import read_rows
from tasks.evaluation.steps import measure_variant_step
from tasks.evaluation.studies import (
    AblationRow,
    LearningPoint,
    format_ablation,
    list_variants,
    write_ablation,
    write_learning_curve,
)
from tasks.training.rows import take_subset
from tasks.training.steps import train_step


@flow(name="learning curve", validate_parameters=True)
def measure_learning_curve(
    store: Location,
    out: Location,
    subset_sizes: Sequence[int],
    settings: TrainSettings | None = None,
    engine: EngineSettings | None = None,
    preprocessing: str | None = None,
) -> list[LearningPoint]:
    """Train on growing subsets of the train videos and on all of them, and draw the curve.

    Args:
        store: a preprocessed, labelled store, by path or URL.
        out: folder for the models, the table and the picture.
        subset_sizes: numbers of train videos.
        settings: the training runs; None: the defaults.
        engine: how to use the machine; None: the defaults.
        preprocessing: hash of the preprocessing to use, if the store holds several.
    """
    settings = settings or TrainSettings()
    with (
        prepare_split_store(store, settings, preprocessing) as layout,
        open_for_writing(out) as copy,
    ):
        study = StudyLayout(copy.path)
        sizes, split_rows = sorted(set(subset_sizes)), read_rows(layout.split_path, SPLIT)
        for size in sizes:
            # Check every size before training starts, so that a bad one fails immediately.
            take_subset(split_rows, num_videos=size, seed=settings.seed)
        cards = [
            train_step(
                layout,
                ModelLayout(study.model_dir(str(size))),
                settings,
                engine=engine,
                num_train_videos=size,
            )
            for size in sizes
        ]
        cards.append(
            train_step(layout, ModelLayout(study.model_dir("all")), settings, engine=engine)
        )
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
    store: Location,
    out: Location,
    settings: TrainSettings | None = None,
    engine: EngineSettings | None = None,
    preprocessing: str | None = None,
) -> list[AblationRow]:
    """Train with each generalisation switch off and on, and tabulate the held-out figures.

    Args:
        store: a preprocessed, labelled store, by path or URL.
        out: folder for the models, the table and the picture.
        settings: the training run to vary; None: the defaults.
        engine: how to use the machine; None: the defaults.
        preprocessing: hash of the preprocessing to use, if the store holds several.
    """
    settings = settings or TrainSettings()
    with (
        prepare_split_store(store, settings, preprocessing) as layout,
        open_for_writing(out) as copy,
    ):
        study = StudyLayout(copy.path)
        rows = []
        for variant in list_variants(settings):
            model = ModelLayout(study.model_dir(variant.name.replace(" ", "-")))
            card = train_step(layout, model, variant.settings, engine=engine)
            rows.append(measure_variant_step(variant, card, layout, model))
        write_ablation(study, rows)
    create_markdown_artifact(format_ablation(rows), key="ablation")
    return rows
