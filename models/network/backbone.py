"""One frame -> one feature vector, by any timm image model.

The features are the model's own last ones, or those of layers inside it: what tells a forged face
is finer than what tells a cat from a dog, and the last layers of a classifier drop it. Koutlis and
Papadopoulos (RINE, 2024) take the class tokens of all blocks of CLIP.
"""

import inspect
from collections.abc import Sequence

import timm
import torch
from timm.models import group_parameters
from torch import Tensor, nn
from torch.nn import functional as F

from models.network.padding import apply_padding
from reelcheck.errors import SettingsError
from reelcheck.train_config import PaddingSettings

_FACE_RADIUS = 0.5
"""Radius of the circle in the middle of a crop that shows face alone, as a share of half a side."""


def create_backbone(
    name: str, *, padding: PaddingSettings | None = None, layers: Sequence[int] = ()
) -> nn.Module:
    """Create a timm model without its last layer, with random weights.

    Args:
        name: name of the timm model.
        padding: padding for weights that were made with ``efficientnet_pytorch``.
        layers: layers whose features ``extract_features`` will take; what follows the last of them
            is left out.

    Raises:
        SettingsError: timm knows no such model or layer, or its padding cannot be changed.
    """
    require_backbone(name)
    backbone = timm.create_model(name, num_classes=0)
    assert isinstance(backbone, nn.Module)
    if layers:
        _drop_later_layers(backbone, name, layers)
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


def extract_features(backbone: nn.Module, x_NCHW: Tensor, layers: Sequence[int]) -> Tensor:
    """Compute the features (N, D) of normalised frames.

    Without layers they are the backbone's pooled output. Of a layer they are its class token in a
    vision Transformer, and elsewhere the mean and the standard deviation of each channel over the
    middle of the crop; those of several layers lie side by side, each with mean 0 and variance 1
    over its numbers.
    """
    if not layers:
        features_ND: Tensor = backbone(x_NCHW)
        return features_ND
    options = {"indices": list(layers), "intermediates_only": True}
    if _has_class_token(backbone):
        pairs = backbone.forward_intermediates(  # type: ignore[operator]  # timm's
            x_NCHW, output_fmt="NLC", return_prefix_tokens=True, **options
        )
        parts = [prefix_NLC[:, 0] for _, prefix_NLC in pairs]
    else:
        maps = backbone.forward_intermediates(x_NCHW, **options)  # type: ignore[operator]  # timm's
        parts = [_describe_face(map_NCHW) for map_NCHW in maps]
    return torch.cat([F.layer_norm(part_ND, part_ND.shape[1:]) for part_ND in parts], dim=1)


def find_feature_dim(backbone: nn.Module, layers: Sequence[int]) -> int:
    """Find D of the features; ``num_features`` is wrong for MobileNetV3-like heads."""
    if not layers:
        dim = getattr(backbone, "head_hidden_size", None) or backbone.num_features
    else:
        widths = [backbone.feature_info[layer]["num_chs"] for layer in layers]  # type: ignore[index]
        dim = sum(widths) * (1 if _has_class_token(backbone) else 2)
    assert isinstance(dim, int)
    return dim


def list_layers(backbone: nn.Module) -> list[list[str]]:
    """List the parameters' names of each layer, from input to output, by timm's grouping."""
    groups = group_parameters(backbone, backbone.group_matcher(coarse=False))  # type: ignore[operator]  # timm's
    return [list(names) for _, names in sorted(groups.items())]


def _drop_later_layers(backbone: nn.Module, name: str, layers: Sequence[int]) -> None:
    """Drop what ``extract_features`` does not need: it costs time, and its weights never learn.

    Raises:
        SettingsError: the model has no such layers.
    """
    num_layers = len(getattr(backbone, "feature_info", ()))
    if not hasattr(backbone, "prune_intermediate_layers") or not _gives_tokens(backbone):
        num_layers = 0
    if list(layers) != sorted(set(layers)) or layers[-1] >= num_layers:
        has = f"has layers 0 to {num_layers - 1}" if num_layers else "gives the last layer only"
        raise SettingsError(
            f"detector.feature_layers = {list(layers)}: {name} {has}; name some, in rising order, "
            "or none ([]), which takes the last"
        )
    backbone.prune_intermediate_layers(list(layers), prune_norm=True)  # type: ignore[operator]


def _gives_tokens(backbone: nn.Module) -> bool:
    """Whether the class tokens inside can be had, if there are any: not all models give them."""
    options = inspect.signature(backbone.forward_intermediates).parameters  # type: ignore[arg-type]
    return not _has_class_token(backbone) or "return_prefix_tokens" in options


def _has_class_token(backbone: nn.Module) -> bool:
    return getattr(backbone, "cls_token", None) is not None


def _describe_face(map_NCHW: Tensor) -> Tensor:
    """Mean and deviation (N, 2C) of each channel over a circle in the middle of the crop."""
    height, width = map_NCHW.shape[-2:]
    y_H1 = torch.linspace(-1, 1, height, device=map_NCHW.device)[:, None]
    x_1W = torch.linspace(-1, 1, width, device=map_NCHW.device)[None]
    mask_HW = ((y_H1**2 + x_1W**2) <= _FACE_RADIUS**2).to(map_NCHW.dtype)
    # Of a map of up to three cells a side, no two lie in the circle.
    weights_HW = torch.where(mask_HW.sum() > 1, mask_HW, torch.ones_like(mask_HW))
    weights_HW = weights_HW / weights_HW.sum()
    mean_NC = (map_NCHW * weights_HW).sum((2, 3))
    squares_NCHW = (map_NCHW - mean_NC[..., None, None]) ** 2
    deviation_NC = ((squares_NCHW * weights_HW).sum((2, 3)) + 1e-6).sqrt()
    return torch.cat([mean_NC, deviation_NC], dim=1)
