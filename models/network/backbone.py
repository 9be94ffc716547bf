"""One frame -> one feature vector, by any timm image model."""

import timm
import torch
from timm.models import group_parameters
from torch import nn

from models.network.padding import apply_padding
from reelcheck.errors import SettingsError
from reelcheck.train_config import PaddingSettings


def create_backbone(name: str, *, padding: PaddingSettings | None = None) -> nn.Module:
    """Create a timm model without its last layer, with random weights: (N, 3, H, W) -> (N, D).

    Args:
        name: name of the timm model.
        padding: padding for weights that were made with ``efficientnet_pytorch``.

    Raises:
        SettingsError: timm knows no such model, or its padding cannot be changed.
    """
    require_backbone(name)
    backbone = timm.create_model(name, num_classes=0)
    assert isinstance(backbone, nn.Module)
    if padding is not None:
        apply_padding(backbone, padding)
    return backbone.to(memory_format=torch.channels_last)


def require_backbone(name: str) -> None:
    """Make sure that timm knows a backbone.

    Raises:
        SettingsError: it does not; the message names similar ones.
    """
    if not timm.is_model(name):
        similar = (
            ", ".join(timm.list_models(f"*{name.partition('_')[0]}*")[:8]) or "see timm's list"
        )
        raise SettingsError(f"timm has no model named {name!r}; similar: {similar}")


def find_feature_dim(backbone: nn.Module) -> int:
    """Find D of the pooled feature; ``num_features`` is wrong for MobileNetV3-like heads."""
    dim = getattr(backbone, "head_hidden_size", None) or backbone.num_features
    assert isinstance(dim, int)
    return dim


def list_layers(backbone: nn.Module) -> list[list[str]]:
    """List the parameters' names of each layer, from input to output, by timm's grouping."""
    groups = group_parameters(backbone, backbone.group_matcher(coarse=False))  # type: ignore[operator]  # timm's
    return [list(names) for _, names in sorted(groups.items())]
