"""Training that is killed and goes on, and training by several processes."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reelcheck.errors import TrainingError
from reelcheck.train_config import AugmentSettings
from storage.layout import StoreLayout
from storage.weights import weights_to_bytes

CHANGES: dict[str, Any] = {"max_epochs": 4, "ema_decay": 0.6, "select_by": "loss"}

KILLED = """
import os, signal, sys
from pathlib import Path

import torch

from models.data.dataset import CropDataset
from models.network.detector import Detector
from models.data.sampling import EpochSampler
from models.training.training import TrainingData, fit_phase
from reelcheck.train_config import EngineSettings, TrainSettings
from storage.layout import StoreLayout
from storage.schemas import MANIFEST
from storage.tables import read_rows


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class Deadly(CropDataset):
    def __getitem__(self, key):
        if key == self.last_draw:
            die()
        return super().__getitem__(key)


def at_epoch(rows):
    if place == "end" and len(rows) == 3:
        die()


if __name__ == "__main__":
    folder, store, settings_json, num_workers, place = sys.argv[1:]
    layout, settings = StoreLayout(Path(store)), TrainSettings.model_validate_json(settings_json)
    torch.set_num_threads(1)
    rows = read_rows(layout.manifest_path, MANIFEST)
    torch.manual_seed(settings.seed)
    detector = Detector(settings.detector, freeze_batch_norm=settings.effective_freeze_batch_norm)
    sampler = EpochSampler(rows, settings)
    train_set = Deadly(layout, rows, training=settings)
    train_set.last_draw = sampler.draws(2)[-1] if place == "middle" else None
    fit_phase(
        detector,
        TrainingData(train_set, CropDataset(layout, rows), sampler, 1.0),
        settings,
        EngineSettings(num_loader_workers=int(num_workers)),
        number=1,
        first_epoch=0,
        folder=Path(folder),
        on_epoch=at_epoch,
    )
"""
"""Dies in its third epoch: while that is trained, or before it is saved."""


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> StoreLayout:
    return tiny.write_store(tmp_path_factory.mktemp("resume"), tiny.clips(4))


@pytest.fixture(scope="module")
def straight(layout: StoreLayout, train_phase: Any) -> Any:
    return train_phase(layout, **CHANGES)


def kill(folder: Path, *words: object) -> None:
    """Train in a process of its own until it is killed."""
    script, errors = folder.parent / "killed.py", folder.parent / "errors.txt"
    script.write_text(KILLED, encoding="utf-8")
    # No pipe: loader processes hold it open for some seconds after their parent has died.
    with errors.open("w") as file:
        command = [sys.executable, str(script), str(folder), *map(str, words)]
        process = subprocess.run(command, stdout=file, stderr=file, check=False)
    assert process.returncode == -signal.SIGKILL, errors.read_text()
    assert (folder / "last.ckpt").exists()


def assert_same(resumed: Any, straight: Any) -> None:
    assert resumed.log == straight.log
    assert weights_to_bytes(resumed.result.weights) == weights_to_bytes(straight.result.weights)
    assert resumed.result.summary == straight.result.summary


@pytest.mark.parametrize(
    ("num_workers", "place"), [(0, "middle"), pytest.param(1, "end", marks=pytest.mark.slow)]
)
def test_a_killed_run_goes_on_to_the_same_weights_and_log(
    tmp_path: Path,
    layout: StoreLayout,
    train_phase: Any,
    straight: Any,
    num_workers: int,
    place: str,
) -> None:
    # So at the end of the third epoch its weights are saved as the best, and its state is not.
    assert straight.column("is_best")[2]
    folder = tmp_path / "phase"
    settings = train_phase.settings(**CHANGES).model_dump_json()
    kill(folder, layout.path, settings, num_workers, place)
    engine = {"num_loader_workers": num_workers}
    resumed = train_phase(layout, folder=folder, engine=engine, **CHANGES)
    assert_same(resumed, straight)
    # It has trained the third and the fourth epoch only.
    assert [{draw.number for draw in order} for order in resumed.orders] == [{2}, {3}]
    assert [len(log) for log in resumed.logs] == [3, 4]


def test_a_killed_run_goes_on_where_its_folder_was_moved_to(
    tmp_path: Path, layout: StoreLayout, train_phase: Any
) -> None:
    changes = {**CHANGES, "select_by": "auc"}
    straight = train_phase(layout, **changes)
    # What comes after the move is no better, and must not take the best one's place.
    assert straight.best < 2
    folder = tmp_path / "phase"
    kill(folder, layout.path, train_phase.settings(**changes).model_dump_json(), 0, "middle")
    moved = folder.rename(tmp_path / "moved")
    assert_same(train_phase(layout, folder=moved, **changes), straight)


def test_a_finished_phase_is_not_trained_again(
    tmp_path: Path, layout: StoreLayout, train_phase: Any
) -> None:
    first = train_phase(layout, folder=tmp_path, max_epochs=2)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = train_phase(layout, folder=tmp_path, max_epochs=2)
    assert_same(again, first)
    assert again.logs == again.orders == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.fixture
def one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """For processes to come."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread_each")
def test_two_processes_train_what_one_does(layout: StoreLayout, train_phase: Any) -> None:
    # Nothing random but the order, and batch norms that do not see the others of a batch.
    changes = {
        "augment": dict.fromkeys(AugmentSettings.model_fields, 0.0),
        "min_frames": 100,
        "dropout": 0.0,
        "freeze_batch_norm": True,
        "max_epochs": 2,
        "learning_rate": 1e-3,
        # The validation sequences do not go round: one process has a batch more.
        "num_val": 7,
        "batch_size": 4,
    }
    alone = train_phase(layout, **changes)
    shared = train_phase(layout, engine={"num_devices": 2}, **changes)
    assert len(shared.log) == 2
    for one, two in zip(alone.log, shared.log, strict=True):
        assert two == pytest.approx(one, abs=1e-3)
    weights = shared.result.weights
    apart = max(float((weights[n] - alone.result.weights[n]).abs().max()) for n in weights)
    moved = max(float((weights[n] - alone.before[n]).abs().max()) for n in weights)
    assert moved > 1e-3
    assert apart < 1e-4


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread_each")
def test_what_one_of_two_processes_raises_is_told_in_one_line(
    layout: StoreLayout, train_phase: Any
) -> None:
    with pytest.raises(TrainingError) as caught:
        train_phase(layout, engine={"num_devices": 2}, learning_rate=1e30, schedule="constant")
    assert str(caught.value).startswith("the loss is nan in epoch 0")
    assert "\n" not in str(caught.value)
