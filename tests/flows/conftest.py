"""Runs of the command line inside this process."""

import sys

import pytest

from flows.cli import main
from tests.flows.command import Command, CommandResult


@pytest.fixture
def reelcheck(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
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
