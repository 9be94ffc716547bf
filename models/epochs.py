"""What the epochs of a phase so far say: which is the best, and whether there will be another."""

from collections.abc import Sequence

from reelcheck.train_config import TrainSettings

EpochRow = dict[str, float | int]
"""Columns of ``storage.schemas.LOG``; ``is_best``: of the phase so far."""


def best_place(rows: Sequence[EpochRow], settings: TrainSettings) -> int:
    """The first of the best epochs."""
    values = [row[f"val_{settings.select_by}"] for row in rows]
    return values.index(min(values) if settings.select_by == "loss" else max(values))


def is_finished(rows: Sequence[EpochRow], settings: TrainSettings, *, number: int) -> bool:
    """Whether a phase has come to its last epoch, or has not become better for long enough."""
    if not rows:
        return False
    waited = len(rows) - 1 - best_place(rows, settings)
    return len(rows) >= settings.phases[number - 1].max_epochs or waited >= settings.patience_epochs
