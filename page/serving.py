"""Streamlit's server with our options, behind the guard."""

import signal
import sys
from pathlib import Path
from types import FrameType

import streamlit as st
from starlette.middleware import Middleware

from reelcheck.page_config import PageSettings
from reelcheck.serving.guard import WebGuard, is_every_address

_FOLDER = Path(__file__).resolve().parent


def serve_page(settings: PageSettings) -> None:
    """Serve until SIGINT or SIGTERM.

    The script reads its settings from this process's first argument.
    """
    # What the server's own handler hands on to, when all is closed: what runs at the exit runs.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    guard = Middleware(
        WebGuard, host=settings.host, allow_hosts=settings.allow_hosts, hides_origin=True
    )
    st.App(_FOLDER / "app.py", middleware=[guard]).run(config=make_options(settings))


def make_options(settings: PageSettings) -> dict[str, object]:
    """Make Streamlit's options.

    Its own check of origins would ask an address service for this machine's address; the guard
    hides the origins from it. For a server on every address its greeting would ask, too.
    """
    return {
        "server.address": settings.host,
        "server.port": settings.port,
        "server.headless": True,
        "server.fileWatcherType": "none",
        "server.runOnSave": False,
        "server.enableXsrfProtection": True,
        "server.maxUploadSize": settings.max_upload_mb,
        "browser.serverAddress": "localhost" if is_every_address(settings.host) else settings.host,
        "browser.gatherUsageStats": False,
        "client.toolbarMode": "viewer",
        "client.showErrorDetails": "none",
        "runner.magicEnabled": False,
        "theme.base": str(_FOLDER / "assets" / "theme.toml"),
    }


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(0)
