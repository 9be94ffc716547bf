"""Flow: model + labelled store -> figures on videos that the model has not seen."""

from contextlib import ExitStack
from typing import Literal

from prefect.artifacts import create_markdown_artifact

from flows.prefect_server.temporary import flow
from models.metrics.evaluation import Evaluation
from reelcheck.config import RunSettings
from reelcheck.locations import Location
from reelcheck.perturbations import parse_perturbations
from storage.layout import ModelLayout, find_preprocessed
from storage.object_store.copies import open_for_reading, open_for_writing
from tasks.evaluation.sections import describe_evaluation, format_sections
from tasks.evaluation.steps import evaluate_step


@flow(name="evaluate", validate_parameters=True)
def evaluate(
    store: Location,
    model: Location,
    split: Literal["train", "val", "test"] = "test",
    preprocessing: str | None = None,
    out: Location | None = None,
    perturb: tuple[str, ...] = (),
    run: RunSettings | None = None,
    *,
    report: bool = False,
) -> Evaluation:
    """Measure a model on one split of a store.

    Args:
        store: a preprocessed, labelled, split store, by path or URL.
        model: a checkpoint folder, by path or URL.
        split: videos to measure on; a model refuses videos that it has learned from.
        preprocessing: hash of the preprocessing to use, if the store holds several.
        out: folder to write to; None: evaluations/SPLIT-HASH in the model's folder.
        perturb: perturbations of the videos: ``default``, or names such as ``jpeg 50``.
        run: how to use the machine; None: the defaults.
        report: write pictures, a report and a model card, too.
    """
    with ExitStack() as stack:
        store_dir = stack.enter_context(open_for_reading(store))
        # An evaluation is kept in the model's folder unless another folder is named.
        kept = stack.enter_context(open_for_writing(model if out is None else out)).path
        model_dir = kept if out is None else stack.enter_context(open_for_reading(model))
        evaluation = evaluate_step(
            find_preprocessed(store_dir, preprocessing),
            ModelLayout(model_dir),
            split=split,
            out=None if out is None else kept,
            perturbations=parse_perturbations(perturb),
            run=run,
            with_report=report,
        )
    create_markdown_artifact(format_sections(describe_evaluation(evaluation)), key="evaluation")
    return evaluation
