"""Converted weights compute what the library they come from computes, to rounding."""

from collections.abc import Callable, Iterator
from typing import Any

import efficientnet_lite_pytorch
import efficientnet_pytorch
import pytest
import timm
import torch
import torchvision
from efficientnet_pytorch.utils import Conv2dStaticSamePadding
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from models.interop.convert import convert_backbone, strip_wrappers
from models.network.backbone import create_backbone
from models.network.padding import apply_padding, compute_same_pads
from reelcheck.errors import SettingsError, WeightsError
from reelcheck.train_config import PaddingSettings

RandomNetwork = Callable[[Any, Tensor], Any]
STATIC_07 = "efficientnet-pytorch-0.7"
STATIC_06 = "efficientnet-pytorch-0.6"
EIGHT = [0, 3, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 4, 5, 6, 7))]
"""EfficientNet-B0 to B7."""


@pytest.fixture(autouse=True)
def _same_weights_on_one_core() -> Iterator[None]:
    torch.manual_seed(0)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small tensors: more threads only wait for each other
    yield
    torch.set_num_threads(num_threads)


def pictures(pixels: int, *, num: int = 2) -> Tensor:
    return torch.rand(num, 3, pixels, pixels, dtype=torch.float64)


def lukemelas(number: int) -> Any:
    network = efficientnet_pytorch.EfficientNet.from_name(f"efficientnet-b{number}")
    network._fc = nn.Identity()
    return network


def converted(network: nn.Module, name: str, naming: Any, padding: Any = None) -> nn.Module:
    backbone = create_backbone(name, padding=padding).double().eval()
    backbone.load_state_dict(convert_backbone(network.state_dict(), name, naming))
    return backbone


def lite(number: int) -> Any:
    network = efficientnet_lite_pytorch.EfficientNet.from_name(f"efficientnet-lite{number}")
    network._fc = nn.Identity()
    return network


def native_padding(network: Any, style: Any) -> PaddingSettings:
    return PaddingSettings(style=style, built_for_pixels=network._global_params.image_size)


@torch.no_grad()
def difference(one: nn.Module, other: nn.Module, pixels: int) -> float:
    """Largest difference of two networks' outputs, as a share of what the pictures change."""
    x = pictures(pixels)
    ours, theirs = one(x), other(x)
    spread = (theirs[0] - theirs[1]).abs().max()
    assert spread > 1e-3 * theirs.abs().max(), "the network does not look at its input"
    return float((ours - theirs).abs().max() / spread)


@pytest.mark.parametrize("number", EIGHT)
def test_lukemelas_at_a_size_that_it_was_not_built_for(
    number: int, random_network: RandomNetwork
) -> None:
    theirs = random_network(lukemelas(number), pictures(64, num=12))
    name = f"tf_efficientnet_b{number}"
    ours = converted(theirs, name, "lukemelas", native_padding(theirs, STATIC_07))
    assert difference(ours, theirs, 77) < 1e-9
    timms = converted(theirs, name, "lukemelas")
    assert difference(timms, theirs, 77) > 1e-3


@pytest.mark.parametrize("number", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("pixels", [112, 280])
def test_lite_at_a_size_that_it_was_not_built_for(
    number: int, pixels: int, random_network: RandomNetwork
) -> None:
    theirs = random_network(lite(number), pictures(64, num=12))
    name = f"tf_efficientnet_lite{number}"
    ours = converted(theirs, name, "lukemelas", native_padding(theirs, STATIC_07))
    assert difference(ours, theirs, pixels) < 1e-9
    timms = converted(theirs, name, "lukemelas")
    assert difference(timms, theirs, pixels) > 1e-3


@pytest.mark.parametrize("number", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_lite_at_its_own_size_pads_as_timm_does(number: int, random_network: RandomNetwork) -> None:
    theirs = random_network(lite(number), pictures(64, num=12))
    native = theirs._global_params.image_size
    assert native == (224, 240, 260)[number]
    ours = converted(theirs, f"tf_efficientnet_lite{number}", "lukemelas")
    assert difference(ours, theirs, native) < 1e-9


@pytest.mark.parametrize("number", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_lukemelas_at_its_own_size_pads_as_timm_does(
    number: int, random_network: RandomNetwork
) -> None:
    theirs = random_network(lukemelas(number), pictures(64, num=12))
    native = theirs._global_params.image_size
    ours = converted(theirs, f"tf_efficientnet_b{number}", "lukemelas")
    assert difference(ours, theirs, native) < 1e-9


@pytest.mark.parametrize("number", EIGHT)
def test_release_06_pads_every_layer_for_the_whole_picture(
    number: int, random_network: RandomNetwork
) -> None:
    theirs = lukemelas(number)
    native = theirs._global_params.image_size
    for conv in theirs.modules():
        if isinstance(conv, Conv2dStaticSamePadding) and conv.kernel_size != (1, 1):
            whole = Conv2dStaticSamePadding(
                1, 1, conv.kernel_size, stride=conv.stride, image_size=native
            )
            conv.static_padding = whole.static_padding
    random_network(theirs, pictures(64, num=12))
    name = f"tf_efficientnet_b{number}"
    ours = converted(theirs, name, "lukemelas", native_padding(theirs, STATIC_06))
    assert difference(ours, theirs, 77) < 1e-9


def test_releases_pad_differently(random_network: RandomNetwork) -> None:
    theirs = random_network(lukemelas(3), pictures(64, num=12))
    ours = converted(theirs, "tf_efficientnet_b3", "lukemelas", native_padding(theirs, STATIC_06))
    assert difference(ours, theirs, 300) > 1e-3


@given(st.integers(1, 700), st.sampled_from([3, 5, 7]), st.sampled_from([1, 2, 3]))
def test_same_pads_give_a_pixel_per_stride(pixels: int, kernel: int, stride: int) -> None:
    before, after = compute_same_pads(pixels, kernel=kernel, stride=stride)
    assert after - before in {0, 1}
    line = F.pad(torch.ones(1, 1, pixels), (before, after))
    out = F.conv1d(line, torch.ones(1, 1, kernel), stride=stride)
    assert out.shape[-1] == -(-pixels // stride)
    assert out.min() > 0


def test_padding_leaves_the_weights_alone() -> None:
    backbone = create_backbone("tf_efficientnet_b0")
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    apply_padding(backbone, PaddingSettings(style=STATIC_07, built_for_pixels=224))
    after = backbone.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_padding_of_a_backbone_that_does_not_pad_so() -> None:
    padding = PaddingSettings(style=STATIC_07, built_for_pixels=224)
    with pytest.raises(SettingsError, match="tf_efficientnet"):
        create_backbone("efficientnet_b0", padding=padding)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("efficientnet_b0", "efficientnet_b0"),
        ("efficientnet_v2_s", "efficientnetv2_s"),
        ("efficientnet_b5", "efficientnet_b5"),
        *(
            pytest.param(f"efficientnet_{a}", f"efficientnet{b}", marks=pytest.mark.slow)
            for a, b in [(f"b{n}", f"_b{n}") for n in (1, 2, 3, 4, 6, 7)]
            + [("v2_m", "v2_m"), ("v2_l", "v2_l")]
        ),
    ],
)
def test_torchvision(theirs: str, ours: str, random_network: RandomNetwork) -> None:
    network = torchvision.models.get_model(theirs)
    network.classifier = nn.Identity()
    random_network(network, pictures(64, num=12))
    backbone = converted(network, ours, "torchvision")
    for pixels in (64, 77):
        # The deepest random networks amplify the rounding of the batch norms' epsilon to 1e-8.
        assert difference(backbone, network, pixels) < 1e-7


def test_timm_as_it_is(random_network: RandomNetwork) -> None:
    theirs = timm.create_model("test_efficientnet", num_classes=7)
    random_network(theirs, pictures(64, num=12))
    wrapped = {f"module.model.{name}": value for name, value in theirs.state_dict().items()}
    backbone = create_backbone("test_efficientnet").double().eval()
    backbone.load_state_dict(convert_backbone(wrapped, "test_efficientnet", "timm"))
    x = pictures(64)
    with torch.no_grad():
        features = theirs.forward_head(theirs.forward_features(x), pre_logits=True)
        assert (backbone(x) - features).abs().max() < 1e-9 * features.abs().max()


def weights_of_b0() -> dict[str, Tensor]:
    network = efficientnet_pytorch.EfficientNet.from_name("efficientnet-b0")
    return dict(network.state_dict())


B0_KEYS = sorted(weights_of_b0())


@settings(deadline=None, max_examples=10)
@given(st.sampled_from([k for k in B0_KEYS if "num_batches" not in k and "_fc" not in k]))
def test_every_key_is_needed(key: str) -> None:
    weights = weights_of_b0()
    del weights[key]
    with pytest.raises(WeightsError, match=rf"missing {key}\."):
        convert_backbone(weights, "tf_efficientnet_b0", "lukemelas")


def test_old_files_count_no_batches() -> None:
    weights = {k: v for k, v in weights_of_b0().items() if not k.endswith("num_batches_tracked")}
    backbone = create_backbone("tf_efficientnet_b0")
    backbone.load_state_dict(convert_backbone(weights, "tf_efficientnet_b0", "lukemelas"))


def test_unknown_keys_are_refused_by_name() -> None:
    weights = weights_of_b0() | {f"extra{n}": torch.ones(1) for n in range(5)}
    with pytest.raises(WeightsError, match="unknown extra0, extra1, extra2 and 2 more"):
        convert_backbone(weights, "tf_efficientnet_b0", "lukemelas")


def test_another_shape_is_refused_by_name() -> None:
    weights = weights_of_b0() | {"_conv_stem.weight": torch.ones(32, 4, 3, 3)}
    with pytest.raises(WeightsError, match=r"_conv_stem.weight \(32, 4, 3, 3\) instead of"):
        convert_backbone(weights, "tf_efficientnet_b0", "lukemelas")


@pytest.mark.parametrize(
    ("name", "naming"),
    [
        ("tf_efficientnet_b1", "lukemelas"),
        ("tf_efficientnet_b0", "timm"),
        ("efficientnet_b0", "torchvision"),
    ],
)
def test_another_network_or_naming_is_refused(name: str, naming: Any) -> None:
    with pytest.raises(WeightsError, match=f"not {naming} weights of {name}"):
        convert_backbone(weights_of_b0(), name, naming)


@pytest.mark.parametrize(
    ("name", "naming"),
    [
        ("efficientnet_b0", "lukemelas"),
        ("tf_efficientnet_b0", "torchvision"),
        ("resnet18", "torchvision"),
        ("no_such_network", "timm"),
    ],
)
def test_backbone_that_no_such_weights_fit(name: str, naming: Any) -> None:
    with pytest.raises(SettingsError, match=name):
        convert_backbone(weights_of_b0(), name, naming)


WRAPPERS = ("module.", "net.", "model.")


@given(
    st.lists(st.sampled_from(WRAPPERS)),
    st.sets(st.sampled_from(["a.weight", "net.b", "head.bias"]), min_size=2),
)
def test_shared_prefixes_come_off_and_no_others(wrappers: list[str], names: set[str]) -> None:
    weights = {"".join(wrappers) + name: torch.ones(1) for name in names}
    assert set(strip_wrappers(weights, WRAPPERS)) == names
