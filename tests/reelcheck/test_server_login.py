"""The file of the generated password: who can read it, and to whom it is sent."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reelcheck.errors import SettingsError
from reelcheck.serving.login import find_login, find_login_path, is_generated, make_login

HERE = "http://127.0.0.1:4200/api"


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"PREFECT_HOME": str(tmp_path)}


def test_password_is_random_kept_and_its_owners_alone(
    home: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[int, int]] = []
    real = os.open

    def watched(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            opened.append((flags & os.O_EXCL, mode))
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", watched)
    path = find_login_path(home)
    made = make_login(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert opened == [(os.O_EXCL, 0o600)]
    assert make_login(path) == made
    assert is_generated(made)
    assert len(made) > 40
    assert make_login(tmp_path / "other" / "login") != made
    assert list(tmp_path.iterdir()) != []
    assert not list(tmp_path.glob(".*"))


def test_processes_that_start_at_once_agree(home: dict[str, str]) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(make_login, [find_login_path(home)] * 32))
    assert len(made) == 1


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o604])
def test_file_that_others_can_read_is_refused(home: dict[str, str], mode: int) -> None:
    path = find_login_path(home)
    make_login(path)
    path.chmod(mode)
    with pytest.raises(SettingsError, match=f"{mode:03o}.*delete it"):
        make_login(path)
    with pytest.raises(SettingsError, match="delete it"):
        find_login(HERE, home)
    path.unlink()
    make_login(path)


def test_file_of_another_user_and_a_link_are_refused(
    home: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = find_login_path(home)
    make_login(path)
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    with pytest.raises(SettingsError, match="another user"):
        make_login(path)
    monkeypatch.undo()
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingsError, match="link"):
        make_login(path)


@pytest.mark.parametrize("content", ["", "\n", "chosen by hand"])
def test_file_without_a_password_is_refused(home: dict[str, str], content: str) -> None:
    path = find_login_path(home)
    path.touch(mode=0o600)
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SettingsError, match="holds no password"):
        make_login(path)


def test_generated_password_is_sent_to_this_machine_alone(home: dict[str, str]) -> None:
    assert find_login(HERE, home) is None
    made = make_login(find_login_path(home))
    for api in (HERE, "http://localhost:4300/api", "http://[::1]:4200/api"):
        assert find_login(api, home) == made
    for api in ("https://api.prefect.cloud/api", "http://192.0.2.1:4200/api", "nonsense"):
        assert find_login(api, home) is None
    given = {**home, "PREFECT_API_AUTH_STRING": "a:b"}
    assert find_login("http://192.0.2.1:4200/api", given) == "a:b"
