"""Data set -> logits: no gradient, full precision, the same answer every time."""

from collections.abc import Callable

import torch
from torch.utils.data import DataLoader

from models.data.batching import Batch, collate
from models.data.dataset import CropDataset
from models.network.detector import Detector, Ensemble
from reelcheck.records import ScoredSequence


def choose_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def score_sequences(
    detector: Detector | Ensemble,
    dataset: CropDataset,
    *,
    batch_size: int = 8,
    on_batch: Callable[[int], object] | None = None,
) -> list[ScoredSequence]:
    """Find the logit of every sequence, in the data set's order.

    Args:
        detector: its weights' device is used.
        dataset: the sequences to score.
        batch_size: sequences at a time; changes no logit beyond rounding (< 1e-5).
        on_batch: called with the number of sequences done after each batch.
    """
    detector.eval()
    device = next(detector.parameters()).device
    loader: DataLoader[Batch] = DataLoader(
        dataset,  # type: ignore[arg-type]  # a Dataset[Item], collated to Batch
        batch_size=batch_size,
        collate_fn=collate,
    )
    logits: list[float] = []
    with torch.inference_mode():
        for batch in loader:
            logits += detector(batch.to(device)).logits_B.tolist()
            if on_batch is not None:
                on_batch(len(batch.labels_B))
    return [
        ScoredSequence(
            sequence_id=row["sequence_id"],
            video_id=row["video_id"],
            track_id=row["track_id"],
            num_frames=row["num_frames"],
            logit=logit,
        )
        for row, logit in zip(dataset.rows, logits, strict=True)
    ]
