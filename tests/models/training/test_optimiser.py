"""What learns how fast: parameter groups and learning-rate curves."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from timm.models import group_parameters

from models.network.detector import Detector
from models.training.optimiser import create_optimiser, create_schedule
from reelcheck.train_config import Phase, TrainSettings

RATE = 4e-3
PHASE = Phase(learning_rate=RATE)


@pytest.fixture
def detector(tiny: Any) -> Detector:
    return Detector(tiny.detector)


def rates_by_name(detector: Detector, optimiser: torch.optim.Optimizer) -> dict[str, float]:
    names = {id(p): name for name, p in detector.named_parameters()}
    return {names[id(p)]: group["lr"] for group in optimiser.param_groups for p in group["params"]}


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_optimiser_is_the_one_asked_for(
    tiny: Any, detector: Detector, name: str, kind: type
) -> None:
    settings = tiny.training.model_copy(update={"optimizer": name})
    assert type(create_optimiser(detector, settings, PHASE)) is kind


@pytest.mark.parametrize("layer_decay", [None, 0.7])
def test_every_weight_is_in_one_group_and_only_matrices_decay(
    tiny: Any, detector: Detector, layer_decay: float | None
) -> None:
    settings = tiny.training.model_copy(update={"layer_decay": layer_decay, "weight_decay": 0.3})
    groups = create_optimiser(detector, settings, PHASE).param_groups
    placed = [id(p) for group in groups for p in group["params"]]
    assert sorted(placed) == sorted(id(p) for p in detector.parameters())
    for group in groups:
        is_matrix = {p.ndim > 1 for p in group["params"]}
        assert is_matrix == {group["weight_decay"] == 0.3}
        assert group["weight_decay"] in (0.0, 0.3)
    assert {group["weight_decay"] for group in groups} == {0.0, 0.3}


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet", "test_vit"])
def test_each_backbone_layer_learns_more_slowly_than_the_one_after_it(
    tiny: Any, backbone: str
) -> None:
    detector = Detector(tiny.detector.model_copy(update={"backbone": backbone}))
    settings = tiny.training.model_copy(update={"layer_decay": 0.5})
    rates = rates_by_name(detector, create_optimiser(detector, settings, PHASE))
    layers = group_parameters(detector.backbone, detector.backbone.group_matcher(coarse=False))
    from_output = [layers[key] for key in sorted(layers, reverse=True)]
    for distance, names in enumerate(from_output, start=1):
        for name in names:
            assert rates.pop(f"backbone.{name}") == pytest.approx(RATE * 0.5**distance)
    assert rates
    assert all(name.startswith("head.") for name in rates)
    assert set(rates.values()) == {RATE}


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_frozen_layers_are_in_no_group(tiny: Any, detector: Detector, share: float) -> None:
    detector.train_backbone_share(share)
    optimiser = create_optimiser(detector, tiny.training, PHASE)
    learning = {name for name, p in detector.named_parameters() if p.requires_grad}
    assert rates_by_name(detector, optimiser).keys() == learning
    assert len(learning) < len(list(detector.parameters()))


@pytest.mark.parametrize(("starts_from", "rate"), [("weights", 1e-6), ("nothing", 1e-3)])
def test_learning_rate_follows_the_start_where_none_is_given(
    tiny: Any, detector: Detector, starts_from: str, rate: float
) -> None:
    settings = tiny.training.model_copy(update={"pretrained": starts_from == "weights"})
    groups = create_optimiser(detector, settings, Phase()).param_groups
    assert {group["lr"] for group in groups} == {rate}


def curves(detector: Detector, settings: TrainSettings, *, num_steps: int) -> np.ndarray:
    """Learning rate of each group (steps, groups), relative to that of the settings."""
    optimiser = create_optimiser(detector, settings, PHASE)
    own = np.array([group["lr"] for group in optimiser.param_groups])
    schedule = create_schedule(optimiser, settings, num_steps=num_steps)
    rows = []
    for _ in range(num_steps):
        rows.append([group["lr"] for group in optimiser.param_groups])
        optimiser.step()
        schedule.step()
    return np.array(rows) / own


@pytest.mark.parametrize("layer_decay", [None, 0.5])
@pytest.mark.parametrize("name", ["constant", "cosine", "one_cycle"])
def test_learning_rate_curve(
    tiny: Any, detector: Detector, name: str, layer_decay: float | None
) -> None:
    settings = tiny.training.model_copy(update={"schedule": name, "layer_decay": layer_decay})
    num_steps = 40
    shares = curves(detector, settings, num_steps=num_steps)
    # Every group follows the same curve, from its own learning rate.
    np.testing.assert_allclose(shares, np.repeat(shares[:, :1], shares.shape[1], axis=1))
    curve = shares[:, 0]
    if name == "constant":
        np.testing.assert_allclose(curve, 1)
    elif name == "cosine":
        expected = [(1 + math.cos(math.pi * step / num_steps)) / 2 for step in range(num_steps)]
        np.testing.assert_allclose(curve, expected, atol=1e-9)
    else:
        # Smith and Topin 2018 as in torch: from 1/25 up over 30% of the steps, then down to ~0.
        peak = int(np.argmax(curve))
        assert curve[0] == pytest.approx(1 / 25)
        assert 0.25 < peak / num_steps < 0.35
        assert curve[peak] == pytest.approx(1, abs=0.01)
        assert (np.diff(curve[: peak + 1]) > 0).all()
        assert (np.diff(curve[peak:]) < 0).all()
        assert curve[-1] < 0.01


@pytest.mark.parametrize("num_steps", [1, 2, 3])
@pytest.mark.parametrize("name", ["constant", "cosine", "one_cycle"])
def test_shortest_runs_have_a_schedule(
    tiny: Any, detector: Detector, name: str, num_steps: int
) -> None:
    settings = tiny.training.model_copy(update={"schedule": name})
    shares = curves(detector, settings, num_steps=num_steps)
    assert np.isfinite(shares).all()
    assert (shares >= 0).all()
    assert shares.max() > 0
