"""The decode processes of a run: one row per video, whatever happens to a process."""

import importlib
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from reelcheck.config import PreprocessSettings, RunSettings
from reelcheck.errors import WorkerError
from reelcheck.perturbations import Perturbation
from reelcheck.records import InputFile, Shard, VideoResult
from reelcheck.status import Status
from storage.hashing import sha256_of
from storage.layout import StoreLayout, locate_preprocessed
from tasks.intake.discover import discover
from tasks.intake.shards import plan_shards
from tasks.preprocessing.decode_pool import DecodePool

# Stands in for the work on one video and the start of a process; imported by the decode processes,
# too. What is to happen stands in a file beside the video, and so does what happened.
ODD_WORK = """
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from reelcheck.records import VideoResult
from tasks.faces.worker import _state, extract_one, start_worker


def work(location: str, video_id: str, *, decoder: str, is_retry: bool) -> VideoResult:
    path = Path(location)
    log = path.with_suffix(".attempts")
    with log.open("a") as file:
        file.write(f"{os.getpid()} {decoder} {is_retry}\\n")
    fate = path.with_suffix(".fate")
    fate = fate.read_text() if fate.exists() else ""
    if fate.endswith("once") and len(log.read_text().splitlines()) > 1:
        fate = ""
    if fate.startswith("litters"):
        folder = _state["work"].scratch_dir / f"{video_id}.half"
        folder.mkdir()
        (folder / "written.mp4").touch()
        os.kill(os.getpid(), signal.SIGSEGV)
    if fate.startswith("dies"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if fate.startswith("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    if fate.startswith("hungry"):
        block = bytearray(2**40)
    if fate.startswith("defect"):
        raise ZeroDivisionError("no such luck")
    if fate.startswith("hangs"):
        signal.pause()
    result = extract_one(location, video_id, decoder, is_retry=is_retry)
    if fate == "lists":
        return replace(result, reason=" ".join(sys.modules))
    return result


def start_late(*arguments: object) -> None:
    hangs = Path(__file__).with_name("hangs")
    if hangs.exists():
        hangs.unlink()
        signal.pause()
    start_worker(*arguments)


def start(*arguments: object) -> None:
    deaths = Path(__file__).with_name("deaths")
    if num_left := int(deaths.read_text()):
        deaths.write_text(str(num_left - 1))
        os._exit(3)
    start_worker(*arguments)
"""
PARENT = """
import sys
from pathlib import Path

import odd_work
from tasks.preprocessing import decode_pool
from reelcheck.config import (PreprocessSettings, RunSettings)
from tasks.intake.discover import discover
from tasks.intake.shards import plan_shards
from storage.layout import locate_preprocessed

if __name__ == "__main__":
    decode_pool.extract_one = odd_work.work
    source, store, sha256 = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    layout = locate_preprocessed(store, "h")
    files = discover(source, layout, labels=None, exclude=None)
    (shard,) = plan_shards([f for f in files if f.path.endswith("mp4")], layout, shard_size=64)
    settings = PreprocessSettings(face_model_sha256=sha256)
    with decode_pool.DecodePool([shard], settings, RunSettings(num_workers=2)) as pool:
        list(pool.results(shard))
"""


@pytest.fixture
def settings(face_model: Path) -> PreprocessSettings:
    return PreprocessSettings(face_model_sha256=sha256_of(face_model))


@pytest.fixture
def layout(tmp_path: Path) -> StoreLayout:
    return locate_preprocessed(tmp_path / "store", "h")


def make_shards(source: Path, layout: StoreLayout, *, shard_size: int = 64) -> tuple[Shard, ...]:
    files: list[InputFile] = discover(source, layout, labels=None, exclude=None)
    videos = [file for file in files if file.path.endswith(".mp4")]
    return plan_shards(videos, layout, shard_size=shard_size)


def shard_of(source: Path, layout: StoreLayout) -> Shard:
    (shard,) = make_shards(source, layout)
    return shard


def results_of(
    shard: Shard, settings: PreprocessSettings, run: RunSettings
) -> dict[str, VideoResult]:
    """File name without ending -> result."""
    names = dict(zip(shard.video_ids, (Path(path).stem for path in shard.locations), strict=True))
    with DecodePool([shard], settings, run) as pool:
        results = list(pool.results(shard))
    assert [result.video_id for result in results] == sorted(shard.video_ids)
    return {names[result.video_id]: result for result in results}


def fill(folder: Path, face_video: Path, names: Sequence[str]) -> Path:
    """Copies that differ in content but not in pictures: bytes after the end are no matter."""
    folder.mkdir()
    for name in names:
        content = face_video.read_bytes()
        free = (8 + len(name.encode())).to_bytes(4) + b"free" + name.encode()
        (folder / name).write_bytes(content + free)
    return folder


@pytest.fixture
def odd_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the decode processes meet with accidents; they import the module by its name."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "odd_work.py").write_text(ODD_WORK, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "odd_work", raising=False)
    module = importlib.import_module("odd_work")
    assert Path(str(module.__file__)).parent == folder
    monkeypatch.setattr("tasks.preprocessing.decode_pool.extract_one", module.work)
    return folder


def fated(source: Path, fates: Mapping[str, str]) -> None:
    for name, fate in fates.items():
        (source / f"{name}.fate").write_text(fate, encoding="utf-8")


def attempts(source: Path) -> dict[str, list[list[str]]]:
    """File name without ending -> process, decoder and is_retry of each attempt."""
    logs = source.glob("*.attempts")
    return {log.stem: [line.split() for line in log.read_text().splitlines()] for log in logs}


FIRST, RETRY = "False", "True"
ACCIDENTS = {
    "dies": (Status.DECODE_ERROR, "exit code -11", [FIRST, RETRY]),
    "dies once": (Status.OK, "decord alone", [FIRST, RETRY]),
    "killed": (Status.OUT_OF_MEMORY, "was killed on this video 3 times", [FIRST, FIRST, FIRST]),
    "killed once": (Status.OK, None, [FIRST, FIRST]),
    "hungry": (Status.OUT_OF_MEMORY, "more memory", [FIRST, RETRY]),
    "hungry once": (Status.OK, "decord alone", [FIRST, RETRY]),
    "defect": (Status.INTERNAL_ERROR, "ZeroDivisionError: no such luck", [FIRST]),
    "fine": (Status.OK, None, [FIRST]),
}


@pytest.mark.usefixtures("odd_work")
def test_results_accident_of_one_process_is_one_row_or_none(
    tmp_path: Path, layout: StoreLayout, settings: PreprocessSettings, face_video: Path
) -> None:
    source = fill(tmp_path / "videos", face_video, [f"{name}.mp4" for name in ACCIDENTS])
    fated(source, {name: name for name in ACCIDENTS})
    run = RunSettings(num_workers=2, decoder="pyav")
    results = results_of(shard_of(source, layout), settings, run)
    for name, (status, reason, tries) in ACCIDENTS.items():
        result = results[name]
        assert (name, result.status) == (name, status)
        assert reason in result.reason if reason and result.reason else result.reason is reason
        assert [(decoder, retry) for _, decoder, retry in attempts(source)[name]] == [
            ("pyav", retry) for retry in tries
        ]
        assert ("both attempts failed" in (result.reason or "")) == (
            status is not Status.OK and tries == [FIRST, RETRY]
        )
        if status is Status.OK:
            assert [len(sequence.frame_indices) for sequence in result.sequences] == [24]


@pytest.mark.usefixtures("odd_work")
def test_results_hang_costs_one_row_while_the_rest_goes_on_but_not_too_far(
    tmp_path: Path, layout: StoreLayout, settings: PreprocessSettings, face_video: Path
) -> None:
    source = fill(tmp_path / "videos", face_video, [f"{n}.mp4" for n in range(12)])
    shard = shard_of(source, layout)
    first, *others = (
        Path(path).stem for _, path in sorted(zip(shard.video_ids, shard.locations, strict=True))
    )
    fated(source, {first: "hangs"})
    run = RunSettings(num_workers=2, timeout_seconds=6)
    with DecodePool([shard], settings, run) as pool:
        results = pool.results(shard)
        result = next(results)
        assert (result.status, result.sequences) == (Status.TIMEOUT, ())
        assert result.reason == (
            "both attempts failed: gave up after 3 seconds; gave up after 3 seconds"
        )
        assert [retry for *_, retry in attempts(source)[first]] == [FIRST, RETRY]
        assert 2 <= len(attempts(source)) <= 2 * run.num_workers + 2 < len(others)
        assert {other.status for other in results} == {Status.OK}
    assert len(attempts(source)) == 12


@pytest.mark.usefixtures("odd_work")
def test_results_hang_that_the_other_decoder_does_not_share_costs_nothing(
    tmp_path: Path, layout: StoreLayout, settings: PreprocessSettings, face_video: Path
) -> None:
    source = fill(tmp_path / "videos", face_video, ["a.mp4"])
    fated(source, {"a": "hangs once"})
    run = RunSettings(num_workers=1, timeout_seconds=6)
    result = results_of(shard_of(source, layout), settings, run)["a"]
    assert (result.status, "decord alone" in str(result.reason)) == (Status.OK, True)


@pytest.mark.usefixtures("odd_work")
def test_results_of_several_shards_come_from_the_same_process_until_it_is_killed(
    tmp_path: Path, layout: StoreLayout, settings: PreprocessSettings, face_video: Path
) -> None:
    source = fill(tmp_path / "videos", face_video, [f"{n}.mp4" for n in range(6)])
    shards = make_shards(source, layout, shard_size=2)
    with DecodePool(shards, settings, RunSettings(num_workers=1)) as pool:
        found = [*pool.results(shards[0]), *pool.results(shards[1])]
        (process,) = {process for tries in attempts(source).values() for process, *_ in tries}
        os.kill(int(process), signal.SIGKILL)  # idle or at work: it must not matter
        assert poll(lambda: int(process) not in running(), seconds=20)
        found += pool.results(shards[2])
    assert [result.video_id for result in found] == [i for shard in shards for i in shard.video_ids]
    assert {result.status for result in found} == {Status.OK}
    assert len({process for tries in attempts(source).values() for process, *_ in tries}) <= 2


@pytest.mark.usefixtures("odd_work")
def test_results_decode_process_never_imports_what_is_not_for_it(
    tmp_path: Path, layout: StoreLayout, settings: PreprocessSettings, face_video: Path
) -> None:
    source = fill(tmp_path / "videos", face_video, ["a.mp4"])
    fated(source, {"a": "lists"})
    result = results_of(shard_of(source, layout), settings, RunSettings(num_workers=1))["a"]
    modules = set((result.reason or "").split())
    assert {"mediapipe", "av", "tasks.faces.video"} <= modules
    assert not modules & {"torch", "prefect", "lightning", "pandas", "pyarrow", "storage"}


@pytest.mark.usefixtures("odd_work")
def test_results_process_that_dies_leaves_no_half_written_file(
    tmp_path: Path,
    layout: StoreLayout,
    settings: PreprocessSettings,
    face_video: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = fill(tmp_path / "videos", face_video, ["a.mp4"])
    fated(source, {"a": "litters"})
    shard = shard_of(source, layout)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    run = RunSettings(num_workers=1)
    with DecodePool([shard], settings, run, perturbation=Perturbation("remux")) as pool:
        (result,) = pool.results(shard)
        (folder,) = scratch.iterdir()
        assert [path.name for path in folder.iterdir()] == [".lock"]
    assert result.status is Status.DECODE_ERROR
    assert len(attempts(source)["a"]) in {2, 3}
    assert list(scratch.iterdir()) == []


@pytest.fixture
def deaths(odd_work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """File that says how many processes die while they start."""
    monkeypatch.setattr(
        "tasks.preprocessing.decode_pool.start_worker", importlib.import_module("odd_work").start
    )
    return odd_work / "deaths"


@pytest.fixture
def two_videos(tmp_path: Path, layout: StoreLayout, face_video: Path) -> Shard:
    return shard_of(fill(tmp_path / "videos", face_video, ["a.mp4", "b.mp4"]), layout)


@pytest.mark.parametrize(("num_deaths", "status"), [(2, Status.OK), (3, Status.DECODE_ERROR)])
def test_results_process_that_dies_before_it_takes_a_video_is_replaced(
    settings: PreprocessSettings, two_videos: Shard, deaths: Path, num_deaths: int, status: Status
) -> None:
    deaths.write_text(str(num_deaths), encoding="utf-8")
    found = results_of(two_videos, settings, RunSettings(num_workers=1, timeout_seconds=10))
    assert {result.status for result in found.values()} == {status, Status.OK}


def test_results_processes_that_never_start_are_no_fault_of_the_videos(
    settings: PreprocessSettings, two_videos: Shard, deaths: Path
) -> None:
    deaths.write_text("99", encoding="utf-8")
    with pytest.raises(WorkerError, match="die while they start"):
        results_of(two_videos, settings, RunSettings(num_workers=2))


@pytest.mark.slow  # it waits for as long as a process may take to start
def test_results_process_that_hangs_before_it_takes_its_video_is_replaced(
    settings: PreprocessSettings,
    two_videos: Shard,
    odd_work: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start_late = importlib.import_module("odd_work").start_late
    monkeypatch.setattr("tasks.preprocessing.decode_pool.start_worker", start_late)
    monkeypatch.setattr("tasks.preprocessing.decode_pool.START_SECONDS", 20.0)
    (odd_work / "hangs").touch()
    results = results_of(two_videos, settings, RunSettings(num_workers=1, timeout_seconds=40))
    assert {result.status for result in results.values()} == {Status.OK}
    assert not (odd_work / "hangs").exists()


def test_results_of_a_shard_that_the_pool_does_not_know_are_refused(
    settings: PreprocessSettings, two_videos: Shard
) -> None:
    with DecodePool([], settings, RunSettings()) as pool, pytest.raises(ValueError, match="made"):
        next(pool.results(two_videos))


def running() -> set[int]:
    """Number of every process that is not a zombie, from /proc."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except OSError:
            continue  # it ended meanwhile
        if state != "Z":
            found.add(int(folder.name))
    return found


def poll(wanted: Callable[[], bool], *, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not wanted():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of a parent's death")
def test_results_decode_processes_die_with_their_parent(
    tmp_path: Path, settings: PreprocessSettings, face_video: Path, odd_work: Path
) -> None:
    (odd_work / "parent.py").write_text(textwrap.dedent(PARENT), encoding="utf-8")
    # Two videos that never end: idle processes would end by themselves when the pipe closes.
    source = fill(tmp_path / "videos", face_video, ["a.mp4", "b.mp4"])
    fated(source, {"a": "hangs", "b": "hangs"})
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, odd_work / "parent.py", source, tmp_path / "store"]
    parent = subprocess.Popen(
        [*map(str, command), settings.face_model_sha256],
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{odd_work}"},
        stderr=subprocess.DEVNULL,
    )

    def busy() -> set[int]:
        return {int(process) for tries in attempts(source).values() for process, *_ in tries}

    try:
        assert poll(lambda: len(busy()) == 2, seconds=60)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert poll(lambda: not busy() & running(), seconds=20)
