"""The same flows on two workers over TCP, with videos, store and results in a bucket."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import flows.spread
from flows.preprocess import preprocess
from flows.score import score
from flows.spread import ENVIRONMENT_VARIABLE
from reelcheck.config import PreprocessSettings, RunSettings
from reelcheck.errors import SettingsError
from reelcheck.settings import settings_hash
from storage.layout import locate_preprocessed
from storage.object_store import copies
from storage.object_store.copies import open_for_reading
from storage.object_store.objects import ObjectFolder
from storage.outputs import ScoreLayout
from tasks.faces.detection.weights import hash_configured_face_model

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_server", "face_model")]

HERE = RunSettings(num_workers=2, shard_size=4)
THERE = RunSettings(num_workers=1, shard_size=4, where="cluster")
NAMES_OF_A_RUN = {"summary.json", ".objects.json", "lock"}


@dataclass(frozen=True)
class Cluster:
    """A scheduler and its workers, each a process of its own."""

    address: str
    workers: list["subprocess.Popen[bytes]"]


@contextmanager
def running_cluster(folder: Path, s3_environment: dict[str, str]) -> Iterator[Cluster]:
    """Two workers that are told nothing but the addresses of server, bucket and scheduler."""
    from distributed import Client
    from prefect.settings import PREFECT_API_URL

    file = folder / "scheduler.json"
    environment = {
        **os.environ,
        **s3_environment,
        "PREFECT_API_URL": str(PREFECT_API_URL.value()),
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
    program = [sys.executable, "-m", "distributed.cli.dask_worker", "--no-nanny", "--nthreads", "1"]
    common = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", file]
    with ExitStack() as stack:

        def start(*command: object) -> "subprocess.Popen[bytes]":
            process = stack.enter_context(
                subprocess.Popen(
                    [*map(str, command), *map(str, common)],
                    env=environment,
                    cwd=folder,
                    stderr=subprocess.DEVNULL,
                )
            )
            stack.callback(process.kill)
            return process

        start(sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", 0)
        workers = [start(*program, "--local-directory", folder / f"worker{n}") for n in range(2)]
        with Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(2, timeout=120)
        yield Cluster(json.loads(file.read_text())["address"], workers)


@pytest.fixture(scope="module")
def lasting_cluster(
    tmp_path_factory: pytest.TempPathFactory, prefect_server: None, s3_environment: dict[str, str]
) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster"), s3_environment) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _copies_of_this_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "user_cache_path", lambda name: tmp_path / "driver")


@pytest.fixture
def cluster(lasting_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """The cluster that all tests share, its address in the environment."""
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, lasting_cluster.address)
    return lasting_cluster


@pytest.fixture
def videos(s3_bucket: str, synthetic_dataset: Path) -> str:
    """Eight of the rendered videos in the bucket, and a file that is none."""
    folder = ObjectFolder(f"{s3_bucket}/videos")
    for kind in ("real", "fake"):
        for path in sorted((synthetic_dataset / "videos" / kind).glob("*.mp4"))[:4]:
            folder.put(f"{kind}/{path.name}", path)
    folder.write("real/text.mp4", b"This is not a video.\n")
    return folder.url


def contents(folder: Path) -> dict[str, bytes]:
    """All files but those that say how long a run took, or where."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in NAMES_OF_A_RUN
    }


def test_cluster_with_store_in_a_bucket_gives_the_same_bytes_as_one_machine(
    cluster: Cluster, videos: str, s3_bucket: str, tmp_path: Path
) -> None:
    alone = preprocess(videos, tmp_path / "store", run=HERE)
    spread = preprocess(videos, f"{s3_bucket}/store", run=THERE)
    assert spread.counts == alone.counts == {"ok": 8, "unsupported": 1}
    assert (spread.num_videos, spread.num_frames) == (alone.num_videos, alone.num_frames)
    with open_for_reading(f"{s3_bucket}/store") as copy:
        assert contents(copy) == contents(tmp_path / "store")
        assert any(name.endswith(".arrow") for name in contents(copy))
    again = preprocess(videos, f"{s3_bucket}/store", run=THERE)
    assert (again.num_videos, again.num_videos_before) == (0, 9)


def test_store_in_a_bucket_from_one_machine_is_the_same(
    videos: str, s3_bucket: str, tmp_path: Path
) -> None:
    preprocess(videos, tmp_path / "store", run=HERE)
    preprocess(videos, f"{s3_bucket}/store", run=HERE)
    with open_for_reading(f"{s3_bucket}/store") as copy:
        assert contents(copy) == contents(tmp_path / "store")


@pytest.mark.slow
def test_scores_of_a_cluster_in_a_bucket_are_those_of_one_machine(
    cluster: Cluster, videos: str, s3_bucket: str, tmp_path: Path, tiny: Any
) -> None:
    model = tiny.save_model(tmp_path / "model")
    alone = score(videos, model.path, tmp_path / "scores", run=HERE)
    bucket_model = ObjectFolder(f"{s3_bucket}/model")
    for path in sorted(model.path.iterdir()):
        bucket_model.put(path.name, path)
    spread = score(videos, bucket_model.url, f"{s3_bucket}/scores", run=THERE)
    assert _without_times(spread.rows) == _without_times(alone.rows)
    with open_for_reading(f"{s3_bucket}/scores") as copy:
        pictures = {name for name in contents(copy) if name.endswith(".jpg")}
        assert pictures == {n for n in contents(tmp_path / "scores") if n.endswith(".jpg")}
        assert ScoreLayout(copy).report_path.exists()


@pytest.mark.slow
def test_killed_worker_costs_nothing_but_time(
    videos: str,
    s3_environment: dict[str, str],
    s3_bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = {"shard_size": 2}
    preprocess(videos, tmp_path / "store", run=HERE.model_copy(update=small))
    with running_cluster(tmp_path, s3_environment) as cluster:
        monkeypatch.setenv(ENVIRONMENT_VARIABLE, cluster.address)
        done = _kill_at_first_result(monkeypatch, cluster.workers[0])
        preprocess(videos, f"{s3_bucket}/store", run=THERE.model_copy(update=small))
        assert done == ["killed"]
        assert cluster.workers[0].wait() == -signal.SIGKILL
    with open_for_reading(f"{s3_bucket}/store") as copy:
        assert contents(copy) == contents(tmp_path / "store")


@pytest.mark.slow
def test_killed_worker_changes_no_score(
    videos: str,
    s3_environment: dict[str, str],
    s3_bucket: str,
    tmp_path: Path,
    tiny: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny.save_model(tmp_path / "model").path
    alone = score(videos, model, tmp_path / "scores", run=HERE)
    with running_cluster(tmp_path, s3_environment) as cluster:
        monkeypatch.setenv(ENVIRONMENT_VARIABLE, cluster.address)
        done = _kill_at_first_result(monkeypatch, cluster.workers[0])
        small = THERE.model_copy(update={"shard_size": 2})
        spread = score(videos, model, f"{s3_bucket}/scores", run=small)
        assert done == ["killed"]
        assert cluster.workers[0].wait() == -signal.SIGKILL
    assert _without_times(spread.rows) == _without_times(alone.rows)


def _kill_at_first_result(
    monkeypatch: pytest.MonkeyPatch, worker: "subprocess.Popen[bytes]"
) -> list[str]:
    """Kill a worker as soon as any shard is done: it is then in the midst of another."""
    done: list[str] = []
    spread: Callable[..., Iterator[Any]] = flows.spread.spread

    def watched(step: Any, *arguments: Any) -> Iterator[Any]:
        for result in spread(step, *arguments):
            if not done and "shard" in step.name:
                worker.kill()
                done.append("killed")
            yield result

    monkeypatch.setattr(flows.spread, "spread", watched)
    return done


def _without_times(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if not name.endswith("_seconds")}
        for row in rows
    ]


def test_cluster_without_an_address_is_told_what_to_set(
    tmp_path: Path, face_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    with pytest.raises(SettingsError, match=ENVIRONMENT_VARIABLE):
        preprocess(face_video, tmp_path / "store", run=THERE)
    layout = locate_preprocessed(
        tmp_path / "store",
        settings_hash(PreprocessSettings(face_model_sha256=hash_configured_face_model())),
    )
    assert layout.done_shards() == []
