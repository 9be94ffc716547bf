"""What the steps of training do to the weights, and what is logged of them."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from torch import Tensor

from models.data.batching import collate
from models.data.dataset import CropDataset
from models.network.detector import Detector
from models.training.inference import score_sequences
from models.training.loss import compute_loss
from reelcheck.train_config import AugmentSettings
from storage.layout import StoreLayout
from storage.schemas import MANIFEST
from storage.tables import read_rows

NO_CHANGE = AugmentSettings(**dict.fromkeys(AugmentSettings.model_fields, 0.0))
EXACT: dict[str, Any] = {"augment": NO_CHANGE, "min_frames": 100, "dropout": 0.0}
"""Nothing random but the order: what is computed can be computed again by hand."""


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> StoreLayout:
    return tiny.write_store(tmp_path_factory.mktemp("training"), tiny.clips(4))


def largest_difference(left: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    assert left.keys() == right.keys()
    return max(float((left[k].double() - right[k].double()).abs().max()) for k in left)


def loss_of(
    run: Any, detector: Detector, dataset: CropDataset, places: Any, *, pos_weight: float = 1.7
) -> float:
    batch = collate([dataset[place] for place in places])
    weight = run.settings.frame_loss_weight
    with torch.no_grad():
        detection = detector(batch)
    return float(compute_loss(detection, batch, pos_weight=pos_weight, frame_loss_weight=weight))


def test_logged_validation_is_that_of_the_weights(
    layout: StoreLayout, train_phase: Any, tiny: Any
) -> None:
    run = train_phase(layout, pos_weight=1.7, learning_rate=1e-3, batch_size=2, num_val=7)
    detector = Detector(tiny.detector)
    detector.load_state_dict(run.result.weights)
    val_set = CropDataset(layout, read_rows(layout.manifest_path, MANIFEST)[:7])
    logits = [sequence.logit for sequence in score_sequences(detector, val_set)]
    labels, called = [row["label"] for row in val_set.rows], [logit > 0 for logit in logits]
    row = run.log[run.best]
    assert row["val_auc"] == pytest.approx(roc_auc_score(labels, logits))
    assert row["val_f1"] == pytest.approx(f1_score(labels, called))
    assert row["val_accuracy"] == pytest.approx(accuracy_score(labels, called))
    losses = [
        (loss_of(run, detector.eval(), val_set, places), len(places))
        for places in np.array_split(range(7), [2, 4, 6])
    ]
    expected = sum(loss * count for loss, count in losses) / 7
    assert row["val_loss"] == pytest.approx(expected, rel=1e-4)


def test_logged_training_values_are_those_of_the_steps(
    layout: StoreLayout, train_phase: Any
) -> None:
    # One step per epoch over the whole set, so small that it changes nothing.
    run = train_phase(
        layout,
        **EXACT,
        batch_size=8,
        max_epochs=1,
        learning_rate=1e-12,
        pos_weight=3.0,
        freeze_batch_norm=True,
    )
    rows = read_rows(layout.manifest_path, MANIFEST)
    detector = run.detector
    detector.load_state_dict(run.before)
    detector.train()
    dataset = CropDataset(layout, rows)
    expected = loss_of(run, detector, dataset, range(8), pos_weight=3.0)
    assert run.log[0]["train_loss"] == pytest.approx(expected, rel=1e-4)
    with torch.no_grad():
        logits = detector(collate([dataset[n] for n in range(8)])).logits_B
    labels, called = [row["label"] for row in rows], (logits > 0).tolist()
    assert run.log[0]["train_accuracy"] == pytest.approx(accuracy_score(labels, called))
    assert run.log[0]["train_f1"] == pytest.approx(f1_score(labels, called, zero_division=0))


@pytest.mark.parametrize(("max_steps_per_epoch", "num_steps"), [(1, 1), (2, 2), (9, 2), (None, 2)])
def test_epoch_takes_no_more_steps_than_allowed(
    layout: StoreLayout, train_phase: Any, max_steps_per_epoch: int | None, num_steps: int
) -> None:
    run = train_phase(layout, max_steps_per_epoch=max_steps_per_epoch)
    assert run.column("step") == [num_steps * n for n in (1, 2, 3)]
    assert len(set(run.column("val_loss"))) == 3


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
def test_learning_rate_follows_the_schedule_over_the_whole_phase(
    layout: StoreLayout, train_phase: Any, schedule: str
) -> None:
    rates = train_phase(layout, schedule=schedule, max_epochs=4, layer_decay=0.5).column(
        "learning_rate"
    )
    # After the 2, 4, 6 and 8 of 8 steps, the highest of all groups.
    expected = {
        "constant": [1, 1, 1, 1],
        "cosine": [(1 + math.cos(math.pi * done)) / 2 for done in (0.25, 0.5, 0.75, 1)],
        "one_cycle": None,
    }[schedule]
    if expected is not None:
        assert [rate / 5e-3 for rate in rates] == pytest.approx(expected, abs=1e-9)
    else:
        assert rates[0] > rates[1] > rates[2] > rates[3]
        assert rates[0] > 0.9 * 5e-3
        assert rates[3] < 1e-4 * 5e-3


def test_accumulated_batches_make_the_step_of_one_large_batch(
    layout: StoreLayout, train_phase: Any
) -> None:
    changes = {**EXACT, "freeze_batch_norm": True, "learning_rate": 1e-3, "max_epochs": 2}
    whole = train_phase(layout, **changes, batch_size=8)
    parts = train_phase(layout, **changes, batch_size=2, accumulate_batches=4)
    single = train_phase(layout, **changes, batch_size=2)
    assert parts.column("step") == whole.column("step") == [1, 2]
    assert single.column("step") == [4, 8]
    apart = largest_difference(parts.states[-1], whole.states[-1])
    assert apart < 0.02 * largest_difference(single.states[-1], whole.states[-1])


@pytest.mark.parametrize("clip_norm", [1e-13, None])
def test_clipped_gradients_hardly_move_a_weight(
    layout: StoreLayout, train_phase: Any, clip_norm: float | None
) -> None:
    # So small that Adam's epsilon of 1e-8 outweighs them.
    run = train_phase(layout, clip_norm=clip_norm, weight_decay=0.0, freeze_batch_norm=True)
    moved = largest_difference(run.before, run.states[-1])
    assert moved < 1e-6 if clip_norm else moved > 1e-3


@pytest.mark.parametrize("accumulate_batches", [1, 2])
def test_average_is_of_the_weights_after_each_optimiser_step(
    layout: StoreLayout, train_phase: Any, accumulate_batches: int
) -> None:
    # One optimiser step per epoch, so that the weights after each are known.
    run = train_phase(
        layout,
        ema_decay=0.7,
        max_epochs=5,
        accumulate_batches=accumulate_batches,
        max_steps_per_epoch=accumulate_batches,
        select_by="loss",
        batch_size=2,
    )
    assert run.column("step") == [1, 2, 3, 4, 5]
    average = {name: tensor.double() for name, tensor in run.states[0].items()}
    averages = [average]
    for state in run.states[1:]:
        average = {name: 0.7 * average[name] + 0.3 * state[name] for name in average}
        averages.append(average)
    best = run.result.summary.best_epoch
    assert best > 0
    for name, tensor in run.result.weights.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(
                tensor.double(), averages[best][name], atol=1e-6, rtol=1e-5, msg=name
            )
    assert largest_difference(run.result.weights, run.states[best]) > 1e-4
    # Validation is of the average too.
    run.detector.load_state_dict(run.result.weights)
    val_set = CropDataset(layout, read_rows(layout.manifest_path, MANIFEST))
    losses = [
        loss_of(run, run.detector.eval(), val_set, places, pos_weight=1.0)
        for places in np.array_split(range(8), 4)
    ]
    assert run.log[best]["val_loss"] == pytest.approx(np.mean(losses), rel=1e-4)


@pytest.mark.parametrize("is_frozen", [True, False])
def test_batch_norm_statistics_move_in_training_only_if_not_frozen(
    layout: StoreLayout, train_phase: Any, is_frozen: bool
) -> None:
    run = train_phase(layout, max_epochs=2, freeze_batch_norm=is_frozen)
    names = [name for name in run.before if name.endswith(("running_mean", "running_var"))]
    assert names
    for after in (*run.states, run.result.weights):
        moved = {not torch.equal(run.before[name], after[name]) for name in names}
        assert moved == {not is_frozen}
        # Only the statistics are frozen.
        assert not torch.equal(run.before["backbone.bn1.weight"], after["backbone.bn1.weight"])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_only_what_is_not_frozen_learns(
    layout: StoreLayout, train_phase: Any, share: float
) -> None:
    run = train_phase(layout, backbone_share=share, max_epochs=1)
    sizes = {name: p.numel() for name, p in run.detector.named_parameters()}
    moved = {n for n in sizes if not torch.equal(run.before[n], run.states[-1][n])}
    learning = {n for n, p in run.detector.named_parameters() if p.requires_grad}
    assert moved <= learning
    assert any(name.startswith("backbone.") for name in moved) == (share > 0)
    assert any(name.startswith("head.") for name in moved)
    assert run.result.summary.num_trainable == sum(sizes[name] for name in learning)
    assert run.result.summary.num_parameters == sum(sizes.values())
    assert (learning == sizes.keys()) == (share == 1)
