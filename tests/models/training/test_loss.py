"""What training makes smaller, against the same formula by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.data.batching import Batch, Item, collate
from models.network.heads import Detection
from models.training.loss import compute_loss


def batch_of(lengths: list[int], labels: list[int]) -> Batch:
    return collate(
        [
            Item(
                frames_TCHW=torch.zeros(length, 3, 1, 1, dtype=torch.uint8),
                seconds_T=torch.zeros(length),
                label=float(label),
                index=0,
            )
            for length, label in zip(lengths, labels, strict=False)
        ]
    )


def loss_by_hand(
    detection: Detection, batch: Batch, *, pos_weight: float, frame_loss_weight: float
) -> float:
    """In double precision."""

    def mean_loss(logits: NDArray[np.float64], labels: NDArray[np.float32]) -> float:
        weights = np.where(labels == 1, pos_weight, 1.0)
        signs = np.where(labels == 1, -1.0, 1.0)
        return float((weights * np.logaddexp(0, signs * logits)).mean())

    labels = batch.labels_B.numpy()
    mask = batch.mask_BT.numpy()
    frame_logits = detection.frame_logits_BT.double().numpy()
    frame_labels = np.broadcast_to(labels[:, None], mask.shape)
    frame_loss = mean_loss(frame_logits[mask], frame_labels[mask])
    return mean_loss(detection.logits_B.double().numpy(), labels) + frame_loss_weight * frame_loss


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    labels=st.lists(st.integers(0, 1), min_size=5, max_size=5),
    pos_weight=st.floats(0.1, 10),
    frame_loss_weight=st.floats(0, 2),
    scale=st.floats(0.01, 20),
    seed=st.integers(0, 2**31),
)
def test_loss_equals_a_hand_computation(
    lengths: list[int],
    labels: list[int],
    pos_weight: float,
    frame_loss_weight: float,
    scale: float,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    batch = batch_of(lengths, labels)
    frame_logits_BT = torch.randn(batch.mask_BT.shape, generator=generator) * scale
    # What stands at padding must not count.
    frame_logits_BT[~batch.mask_BT] = torch.nan
    detection = Detection(
        logits_B=torch.randn(len(lengths), generator=generator) * scale,
        frame_logits_BT=frame_logits_BT,
        frame_weights_BT=torch.zeros(batch.mask_BT.shape),
    )
    loss = compute_loss(
        detection, batch, pos_weight=pos_weight, frame_loss_weight=frame_loss_weight
    )
    expected = loss_by_hand(
        detection, batch, pos_weight=pos_weight, frame_loss_weight=frame_loss_weight
    )
    assert loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)
