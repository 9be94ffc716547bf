"""The guarded Prefect server: strangers' pages, strangers' names, and who knows the password."""

import json
import os
import socket
import subprocess
import sys
import time
import tomllib
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.context import SettingsContext, root_settings_context
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_KEY,
    PREFECT_API_URL,
    Profile,
    Settings,
)
from strangers import STRANGER, ask, open_websocket

from flows.prefect_server.login import _may_hold_login, choose_login
from flows.serve import make_server_environment
from page.prefect_state import read_last_runs
from reelcheck.errors import StoreError
from reelcheck.serving.login import ServerLogin

ROOT = Path(__file__).resolve().parents[2]
JSON = "application/json"
PROXY = "runs.example.org"


def bare_environment(home: Path) -> dict[str, str]:
    """What a new terminal has, where this user's Prefect is at home in that folder."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    paths = {"PREFECT_HOME": str(home), "PYTHONPATH": str(ROOT)}
    return {**inherited, **paths, "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}


def find_login(folder: Path) -> ServerLogin:
    """What `serve` finds out before it starts the server."""
    result = subprocess.run(
        [sys.executable, "-m", "flows.prefect_server.login"],
        cwd=folder,
        env=bare_environment(folder / "home"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return ServerLogin(**json.loads(result.stdout))


@dataclass(frozen=True)
class Guarded:
    folder: Path
    address: str
    login: ServerLogin

    @property
    def host(self) -> str:
        return self.address.removeprefix("http://")

    @property
    def authorization(self) -> str:
        return f"Basic {b64encode(self.login.client.encode()).decode()}"

    def client(self) -> SyncPrefectClient:
        return SyncPrefectClient(f"{self.address}/api", auth_string=self.login.client)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    login = find_login(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Guarded(folder, f"http://127.0.0.1:{port}", login)
    environment = make_server_environment(
        bare_environment(folder / "home"), login, api_url=f"{server.address}/api"
    )
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "flows.prefect_server"),
            *("--port", str(port), "--allow-host", PROXY),
        ],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for(server, process)
        yield server
    finally:
        process.terminate()
        process.wait(60)


def wait_for(server: Guarded, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(1500):
        assert process.poll() is None, "the server has ended"
        try:
            if ask(server.address, "/api/health").status == 200:
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the server does not answer")


@pytest.mark.prefect
@pytest.mark.timeout(900)
class TestGuarded:
    def test_commands_of_another_terminal_know_the_password(
        self, guarded: Guarded, tmp_path: Path
    ) -> None:
        result = subprocess.run(
            [sys.executable, "-m", "prefect", "work-pool", "ls"],
            cwd=tmp_path,
            env={
                **bare_environment(guarded.folder / "home"),
                "PREFECT_API_URL": f"{guarded.address}/api",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        assert "No work pools found" in result.stdout

    def test_without_the_password_nothing_is_told_or_done(self, guarded: Guarded) -> None:
        token = "/api/csrf-token?client=x"
        wrong = f"Basic {b64encode(b'reelcheck:wrong').decode()}"
        assert ask(guarded.address, token).status == 401
        assert ask(guarded.address, token, Authorization=wrong).status == 401
        assert ask(guarded.address, token, Authorization=guarded.authorization).status == 200
        asked = ask(guarded.address, "/api/flows/filter", method="POST", content=b"{}")
        assert asked.status in {401, 403}
        assert ask(guarded.address, "/api/health").content == b"true"

    def test_with_the_password_but_no_token_nothing_is_done(self, guarded: Guarded) -> None:
        asked = ask(
            guarded.address, "/api/flows/", method="POST", content=b'{"name": "evil"}',
            Authorization=guarded.authorization, content_type=JSON,
        )  # fmt: skip
        assert asked.status == 403
        assert "CSRF" in json.loads(asked.content)["detail"]

    def test_a_strangers_page_cannot_make_a_deployment(self, guarded: Guarded) -> None:
        """The first of three requests that made the worker run a shell step."""
        content = json.dumps({"name": "evil"}).encode()
        for more in ({}, {"Authorization": guarded.authorization}):
            asked = ask(
                guarded.address, "/api/flows/", method="POST", content=content,
                content_type=JSON, Origin=STRANGER, Referer=f"{STRANGER}/x", **more,
            )  # fmt: skip
            assert asked.status == 403
            assert "access-control-allow-origin" not in asked.headers
        with guarded.client() as client:
            assert client.read_flows() == []

    @pytest.mark.parametrize("origin", [STRANGER, "http://localhost:6666", "null"])
    def test_a_strangers_page_reads_nothing(self, guarded: Guarded, origin: str) -> None:
        for path in ("/api/health", "/api/csrf-token?client=x", "/ui-settings", "/"):
            asked = ask(guarded.address, path, Origin=origin, Authorization=guarded.authorization)
            assert asked.status == 403
            assert "access-control-allow-origin" not in asked.headers

    def test_preflight_is_answered_to_own_pages_alone(self, guarded: Guarded) -> None:
        port = guarded.address.rpartition(":")[2]

        def prefly(origin: str) -> tuple[int, str | None]:
            asked = ask(
                guarded.address, "/api/flow_runs/", method="OPTIONS", Origin=origin,
                Access_Control_Request_Method="POST",
                Access_Control_Request_Headers="content-type",
            )  # fmt: skip
            return asked.status, asked.headers.get("access-control-allow-origin")

        own = f"http://localhost:{port}"
        assert prefly(own) == (200, own)
        assert prefly(STRANGER) == (403, None)

    def test_a_proxy_that_is_allowed_is_answered(self, guarded: Guarded) -> None:
        for host in (PROXY, guarded.host):
            asked = ask(guarded.address, "/api/health", Host=host, Origin=f"https://{PROXY}")
            assert asked.status == 200
            assert asked.headers["access-control-allow-origin"] == f"https://{PROXY}"

    @pytest.mark.parametrize("path", ["/", "/api/health", "/ui-settings", "/api/csrf-token"])
    def test_a_name_that_leads_here_is_no_way_in(self, guarded: Guarded, path: str) -> None:
        port = guarded.address.rpartition(":")[2]
        for host in ("evil.example", f"evil.example:{port}"):
            origin = f"http://{host}"
            asked = ask(guarded.address, path, Host=host, Origin=origin)
            assert asked.status == 421
            assert ask(guarded.address, path, Host=host).status == 421

    @pytest.mark.parametrize("path", ["/api/events/out", "/api/logs/out", "/api/events/in"])
    def test_websockets_are_opened_to_own_pages_alone(self, guarded: Guarded, path: str) -> None:
        def status(**headers: str) -> int:
            return open_websocket(guarded.address, path, protocol="prefect", **headers)

        assert status() == 101  # commands and workers, which are then asked for the password
        assert status(Origin=guarded.address) == 101
        assert status(Origin=STRANGER) == 403
        assert status(Origin="http://localhost:6666") == 403
        assert status(Host="evil.example") == 403
        assert status(Host="evil.example", Origin=STRANGER) == 403

    def test_user_interface_is_there_and_in_no_strangers_frame(self, guarded: Guarded) -> None:
        asked = ask(guarded.address, "/ui-settings")
        told = json.loads(asked.content)
        assert (told["auth"], told["csrf_enabled"]) == ("BASIC", True)
        assert told["api_url"] == f"{guarded.address}/api"
        assert asked.headers["content-security-policy"] == "frame-ancestors 'self'"

    def test_page_shows_runs_with_the_generated_password(
        self, guarded: Guarded, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
        monkeypatch.setenv("PREFECT_HOME", str(guarded.folder / "home"))
        assert read_last_runs(f"{guarded.address}/api") == []
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "reelcheck:wrong")
        with pytest.raises(StoreError, match="another password"):
            read_last_runs(f"{guarded.address}/api")


Choose = Callable[..., ServerLogin]


@pytest.fixture
def choose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Choose:
    """Choose a login where Prefect's home is the test's folder, with these lines of settings."""
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def chosen(profiles: str | None = None) -> ServerLogin:
        if profiles is not None:
            (tmp_path / "profiles.toml").write_text(profiles, encoding="utf-8")
        # What a new process would read.
        with SettingsContext(profile=Profile(name="any"), settings=Settings()):
            context = root_settings_context()
        with context:
            return choose_login()

    return chosen


def test_password_is_made_once_and_written_for_its_owner_alone(
    choose: Choose, tmp_path: Path
) -> None:
    login = choose()
    assert login.path == str(tmp_path / "reelcheck-login")
    assert Path(login.path).read_text(encoding="utf-8").strip() == login.server == login.client
    assert login.is_known_to_prefect
    assert choose() == login
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["profiles.toml", "reelcheck-login"]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_deleted_password_is_made_anew_everywhere(choose: Choose, tmp_path: Path) -> None:
    before = choose()
    (tmp_path / "reelcheck-login").unlink()
    after = choose()
    assert after.client != before.client
    text = (tmp_path / "profiles.toml").read_text(encoding="utf-8")
    assert after.client in text
    assert before.client not in text


def test_other_settings_of_the_profile_stay(choose: Choose, tmp_path: Path) -> None:
    given = (
        'active = "mine"\n[profiles.mine]\nPREFECT_LOGGING_LEVEL = "DEBUG"\n'
        '[profiles.theirs]\nPREFECT_API_URL = "https://example.org/api"\n'
    )
    profiles = tmp_path / "profiles.toml"
    profiles.touch(mode=0o644)
    login = choose(given)
    wanted = tomllib.loads(given)
    wanted["profiles"]["mine"]["PREFECT_API_AUTH_STRING"] = login.client
    assert tomllib.loads(profiles.read_text(encoding="utf-8")) == wanted
    assert profiles.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"])
def test_password_of_the_user_is_taken_from_where_prefect_reads_it(
    choose: Choose, tmp_path: Path, name: str
) -> None:
    given = f'active = "mine"\n[profiles.mine]\n{name} = "me:mine"\n'
    assert choose(given) == ServerLogin("me:mine", "me:mine")
    profiles = tmp_path / "profiles.toml"
    assert profiles.read_text(encoding="utf-8") == given
    assert list(tmp_path.iterdir()) == [profiles]


@pytest.mark.parametrize(
    "lines",
    [
        'PREFECT_API_KEY = "key"\nPREFECT_API_URL = "https://api.prefect.cloud/api"\n',
        'PREFECT_API_URL = "http://192.0.2.1:4200/api"\n',
        'PREFECT_OF_ANOTHER_VERSION = "1"\n',
    ],
    ids=["cloud", "another machine", "unknown setting"],
)
# That there is a setting which this Prefect does not know.
@pytest.mark.filterwarnings("ignore:Setting 'PREFECT_OF_ANOTHER_VERSION'")
def test_settings_of_others_are_left_alone(choose: Choose, tmp_path: Path, lines: str) -> None:
    given = f'# mine\nactive = "mine"\n[profiles.mine]\n{lines}'
    login = choose(given)
    assert not login.is_known_to_prefect
    assert login.path is not None
    profiles = tmp_path / "profiles.toml"
    assert profiles.read_text(encoding="utf-8") == given


@pytest.mark.parametrize(
    ("settings", "may"),
    [
        ({}, True),
        ({PREFECT_API_URL: "http://127.0.0.1:4200/api"}, True),
        ({PREFECT_API_URL: "http://192.0.2.1:4200/api"}, False),
        ({PREFECT_API_AUTH_STRING: "reelcheck:earlier"}, True),
        ({PREFECT_API_AUTH_STRING: "me:mine"}, False),
        ({PREFECT_API_KEY: "key"}, False),
    ],
)
def test_only_a_profile_of_no_other_server_gets_the_password(
    settings: dict[Any, str], may: bool
) -> None:
    assert _may_hold_login(Profile(name="mine", settings=settings)) is may
