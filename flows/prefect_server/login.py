"""The password for a server where the environment names none.

A process of its own, ``python -m flows.prefect_server.login``, asks Prefect for its settings in the
folder in which the ``prefect`` command of another terminal reads them, and lets that command know
the password.
"""

import json
import os
import sys
import warnings
from dataclasses import asdict
from urllib.parse import urlsplit

from prefect.context import get_settings_context
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_KEY,
    PREFECT_API_URL,
    PREFECT_PROFILES_PATH,
    Profile,
    get_current_settings,
    load_profiles,
    save_profiles,
    temporary_settings,
)

from reelcheck.errors import ReelcheckError
from reelcheck.serving.guard import is_loopback
from reelcheck.serving.login import ServerLogin, find_login_path, is_generated, make_login
from storage.atomic import atomic_path


def main() -> None:
    """Print the login as JSON, or the error as one line."""
    try:
        print(json.dumps(asdict(choose_login())))  # noqa: T201 - to the process that asks
    except (ReelcheckError, OSError) as error:
        sys.exit(str(error))


def choose_login() -> ServerLogin:
    """Choose what the user set, in any place that Prefect reads; else the generated password.

    Raises:
        SettingsError: others can read the generated password.
    """
    settings = get_current_settings()
    server, client = settings.server.api.auth_string, settings.api.auth_string
    if server:
        chosen = server.get_secret_value()
        return ServerLogin(chosen, client.get_secret_value() if client else chosen)
    if client and not is_generated(client.get_secret_value()):
        # What this user's `prefect` sends anyway.
        return ServerLogin(client.get_secret_value(), client.get_secret_value())
    path = find_login_path()
    generated = make_login(path)
    is_known = remember_login(generated)
    return ServerLogin(generated, generated, path=str(path), is_known_to_prefect=is_known)


def remember_login(login: str) -> bool:
    """Write the password into the active profile of Prefect, for the commands of other terminals.

    A profile of another server is left alone: it would be sent this password, and Prefect's cloud
    would be sent it instead of its key. So is a file that Prefect does not read without a warning.

    Returns:
        Whether the profile holds the password now.
    """
    profile = get_settings_context().profile
    if profile.settings.get(PREFECT_API_AUTH_STRING) == login:
        return True
    if not _may_hold_login(profile):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            _save(profile.name, login)
    except (OSError, UserWarning):
        return False
    return True


def _may_hold_login(profile: Profile) -> bool:
    url = profile.settings.get(PREFECT_API_URL)
    is_here = url is None or is_loopback(urlsplit(str(url)).hostname or "")
    before = profile.settings.get(PREFECT_API_AUTH_STRING)
    return (
        is_here
        and PREFECT_API_KEY.value() is None
        and PREFECT_API_KEY not in profile.settings
        and (before is None or is_generated(str(before)))
    )


def _save(name: str, login: str) -> None:
    """Change one setting of a profile, as ``prefect config set`` does, but atomically.

    The file is its owner's alone from then on.
    """
    profiles = load_profiles()
    profiles.update_profile(name, {PREFECT_API_AUTH_STRING: login})
    path = get_current_settings().profiles_path.resolve()
    if path.exists() and path.stat().st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to another user")
    with atomic_path(path) as temporary, temporary_settings({PREFECT_PROFILES_PATH: temporary}):
        save_profiles(profiles)  # a new file of Prefect's has mode 600


if __name__ == "__main__":
    main()
