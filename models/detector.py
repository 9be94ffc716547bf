"""Crop sequences -> one logit each, higher = more fake.

backbone (each frame) -> LayerNorm, Linear -> + time code -> Transformer -> pooling -> head.
A second, per-frame head gives the time line and an auxiliary training loss.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.backbone import create_backbone, feature_dim
from models.batching import Batch
from models.temporal import Block, FramePooling, TimeEncoding, key_bias
from reelcheck.config import DetectorSettings


@dataclass(frozen=True)
class Detection:
    """What the detector says of a batch."""

    logits_B: Tensor
    """One per sequence."""
    frame_logits_BT: Tensor
    """One per frame; meaningless where the mask is False."""
    frame_weights_BT: Tensor
    """Share of each frame in the pooled feature; 0 for padding."""


class Detector(nn.Module):
    """EfficientNet + Transformer video detector (any timm backbone).

    Args:
        settings: the architecture.
        pretrained: load timm's ImageNet weights into the backbone.
        freeze_batch_norm: keep the backbone's running statistics in training. Right for weights
            that were trained elsewhere; a batch of few videos has too few independent samples.

    Raises:
        SettingsError: unknown backbone.
        WeightsError: pretrained weights cannot be fetched.
    """

    def __init__(
        self,
        settings: DetectorSettings,
        *,
        pretrained: bool = False,
        freeze_batch_norm: bool = False,
    ) -> None:
        super().__init__()
        dim = settings.feature_dim
        self.freeze_batch_norm = freeze_batch_norm
        self.backbone = create_backbone(settings.backbone, pretrained=pretrained)
        backbone_dim = feature_dim(self.backbone)
        self.project = nn.Sequential(nn.LayerNorm(backbone_dim), nn.Linear(backbone_dim, dim))
        self.time = TimeEncoding(dim)
        self.blocks = nn.ModuleList(
            Block(dim, num_heads=settings.num_heads, dropout=settings.dropout)
            for _ in range(settings.depth)
        )
        self.norm = nn.LayerNorm(dim)
        self.pooling = FramePooling(dim, learned=settings.pooling == "attention")
        self.frame_head = nn.Linear(dim, 1)
        self.head = nn.Sequential(
            nn.Linear(dim, dim // 2),
            nn.GELU(),
            nn.Dropout(settings.dropout),
            nn.LayerNorm(dim // 2),
            nn.Linear(dim // 2, 1),
        )

    def train(self, mode: bool = True) -> "Detector":  # noqa: FBT001, FBT002 - torch's signature
        """Training mode; the backbone's batch norms keep their statistics when frozen."""
        super().train(mode)
        if mode and self.freeze_batch_norm:
            for module in self.backbone.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def forward(self, batch: Batch) -> Detection:
        """Logits of a packed batch; no real value depends on how it was padded."""
        features_ND = self.backbone(batch.frames_NCHW)
        features_BTD = features_ND.new_zeros(*batch.mask_BT.shape, features_ND.shape[-1])
        features_BTD[batch.mask_BT] = features_ND
        return self._temporal(features_BTD, batch.seconds_BT, batch.mask_BT)

    def _temporal(self, features_BTD: Tensor, seconds_BT: Tensor, mask_BT: Tensor) -> Detection:
        first_B1 = seconds_BT.masked_fill(~mask_BT, torch.inf).amin(1, keepdim=True)
        since_first_BT = torch.where(mask_BT, seconds_BT - first_B1, 0.0)
        x_BTD = self.project(features_BTD)
        x_BTD = x_BTD + self.time(since_first_BT).to(x_BTD.dtype)
        frame_logits_BT = self.frame_head(x_BTD)[..., 0]
        bias_B11T = key_bias(mask_BT, x_BTD.dtype)
        for block in self.blocks:
            x_BTD = block(x_BTD, bias_B11T)
        pooled_BD, weights_BT = self.pooling(self.norm(x_BTD), mask_BT)
        return Detection(
            logits_B=self.head(pooled_BD)[:, 0].float(),
            frame_logits_BT=frame_logits_BT.float(),
            frame_weights_BT=weights_BT,
        )
