"""What a test sees of one run of the command line."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class CommandResult:
    """What a shell would see."""

    exit_code: int
    stdout: str
    stderr: str


Command = Callable[..., CommandResult]
