"""Prefect's ``flow``, for which a temporary server has a password.

Without ``PREFECT_API_URL`` Prefect starts a server on this machine while a process runs flows. Its
data are those of ``reelcheck serve``, which would run a deployment that a stranger's page has put
there.
"""

import os

from prefect import flow
from prefect.context import refresh_global_settings_context
from prefect.settings import get_current_settings

from reelcheck.serving.login import generate_login

__all__ = ["flow"]


def _set_password() -> None:
    """Let server and client of this process know one password, where the user set none."""
    settings = get_current_settings()
    if settings.api.url is not None or settings.server.api.auth_string is not None:
        return
    given = settings.api.auth_string
    login = given.get_secret_value() if given else generate_login()
    os.environ |= {"PREFECT_SERVER_API_AUTH_STRING": login, "PREFECT_API_AUTH_STRING": login}
    refresh_global_settings_context()


_set_password()
