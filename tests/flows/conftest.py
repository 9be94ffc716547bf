"""Runs of the command line inside this process, and a real server with a worker."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun

from flows.cli import main
from reelcheck.serving.login import find_login_path, read_login

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 400.0


@dataclass(frozen=True)
class CommandResult:
    """What a shell would see."""

    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture
def reelcheck(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., CommandResult]:
    """Run ``reelcheck ARGUMENTS`` here; an exception that escapes fails the test."""
    # The command line sets these for its process; setting them here undoes that afterwards.
    for name in ("PREFECT_LOGGING_LEVEL", "PREFECT_SERVER_LOGGING_LEVEL"):
        monkeypatch.setenv(name, "CRITICAL")
    monkeypatch.delenv("REELCHECK_DEBUG", raising=False)

    def run(*arguments: object) -> CommandResult:
        monkeypatch.setattr(sys, "argv", ["reelcheck", *map(str, arguments)])
        capsys.readouterr()
        exit_code: object = 0
        try:
            main()
        except SystemExit as stop:
            exit_code = stop.code or 0
        assert isinstance(exit_code, int)
        return CommandResult(exit_code, *capsys.readouterr())

    return run


@pytest.fixture
def without_onnx_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training writes no ONNX files, which take longer than a tiny training run."""
    monkeypatch.setattr("flows.train.make_onnx_step", lambda model: None)


@dataclass
class Served:
    """``reelcheck serve`` in a folder with a copy of prefect.yaml."""

    folder: Path
    port: int
    settings: dict[str, str]
    started: list["subprocess.Popen[str]"] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
        return {
            **inherited,
            "PREFECT_HOME": str(self.folder / "home"),
            **self.settings,
        }

    @property
    def client_environment(self) -> dict[str, str]:
        """What another terminal has."""
        return {**self.environment, "PREFECT_API_URL": f"{self.address}/api"}

    def start(self) -> str:
        """Start it; give what it printed up to the last line for people."""
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "flows", "serve", "--port", str(self.port)],
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.started.append(process)
        assert process.stdout is not None
        printed = ""
        for line in process.stdout:
            printed += line
            if "retrain/nightly" in line:
                return printed
        raise AssertionError((self.folder / "log").read_text(encoding="utf-8")[-3000:])

    def stop(self) -> None:
        """End it as a service manager would."""
        last = self.started[-1]
        last.terminate()
        assert last.wait(60) == 0
        for process in self.started:
            assert process.stdout is not None
            process.stdout.close()

    @property
    def login(self) -> str:
        """What `serve` has generated."""
        return read_login(find_login_path(self.environment))

    def client(self) -> SyncPrefectClient:
        return SyncPrefectClient(f"{self.address}/api", auth_string=self.login)

    def prefect(self, *arguments: str) -> str:
        result = subprocess.run(
            [sys.executable, "-m", "prefect", *arguments],
            env=self.client_environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def begin(self, deployment: str, **parameters: Any) -> UUID:
        with self.client() as client:
            found = client.read_deployment_by_name(deployment)
            return client.create_flow_run_from_deployment(found.id, parameters=parameters).id

    def read(self, run: UUID) -> FlowRun:
        with self.client() as client:
            return client.read_flow_run(run)

    def state(self, run: UUID) -> str:
        state = self.read(run).state
        assert state is not None
        return state.name

    def end_of(self, run: UUID) -> str:
        def ended() -> str | None:
            state = self.read(run).state
            assert state is not None
            return state.name if state.is_final() else None

        return str(self.until(ended, f"the end of {run}"))

    def process_of(self, run: UUID) -> int:
        return int(self.until(lambda: self.read(run).infrastructure_pid, "a process"))

    @staticmethod
    def until(condition: Callable[[], Any], what: str) -> Any:
        """The first true value of the condition."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if value := condition():
                return value
            time.sleep(0.1)
        pytest.fail(f"waited {PATIENCE_SECONDS:g} s for {what}")


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Served]]:
    """Start ``reelcheck serve`` with settings for the environment; stopped after the module."""
    started: list[Served] = []

    def start(**settings: str) -> Served:
        folder = tmp_path_factory.mktemp("served")
        shutil.copy(ROOT / "prefect.yaml", folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        served = Served(folder, port, settings)
        printed = served.start()
        assert f"PREFECT_API_URL={served.address}/api" in printed
        assert str(find_login_path(served.environment)) in printed
        assert "PREFECT_API_AUTH_STRING" not in printed
        started.append(served)
        return served

    yield start
    for served in started:
        served.stop()
