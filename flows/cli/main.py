"""Run a command; errors become one line."""

import errno
import logging
import os
import sys

from rich.console import Console
from rich.text import Text

# Imported for what they do: they add their commands to the application.
import flows.cli.data
import flows.cli.operating
import flows.cli.scoring
import flows.cli.training
import flows.cli.versions
import flows.cli.web_page
import flows.cli.weights  # noqa: F401
from flows.cli.app import app
from reelcheck.errors import ReelcheckError
from reelcheck.visible import VisibleFormatter, spell_invisible

_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def main() -> None:
    """Entry point: errors of ours become one line on stderr and their exit code."""
    _quiet_prefect()
    try:
        app()
    except ReelcheckError as error:
        _print_error(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if os.environ.get("REELCHECK_DEBUG"):
            raise
        _print_error(_told(error))
        sys.exit(1)


def _told(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
        place = error.filename2 or error.filename or "the output"
        return (
            f"cannot write {place}: {error.strerror}. What was written so far is kept: make room, "
            "or choose another folder, and run the command again"
        )
    return f"unexpected {type(error).__name__}: {error} (REELCHECK_DEBUG=1 shows where)"


def _print_error(message: str) -> None:
    # Text, not markup: a message may quote brackets. One line, whatever the message holds.
    line = Text.assemble(("error: ", "red"), spell_invisible(" ".join(message.split())))
    Console(stderr=True).print(line, soft_wrap=True)


def _quiet_prefect() -> None:
    """The operator sees our progress and errors, not Prefect's; and nothing is reported home."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # A busy machine starts it slowly.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
    shown = logging.StreamHandler()
    shown.setFormatter(VisibleFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[shown])
    logging.getLogger("tasks").setLevel(logging.INFO)
