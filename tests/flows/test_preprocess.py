"""The preprocessing flow: one run at a time, failures on request, numbers at the end."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client

from flows.preprocess import locate_store, preprocess
from reelcheck.config import PreprocessSettings, RunSettings
from reelcheck.errors import StoreError
from storage.layout import StoreLayout, find_preprocessed
from storage.schemas import MANIFEST, SEQUENCES, VIDEO_RESULTS, VIDEOS
from storage.tables import read_rows, write_table
from tasks.faces.detection.weights import hash_configured_face_model

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_server", "face_model")]

Command = Callable[..., Any]
RUN = RunSettings(num_workers=2, shard_size=2)
HOLDER = """
import sys
from pathlib import Path

from storage.layout import StoreLayout
from storage.lock import hold_run_lock

with hold_run_lock(StoreLayout(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, face_video: Path) -> Path:
    """Four videos of the same face with different contents, and one cut short."""
    folder = tmp_path_factory.mktemp("source")
    content = face_video.read_bytes()
    for number in range(4):
        (folder / f"{number}.mp4").write_bytes(content + bytes([0, 0, 0, 9]) + b"free%d" % number)
    (folder / "short.mp4").write_bytes(content[:500])
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def other_run(store: Path) -> Iterator[int]:
    """A process that writes to the same store."""
    settings = PreprocessSettings(face_model_sha256=hash_configured_face_model())
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(locate_store(store, settings).path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process.pid
        process.kill()


def files_of(layout: StoreLayout) -> dict[str, tuple[int, bytes]]:
    """Times and contents of the shard files."""
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in layout.shards_dir.iterdir()}


def test_second_run_at_the_same_time_is_refused_and_writes_nothing(
    source: Path, store: Path, other_run: int
) -> None:
    with pytest.raises(StoreError, match=f"in use by another run .process {other_run} on "):
        preprocess(source, store, run=RUN)
    (folder,) = store.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["lock", "lock.json"]


def test_summary_counts_what_this_run_did(source: Path, store: Path) -> None:
    first = preprocess(source, store, run=RUN)
    layout = find_preprocessed(store)
    assert first.counts == {"decode_error": 1, "ok": 4}
    assert (first.num_videos, first.num_videos_before) == (5, 0)
    rows = read_rows(layout.videos_path, VIDEOS)
    assert first.num_frames == sum(row["num_frames_decoded"] or 0 for row in rows) == 4 * 24
    assert all(seconds > 0 for seconds in first.cpu_seconds.values())
    written = json.loads(layout.summary_path.read_text(encoding="utf-8"))
    assert written["counts"] == first.counts
    assert written["cpu_seconds"] == dict(first.cpu_seconds)
    with get_client(sync_client=True) as client:
        artifacts = client.read_artifacts()
    shown = [a.data for a in artifacts if a.key == "preprocess-summary"]
    assert any(f"| wall seconds | {first.wall_seconds:.1f} |" in str(data) for data in shown)
    second = preprocess(source, store, run=RUN)
    assert second.counts == first.counts
    assert (second.num_videos, second.num_videos_before, second.num_frames) == (0, 5, 0)
    assert second.cpu_seconds["decode"] == 0


def test_retry_failed_touches_failures_only(source: Path, store: Path, reelcheck: Command) -> None:
    arguments = ("preprocess", source, "--store", store, "--workers", 2, "--retry-failed")
    first = reelcheck(*arguments, "--config", _run_config(store.parent))
    assert first.exit_code == 0, first.stderr
    layout = find_preprocessed(store)
    manifest, before = layout.manifest_path.read_bytes(), files_of(layout)
    again = reelcheck(*arguments, "--config", _run_config(store.parent))
    assert again.exit_code == 0, again.stderr
    assert "videos in this run │ 1" in again.stdout
    assert "videos done before │ 4" in again.stdout
    after = files_of(layout)
    new = {name for name in after if after[name] != before.get(name)}
    (retried,) = {name.split(".")[0] for name in new}
    (row,) = read_rows(layout.shard_videos_path(retried), VIDEO_RESULTS)
    assert row["status"] == "decode_error"
    assert before.keys() <= after.keys()
    assert layout.manifest_path.read_bytes() == manifest


def test_retry_failed_success_replaces_the_failure(source: Path, store: Path) -> None:
    preprocess(source, store, run=RUN)
    layout = find_preprocessed(store)
    before = read_rows(layout.manifest_path, MANIFEST)
    failed = fail_on_a_slow_machine(layout)
    assert preprocess(source, store, run=RUN).counts == {"decode_error": 1, "ok": 3, "timeout": 1}
    assert failed not in {row["video_id"] for row in read_rows(layout.manifest_path, MANIFEST)}
    again = preprocess(source, store, run=RUN, retry_failed=True)
    assert (again.counts, again.num_videos) == ({"decode_error": 1, "ok": 4}, 2)
    place = ("shard", "part", "row")
    assert [
        {key: value for key, value in row.items() if key not in place}
        for row in read_rows(layout.manifest_path, MANIFEST)
    ] == [{key: value for key, value in row.items() if key not in place} for row in before]
    # What succeeded is left alone from now on.
    assert preprocess(source, store, run=RUN, retry_failed=True).num_videos == 1


def fail_on_a_slow_machine(layout: StoreLayout) -> str:
    """Make one good result of the store a timeout, as if it had been; give its video_id."""
    for shard in layout.done_shards():
        rows = read_rows(layout.shard_videos_path(shard), VIDEO_RESULTS)
        for row in rows:
            if row["status"] == "ok":
                row["status"], row["reason"] = "timeout", "slow"
                sequences = read_rows(layout.shard_sequences_path(shard), SEQUENCES)
                kept = [s for s in sequences if s["video_id"] != row["video_id"]]
                write_table(layout.shard_sequences_path(shard), kept, SEQUENCES)
                write_table(layout.shard_videos_path(shard), rows, VIDEO_RESULTS)
                return str(row["video_id"])
    raise AssertionError("no good result")


def _run_config(folder: Path) -> Path:
    path = folder / "settings.toml"
    path.write_text("[run]\nshard_size = 2\n", encoding="utf-8")
    return path
