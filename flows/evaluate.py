"""Flow: model + labelled store -> figures on videos that the model has not seen."""

from contextlib import ExitStack
from typing import Literal

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from models.evaluation import Evaluation
from reelcheck.config import RunSettings
from reelcheck.perturbations import named_perturbations
from reelcheck.places import Place
from storage.copies import reading, writing
from storage.layout import ModelLayout, find_preprocessed
from tasks import evaluate as evaluate_step
from tasks.evaluation_sections import evaluation_sections, sections_markdown


@flow(name="evaluate", validate_parameters=True)
def evaluate(
    store: Place,
    model: Place,
    part: Literal["train", "val", "test"] = "test",
    preprocessing: str | None = None,
    out: Place | None = None,
    perturb: tuple[str, ...] = (),
    run: RunSettings | None = None,
    *,
    report: bool = False,
) -> Evaluation:
    """Measure a model on one part of a store's split.

    Args:
        store: a preprocessed, labelled, split store, by path or URL.
        model: a checkpoint folder, by path or URL.
        part: which part; a model refuses what it has learned from.
        preprocessing: hash of the preprocessing to use, if the store holds several.
        out: folder to write to; None: evaluations/PART-SPLIT in the model's folder.
        perturb: what the videos go through as well: ``default``, or names such as ``jpeg 50``.
        run: how to use the machine; None: the defaults.
        report: write pictures, a page and a model card, too.
    """
    with ExitStack() as stack:
        store_dir = stack.enter_context(reading(store))
        # An evaluation is kept in the model's folder unless another place is named.
        kept = stack.enter_context(writing(model if out is None else out)).path
        model_dir = kept if out is None else stack.enter_context(reading(model))
        found = evaluate_step.evaluate(
            find_preprocessed(store_dir, preprocessing),
            ModelLayout(model_dir),
            part=part,
            out=None if out is None else kept,
            perturbations=named_perturbations(perturb),
            run=run,
            with_report=report,
        )
    create_markdown_artifact(sections_markdown(evaluation_sections(found)), key="evaluation")
    return found
