"""ImageNet weights in the names of other libraries -> timm's names.

Only names are changed, except for the batch norms of torchvision's larger networks: see
``convert_backbone``. Every key must be used and none may be missing.
"""

import re
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.network.backbone import create_backbone
from reelcheck.errors import SettingsError, WeightsError
from reelcheck.weights.formats import Naming

Weights = dict[str, Tensor]

_WRAPPERS = (
    "module.",
    "_orig_mod.",
    "model.",
    "net.",
    "backbone.",
    "encoder.",
    "feat_ext.",
    "efficientnet.",
)
"""Prefixes that a training script puts before every name; ``module.`` is DataParallel's,
``_orig_mod.`` that of torch.compile."""
_COUNTER = ".num_batches_tracked"
"""A counter without effect, absent from files written before torch 0.4.1."""
_TORCHVISION_EPS = {"0": 1e-5, "1": 1e-5, "2": 1e-5, "3": 1e-5, "4": 1e-5}
"""Epsilon of torchvision's batch norms by EfficientNet-B number; else 1e-3 (torchvision's
``models/efficientnet.py``)."""
_TARGETS = {
    "lukemelas": re.compile(r"tf_efficientnet_(b[0-7]|lite[0-4])(\..+)?"),
    "torchvision": re.compile(r"(?:efficientnet_b([0-7])|efficientnetv2_([sml]))(\..+)?"),
    "timm": re.compile(r".+"),
    "clip": re.compile(r"vit_base_patch16_clip_quickgelu_224(\..+)?"),
}
_TARGETS_IN_WORDS = {
    "lukemelas": "tf_efficientnet_b0 to _b7 and tf_efficientnet_lite0 to _lite4",
    "torchvision": "efficientnet_b0 to efficientnet_b7 and efficientnetv2_s, _m, _l",
    "clip": "vit_base_patch16_clip_quickgelu_224",
}

_LUKEMELAS_BLOCKS = {
    "DepthwiseSeparableConv": {
        "conv_dw": "_depthwise_conv",
        "bn1": "_bn1",
        "se.conv_reduce": "_se_reduce",
        "se.conv_expand": "_se_expand",
        "conv_pw": "_project_conv",
        "bn2": "_bn2",
    },
    "InvertedResidual": {
        "conv_pw": "_expand_conv",
        "bn1": "_bn0",
        "conv_dw": "_depthwise_conv",
        "bn2": "_bn1",
        "se.conv_reduce": "_se_reduce",
        "se.conv_expand": "_se_expand",
        "conv_pwl": "_project_conv",
        "bn3": "_bn2",
    },
}
_TORCHVISION_BLOCKS = {
    "DepthwiseSeparableConv": {
        "conv_dw": "0.0",
        "bn1": "0.1",
        "se.conv_reduce": "1.fc1",
        "se.conv_expand": "1.fc2",
        "conv_pw": "2.0",
        "bn2": "2.1",
    },
    "InvertedResidual": {
        "conv_pw": "0.0",
        "bn1": "0.1",
        "conv_dw": "1.0",
        "bn2": "1.1",
        "se.conv_reduce": "2.fc1",
        "se.conv_expand": "2.fc2",
        "conv_pwl": "3.0",
        "bn3": "3.1",
    },
    "EdgeResidual": {"conv_exp": "0.0", "bn1": "0.1", "conv_pwl": "1.0", "bn2": "1.1"},
    "ConvBnAct": {"conv": "0.0", "bn1": "0.1"},
}
"""Module inside a block, by timm's class of the block: timm's name -> the other library's."""
_CLIP_MODULES = {
    "patch_embed.proj": "embeddings.patch_embedding",
    "norm_pre": "pre_layrnorm",
    "norm": "post_layernorm",
}
_CLIP_BLOCK = {
    "norm1": "layer_norm1",
    "attn.qkv": "self_attn.qkv",
    "attn.proj": "self_attn.out_proj",
    "norm2": "layer_norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_CLIP_PREFIX = "vision_model."


def convert_backbone(weights: Mapping[str, Tensor], backbone_name: str, naming: Naming) -> Weights:
    """Convert weights of an ImageNet classifier to a timm backbone; the last layer is dropped.

    torchvision gives the batch norms of B5 to B7 and of V2 an epsilon of 1e-3, timm 1e-5. The
    difference is added to the running variances, which makes both the same function wherever
    running statistics are used: var' + 1e-5 = var + 1e-3.

    Args:
        weights: named tensors; prefixes that all names share are removed.
        backbone_name: timm's name.
        naming: library whose names the weights have.

    Raises:
        SettingsError: no such backbone, or weights of this naming fit no such backbone.
        WeightsError: the names or the shapes are not those of this network.
    """
    if not _TARGETS[naming].fullmatch(backbone_name):
        raise SettingsError(
            f"{naming} weights fit {_TARGETS_IN_WORDS[naming]}, not {backbone_name!r}; "
            "give one of these as --backbone"
        )
    backbone = create_backbone(backbone_name)
    wanted = backbone.state_dict()
    their_module, classifiers = _NAMINGS[naming](backbone)
    sources = {key: _translate_key(key, their_module) for key in wanted}
    given = strip_wrappers(weights, _WRAPPERS)
    if naming == "clip":
        given = _shape_clip_as_timm(given)
    given = {key: v for key, v in given.items() if key.rpartition(".")[0] not in classifiers}
    _check(given, {sources[key]: value for key, value in wanted.items()}, backbone_name, naming)
    renamed = {key: given.get(source, wanted[key]) for key, source in sources.items()}
    return _adjust_epsilon(renamed, backbone, _find_epsilon(backbone_name, naming))


def strip_wrappers(weights: Mapping[str, Tensor], prefixes: Iterable[str]) -> Weights:
    """Remove, as often as possible, each of these prefixes that every name begins with."""
    stripped = dict(weights)
    prefixes = tuple(prefixes)
    while shared := [p for p in prefixes if all(key.startswith(p) for key in stripped)]:
        stripped = {key.removeprefix(shared[0]): value for key, value in stripped.items()}
    return stripped


def format_names(keys: Iterable[str]) -> str:
    """Format up to three names, and the number of further names."""
    keys = list(keys)
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return ", ".join(keys[:3]) + more


def _check(given: Weights, wanted: Weights, backbone_name: str, naming: Naming) -> None:
    missing = [key for key in wanted if key not in given and not key.endswith(_COUNTER)]
    unknown = [key for key in given if key not in wanted]
    other_shape = [
        f"{key} {tuple(given[key].shape)} instead of {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in given and given[key].shape != value.shape
    ]
    problems = [
        f"{what} {format_names(keys)}"
        for what, keys in (("missing", missing), ("unknown", unknown), ("shapes", other_shape))
        if keys
    ]
    if problems:
        raise WeightsError(
            f"these are not {naming} weights of {backbone_name}: {'; '.join(problems)}. "
            "Give the format and the backbone that they were made with"
        )


_Names = tuple[Callable[[str], str], set[str]]
"""timm's name of a module -> the other library's; and the classifier's modules in the latter."""


def _name_lukemelas(backbone: nn.Module) -> _Names:
    table = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
    for number, (ours, block) in enumerate(_list_blocks(backbone)):
        for module, theirs in _LUKEMELAS_BLOCKS[type(block).__name__].items():
            table[f"{ours}.{module}"] = f"_blocks.{number}.{theirs}"
    return table.__getitem__, {"_fc"}


def _name_torchvision(backbone: nn.Module) -> _Names:
    stages = backbone.get_submodule("blocks")
    assert isinstance(stages, nn.Sequential)
    last = len(stages) + 1
    table = {
        "conv_stem": "features.0.0",
        "bn1": "features.0.1",
        "conv_head": f"features.{last}.0",
        "bn2": f"features.{last}.1",
    }
    for ours, block in _list_blocks(backbone):
        _, stage, number = ours.split(".")
        for module, theirs in _TORCHVISION_BLOCKS[type(block).__name__].items():
            table[f"{ours}.{module}"] = f"features.{int(stage) + 1}.{number}.block.{theirs}"
    return table.__getitem__, {"classifier.1"}


def _name_timm(backbone: nn.Module) -> _Names:
    config = backbone.pretrained_cfg
    assert isinstance(config, dict)
    classifiers = config.get("classifier") or ()
    return str, {classifiers} if isinstance(classifiers, str) else set(classifiers)


def _name_clip(backbone: nn.Module) -> _Names:
    table = {ours: _CLIP_PREFIX + theirs for ours, theirs in _CLIP_MODULES.items()}
    blocks = backbone.get_submodule("blocks")
    for number, _ in blocks.named_children():
        for ours, theirs in _CLIP_BLOCK.items():
            table[f"blocks.{number}.{ours}"] = f"{_CLIP_PREFIX}encoder.layers.{number}.{theirs}"
    return table.__getitem__, {"visual_projection"}


def _shape_clip_as_timm(weights: Weights) -> Weights:
    """Join query, key and value, and give the embeddings timm's leading axes; the rest stays.

    The tensors keep CLIP's names but for those of the two embeddings, which are timm's.
    """
    embeddings = {
        "embeddings.class_embedding": ("cls_token", 2),
        "embeddings.position_embedding.weight": ("pos_embed", 1),
    }
    shaped: Weights = {}
    for name, tensor in weights.items():
        own = name.removeprefix(_CLIP_PREFIX)
        if own in embeddings:
            ours, num_axes = embeddings[own]
            shaped[ours] = tensor[(None,) * num_axes]
        elif ".self_attn.q_proj." in name:
            parts = [weights.get(name.replace(".q_proj.", f".{x}_proj.")) for x in "qkv"]
            joined = [part for part in parts if part is not None]
            shaped[name.replace(".q_proj.", ".qkv.")] = torch.cat(joined)
        elif ".self_attn.k_proj." not in name and ".self_attn.v_proj." not in name:
            shaped[name] = tensor
    return shaped


_NAMINGS: dict[Naming, Callable[[nn.Module], _Names]] = {
    "lukemelas": _name_lukemelas,
    "torchvision": _name_torchvision,
    "timm": _name_timm,
    "clip": _name_clip,
}


def _list_blocks(backbone: nn.Module) -> Iterable[tuple[str, nn.Module]]:
    """Name and module of each block of a timm EfficientNet, in order."""
    stages = backbone.get_submodule("blocks")
    for stage, blocks in stages.named_children():
        for number, block in blocks.named_children():
            yield f"blocks.{stage}.{number}", block


def _translate_key(key: str, their_module: Callable[[str], str]) -> str:
    module, _, leaf = key.rpartition(".")
    # timm's own parameters need not lie in a module (cls_token).
    return f"{their_module(module)}.{leaf}" if module else key


def _find_epsilon(backbone_name: str, naming: Naming) -> float | None:
    """Find the batch norms' epsilon of the network that the weights come from; None: timm's."""
    match = _TARGETS[naming].fullmatch(backbone_name)
    if naming != "torchvision" or match is None:
        return None
    return _TORCHVISION_EPS.get(match[1] or "", 1e-3)


def _adjust_epsilon(weights: Weights, backbone: nn.Module, epsilon: float | None) -> Weights:
    """Change running variances so that the backbone's epsilon gives the same function."""
    if epsilon is None:
        return weights
    shifted = {
        f"{name}.running_var": weights[f"{name}.running_var"] + (epsilon - module.eps)
        for name, module in backbone.named_modules()
        if isinstance(module, _BatchNorm)
    }
    return weights | shifted
