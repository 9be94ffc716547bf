"""Packing: what goes into a batch comes out again."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from models.data.batching import Item, collate


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    labels=st.lists(st.sampled_from([0.0, 1.0, math.nan]), min_size=6, max_size=6),
)
def test_collate_keeps_every_frame_time_and_label(lengths: list[int], labels: list[float]) -> None:
    items = [
        Item(
            frames_TCHW=torch.randint(256, (length, 3, 4, 4), dtype=torch.uint8),
            seconds_T=torch.rand(length),
            label=label,
            index=10 + place,
        )
        for place, (length, label) in enumerate(zip(lengths, labels, strict=False))
    ]
    batch = collate(items)
    assert batch.frames_NCHW.dtype == torch.uint8
    assert batch.mask_BT.shape == (len(lengths), max(lengths))
    frames = iter(batch.frames_NCHW.split(lengths))
    for row, item in enumerate(items):
        assert batch.mask_BT[row].tolist() == [t < lengths[row] for t in range(max(lengths))]
        assert torch.equal(next(frames), item.frames_TCHW)
        assert torch.equal(batch.seconds_BT[row, : lengths[row]], item.seconds_T)
        assert (batch.seconds_BT[row, lengths[row] :] == 0).all()
    expected = torch.tensor([item.label for item in items])
    torch.testing.assert_close(batch.labels_B, expected, equal_nan=True)
    assert batch.indices_B.tolist() == [item.index for item in items]


def test_moving_a_batch_keeps_every_field() -> None:
    frames_TCHW = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    item = Item(frames_TCHW=frames_TCHW, seconds_T=torch.rand(2), label=1.0, index=7)
    batch = collate([item])
    moved = batch.to(torch.device("meta"))
    for name, tensor in vars(batch).items():
        assert getattr(moved, name).device.type == "meta"
        assert getattr(moved, name).shape == tensor.shape
        assert getattr(moved, name).dtype == tensor.dtype
