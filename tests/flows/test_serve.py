"""A real server, worker and deployed runs: what an operator has, and what survives a kill."""

import os
import shutil
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.states import Cancelling
from strangers import STRANGER

from flows.serve import make_server_environment, serve
from reelcheck.errors import SettingsError
from reelcheck.serving.login import ServerLogin
from storage.layout import find_preprocessed
from storage.outputs import ScoreLayout
from storage.schemas import SCORES
from storage.tables import Row, read_rows

ROOT = Path(__file__).resolve().parents[2]
Served = Any
"""The class of that name in conftest.py: a conftest cannot be imported from a test."""
RUN = {"shard_size": 8, "num_workers": 1}


@pytest.fixture(scope="module")
def served(serving: Any) -> Served:
    return serving()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, synthetic_dataset: Path) -> Path:
    """Enough videos that a run can be met in its middle: each clip 16 times, made distinct."""
    folder = tmp_path_factory.mktemp("source")
    for number in range(16):
        for clip in sorted((synthetic_dataset / "videos").rglob("*.mp4")):
            copy = folder / clip.parent.name / f"{number}_{clip.name}"
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(clip.read_bytes() + bytes([0, 0, 0, 9]) + b"free%d" % number)
    return folder


@pytest.fixture(scope="module")
def store(served: Served, source: Path, face_model: Path) -> Path:
    """What a run that nobody disturbed has written."""
    store = served.folder / "undisturbed"
    run = served.begin("preprocess/default", source=str(source), store=str(store), run=RUN)
    assert served.end_of(run) == "Completed"
    return store


@pytest.fixture(scope="module")
def model(served: Served, tiny: Any) -> Path:
    return Path(tiny.save_model(served.folder / "model").path)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.org"])
def test_server_for_others_needs_a_password(tmp_path: Path, host: str) -> None:
    shutil.copy(ROOT / "prefect.yaml", tmp_path)
    with pytest.raises(SettingsError, match="PREFECT_SERVER_API_AUTH_STRING"):
        serve(tmp_path, host=host, port=1, max_runs=1, environment={}, on_ready=print)


def test_password_is_handed_to_the_worker_and_results_are_no_pickles() -> None:
    login = ServerLogin("server:secret", "client:secret")
    environment = make_server_environment({}, login, api_url="http://127.0.0.1:1/api")
    assert environment["PREFECT_SERVER_API_AUTH_STRING"] == login.server
    assert environment["PREFECT_API_AUTH_STRING"] == login.client
    assert environment["PREFECT_RESULTS_DEFAULT_SERIALIZER"] == "json"


def test_port_in_use_and_a_folder_without_deployments_are_told(tmp_path: Path) -> None:
    def start(port: int) -> None:
        serve(tmp_path, host="127.0.0.1", port=port, max_runs=1, environment={}, on_ready=print)

    with pytest.raises(SettingsError, match="holds no prefect"):
        start(1)
    shutil.copy(ROOT / "prefect.yaml", tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(SettingsError, match="--port"):
            start(other.getsockname()[1])


@pytest.mark.slow
@pytest.mark.prefect
@pytest.mark.timeout(1800)
class TestServed:
    """One server for all; the last tests kill it."""

    def test_nobody_gets_in_without_the_password(self, served: Served) -> None:
        url = f"{served.address}/api/csrf-token?client=x"
        user, _, password = served.login.partition(":")
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, auth=(user, "wrong")).status_code == 401
        assert httpx.get(url, auth=(user, password)).status_code == 200
        assert httpx.get(f"{served.address}/api/health").json() is True

    def test_strangers_pages_and_names_are_refused(self, served: Served) -> None:
        url = f"{served.address}/api/flow_runs/count"
        assert httpx.post(url, json={}, headers={"Origin": STRANGER}).status_code == 403
        assert httpx.post(url, json={}, headers={"Host": "evil.example"}).status_code == 421

    def test_schedule_is_registered_and_gives_runs(self, served: Served) -> None:
        inspected = served.prefect("deployment", "inspect", "retrain/nightly")
        assert "'cron': '0 3 * * *'" in inspected
        assert "'collision_strategy': 'CANCEL_NEW'" in inspected
        with served.client() as client:
            nightly = client.read_deployment_by_name("retrain/nightly").id
            planned = served.until(
                lambda: [
                    run
                    for run in client.read_flow_runs(limit=50)
                    if run.deployment_id == nightly and run.auto_scheduled
                ],
                "a run by schedule",
            )
        assert all(run.expected_start_time.hour == 3 for run in planned)

    def test_command_of_the_documents_completes(
        self, served: Served, synthetic_dataset: Path
    ) -> None:
        store = served.folder / "by command"
        shown = served.prefect(
            "deployment", "run", "preprocess/default", "--watch",
            "--param", f"source={synthetic_dataset / 'videos'}", "--param", f"store={store}",
        )  # fmt: skip
        assert "Completed" in shown
        assert find_preprocessed(store).manifest_path.exists()

    def test_nightly_retraining_completes(
        self, served: Served, synthetic_dataset: Path, tiny: Any
    ) -> None:
        registry = served.folder / "registry"
        run = served.begin(
            "retrain/nightly",
            source=str(synthetic_dataset / "videos"),
            labels=str(synthetic_dataset / "labels.csv"),
            store=str(served.folder / "nightly"),
            registry=str(registry),
            settings=tiny.training.model_dump(mode="json"),
            gate={"min_first_auc": 0.0},
        )
        assert served.end_of(run) == "Completed"
        assert (registry / "decision.json").exists()

    def test_two_runs_of_a_deployment_never_overlap(
        self, served: Served, synthetic_dataset: Path, face_model: Path
    ) -> None:
        source = str(synthetic_dataset / "videos")
        runs = [
            served.begin("preprocess/default", source=source, store=str(served.folder / name))
            for name in ("one", "two")
        ]
        seen: set[frozenset[str]] = set()

        def both_ended() -> bool:
            states = [served.state(run) for run in runs]
            seen.add(frozenset(states))
            return states == ["Completed", "Completed"]

        served.until(both_ended, "both runs")
        assert frozenset({"Running"}) not in seen
        starts = sorted((served.read(run) for run in runs), key=lambda run: str(run.start_time))
        assert starts[0].end_time is not None
        assert starts[1].start_time is not None
        assert starts[0].end_time <= starts[1].start_time

    def test_cancelling_ends_the_decode_processes(self, served: Served, source: Path) -> None:
        store = served.folder / "cancelled"
        run = served.begin("preprocess/default", source=str(source), store=str(store), run=RUN)
        process = served.process_of(run)
        served.until(lambda: finished_shards(store), "a finished shard")
        children = children_of(process)
        assert children
        with served.client() as client:  # as `prefect flow-run cancel` does, which starts slowly
            client.set_flow_run_state(run, Cancelling())
        assert served.end_of(run) == "Cancelled"
        served.until(lambda: not any(map(is_alive, [process, *children])), "their end")

    def test_killed_run_is_crashed_and_the_next_one_goes_on(
        self, served: Served, source: Path, store: Path
    ) -> None:
        again = served.folder / "killed"
        arguments = {"source": str(source), "store": str(again), "run": RUN}
        run = served.begin("preprocess/default", **arguments)
        process = served.process_of(run)
        served.until(lambda: finished_shards(again), "a finished shard")
        children = children_of(process)
        os.kill(process, signal.SIGKILL)
        assert served.end_of(run) == "Crashed"
        served.until(lambda: not any(map(is_alive, children)), "the end of the decode processes")
        before = files_of_finished_shards(again)
        assert served.end_of(served.begin("preprocess/default", **arguments)) == "Completed"
        after = files_of_finished_shards(again)
        assert before.items() <= after.items()
        assert len(before) < len(after)
        assert tables_and_crops(again) == tables_and_crops(store)

    def test_after_the_death_of_server_worker_and_run_scoring_goes_on(
        self, served: Served, source: Path, model: Path, face_model: Path
    ) -> None:
        whole, broken = served.folder / "scores", served.folder / "broken scores"
        arguments = {"source": str(source), "model": str(model), "run": RUN}
        assert served.end_of(served.begin("score/default", out=str(whole), **arguments)) == (
            "Completed"
        )
        run = served.begin("score/default", out=str(broken), **arguments)
        process = served.process_of(run)
        served.until(lambda: answers(broken), "a first answer")
        children = children_of(process)
        serving = served.started[-1]
        services = children_of(serving.pid)
        serving.kill()
        serving.wait()
        served.until(lambda: not any(map(is_alive, services)), "the end of server and worker")
        os.kill(process, signal.SIGKILL)
        served.until(lambda: not any(map(is_alive, children)), "the end of the decode processes")
        before = answers(broken)
        assert len(before) < len(list(source.rglob("*.mp4")))
        assert "marked as crashed: 1 runs" in served.start()
        assert served.end_of(run) == "Crashed"
        assert served.end_of(served.begin("score/default", out=str(broken), **arguments)) == (
            "Completed"
        )
        assert before.items() <= answers(broken).items()
        assert scores_of(broken) == scores_of(whole)

    def test_serving_ends_when_its_worker_dies_and_says_so(self, served: Served) -> None:
        serving = served.started[-1]
        (worker,) = [pid for pid in children_of(serving.pid) if "worker" in command_of(pid)]
        os.kill(worker, signal.SIGKILL)
        assert serving.wait(60) == 4
        log = (served.folder / "log").read_text(encoding="utf-8")
        assert "error: the worker ended" in log
        served.start()

    def test_no_result_was_kept(self, served: Served) -> None:
        home = served.folder / "home"
        assert home.is_dir()
        assert not [path for path in (home / "storage").rglob("*") if path.is_file()]
        assert not list(home.rglob("*.pkl"))


def command_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").split("\0")


def children_of(pid: int) -> list[int]:
    """Processes that any thread of this one has started."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in lists for child in file.read_text(encoding="utf-8").split()]


def is_alive(pid: int) -> bool:
    """Neither gone nor dead and waiting for somebody to take note."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2][1] != "Z"
    except OSError:
        return False


def finished_shards(store: Path) -> list[str]:
    return [path.name.partition(".")[0] for path in store.glob("*/shards/*.videos.parquet")]


def files_of_finished_shards(store: Path) -> dict[str, tuple[int, bytes]]:
    done = set(finished_shards(store))
    return {
        path.name: (path.stat().st_mtime_ns, path.read_bytes())
        for path in find_shard_files(store)
        if path.name.partition(".")[0] in done
    }


def find_shard_files(store: Path) -> list[Path]:
    return sorted(store.glob("*/shards/*"))


def tables_and_crops(store: Path) -> dict[str, bytes]:
    layout = find_preprocessed(store)
    paths = [layout.videos_path, layout.manifest_path, *find_shard_files(store)]
    return {path.name: path.read_bytes() for path in paths}


def answers(out: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.name: (path.stat().st_mtime_ns, path.read_bytes())
        for path in out.glob("results/*/*.json")
    }


def scores_of(out: Path) -> list[Row]:
    """The result table but for what the computing took."""
    return [
        {name: value for name, value in row.items() if not name.endswith("_seconds")}
        for row in read_rows(ScoreLayout(out).parquet_path, SCORES)
    ]
