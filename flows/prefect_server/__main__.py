"""Prefect's own server behind a guard: ``python -m flows.prefect_server``.

``prefect server start`` starts the same (API, UI, migrations, background services, in one process),
but its server answers every host and the pages of every site.
"""

from argparse import ArgumentParser

import uvicorn
from prefect.server.api.server import create_app
from prefect.settings import (
    PREFECT_SERVER_CORS_ALLOWED_ORIGINS,
    PREFECT_SERVER_CSRF_PROTECTION_ENABLED,
    get_current_settings,
    temporary_settings,
)

from reelcheck.serving.guard import WebGuard, list_origins


def main() -> None:
    """Serve until SIGINT or SIGTERM; all other settings are Prefect's."""
    parser = ArgumentParser(prog="python -m flows.prefect_server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", default=4200, type=int)
    parser.add_argument(
        "--allow-host", default=[], action="append", help="one more name by which it is reached"
    )
    given = parser.parse_args()
    serve_guarded(given.host, given.port, tuple(given.allow_host))


def serve_guarded(host: str, port: int, allow_hosts: tuple[str, ...]) -> None:
    """Serve API, UI and background services.

    Args:
        host: address to listen on.
        port: the same.
        allow_hosts: further hosts, as a browser's address bar shows them.
    """
    protection = {
        PREFECT_SERVER_CORS_ALLOWED_ORIGINS: ",".join(list_origins(host, port, allow_hosts)),
        PREFECT_SERVER_CSRF_PROTECTION_ENABLED: True,
    }
    with temporary_settings(protection):
        settings = get_current_settings().server
        uvicorn.run(
            WebGuard(create_app(final=True), host=host, allow_hosts=allow_hosts),
            host=host,
            port=port,
            timeout_keep_alive=settings.api.keepalive_timeout,
            ws_ping_interval=settings.api.websocket_ping_interval,
            ws_ping_timeout=settings.api.websocket_ping_timeout,
            log_level=settings.logging_level.lower(),
        )


if __name__ == "__main__":
    main()
