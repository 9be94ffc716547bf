"""Weights to start from: of a whole detector, of its backbone, or of neither."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.network.detector import Detector
from reelcheck.errors import WeightsError
from reelcheck.train_config import DetectorSettings
from storage.weights import read_weights, weights_to_bytes
from tasks.training.member import load_initial_weights

Weights = dict[str, Tensor]
Save = Callable[[Weights, Path], None]


def same(left: Weights, right: Weights) -> bool:
    return left.keys() == right.keys() and all(
        torch.equal(left[name], right[name]) for name in left
    )


def save_safetensors(weights: Weights, path: Path) -> None:
    path.write_bytes(weights_to_bytes(weights))


def save_pth(weights: Weights, path: Path) -> None:
    torch.save(weights, path)


def save_nested(weights: Weights, path: Path) -> None:
    torch.save({"state_dict": weights, "epoch": 3}, path)


def random_detector(settings: DetectorSettings, seed: int, **changes: Any) -> Detector:
    torch.manual_seed(seed)
    return Detector(settings.model_copy(update=changes))


@pytest.mark.parametrize(
    ("save", "suffix"), [(save_safetensors, "safetensors"), (save_pth, "pth"), (save_nested, "pt")]
)
def test_bare_backbone_weights_fill_the_backbone_only(
    tmp_path: Path, tiny: Any, save: Save, suffix: str
) -> None:
    given, detector = random_detector(tiny.detector, 1), random_detector(tiny.detector, 2)
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    path = tmp_path / f"backbone.{suffix}"
    # A classifier that the detector does not have is left out.
    save({**given.backbone.state_dict(), "fc.weight": torch.zeros(2, 2)}, path)
    load_initial_weights(detector, read_weights(path), path)
    for name, tensor in detector.state_dict().items():
        expected = given.state_dict() if name.startswith("backbone.") else before
        assert torch.equal(tensor, expected[name]), name


def test_whole_detector_fills_everything(tmp_path: Path, tiny: Any) -> None:
    given, detector = random_detector(tiny.detector, 1), random_detector(tiny.detector, 2)
    load_initial_weights(detector, given.state_dict(), tmp_path)
    assert same(given.state_dict(), detector.state_dict())


def test_detector_with_another_head_gives_its_backbone(tmp_path: Path, tiny: Any) -> None:
    given = random_detector(tiny.detector, 1, transformer=None)
    detector = random_detector(tiny.detector, 2)
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    load_initial_weights(detector, given.state_dict(), tmp_path)
    after = detector.state_dict()
    assert same(given.backbone.state_dict(), detector.backbone.state_dict())
    head = [name for name in before if name.startswith("head.")]
    assert all(torch.equal(before[name], after[name]) for name in head)


@pytest.mark.parametrize("is_whole", [True, False])
def test_weights_that_fit_nothing_are_refused(tmp_path: Path, tiny: Any, is_whole: bool) -> None:
    other = (
        random_detector(tiny.detector, 1, backbone="test_efficientnet")
        if is_whole
        else torch.nn.Linear(2, 2)
    )
    path = tmp_path / "other.safetensors"
    save_safetensors(other.state_dict(), path)
    with pytest.raises(WeightsError, match="fit neither") as caught:
        load_initial_weights(random_detector(tiny.detector, 2), read_weights(path), path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
