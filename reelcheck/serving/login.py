"""The password of the Prefect server that ``reelcheck serve`` starts, where the user set none.

It lies in one file of Prefect's home that its owner alone can read.
"""

import os
import secrets
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from reelcheck.errors import SettingsError
from reelcheck.serving.guard import is_loopback

_NAME = "reelcheck-login"
_USER = "reelcheck"
_NUM_BYTES = 32


@dataclass(frozen=True)
class ServerLogin:
    """``USER:PASSWORD`` of a server, and who knows it."""

    server: str
    """What the server asks for."""
    client: str
    """What worker and runs send."""
    path: str | None = None
    """File of the generated password; None: the user set one."""
    is_known_to_prefect: bool = True
    """Whether this user's ``prefect`` command sends it by itself."""


def find_login_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Find the file of the password, which need not exist."""
    home = Path(environment.get("PREFECT_HOME") or "~/.prefect").expanduser()
    return home.absolute() / _NAME


def generate_login() -> str:
    """Generate a random ``USER:PASSWORD``."""
    return f"{_USER}:{secrets.token_urlsafe(_NUM_BYTES)}"


def is_generated(login: str) -> bool:
    """Say whether ``USER:PASSWORD`` comes from a file of this kind."""
    return login.startswith(f"{_USER}:")


def find_login(api: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """Find ``USER:PASSWORD`` for a Prefect server; None: it is asked without.

    The generated one is sent to this machine alone.

    Args:
        api: the server's address.
        environment: holds what the user set.

    Raises:
        SettingsError: others can read the generated password.
    """
    if given := environment.get("PREFECT_API_AUTH_STRING"):
        return given
    path = find_login_path(environment)
    is_here = is_loopback(urlsplit(api).hostname or "")
    return read_login(path) if is_here and path.exists() else None


def make_login(path: Path) -> str:
    """Read ``USER:PASSWORD`` from the file, which is made with a random password if need be.

    The file appears with its content and for its owner alone, or not at all.

    Raises:
        SettingsError: others can read the file, or have made it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{generate_login()}\n")
        # Another process may be first, and its password counts.
        with suppress(FileExistsError):
            path.hardlink_to(temporary)
    finally:
        temporary.unlink()
    return read_login(path)


def read_login(path: Path) -> str:
    """Read ``USER:PASSWORD``.

    Raises:
        SettingsError: others can read the file, have made it, or may have written it.
    """
    if path.is_symlink():  # it could lead to a file that somebody else chose
        raise SettingsError(f"{path} is a link: delete it; a new file is made")
    descriptor = os.open(path, os.O_RDONLY)
    with os.fdopen(descriptor, encoding="utf-8") as file:
        if sys.platform != "win32":
            found = os.fstat(descriptor)
            if found.st_uid != os.geteuid():
                raise SettingsError(f"{path} belongs to another user: delete it; a new one is made")
            if stat.S_IMODE(found.st_mode) & 0o077:
                raise SettingsError(
                    f"{path} can be read by others (mode {stat.S_IMODE(found.st_mode):03o}, "
                    "wanted 600): delete it; a new one is made"
                )
        login = file.read().strip()
    if not is_generated(login):
        raise SettingsError(f"{path} holds no password: delete it; a new one is made")
    return login
