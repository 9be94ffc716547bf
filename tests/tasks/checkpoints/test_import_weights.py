"""Imported detectors give the probability that the original gives for the same picture."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import efficientnet_pytorch
import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.data.batching import Batch, Item, collate
from models.interop.published import PUBLISHED
from models.network.detector import Detector
from reelcheck.card import ModelCard
from reelcheck.settings import settings_hash
from reelcheck.train_config import DetectorSettings
from storage.checkpoints import read_card
from storage.layout import ModelLayout
from storage.weights import read_weights
from tasks.checkpoints.import_weights import import_weights
from tasks.checkpoints.runtimes import open_runtime
from tasks.checkpoints.torch_model import load_detector
from tasks.training.start import load_initial_weights

RandomNetwork = Callable[[Any, Tensor], Any]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture(autouse=True)
def _same_weights_on_one_core() -> Iterator[None]:
    torch.manual_seed(0)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small tensors: more threads only wait for each other
    yield
    torch.set_num_threads(num_threads)


# What the projects run, after a reading of their code: the same layers under the same names.


class Original(nn.Module):
    """uint8 RGB -> P(fake); ``forward`` gives what its last layer gives."""

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    last: str

    def normalised(self, pictures: Tensor) -> Tensor:
        rgb = pictures.double() / 255
        mean, std = (torch.tensor(v, dtype=rgb.dtype)[:, None, None] for v in (self.mean, self.std))
        return (rgb - mean) / std

    def probability(self, pictures: Tensor) -> Tensor:
        out = self(self.normalised(pictures))
        return out.softmax(1)[:, 1] if out.shape[1] == 2 else out.sigmoid()[:, 0]


def pooled(x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x, 1).flatten(1)


class SelfBlendedImages(Original):
    last = "net._fc"

    def __init__(self) -> None:
        super().__init__()
        self.net = efficientnet_pytorch.EfficientNet.from_name("efficientnet-b4", num_classes=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class DeepfakeBenchEfficientNet(Original):
    mean = std = (0.5, 0.5, 0.5)
    last = "backbone.last_layer"

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Module()
        network = efficientnet_pytorch.EfficientNet.from_name("efficientnet-b4")
        network._conv_stem = nn.Conv2d(3, 48, kernel_size=3, stride=2, bias=False)
        network._fc = nn.Identity()
        self.backbone.efficientnet = network
        self.backbone.last_layer = nn.Linear(1792, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.backbone.last_layer(pooled(self.backbone.efficientnet.extract_features(x)))


class SeparableConv(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.conv1(x))


class XceptionBlock(nn.Module):
    def __init__(self, widths: list[int], *, stride: int, first_relu: bool = True) -> None:
        super().__init__()
        if stride != 1:
            self.skip = nn.Conv2d(widths[0], widths[-1], 1, stride=stride, bias=False)
            self.skipbn = nn.BatchNorm2d(widths[-1])
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.ReLU(), SeparableConv(inputs, outputs), nn.BatchNorm2d(outputs)]
        pool = [nn.MaxPool2d(3, stride, 1)] if stride != 1 else []
        self.rep = nn.Sequential(*layers[not first_relu :], *pool)

    def forward(self, x: Tensor) -> Tensor:
        return self.rep(x) + (self.skipbn(self.skip(x)) if hasattr(self, "skip") else x)


class XceptionLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 32, 3, stride=2, bias=False), nn.BatchNorm2d(32)
        self.conv2, self.bn2 = nn.Conv2d(32, 64, 3, bias=False), nn.BatchNorm2d(64)
        self.block1 = XceptionBlock([64, 128, 128], stride=2, first_relu=False)
        self.block2 = XceptionBlock([128, 256, 256], stride=2)
        self.block3 = XceptionBlock([256, 728, 728], stride=2)
        for number in range(4, 12):
            self.add_module(f"block{number}", XceptionBlock([728] * 4, stride=1))
        self.block12 = XceptionBlock([728, 728, 1024], stride=2)
        self.conv3, self.bn3 = SeparableConv(1024, 1536), nn.BatchNorm2d(1536)
        self.conv4, self.bn4 = SeparableConv(1536, 2048), nn.BatchNorm2d(2048)

    def features(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        for number in range(1, 13):
            x = self.get_submodule(f"block{number}")(x)
        return pooled(F.relu(self.bn4(self.conv4(F.relu(self.bn3(self.conv3(x)))))))


class DeepfakeBenchXception(Original):
    mean = std = (0.5, 0.5, 0.5)
    last = "backbone.last_linear"

    def __init__(self) -> None:
        super().__init__()
        self.backbone = XceptionLayers()
        self.backbone.last_linear = nn.Linear(2048, 2)
        self.backbone.adjust_channel = nn.Sequential(nn.Conv2d(2048, 512, 1), nn.BatchNorm2d(512))

    def forward(self, x: Tensor) -> Tensor:
        return self.backbone.last_linear(self.backbone.features(x))


class ChallengeWinner(Original):
    mean, std = IMAGENET
    last = "fc"

    def __init__(self, encoder: str) -> None:
        super().__init__()
        self.encoder = timm.create_model(encoder)
        self.fc = nn.Linear(self.encoder.num_features, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(pooled(self.encoder.forward_features(x)))


class PolimiEfficientNet(Original):
    mean, std = IMAGENET
    last = "classifier"

    def __init__(self) -> None:
        super().__init__()
        # Of release 0.7, which is why the tests say so when they import it.
        self.efficientnet = efficientnet_pytorch.EfficientNet.from_name("efficientnet-b4")
        self.classifier = nn.Linear(1792, 1)
        del self.efficientnet._fc

    def features(self, x: Tensor) -> Tensor:
        return pooled(self.efficientnet.extract_features(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


class PolimiSiamese(Original):
    mean, std = IMAGENET
    last = "classifier.1"

    def __init__(self) -> None:
        super().__init__()
        self.feat_ext = PolimiEfficientNet()
        self.classifier = nn.Sequential(nn.BatchNorm1d(1792), nn.Linear(1792, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.feat_ext.features(x))


class PolimiXception(Original):
    mean, std = IMAGENET
    last = "xception.last_linear"

    def __init__(self) -> None:
        super().__init__()
        self.xception = XceptionLayers()
        self.xception.last_linear = nn.Linear(2048, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.xception.last_linear(self.xception.features(x))


def uint8_pictures(pixels: int, *, num: int = 4) -> Tensor:
    return torch.randint(0, 256, (num, 3, pixels, pixels), dtype=torch.uint8)


@torch.no_grad()
def ready(original: Original, random_network: RandomNetwork, pictures: Tensor) -> Original:
    """Random weights whose probabilities for these pictures are neither 0 nor 1."""
    more = uint8_pictures(pictures.shape[-1], num=8)
    random_network(original, original.normalised(torch.cat([pictures, more])))
    last = original.get_submodule(original.last)
    last.weight /= original(original.normalised(pictures)).std(0).max()
    last.bias -= original(original.normalised(pictures)).mean(0)
    original.float().double()
    probabilities = original.probability(pictures)
    assert probabilities.max() - probabilities.min() > 0.1, "the network is blind"
    return original


def weights_of(original: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    state = original.state_dict()
    return {
        prefix + name: value.float() if value.is_floating_point() else value
        for name, value in state.items()
    }


def one_sequence(pictures: Tensor) -> Batch:
    item = Item(
        frames_TCHW=pictures, seconds_T=torch.arange(len(pictures)) / 25, label=0.0, index=0
    )
    return collate([item])


def imported_logits(out: Path, card: ModelCard, pictures: Tensor) -> Tensor:
    detector = load_detector(out, card.model_id)
    with torch.no_grad():
        detection = detector.cpu().double()(one_sequence(pictures))
    assert detection.logits_B[0].item() == pytest.approx(detection.frame_logits_BT.mean().item())
    return detection.frame_logits_BT[0]


STYLE_07 = {"padding_style": "efficientnet-pytorch-0.7"}


@pytest.mark.parametrize("pixels", [64, pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("original", "format", "options"),
    [
        pytest.param(SelfBlendedImages, "sbi", {}, id="sbi"),
        pytest.param(DeepfakeBenchEfficientNet, "dfbench", {}, id="dfbench-b4"),
        pytest.param(DeepfakeBenchXception, "dfbench", {}, id="dfbench-xception"),
        pytest.param(
            lambda: ChallengeWinner("tf_efficientnet_b1"),
            "dfdc",
            {"backbone": "tf_efficientnet_b1"},
            id="dfdc-b1",
        ),
        pytest.param(
            lambda: ChallengeWinner("tf_efficientnet_b7"),
            "dfdc",
            {},
            marks=pytest.mark.slow,
            id="dfdc-b7",
        ),
        pytest.param(PolimiEfficientNet, "polimi", STYLE_07, id="polimi-b4"),
        pytest.param(PolimiSiamese, "polimi", STYLE_07, id="polimi-b4st"),
        pytest.param(PolimiXception, "polimi", {}, id="polimi-xception"),
    ],
)
def test_same_probability_as_the_original(
    original: Any,
    format: Any,
    options: Any,
    pixels: int | None,
    tmp_path: Path,
    random_network: RandomNetwork,
) -> None:
    side = pixels or PUBLISHED[format].pixels
    pictures = uint8_pictures(side)
    network = ready(original(), random_network, pictures)
    file = tmp_path / "published.pth"
    torch.save(weights_of(network, "module."), file)
    card = import_weights(file, tmp_path / "model", format=format, pixels=pixels, **options)
    assert card is not None
    assert card.detector.input_pixels == card.preprocessing.crop_pixels == side
    assert card.preprocessing_hash == settings_hash(card.preprocessing)
    ours = imported_logits(tmp_path / "model", card, pictures).sigmoid()
    with torch.no_grad():
        theirs = network.probability(pictures)
    # Not 1e-9: mean and deviation are float32 in the detector, and random networks amplify.
    assert (ours - theirs).abs().max() < 1e-4


@pytest.fixture(scope="module")
def polimi() -> PolimiEfficientNet:
    return PolimiEfficientNet()


@pytest.mark.parametrize(
    ("key", "zipped"),
    [("net", True), ("model", True), ("state_dict", True), (None, True), ("net", False)],
)
def test_containers_and_what_lies_beside_the_weights(
    key: str | None, zipped: bool, polimi: PolimiEfficientNet, tmp_path: Path
) -> None:
    weights: Any = weights_of(polimi)
    content = weights if key is None else {key: weights, "epoch": 3, "best": np.float64(0.25)}
    torch.save(content, tmp_path / "weights.tar", _use_new_zipfile_serialization=zipped)
    card = import_weights(tmp_path / "weights.tar", tmp_path / "model", format="polimi")
    assert card is not None
    Detector(card.detector).load_state_dict(read_weights(tmp_path / "model"))


def test_card_says_where_the_weights_come_from(polimi: PolimiEfficientNet, tmp_path: Path) -> None:
    torch.save(weights_of(polimi), tmp_path / "weights.pth")
    card = import_weights(tmp_path / "weights.pth", tmp_path / "model", format="polimi")
    assert card == read_card(ModelLayout(tmp_path / "model"))
    assert card is not None
    assert card.source is not None
    assert card.source.file_name == "weights.pth"
    assert "GPL-3.0" in card.source.licence
    assert card.training is None
    assert card.split_hash is None
    assert any("not calibrated" in note for note in card.notes)
    again = import_weights(tmp_path / "weights.pth", tmp_path / "model", format="polimi")
    assert again == card


def test_score_takes_an_imported_model(
    tiny: Any, tmp_path: Path, random_network: RandomNetwork
) -> None:
    clips = tiny.clips(1)
    crops = torch.from_numpy(np.concatenate([clip.pixels() for clip in clips]))
    pictures = crops.permute(0, 3, 1, 2)
    network = ready(ChallengeWinner("test_efficientnet"), random_network, pictures)
    torch.save({"state_dict": weights_of(network, "module.")}, tmp_path / "small")
    model = ModelLayout(tmp_path / "model")
    card = import_weights(
        tmp_path / "small", model.path, format="dfdc", backbone="test_efficientnet", pixels=32
    )
    assert card is not None
    runtime = open_runtime(model)
    with torch.no_grad():
        theirs = network.probability(pictures).logit()
    for clip, frame_logits in zip(clips, theirs.split(clips[0].num_frames), strict=True):
        features_TD = runtime.encode(clip.pixels())
        logit = runtime.classify(features_TD, np.arange(clip.num_frames, dtype=np.float32)).logit
        assert logit == pytest.approx(frame_logits.mean().item(), abs=1e-2)


def test_backbone_becomes_a_start_of_training(tmp_path: Path) -> None:
    classifier = timm.create_model("test_resnet", num_classes=5)
    torch.save({"state_dict": weights_of(classifier, "module.")}, tmp_path / "classifier.pth")
    out = tmp_path / "backbone"
    done = import_weights(tmp_path / "classifier.pth", out, format="timm", backbone="test_resnet")
    assert done is None
    detector = Detector(DetectorSettings(backbone="test_resnet"))
    load_initial_weights(detector, read_weights(out), out)
    given = classifier.state_dict()
    assert all(torch.equal(v, given[k]) for k, v in detector.backbone.state_dict().items())
