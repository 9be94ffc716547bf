"""T frame features -> one logit per sequence and one per frame.

A head is the part of a detector after its backbone. No real value depends on the padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.network.temporal import Block, FramePooling, TimeEncoding, make_key_bias
from reelcheck.train_config import HeadLayer, TransformerSettings


@dataclass(frozen=True)
class Detection:
    """The output of a detector for a batch."""

    logits_B: Tensor
    """One per sequence."""
    frame_logits_BT: Tensor
    """One per frame; meaningless where the mask is False."""
    frame_weights_BT: Tensor
    """Share of each frame in the sequence's logit; 0 for padding."""


def average_detections(detections: Sequence[Detection]) -> Detection:
    """Average the outputs of several detectors for the same batch."""
    return Detection(
        logits_B=torch.stack([d.logits_B for d in detections]).mean(0),
        frame_logits_BT=torch.stack([d.frame_logits_BT for d in detections]).mean(0),
        frame_weights_BT=torch.stack([d.frame_weights_BT for d in detections]).mean(0),
    )


class Standardiser(nn.Module):
    """Features -> each with mean 0 and variance 1 over the frames of training.

    The numbers of a layer inside a backbone differ by orders of magnitude, and those that hardly
    change may be the telling ones; a backbone that does not learn cannot even them out. The
    statistics are those of all frames that were seen in training so far; on several devices, of
    those that the first one saw.
    """

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.num_frames: Tensor
        self.mean_D: Tensor
        self.variance_D: Tensor
        self.register_buffer("num_frames", torch.zeros(()))
        self.register_buffer("mean_D", torch.zeros(feature_dim))
        self.register_buffer("variance_D", torch.ones(feature_dim))

    def forward(self, features_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        """Standardise; in training, count the frames where the mask is True first."""
        if self.training:
            self._count(features_BTD.detach()[mask_BT].float())
        return (features_BTD - self.mean_D) * (self.variance_D + 1e-6).rsqrt()

    def forget(self) -> None:
        """Let the next frames replace all before: those may be of other features."""
        self.num_frames.zero_()

    def _count(self, features_ND: Tensor) -> None:
        """Join the statistics of these frames to those of all before (Chan et al., 1979)."""
        share = len(features_ND) / (self.num_frames + len(features_ND))
        variance_D, mean_D = torch.var_mean(features_ND, dim=0, correction=0)
        change_D = mean_D - self.mean_D
        self.variance_D.lerp_(variance_D, share).add_(share * (1 - share) * change_D**2)
        self.mean_D.add_(share * change_D)
        self.num_frames.add_(len(features_ND))


class TransformerHead(nn.Module):
    """LayerNorm, Linear -> + time code -> Transformer -> pooling -> sequence head.

    A second head, for single frames, gives the time line and an auxiliary training loss.
    """

    def __init__(
        self, feature_dim: int, settings: TransformerSettings, *, standardises: bool = False
    ) -> None:
        super().__init__()
        self.standardise = Standardiser(feature_dim) if standardises else None
        dim = settings.feature_dim
        self.project = nn.Sequential(nn.LayerNorm(feature_dim), nn.Linear(feature_dim, dim))
        self.time = TimeEncoding(dim)
        self.blocks = nn.ModuleList(
            Block(dim, num_heads=settings.num_heads, dropout=settings.dropout)
            for _ in range(settings.depth)
        )
        self.norm = nn.LayerNorm(dim)
        self.pooling = FramePooling(dim, learned=settings.pooling == "attention")
        self.frame_head = nn.Linear(dim, 1)
        self.sequence_head = nn.Sequential(
            nn.Linear(dim, dim // 2),
            nn.GELU(),
            nn.Dropout(settings.dropout),
            nn.LayerNorm(dim // 2),
            nn.Linear(dim // 2, 1),
        )

    def forward(self, features_BTD: Tensor, seconds_BT: Tensor, mask_BT: Tensor) -> Detection:
        """Classify the frames of each sequence together.

        Args:
            features_BTD: features of the backbone; any finite number where the mask is False.
            seconds_BT: time of each frame; only differences within a sequence count.
            mask_BT: True where there is a frame.
        """
        first_B1 = seconds_BT.masked_fill(~mask_BT, torch.inf).amin(1, keepdim=True)
        since_first_BT = torch.where(mask_BT, seconds_BT - first_B1, 0.0)
        if self.standardise is not None:
            features_BTD = self.standardise(features_BTD, mask_BT)
        x_BTD = self.project(features_BTD)
        x_BTD = x_BTD + self.time(since_first_BT).to(x_BTD.dtype)
        frame_logits_BT = self.frame_head(x_BTD)[..., 0]
        bias_B11T = make_key_bias(mask_BT, x_BTD.dtype)
        for block in self.blocks:
            x_BTD = block(x_BTD, bias_B11T)
        pooled_BD, weights_BT = self.pooling(self.norm(x_BTD), mask_BT)
        return Detection(
            logits_B=self.sequence_head(pooled_BD)[:, 0].float(),
            frame_logits_BT=frame_logits_BT.float(),
            frame_weights_BT=weights_BT,
        )


class FrameHead(nn.Module):
    """Hidden layers and one linear layer for each frame alone; a sequence gets their mean logit."""

    def __init__(
        self,
        feature_dim: int,
        layers: tuple[HeadLayer, ...],
        *,
        dropout: float,
        standardises: bool = False,
    ) -> None:
        super().__init__()
        self.standardise = Standardiser(feature_dim) if standardises else None
        modules: list[nn.Module] = []
        for layer in layers:
            modules += [
                nn.Linear(feature_dim, layer.width),
                nn.ReLU(),
                nn.Dropout(layer.dropout),
            ]
            feature_dim = layer.width
        last = nn.Linear(feature_dim, 1)
        if standardises and not layers:
            # With fewer frames than features, what is random at first would stay in all directions
            # of which training says nothing.
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*modules, nn.Dropout(dropout), last)

    def forward(self, features_BTD: Tensor, seconds_BT: Tensor, mask_BT: Tensor) -> Detection:
        """Classify each frame alone; ``seconds_BT`` is not used."""
        if self.standardise is not None:
            features_BTD = self.standardise(features_BTD, mask_BT)
        frame_logits_BT = self.layers(features_BTD)[..., 0].float()
        weights_BT = mask_BT.float() / mask_BT.sum(dim=1, keepdim=True).clamp(min=1)
        # Not by weight alone: 0 times a NaN in the padding would be NaN.
        logits_B = (frame_logits_BT.masked_fill(~mask_BT, 0.0) * weights_BT).sum(dim=1)
        return Detection(
            logits_B=logits_B, frame_logits_BT=frame_logits_BT, frame_weights_BT=weights_BT
        )
