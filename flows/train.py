"""Flow: labelled store -> split -> checkpoint folder."""

from pathlib import Path

from prefect import flow

from reelcheck.card import ModelCard
from reelcheck.config import SplitSettings, TrainSettings
from storage.layout import ModelLayout, find_preprocessed
from tasks import split as split_step
from tasks import train as train_step


@flow(name="split", validate_parameters=True)
def split(
    store: Path, settings: SplitSettings | None = None, preprocessing: str | None = None
) -> dict[str, dict[str, int]]:
    """Divide a store's labelled videos into train, val and test without leaks.

    Args:
        store: a preprocessed store.
        settings: fractions and seed; None: those of the existing split, or the defaults.
        preprocessing: hash of the preprocessing to use, if the store holds several.

    Returns:
        Videos per part and label.
    """
    layout = find_preprocessed(store, preprocessing)
    return split_step.split(layout, settings)


@flow(name="train", validate_parameters=True)
def train(
    store: Path,
    model: Path,
    settings: TrainSettings | None = None,
    preprocessing: str | None = None,
    notes: tuple[str, ...] = (),
) -> ModelCard:
    """Train a detector on a store; videos that are in no part yet are dealt first.

    Args:
        store: a preprocessed, labelled store.
        model: folder for the checkpoint.
        settings: the training run; None: the defaults.
        preprocessing: hash of the preprocessing to use, if the store holds several.
        notes: lines for the model card.
    """
    layout = find_preprocessed(store, preprocessing)
    split_step.split(layout, None)
    return train_step.train(layout, ModelLayout(model), settings or TrainSettings(), notes=notes)
