"""The epochs of a phase so far: which one is the best, and whether another one follows."""

from collections.abc import Sequence

from reelcheck.train_config import TrainSettings
from storage.rows import EpochRow


def find_best_epoch(rows: Sequence[EpochRow], settings: TrainSettings) -> int:
    """Find the position of the first of the best epochs."""
    if settings.select_by == "loss":
        values = [-row["val_loss"] for row in rows]
    elif settings.select_by == "auc":
        values = [row["val_auc"] for row in rows]
    else:
        values = [row["val_f1"] for row in rows]
    return values.index(max(values))


def is_finished(rows: Sequence[EpochRow], settings: TrainSettings, *, number: int) -> bool:
    """Whether a phase has had its last epoch, or has not become better for long enough."""
    if not rows:
        return False
    waited = len(rows) - 1 - find_best_epoch(rows, settings)
    return len(rows) >= settings.phases[number - 1].max_epochs or waited >= settings.patience_epochs
