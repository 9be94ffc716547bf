"""Runs of the command line inside this process."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from flows.cli import main


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
