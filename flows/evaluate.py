"""Flow: model + labelled store -> metrics on videos that the model has not seen."""

from pathlib import Path
from typing import Literal

from prefect import flow

from storage.layout import ModelLayout, find_preprocessed
from tasks import evaluate as evaluate_step


@flow(name="evaluate", validate_parameters=True)
def evaluate(
    store: Path,
    model: Path,
    part: Literal["train", "val", "test"] = "test",
    preprocessing: str | None = None,
) -> evaluate_step.Evaluation:
    """Measure a model on one part of a store's split.

    Args:
        store: a preprocessed, labelled, split store.
        model: a checkpoint folder.
        part: which part; a model refuses what it has learned from.
        preprocessing: hash of the preprocessing to use, if the store holds several.
    """
    layout = find_preprocessed(store, preprocessing)
    return evaluate_step.evaluate(layout, ModelLayout(model), part=part)
