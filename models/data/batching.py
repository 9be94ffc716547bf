"""Dataset items -> one batch, frames packed.

The frames of all sequences lie one after the other, without padding: the backbone never sees a
padded frame, so a batch costs what its real frames cost, and batch statistics stay clean. Only the
frame features are padded, inside the detector.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Item:
    """One crop sequence as the input of a model."""

    frames_TCHW: Tensor
    """uint8 RGB; or the features (T, D) of a backbone that does not learn."""
    seconds_T: Tensor
    label: float
    """1 fake, 0 real; NaN unknown."""
    index: int
    """Row in the data set."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B crop sequences, N frames in all."""

    frames_NCHW: Tensor
    """All frames, sequence after sequence; uint8 RGB, or their features (N, D)."""
    seconds_BT: Tensor
    """Times, padded with 0."""
    mask_BT: Tensor
    """True where there is a frame."""
    labels_B: Tensor
    indices_B: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        return Batch(**{name: t.to(device, non_blocking=True) for name, t in vars(self).items()})

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory; the data loader calls this."""
        return Batch(**{name: t.pin_memory() for name, t in vars(self).items()})


def collate(items: Sequence[Item]) -> Batch:
    """Pack items into a batch."""
    lengths = [len(item.seconds_T) for item in items]
    mask_BT = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    seconds_BT = torch.zeros(mask_BT.shape)
    seconds_BT[mask_BT] = torch.cat([item.seconds_T for item in items])
    frames_NCHW = torch.cat([item.frames_TCHW for item in items])
    if frames_NCHW.ndim == 4:
        frames_NCHW = frames_NCHW.contiguous(memory_format=torch.channels_last)
    return Batch(
        frames_NCHW=frames_NCHW,
        seconds_BT=seconds_BT,
        mask_BT=mask_BT,
        labels_B=torch.tensor([item.label for item in items]),
        indices_B=torch.tensor([item.index for item in items]),
    )
