"""The loss that training makes smaller."""

import torch
from torch import Tensor
from torch.nn import functional as F

from models.data.batching import Batch
from models.network.heads import Detection


def compute_loss(
    detection: Detection, batch: Batch, *, pos_weight: float, frame_loss_weight: float
) -> Tensor:
    """Add the binary cross-entropies of the sequence logits and, weighted, of the frame logits."""
    weight = torch.tensor(pos_weight, device=batch.labels_B.device)
    sequence_loss = F.binary_cross_entropy_with_logits(
        detection.logits_B, batch.labels_B, pos_weight=weight
    )
    frame_labels_BT = batch.labels_B[:, None].expand_as(detection.frame_logits_BT)
    frame_loss = F.binary_cross_entropy_with_logits(
        detection.frame_logits_BT[batch.mask_BT], frame_labels_BT[batch.mask_BT], pos_weight=weight
    )
    return sequence_loss + frame_loss_weight * frame_loss
