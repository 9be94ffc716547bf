"""Processes killed at any moment: what is done stays done, and the end is always the same."""

import os
import random
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from storage.layout import StoreLayout, find_preprocessed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="kills by signal"),
]
NUM_ROUNDS = 20
NUM_VIDEOS = 24
# The flow without Prefect's server. Counts the videos and the changes to the store's files, and
# kills itself or one of its decode processes at given counts. Prints how many steps and kills there
# were, and the steps of the first and the last video.
SCRIPT = """
import multiprocessing
import os
import random
import signal
import sys
from pathlib import Path

import flows.preprocess as module
from reelcheck.config import RunSettings

source, store, victim, *moments = sys.argv[1:]
chance = random.Random(",".join(moments))
count = 0
video_steps = []
num_kills = 0


def step():
    global count, num_kills
    count += 1
    if str(count) in moments:
        processes = [child.pid for child in multiprocessing.active_children()]
        os.kill(os.getpid() if victim == "parent" else chance.choice(processes), signal.SIGKILL)
        num_kills += 1


def on_event(event, arguments):
    if event in {"os.rename", "os.remove", "os.mkdir"} and str(arguments[0]).startswith(store):
        step()


class CountingPool(module.DecodePool):
    def results(self, shard):
        for result in super().results(shard):
            step()
            video_steps.append(count)
            yield result


if __name__ == "__main__":
    sys.addaudithook(on_event)
    module.DecodePool = CountingPool
    for name in ("discover_step", "extract_shard_step", "collect_tables_step"):
        setattr(module, name, getattr(module, name).fn)
    module.create_markdown_artifact = lambda *args, **kwargs: None
    run = RunSettings(num_workers=2, shard_size=4)
    summary = module.preprocess.fn(Path(source), Path(store), run=run)
    assert summary.counts == {"ok": 24}, summary
    print(count, num_kills, min(video_steps, default=0), max(video_steps, default=0))
"""


def run(
    source: Path, store: Path, *, victim: str = "nobody", moments: tuple[int, ...] = ()
) -> "subprocess.CompletedProcess[str]":
    """The script in a process of its own."""
    root = Path(__file__).resolve().parents[3]
    script = source.parent / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    return subprocess.run(
        [sys.executable, script, source, store, victim, *map(str, moments)],
        env={**os.environ, "PYTHONPATH": str(root), "PREFECT_LOGGING_LEVEL": "CRITICAL"},
        capture_output=True,
        text=True,
        check=False,
    )


def outcome(layout: StoreLayout) -> dict[str, bytes]:
    """Every file that must be the same after any number of interruptions."""
    return {
        path.relative_to(layout.path).as_posix(): path.read_bytes()
        for path in layout.path.rglob("*")
        if path.is_file() and path != layout.summary_path
    }


def done_files(store: Path) -> dict[Path, int]:
    """When the files of the finished shards were written."""
    layouts = [StoreLayout(path) for path in store.iterdir()] if store.exists() else []
    return {
        path: path.stat().st_mtime_ns
        for layout in layouts
        for shard in layout.done_shards()
        for path in layout.shards_dir.glob(f"{shard}.*")
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, face_video: Path, face_model: Path) -> Path:
    """Videos that differ in content but not in pictures: bytes after the end are no matter."""
    folder = tmp_path_factory.mktemp("kill") / "videos"
    folder.mkdir()
    for number in range(NUM_VIDEOS):
        free = (10).to_bytes(4) + b"free%02d" % number
        (folder / f"{number:02}.mp4").write_bytes(face_video.read_bytes() + free)
    return folder


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing disturbs: what it leaves, its steps, and those that are videos."""

    files: dict[str, bytes]
    num_steps: int
    first_video: int
    last_video: int


@pytest.fixture(scope="module")
def undisturbed(source: Path) -> Undisturbed:
    store = source.parent / "undisturbed"
    result = run(source, store)
    assert result.returncode == 0, result.stderr
    left = outcome(find_preprocessed(store))
    assert len(find_preprocessed(store).done_shards()) == NUM_VIDEOS // 4
    assert {"videos.parquet", "manifest.parquet"} <= set(left)
    num_steps, num_kills, first_video, last_video = map(int, result.stdout.split())
    assert num_kills == 0
    return Undisturbed(left, num_steps, first_video, last_video)


@pytest.mark.parametrize("number", range(0, NUM_ROUNDS, 2))
def test_killed_run_is_resumed_and_ends_as_if_nothing_had_been(
    tmp_path: Path, source: Path, undisturbed: Undisturbed, number: int
) -> None:
    store = tmp_path / "store"
    chance = random.Random(number)
    # Twice: the second kill meets a run that has taken up what the first one left.
    for last_step in (undisturbed.num_steps, undisturbed.num_steps // 3):
        before = done_files(store)
        result = run(source, store, victim="parent", moments=(chance.randint(1, last_step),))
        assert result.returncode in {-signal.SIGKILL, 0}, result.stderr
        assert before.items() <= done_files(store).items()
    before = done_files(store)
    assert run(source, store).returncode == 0
    assert before.items() <= done_files(store).items()
    assert outcome(find_preprocessed(store)) == undisturbed.files


@pytest.mark.parametrize("number", range(1, NUM_ROUNDS, 2))
def test_killed_decode_processes_change_nothing(
    tmp_path: Path, source: Path, undisturbed: Undisturbed, number: int
) -> None:
    store = tmp_path / "store"
    while_there_are_processes = range(undisturbed.first_video, undisturbed.last_video)
    moments = random.Random(number).sample(while_there_are_processes, 2)
    result = run(source, store, victim="child", moments=tuple(moments))
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[1] == "2"
    assert outcome(find_preprocessed(store)) == undisturbed.files
