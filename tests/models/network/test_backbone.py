"""Backbones by name."""

import re
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor
from torch.nn import functional as F

from models.network.backbone import create_backbone, extract_features, find_feature_dim
from models.network.detector import Detector
from reelcheck.errors import SettingsError


@pytest.mark.parametrize("name", ["efficientnet_b33", "resnet_1000000", "test_resnot"])
def test_unknown_backbone_is_refused_with_similar_names(tiny: Any, name: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(repr(name))) as caught:
        Detector(tiny.detector.model_copy(update={"backbone": name}))
    similar = str(caught.value).partition("similar: ")[2].split(", ")
    assert similar
    assert all(timm.is_model(model) for model in similar)


VIT = "test_vit"
RESNET = "test_resnet"


def frames_of(side: int, *, seed: int = 0) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_layers_of_a_vision_transformer_are_its_class_tokens() -> None:
    torch.manual_seed(1)
    whole = timm.create_model(VIT, num_classes=0).eval()
    own = create_backbone(VIT, layers=(1, 3)).eval()
    own.load_state_dict({k: v for k, v in whole.state_dict().items() if k in own.state_dict()})
    seen: list[Tensor] = []
    for number in (1, 3):
        whole.blocks[number].register_forward_hook(lambda _m, _i, out: seen.append(out[:, 0]))
    with torch.no_grad():
        whole(frames_of(160))
        found = extract_features(own, frames_of(160), (1, 3))
    expected = [F.layer_norm(token_ND, token_ND.shape[1:]) for token_ND in seen]
    torch.testing.assert_close(found, torch.cat(expected, 1), atol=1e-4, rtol=1e-4)
    assert found.shape[1] == find_feature_dim(own, (1, 3))


def test_layers_of_a_convolution_net_are_the_statistics_of_the_middle() -> None:
    torch.manual_seed(1)
    whole = timm.create_model(RESNET, num_classes=0, features_only=True, out_indices=(2,)).eval()
    own = create_backbone(RESNET, layers=(2,)).eval()
    own.load_state_dict(whole.state_dict())
    with torch.no_grad():
        map_NCHW = whole(frames_of(160))[0].numpy()
        found = extract_features(own, frames_of(160), (2,)).numpy()
    place = np.linspace(-1, 1, map_NCHW.shape[-1])
    inside = place[:, None] ** 2 + place[None] ** 2 <= 0.25
    assert 0 < inside.sum() < inside.size
    cells_NCP = map_NCHW[:, :, inside]
    expected = np.concatenate([cells_NCP.mean(2), cells_NCP.std(2)], axis=1)
    expected = (expected - expected.mean(1, keepdims=True)) / expected.std(1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-2)
    assert found.shape[1] == find_feature_dim(own, (2,))


@pytest.mark.parametrize("side", [32, 64, 160])
def test_layer_features_are_numbers_for_every_size(side: int) -> None:
    backbone = create_backbone(RESNET, layers=(0, 1, 2, 3, 4)).eval()
    with torch.no_grad():
        assert extract_features(backbone, frames_of(side), (0, 1, 2, 3, 4)).isfinite().all()


def test_what_follows_the_last_layer_is_left_out() -> None:
    names = [name for name, _ in create_backbone(VIT, layers=(1,)).named_parameters()]
    assert any(name.startswith("blocks.1.") for name in names)
    assert not any(name.startswith(("blocks.2.", "norm.")) for name in names)


@pytest.mark.parametrize(
    ("name", "layers", "words"),
    [
        (RESNET, (5,), "layers 0 to 4"),
        (VIT, (1, 1), "in rising order"),
        (VIT, (2, 1), "in rising order"),
    ],
)
def test_layers_that_a_backbone_has_not_are_refused(
    tiny: Any, name: str, layers: tuple[int, ...], words: str
) -> None:
    changes = {"backbone": name, "feature_layers": layers}
    with pytest.raises(SettingsError, match=words):
        Detector(tiny.detector.model_copy(update=changes))


def test_class_tokens_that_timm_does_not_give_are_refused(tiny: Any) -> None:
    changes = {"backbone": "pit_ti_distilled_224", "feature_layers": (1,)}
    with pytest.raises(SettingsError, match="gives the last layer only"):
        Detector(tiny.detector.model_copy(update=changes))
