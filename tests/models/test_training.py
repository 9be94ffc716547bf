"""Training: the loss, the epoch that is kept, and what a run is a function of."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.batching import Batch, Item, collate
from models.dataset import CropDataset, Draw, EpochSampler
from models.detector import Detection, Detector
from models.training import EpochRow, FitResult, detection_loss, fit
from reelcheck.config import DetectorSettings, TrainSettings
from storage.checkpoints import weights_to_bytes
from storage.layout import StoreLayout
from storage.schemas import MANIFEST
from storage.tables import Row, read_rows


@dataclass
class Run:
    """Everything that a training run showed."""

    result: FitResult
    log: list[EpochRow]
    log_lengths: list[int]
    states: list[dict[str, Tensor]]
    """The detector's weights after each epoch."""
    before: dict[str, Tensor]
    orders: list[list[Draw]]


@dataclass
class RecordingSampler(EpochSampler):
    """A real sampler that remembers what it gave."""

    rows: list[Row]
    seed: int
    orders: list[list[Draw]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(self.rows, seed=self.seed)

    def __iter__(self) -> Iterator[Draw]:
        self.orders.append(list(super().__iter__()))
        return iter(self.orders[-1])


Train = Callable[..., Run]


def copied(detector: Detector) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in detector.state_dict().items()}


def run_settings(layout: StoreLayout, settings: TrainSettings) -> Run:
    rows = read_rows(layout.manifest_path, MANIFEST)
    lightning.seed_everything(settings.seed, verbose=False)
    detector = Detector(settings.detector, freeze_batch_norm=settings.effective_freeze_batch_norm)
    train_set = CropDataset(
        layout,
        rows,
        min_frames=settings.min_frames,
        use_augmentation=settings.augment,
        seed=settings.seed,
    )
    sampler = RecordingSampler(rows, settings.seed)
    run = Run(FitResult({}, -1), [], [], [], copied(detector), sampler.orders)

    def on_epoch(log: Any) -> None:
        run.log = [dict(row) for row in log]
        run.log_lengths.append(len(log))
        run.states.append(copied(detector))

    val_set = CropDataset(layout, rows)
    run.result = fit(detector, train_set, val_set, sampler, settings, on_epoch=on_epoch)
    return run


@pytest.fixture(scope="module")
def run_fit(tiny: Any) -> Train:
    """A function that trains with some settings changed."""

    def run(layout: StoreLayout, **changes: Any) -> Run:
        values = {**tiny.training.model_dump(), **changes}
        return run_settings(layout, TrainSettings.model_validate(values))

    return run


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> StoreLayout:
    return tiny.write_store(tmp_path_factory.mktemp("training"), tiny.clips(4))


@pytest.fixture(scope="module")
def long_run(layout: StoreLayout, run_fit: Train) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.getLogger("lightning.pytorch"), "level", logging.WARNING)
        return run_fit(layout, max_epochs=12, learning_rate=1e-2, patience_epochs=3)


def same_weights(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_separable_crops_reach_a_perfect_validation_f1(long_run: Run) -> None:
    assert max(row["val_f1"] for row in long_run.log) == 1.0
    assert long_run.log[-1]["train_loss"] < long_run.log[0]["train_loss"]


def test_log_has_one_row_per_epoch_and_grows_by_one(long_run: Run) -> None:
    assert [row["epoch"] for row in long_run.log] == list(range(len(long_run.log)))
    assert long_run.log_lengths == list(range(1, len(long_run.log) + 1))
    columns = {"epoch", "step", "learning_rate", "train_loss", "val_loss", "val_f1", "val_auc"}
    assert all(row.keys() == columns for row in long_run.log)


def test_best_epochs_weights_are_returned_and_not_the_last_ones(long_run: Run) -> None:
    f1 = [row["val_f1"] for row in long_run.log]
    best = long_run.result.best_epoch
    assert best == int(np.argmax(f1)) < len(f1) - 1
    assert same_weights(long_run.result.weights, long_run.states[best])
    assert not same_weights(long_run.result.weights, long_run.states[-1])


def test_training_stops_early_when_validation_gets_no_better(long_run: Run) -> None:
    assert len(long_run.log) == long_run.result.best_epoch + 1 + 3 < 12


def test_every_epoch_draws_its_own_order(long_run: Run) -> None:
    assert [{epoch for epoch, _ in order} for order in long_run.orders] == [
        {epoch} for epoch in range(len(long_run.log))
    ]
    assert len({tuple(i for _, i in order) for order in long_run.orders}) > 1


def test_same_seed_gives_the_same_weights_to_the_byte(layout: StoreLayout, run_fit: Train) -> None:
    first, second, third = (run_fit(layout, max_epochs=2, seed=seed) for seed in (5, 5, 6))
    assert weights_to_bytes(first.result.weights) == weights_to_bytes(second.result.weights)
    assert first.log == second.log
    assert weights_to_bytes(first.result.weights) != weights_to_bytes(third.result.weights)


def test_loader_processes_change_no_weight(layout: StoreLayout, run_fit: Train) -> None:
    alone = run_fit(layout, max_epochs=2)
    helped = run_fit(layout, max_epochs=2, num_loader_workers=1)
    assert weights_to_bytes(alone.result.weights) == weights_to_bytes(helped.result.weights)


@pytest.mark.parametrize(("max_steps_per_epoch", "num_steps"), [(1, 1), (2, 2), (9, 2), (None, 2)])
def test_epoch_takes_no_more_steps_than_allowed(
    layout: StoreLayout, run_fit: Train, max_steps_per_epoch: int | None, num_steps: int
) -> None:
    run = run_fit(layout, max_steps_per_epoch=max_steps_per_epoch)
    assert [row["step"] for row in run.log] == [num_steps * n for n in (1, 2, 3)]
    assert len({row["val_loss"] for row in run.log}) == 3


@pytest.mark.parametrize("is_frozen", [True, False])
def test_batch_norm_statistics_move_in_training_only_if_not_frozen(
    layout: StoreLayout, run_fit: Train, is_frozen: bool
) -> None:
    run = run_fit(layout, max_epochs=2, freeze_batch_norm=is_frozen)
    names = [name for name in run.before if name.endswith(("running_mean", "running_var"))]
    assert names
    for after in (*run.states, run.result.weights):
        moved = {not torch.equal(run.before[name], after[name]) for name in names}
        assert moved == {not is_frozen}
        # Only the statistics are frozen.
        assert not torch.equal(run.before["backbone.bn1.weight"], after["backbone.bn1.weight"])


def first_train_loss(
    layout: StoreLayout, detector_settings: DetectorSettings, run_fit: Train
) -> tuple[float, Detection, Batch]:
    """Loss of one whole-set step that changes nothing, and the detection that it came from."""
    run = run_fit(
        layout,
        detector=detector_settings,
        batch_size=len(read_rows(layout.manifest_path, MANIFEST)),
        max_epochs=1,
        learning_rate=1e-12,
        min_frames=100,
        augment=False,
        frame_loss_weight=0.25,
    )
    detector = Detector(detector_settings)
    detector.load_state_dict(run.before)
    dataset = CropDataset(layout, read_rows(layout.manifest_path, MANIFEST))
    batch = collate([dataset[index] for index in range(len(dataset))])
    return run.log[0]["train_loss"], detector.train()(batch), batch


@pytest.mark.parametrize(("num_real", "num_fake"), [(6, 2), (2, 6), (4, 4)])
def test_class_imbalance_changes_the_weight_of_fakes(
    tmp_path: Path, tiny: Any, run_fit: Train, num_real: int, num_fake: int
) -> None:
    videos = [tiny.Clip(path=f"r{i}.mp4", label=0) for i in range(num_real)]
    videos += [tiny.Clip(path=f"f{i}.mp4", label=1) for i in range(num_fake)]
    layout = tiny.write_store(tmp_path, videos)
    settings = tiny.detector.model_copy(update={"dropout": 0.0})
    trained_with, detection, batch = first_train_loss(layout, settings, run_fit)
    expected = numpy_loss(detection, batch, pos_weight=num_real / num_fake, frame_loss_weight=0.25)
    assert trained_with == pytest.approx(expected, abs=1e-4)


def numpy_loss(
    detection: Detection, batch: Batch, *, pos_weight: float, frame_loss_weight: float
) -> float:
    """The same formula by hand, in double precision."""

    def mean_loss(logits: np.ndarray, labels: np.ndarray) -> float:
        weights = np.where(labels == 1, pos_weight, 1.0)
        signs = np.where(labels == 1, -1.0, 1.0)
        return float((weights * np.logaddexp(0, signs * logits)).mean())

    labels = batch.labels_B.numpy()
    mask = batch.mask_BT.numpy()
    frame_logits = detection.frame_logits_BT.detach().double().numpy()
    frame_labels = np.broadcast_to(labels[:, None], mask.shape)
    return mean_loss(
        detection.logits_B.detach().double().numpy(), labels
    ) + frame_loss_weight * mean_loss(frame_logits[mask], frame_labels[mask])


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    labels=st.lists(st.integers(0, 1), min_size=5, max_size=5),
    pos_weight=st.floats(0.1, 10),
    frame_loss_weight=st.floats(0, 2),
    scale=st.floats(0.01, 20),
    seed=st.integers(0, 2**31),
)
def test_detection_loss_equals_a_hand_computation(
    lengths: list[int],
    labels: list[int],
    pos_weight: float,
    frame_loss_weight: float,
    scale: float,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    batch = collate(
        [
            Item(
                frames_TCHW=torch.zeros(length, 3, 1, 1),
                seconds_T=torch.zeros(length),
                label=float(label),
                index=0,
            )
            for length, label in zip(lengths, labels, strict=False)
        ]
    )
    frame_logits_BT = torch.randn(batch.mask_BT.shape) * scale
    # What stands at padding must not count.
    frame_logits_BT[~batch.mask_BT] = 1e6
    detection = Detection(
        logits_B=torch.randn(len(lengths)) * scale,
        frame_logits_BT=frame_logits_BT,
        frame_weights_BT=torch.zeros(batch.mask_BT.shape),
    )
    weights = {"pos_weight": pos_weight, "frame_loss_weight": frame_loss_weight}
    loss = detection_loss(detection, batch, **weights)
    assert loss.item() == pytest.approx(numpy_loss(detection, batch, **weights), rel=1e-4, abs=1e-5)
