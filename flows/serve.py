"""Prefect's server and one worker on this machine, started and stopped together.

Prefect itself is only started as other processes here, so that the watcher stays small and its own
settings cannot differ from those of its children.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from reelcheck.errors import ServerError, SettingsError
from reelcheck.processes import die_with_parent
from reelcheck.serving.guard import is_every_address, is_loopback
from reelcheck.serving.login import ServerLogin

WORK_POOL = "reelcheck"
_DEPLOYMENTS_FILE = "prefect.yaml"
_PASSWORD = "PREFECT_SERVER_API_AUTH_STRING"  # noqa: S105 - the name of a variable
_START_SECONDS = 180.0
"""Time limit for the server's first answer on a busy machine."""
_STOP_SECONDS = 20.0
_POLL_SECONDS = 0.5


def serve(
    folder: Path,
    *,
    host: str,
    port: int,
    max_runs: int,
    allow_hosts: tuple[str, ...] = (),
    environment: Mapping[str, str] = os.environ,
    on_ready: Callable[[str, ServerLogin], object],
) -> None:
    """Start everything and wait until SIGINT or SIGTERM.

    Args:
        folder: holds ``prefect.yaml``; relative paths of the deployments are relative to it.
        host: address to listen on.
        port: the server's.
        max_runs: flow runs at once.
        allow_hosts: further names under which browsers and machines reach the server.
        environment: what the children see, before what is set here.
        on_ready: called with the server's address and login when runs can be started.

    Raises:
        SettingsError: the folder holds no ``prefect.yaml``, the port is in use, or others could
            reach a server without a password.
        ServerError: the server, the deployments or the worker failed.
    """
    require_deployments_file(folder)
    address = f"http://{_choose_reachable_host(host)}:{port}"
    require_password(environment, host=host)
    _require_free(host, port)
    login = _find_login(folder, environment)
    child_environment = make_server_environment(environment, login, api_url=f"{address}/api")
    allowed = [word for name in allow_hosts for word in ("--allow-host", name)]
    with _stopped_by_signals(), ExitStack() as stack:
        server = stack.enter_context(
            _child(
                sys.executable, "-m", "flows.prefect_server", "--host", host, "--port", str(port),
                *allowed, environment=child_environment, folder=folder, is_silent=True,
            )
        )  # fmt: skip
        _wait_until_healthy(f"{address}/api/health", server)
        _deploy(folder, child_environment)
        worker = stack.enter_context(
            _child(
                sys.executable, "-m", "prefect", "worker", "start", "--pool", WORK_POOL,
                "--name", _name_worker(), "--limit", str(max_runs),
                environment=child_environment, folder=folder,
            )
        )  # fmt: skip
        on_ready(address, login)
        _wait_for_an_end({"server": server, "worker": worker})


def require_deployments_file(folder: Path) -> None:
    """Make sure that the folder holds ``prefect.yaml``.

    Raises:
        SettingsError: it does not.
    """
    if not (folder / _DEPLOYMENTS_FILE).is_file():
        raise SettingsError(
            f"{folder.absolute()} holds no {_DEPLOYMENTS_FILE}: go to the clone, or copy its "
            f"{_DEPLOYMENTS_FILE} to the folder that is to hold the data"
        )


def require_server_address(environment: Mapping[str, str] = os.environ) -> None:
    """Make sure that ``PREFECT_API_URL`` names a server.

    Raises:
        SettingsError: it is not set.
    """
    if not environment.get("PREFECT_API_URL"):
        raise SettingsError(
            "PREFECT_API_URL is not set: give the server's address, such as "
            "http://127.0.0.1:4200/api, or use `reelcheck serve`, which starts a server"
        )


def require_password(environment: Mapping[str, str], *, host: str) -> None:
    """Make sure that a server which others can reach has a password that they can be told.

    Raises:
        SettingsError: it has none.
    """
    if not (is_loopback(host) or environment.get(_PASSWORD)):
        raise SettingsError(
            f"host = {host} can be reached from other machines: set "
            f"{_PASSWORD}=USER:PASSWORD first, or use 127.0.0.1"
        )


def make_server_environment(
    environment: Mapping[str, str], login: ServerLogin, *, api_url: str
) -> dict[str, str]:
    """Make the environment of the server, its worker and the runs."""
    return {
        **environment,
        _PASSWORD: login.server,
        "PREFECT_API_AUTH_STRING": login.client,
        "PREFECT_API_URL": api_url,
        # The command line silences Prefect for itself; here its log is what a person reads.
        "PREFECT_LOGGING_LEVEL": "INFO",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        # In memory, the default, a restart of the server would forget who holds a concurrency slot:
        # the slot would never be free again, and a run that holds it would be ended.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
            "prefect.server.concurrency.lease_storage.filesystem"
        ),
        # Nothing is pickled: results are not kept, and a result that were kept would be JSON.
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    }


def _find_login(folder: Path, environment: Mapping[str, str]) -> ServerLogin:
    if password := environment.get(_PASSWORD):
        return ServerLogin(password, password)
    result = subprocess.run(
        (sys.executable, "-m", "flows.prefect_server.login"),
        cwd=folder, env=dict(environment), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if result.returncode:
        raise SettingsError(result.stderr.strip())
    return ServerLogin(**json.loads(result.stdout))


def _choose_reachable_host(host: str) -> str:
    """Choose the name under which this machine reaches a server that listens on ``host``."""
    return "127.0.0.1" if is_every_address(host) else host


def _require_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SettingsError(
                f"port = {port} of {host} cannot be used: {error.strerror}; choose another one "
                "with --port"
            ) from None


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """End the block, without an error, when a person or a service manager asks for it.

    A shell starts what it puts into the background with SIGINT ignored; here it counts.
    """
    before = {
        number: signal.signal(number, signal.default_int_handler)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _child(
    *command: str, environment: Mapping[str, str], folder: Path, is_silent: bool = False
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process in its own group, which ends with the block or with this process."""
    parent_pid = os.getpid()

    def begin() -> None:
        die_with_parent(parent_pid)
        # Prefect's worker hands SIGTERM on to itself as SIGINT.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(  # noqa: S603 - our own interpreter
        command,
        cwd=folder,
        env=dict(environment),
        stdout=subprocess.DEVNULL if is_silent else None,  # warnings and errors are on stderr
        start_new_session=True,  # Ctrl-C reaches this process alone, which then stops them in order
        preexec_fn=begin,  # noqa: PLW1509 - no threads here
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_until_healthy(url: str, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_SECONDS
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise ServerError(f"the server ended at once (exit code {server.returncode})")
        try:
            with direct.open(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(_POLL_SECONDS)
    raise ServerError(f"the server did not answer at {url} within {_START_SECONDS:g} seconds")


def _deploy(folder: Path, environment: Mapping[str, str]) -> None:
    command = (sys.executable, "-m", "flows", "deploy", "--lost-worker", _name_worker())
    result = subprocess.run(  # noqa: S603
        command, cwd=folder, env=dict(environment), stderr=subprocess.PIPE, text=True, check=False
    )
    if result.returncode:
        raise ServerError(result.stderr.strip().removeprefix("error: "))


def _name_worker() -> str:
    """Name the worker the same at every start, to find what an earlier one left behind."""
    return f"serve@{socket.gethostname()}"


def _wait_for_an_end(children: Mapping[str, "subprocess.Popen[bytes]"]) -> None:
    while True:
        for name, process in children.items():
            if process.poll() is not None:
                raise ServerError(f"the {name} ended (exit code {process.returncode})")
        time.sleep(_POLL_SECONDS)
