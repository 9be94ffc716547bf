"""CLIP's picture encoder under timm's names computes what CLIP computes."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.interop.convert import convert_backbone
from models.network.backbone import create_backbone
from reelcheck.errors import SettingsError, WeightsError

NAME = "vit_base_patch16_clip_quickgelu_224"
DIM, DEPTH, HEADS, POSITIONS = 768, 12, 12, 197
Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def weights() -> Weights:
    """Random weights under the names of the library ``transformers``."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64) * 0.05

    found = {
        "embeddings.class_embedding": draw(DIM),
        "embeddings.patch_embedding.weight": draw(DIM, 3, 16, 16),
        "embeddings.position_embedding.weight": draw(POSITIONS, DIM),
    }
    linear = {
        "self_attn.out_proj": (DIM, DIM),
        "mlp.fc1": (4 * DIM, DIM),
        "mlp.fc2": (DIM, 4 * DIM),
    }
    linear |= {f"self_attn.{x}_proj": (DIM, DIM) for x in "qkv"}
    norms = ["pre_layrnorm", "post_layernorm"]
    for number in range(DEPTH):
        layer = f"encoder.layers.{number}"
        norms += [f"{layer}.layer_norm1", f"{layer}.layer_norm2"]
        for name, shape in linear.items():
            found[f"{layer}.{name}.weight"] = draw(*shape)
            found[f"{layer}.{name}.bias"] = draw(shape[0])
    for name in norms:
        found[f"{name}.weight"] = 1 + draw(DIM)
        found[f"{name}.bias"] = draw(DIM)
    return {
        **{f"vision_model.{name}": tensor for name, tensor in found.items()},
        "visual_projection.weight": draw(512, DIM),
    }


def run_clip(weights: Weights, x_NCHW: Tensor) -> Tensor:
    """The encoder as its paper and its code say: Radford et al. 2021; sigmoid(1.702 x) x."""
    w = {name.removeprefix("vision_model."): tensor for name, tensor in weights.items()}

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (DIM,), w[f"{name}.weight"], w[f"{name}.bias"])

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    patches = F.conv2d(x_NCHW, w["embeddings.patch_embedding.weight"], stride=16)
    first = w["embeddings.class_embedding"].expand(len(x_NCHW), 1, DIM)
    tokens = torch.cat([first, patches.flatten(2).transpose(1, 2)], dim=1)
    tokens = norm(tokens + w["embeddings.position_embedding.weight"], "pre_layrnorm")
    for number in range(DEPTH):
        layer = f"encoder.layers.{number}"
        inner = norm(tokens, f"{layer}.layer_norm1")
        q, k, v = (
            linear(inner, f"{layer}.self_attn.{x}_proj").unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for x in "qkv"
        )
        share = (q @ k.transpose(-1, -2) / (DIM / HEADS) ** 0.5).softmax(-1)
        mixed = (share @ v).transpose(1, 2).flatten(2)
        tokens = tokens + linear(mixed, f"{layer}.self_attn.out_proj")
        inner = linear(norm(tokens, f"{layer}.layer_norm2"), f"{layer}.mlp.fc1")
        tokens = tokens + linear(inner * torch.sigmoid(1.702 * inner), f"{layer}.mlp.fc2")
    return norm(tokens[:, 0], "post_layernorm")


def test_features_are_those_of_clip(weights: Weights) -> None:
    backbone = create_backbone(NAME).double().eval()
    backbone.load_state_dict(convert_backbone(weights, NAME, "clip"))
    generator = torch.Generator().manual_seed(1)
    pictures = torch.randn(2, 3, 224, 224, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        ours, theirs = backbone(pictures), run_clip(weights, pictures)
    assert (theirs[0] - theirs[1]).abs().max() > 1e-2
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    "missing", ["encoder.layers.3.self_attn.k_proj.weight", "embeddings.class_embedding"]
)
def test_file_that_lacks_something(weights: Weights, missing: str) -> None:
    rest = {name: t for name, t in weights.items() if name != f"vision_model.{missing}"}
    with pytest.raises(WeightsError, match="not clip weights"):
        convert_backbone(rest, NAME, "clip")


def test_other_backbone_is_refused(weights: Weights) -> None:
    with pytest.raises(SettingsError, match=f"clip weights fit {NAME}"):
        convert_backbone(weights, "vit_base_patch16_clip_224", "clip")
