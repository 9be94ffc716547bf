"""Checkpoint folders as networks in torch."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from models.network.detector import Detector
from reelcheck.errors import MismatchError
from storage.checkpoints import read_card
from storage.layout import ModelLayout
from tasks.checkpoints.torch_model import load_detector


def test_loaded_detector_is_ready_to_score(tiny: Any, tmp_path: Path) -> None:
    model = tiny.save_model(tmp_path)
    detector = load_detector(model.path, read_card(model).model_id)
    assert not any(module.training for module in detector.modules())
    torch.manual_seed(0)
    expected = Detector(tiny.detector).state_dict()
    for name, tensor in detector.state_dict().items():
        assert torch.equal(tensor.cpu(), expected[name])


@pytest.mark.parametrize("architecture", [{}, {"feature_dim": 32}, {"depth": 2}])
def test_weights_of_another_model_are_refused(
    tiny: Any, tmp_path: Path, architecture: dict[str, int]
) -> None:
    model = tiny.save_model(tmp_path / "model", seed=4)
    other = tiny.save_model(tmp_path / "other", seed=5, **architecture)
    model_id, other_id = read_card(model).model_id, read_card(other).model_id
    shutil.copy(other.weights_path, model.weights_path)
    with pytest.raises(MismatchError, match=f"not the weights that the card of model {model_id} "):
        load_detector(model.path, model_id)
    # Where they belong they are good weights.
    assert load_detector(other.path, other_id)


def test_another_model_in_the_folder_is_not_taken_for_the_one_before(
    tiny: Any, tmp_path: Path
) -> None:
    model: ModelLayout = tiny.save_model(tmp_path, seed=6)
    before = read_card(model).model_id
    tiny.save_model(tmp_path, seed=7)
    with pytest.raises(MismatchError, match=f"held {before} before"):
        load_detector(model.path, before)
