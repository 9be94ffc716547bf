"""The server on PostgreSQL with two workers, as several machines would have it."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import StateType

pytestmark = [pytest.mark.slow, pytest.mark.prefect, pytest.mark.timeout(1800)]


def find_tool(name: str) -> str:
    """A program of PostgreSQL's server, which Debian keeps out of the path."""
    places = [*sorted(Path("/usr/lib/postgresql").glob("*/bin")), *os.get_exec_path()]
    for place in places:
        if (Path(place) / name).is_file():
            return str(Path(place) / name)
    pytest.skip(f"PostgreSQL's {name} is not on this machine")


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """Address of a new PostgreSQL cluster on loopback; it refuses to run as root."""
    initdb, pg_ctl = find_tool("initdb"), find_tool("pg_ctl")
    user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    shutil.chown(folder, user)
    data = str(folder / "data")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(*command: str) -> None:
        options: dict[str, Any] = {"user": user} if os.geteuid() == 0 else {}
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, **options)

    options = f"-p {port} -h 127.0.0.1 -k {folder}"
    run(initdb, "--pgdata", data, "--username", "prefect", "--auth", "trust")
    run(pg_ctl, "--pgdata", data, "--log", str(folder / "log"), "--options", options, "-w", "start")
    try:
        yield f"127.0.0.1:{port}"
    finally:
        run(pg_ctl, "--pgdata", data, "--mode", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def served(database: str, serving: Callable[..., Any]) -> Any:
    url = f"postgresql+asyncpg://prefect@{database}/postgres"
    return serving(PREFECT_API_DATABASE_CONNECTION_URL=url)


def test_two_workers_on_postgres_share_the_runs(
    served: Any, database: str, synthetic_dataset: Path, face_model: Path, tiny: Any
) -> None:
    source, store = synthetic_dataset / "videos", served.folder / "store"
    second = subprocess.Popen(
        [
            *(sys.executable, "-m", "prefect", "worker", "start"),
            *("--pool", "reelcheck", "--name", "second", "--limit", "1"),
        ],
        env=served.client_environment,
    )
    try:
        with served.client() as client:
            served.until(
                lambda: len(client.read_workers_for_work_pool("reelcheck")) == 2, "two workers"
            )
        model = tiny.save_model(served.folder / "model").path
        runs = [
            served.begin("preprocess/default", source=str(source), store=str(store)),
            *(
                served.begin(
                    "score/default",
                    source=str(source),
                    model=str(model),
                    out=str(served.folder / name),
                )
                for name in ("first", "second")
            ),
        ]
        assert [served.end_of(run) for run in runs] == ["Completed"] * 3
    finally:
        second.terminate()
        second.wait()
    psql = find_tool("psql")
    host, _, port = database.partition(":")
    count = f"select count(*) from flow_run where state_type = '{StateType.COMPLETED.value}'"
    login = ("--host", host, "--port", port, "--username", "prefect", "--dbname", "postgres")
    kept = subprocess.run(
        [psql, *login, "--tuples-only", "--command", count],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(kept.stdout) == 3
