"""Crop sequences -> one logit each, higher = more fake.

Pixels -> backbone (each frame) -> head (the frames of a sequence).
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from models.data.batching import Batch
from models.network.backbone import (
    create_backbone,
    extract_features,
    find_feature_dim,
    list_layers,
)
from models.network.heads import Detection, FrameHead, TransformerHead, average_detections
from reelcheck.train_config import DetectorSettings

Weights = dict[str, Tensor]

_FIRST = "first."
"""Begins the names of the first detector of an ensemble that shares its backbone."""


class Detector(nn.Module):
    """A timm backbone and a head that classifies its features.

    Args:
        settings: the architecture.
        freeze_batch_norm: keep the backbone's running statistics in training. Right for weights
            that were trained elsewhere; a batch of few videos has too few independent samples.

    Raises:
        SettingsError: unknown backbone.
    """

    def __init__(self, settings: DetectorSettings, *, freeze_batch_norm: bool = False) -> None:
        super().__init__()
        self.settings = settings
        self.freeze_batch_norm = freeze_batch_norm
        layers = settings.feature_layers
        self.backbone = create_backbone(settings.backbone, padding=settings.padding, layers=layers)
        self.feature_dim = find_feature_dim(self.backbone, layers)
        self.head = create_head(self.feature_dim, settings)
        # Settings, not weights: they are in the card, not in the checkpoint.
        self.mean_C11: Tensor
        self.std_C11: Tensor
        for name, values in (("mean_C11", settings.pixel_mean), ("std_C11", settings.pixel_std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None] * 255, persistent=False)

    def train(self, mode: bool = True) -> "Detector":  # noqa: FBT001, FBT002 - torch's signature
        """Training mode; frozen batch norms keep their statistics."""
        super().train(mode)
        for module in self.backbone.modules():
            if isinstance(module, _BatchNorm) and (
                self.freeze_batch_norm or not any(p.requires_grad for p in module.parameters())
            ):
                module.eval()
        return self

    def train_backbone_share(self, share: float) -> None:
        """Let this share of the backbone's layers learn, counted from its output; freeze the rest.

        0 freezes all, 1 none; any other share lets at least one layer learn.
        """
        layers = list_layers(self.backbone)
        learning = {
            name
            for names in layers[len(layers) - math.ceil(share * len(layers)) :]
            for name in names
        }
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(name in learning)

    def forward(self, batch: Batch) -> Detection:
        """Find the logits of a packed batch; no real value depends on how it was padded."""
        return _detect(self, batch)

    def encode(self, frames_NCHW: Tensor) -> Tensor:
        """Compute the features (N, D) of uint8 frames; features stay what they are."""
        if frames_NCHW.ndim == 2:
            return frames_NCHW
        x_NCHW = self.to_input(frames_NCHW)
        return extract_features(self.backbone, x_NCHW, self.settings.feature_layers)

    def classify_features(
        self, features_BTD: Tensor, seconds_BT: Tensor, mask_BT: Tensor
    ) -> Detection:
        """Classify features of ``encode``; the arguments are those of ``TransformerHead``."""
        detection: Detection = self.head(features_BTD, seconds_BT, mask_BT)
        return detection

    def to_input(self, frames_NCHW: Tensor) -> Tensor:
        """Resize uint8 frames where the settings say so, and normalise them for the backbone."""
        x_NCHW = frames_NCHW.to(self.mean_C11.dtype)
        size = self.settings.input_pixels
        if size is not None and x_NCHW.shape[-1] != size:
            x_NCHW = F.interpolate(x_NCHW, (size, size), mode="bilinear", antialias=True)
        return (x_NCHW - self.mean_C11) / self.std_C11


class Ensemble(nn.Module):
    """Several detectors of one architecture; its logits are the means of theirs."""

    def __init__(self, settings: DetectorSettings, *, num_members: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(Detector(settings) for _ in range(num_members))

    def forward(self, batch: Batch) -> Detection:
        """Find the logits of a packed batch."""
        return _detect(self, batch)

    def encode(self, frames_NCHW: Tensor) -> Tensor:
        """Compute the features of all members, side by side."""
        return torch.cat([member.encode(frames_NCHW) for member in self._detectors()], dim=1)

    def classify_features(
        self, features_BTD: Tensor, seconds_BT: Tensor, mask_BT: Tensor
    ) -> Detection:
        """Classify features of ``encode`` by the mean of all members."""
        chunks = features_BTD.chunk(len(self.members), dim=-1)
        return average_detections(
            [
                member.classify_features(chunk_BTD, seconds_BT, mask_BT)
                for member, chunk_BTD in zip(self._detectors(), chunks, strict=True)
            ]
        )

    def _detectors(self) -> Iterator[Detector]:
        for member in self.members:
            assert isinstance(member, Detector)
            yield member


class HeadEnsemble(Ensemble):
    """Several heads on one backbone, which did not learn; its logits are the means of theirs."""

    def __init__(self, settings: DetectorSettings, *, num_members: int) -> None:
        nn.Module.__init__(self)
        self.first = Detector(settings)
        self.others = nn.ModuleList(
            create_head(self.first.feature_dim, settings) for _ in range(num_members - 1)
        )

    def encode(self, frames_NCHW: Tensor) -> Tensor:
        """Compute the features of the one backbone."""
        return self.first.encode(frames_NCHW)

    def classify_features(
        self, features_BTD: Tensor, seconds_BT: Tensor, mask_BT: Tensor
    ) -> Detection:
        """Classify features of ``encode`` by the mean of all heads."""
        return average_detections(
            [head(features_BTD, seconds_BT, mask_BT) for head in (self.first.head, *self.others)]
        )


def create_ensemble(
    settings: DetectorSettings, *, num_members: int, shares_backbone: bool
) -> Ensemble:
    """Create an ensemble whose members share their backbone, or have one each."""
    kind = HeadEnsemble if shares_backbone else Ensemble
    return kind(settings, num_members=num_members)


def join_members(members: Sequence[Weights], *, shares_backbone: bool) -> Weights:
    """Join the weights of single detectors to those of an ensemble.

    Args:
        members: weights of each detector.
        shares_backbone: all have the same backbone, which is kept once.
    """
    if not shares_backbone:
        return {f"members.{n}.{k}": v for n, own in enumerate(members) for k, v in own.items()}
    joined = {_FIRST + name: tensor for name, tensor in members[0].items()}
    for number, own in enumerate(members[1:]):
        for name, tensor in own.items():
            if name.startswith("head."):
                joined[f"others.{number}.{name.removeprefix('head.')}"] = tensor
    return joined


def take_first_member(weights: Weights) -> Weights:
    """Take the first detector out of an ensemble that shares its backbone; leave others alone.

    Args:
        weights: of anything, by name.
    """
    first = {k.removeprefix(_FIRST): v for k, v in weights.items() if k.startswith(_FIRST)}
    return first if any(name.startswith("backbone.") for name in first) else weights


def create_head(dim: int, settings: DetectorSettings) -> TransformerHead | FrameHead:
    """Create the head of a detector for features of ``dim`` numbers."""
    inside = bool(settings.feature_layers)
    if settings.transformer is None:
        dropout = settings.head_dropout
        return FrameHead(dim, settings.head, dropout=dropout, standardises=inside)
    return TransformerHead(dim, settings.transformer, standardises=inside)


def _detect(detector: Detector | Ensemble, batch: Batch) -> Detection:
    features_ND = detector.encode(batch.frames_NCHW)
    features_BTD = features_ND.new_zeros(*batch.mask_BT.shape, features_ND.shape[-1])
    features_BTD[batch.mask_BT] = features_ND
    return detector.classify_features(features_BTD, batch.seconds_BT, batch.mask_BT)
