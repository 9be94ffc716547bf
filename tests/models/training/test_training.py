"""One phase of training: the epoch that is kept, and what a run is a function of."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reelcheck.errors import StoreError, TrainingError
from reelcheck.train_config import Phase
from storage.layout import StoreLayout
from storage.schemas import LOG, MANIFEST
from storage.tables import read_rows
from storage.weights import weights_to_bytes


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> StoreLayout:
    return tiny.write_store(tmp_path_factory.mktemp("training"), tiny.clips(4))


@pytest.fixture(scope="module")
def long_run(layout: StoreLayout, train_phase: Any) -> Any:
    return train_phase(
        layout, max_epochs=12, learning_rate=1e-2, patience_epochs=3, schedule="constant"
    )


def same_weights(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def same_run(left: Any, right: Any) -> bool:
    """Bit for bit."""
    weights = [weights_to_bytes(run.result.weights) for run in (left, right)]
    return weights[0] == weights[1] and left.result.log == right.result.log


def test_separable_crops_reach_a_perfect_validation_f1(long_run: Any) -> None:
    assert max(long_run.column("val_f1")) == 1.0
    assert long_run.log[-1]["train_loss"] < long_run.log[0]["train_loss"]


def test_log_has_one_row_per_epoch_and_grows_by_one(long_run: Any) -> None:
    assert long_run.column("epoch") == list(range(len(long_run.log)))
    assert [len(log) for log in long_run.logs] == list(range(1, len(long_run.log) + 1))
    assert long_run.logs[-1] == list(long_run.log)
    assert set(long_run.column("phase")) == {1}
    assert all({"fold", *row} == set(LOG.names) for row in long_run.log)


def test_every_epoch_draws_its_own_order(long_run: Any) -> None:
    assert [{draw.number for draw in order} for order in long_run.orders] == [
        {epoch} for epoch in range(len(long_run.log))
    ]
    assert len({tuple(draw.row for draw in order) for order in long_run.orders}) > 1


@pytest.mark.parametrize(("select_by", "sign"), [("f1", 1), ("auc", 1), ("loss", -1)])
def test_weights_of_the_best_epoch_are_returned_and_waiting_ends(
    layout: StoreLayout, train_phase: Any, select_by: str, sign: int
) -> None:
    run = train_phase(
        layout,
        max_epochs=12,
        learning_rate=2e-2,
        patience_epochs=2,
        schedule="constant",
        select_by=select_by,
    )
    values = sign * np.array(run.column(f"val_{select_by}"))
    best = int(np.argmax(values))
    assert best == run.best == run.result.summary.best_epoch
    assert run.column("is_best") == [
        n == 0 or values[n] > values[:n].max() for n in range(len(values))
    ]
    assert len(values) == min(best + 1 + 2, 12)
    assert same_weights(run.result.weights, run.states[best])
    if best < len(values) - 1:
        assert not same_weights(run.result.weights, run.states[-1])


def test_some_run_ends_early_and_its_best_epoch_is_not_its_last(long_run: Any) -> None:
    assert len(long_run.log) == long_run.best + 1 + 3 < 12
    assert same_weights(long_run.result.weights, long_run.states[long_run.best])


def test_a_later_phase_has_its_own_learning_rate_and_goes_on_counting(
    layout: StoreLayout, train_phase: Any, tiny: Any
) -> None:
    phases = (Phase(), Phase(max_epochs=2, learning_rate=3e-3))
    run = train_phase(layout, phases=phases, number=2, first_epoch=5, schedule="constant")
    assert run.column("epoch") == [5, 6]
    assert set(run.column("phase")) == {2}
    assert run.column("learning_rate") == pytest.approx([3e-3, 3e-3])
    assert [{draw.number for draw in order} for order in run.orders] == [{5}, {6}]
    summary = run.result.summary
    assert (summary.phase, summary.num_epochs, summary.learning_rate) == (2, 2, 3e-3)
    assert summary.best_epoch == 5 + run.best


def test_a_run_is_a_function_of_its_seed(layout: StoreLayout, train_phase: Any) -> None:
    first, again, other = (train_phase(layout, max_epochs=2, seed=seed) for seed in (0, 0, 1))
    assert same_run(first, again)
    assert not same_run(first, other)


def test_loader_processes_change_nothing(layout: StoreLayout, train_phase: Any) -> None:
    alone = train_phase(layout, max_epochs=2)
    helped = train_phase(layout, max_epochs=2, engine={"num_loader_workers": 1})
    assert same_run(alone, helped)


@pytest.mark.parametrize(
    ("engine", "tolerance"),
    [({"gradient_checkpointing": True}, 1e-4), ({"precision": "bf16"}, 0.1)],
)
def test_how_the_machine_is_used_changes_weights_by_rounding_only(
    layout: StoreLayout, train_phase: Any, engine: dict[str, Any], tolerance: float
) -> None:
    plain = train_phase(layout, max_epochs=2, freeze_batch_norm=True)
    other = train_phase(layout, max_epochs=2, freeze_batch_norm=True, engine=engine)
    left, right = (np.array(run.column("train_loss")) for run in (plain, other))
    np.testing.assert_allclose(left, right, rtol=tolerance)


@pytest.mark.parametrize(("num_steps", "place"), [(2, "step 1"), (1, "the validation of epoch 0")])
def test_loss_that_is_no_number_ends_training_in_one_line(
    layout: StoreLayout, train_phase: Any, num_steps: int, place: str
) -> None:
    with pytest.raises(TrainingError) as caught:
        train_phase(layout, learning_rate=1e30, schedule="constant", max_steps_per_epoch=num_steps)
    message = str(caught.value)
    assert "the loss is" in message
    assert place in message
    assert "phases.0.learning_rate" in message
    assert "\n" not in message


@pytest.mark.parametrize("num_workers", [0, 1])
def test_damaged_crops_end_training_in_one_line(
    tmp_path: Path, tiny: Any, train_phase: Any, num_workers: int
) -> None:
    layout = tiny.write_store(tmp_path, tiny.clips(4))
    row = read_rows(layout.manifest_path, MANIFEST)[-1]
    layout.crops_path(row["shard"], row["crop_file"]).write_bytes(b"\x07" * 5000)
    with pytest.raises(StoreError, match="run preprocess again") as caught:
        train_phase(layout, engine={"num_loader_workers": num_workers})
    assert str(caught.value).startswith("crops ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("num_devices", "num_val", "reason"), [(9, None, "train split"), (4, 3, "val split")]
)
def test_more_devices_than_sequences_are_refused(
    layout: StoreLayout, train_phase: Any, num_devices: int, num_val: int | None, reason: str
) -> None:
    with pytest.raises(TrainingError, match=f"num_devices = {num_devices}.*{reason}"):
        train_phase(layout, engine={"num_devices": num_devices}, num_val=num_val)


@pytest.mark.gpu
def test_more_gpus_than_there_are_are_refused(layout: StoreLayout, train_phase: Any) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    count = torch.cuda.device_count()
    with pytest.raises(TrainingError, match=f"only {count} GPUs"):
        train_phase(layout, engine={"num_devices": count + 1})
