"""One frame -> one feature vector, by any timm image model."""

import timm
import torch
from torch import nn

from reelcheck.errors import SettingsError, WeightsError


def create_backbone(name: str, *, pretrained: bool) -> nn.Module:
    """A timm model without its classifier: (N, 3, H, W) -> (N, D).

    Raises:
        SettingsError: timm knows no such model.
        WeightsError: pretrained weights were asked for and cannot be fetched.
    """
    if not timm.is_model(name):
        similar = (
            ", ".join(timm.list_models(f"*{name.partition('_')[0]}*")[:8]) or "see timm's list"
        )
        raise SettingsError(f"timm has no model named {name!r}; similar: {similar}")
    try:
        backbone = timm.create_model(name, pretrained=pretrained, num_classes=0, global_pool="avg")
    except Exception as error:
        if not pretrained:
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise WeightsError(
            f"pretrained weights of {name} cannot be had ({reason}). Connect to the Hugging Face "
            "hub, or give a local file with --init-from FILE, or train from random weights (leave "
            "--pretrained out)"
        ) from error
    assert isinstance(backbone, nn.Module)
    return backbone.to(memory_format=torch.channels_last)


def feature_dim(backbone: nn.Module) -> int:
    """D of the pooled feature; ``num_features`` is wrong for MobileNetV3-like heads."""
    dim = getattr(backbone, "head_hidden_size", None) or backbone.num_features
    assert isinstance(dim, int)
    return dim
