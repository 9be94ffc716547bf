"""A check: a file, and a function that raises if it is not as it was written."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from reelcheck.errors import DamagedError
from storage.checked.documents import read_document
from storage.checked.sums import list_sums, require_sum
from storage.columns import Table
from storage.tables import require_whole


@dataclass(frozen=True)
class Check:
    """One file that can be checked."""

    path: Path
    run: Callable[[], object]
    """Raises an error of ours if the file is not as it was written."""
    marker: Path | None = None
    """File that counts this one as done: without it, the next run makes this one again."""


@dataclass(frozen=True)
class Damage:
    """A file that is not as it was written."""

    path: Path
    reason: str


def check_table(path: Path, table: Table[Any], *, marker: Path | None = None) -> Check:
    """Make the check of a table."""
    return Check(path, partial(require_whole, path, table), marker)


def check_document(path: Path) -> Check:
    """Make the check of a JSON document."""
    return Check(path, partial(read_document, path))


def list_sum_checks(folder: Path) -> Iterator[Check]:
    """List the checks of files for people, whose checksums are in a list."""
    for path in list_sums(folder):
        yield Check(path, partial(require_sum, folder, path))


def keep_existing(checks: Iterator[Check]) -> Iterator[Check]:
    """Keep the checks of files that are there."""
    return (check for check in checks if check.path.exists())


def require_same(path: Path, *, found: object, wanted: object, what: str) -> None:
    """Make sure that something has the value that another file gives it.

    Raises:
        DamagedError: it has not.
    """
    if found != wanted:
        raise DamagedError(f"{path}: {what} is {found}, but should be {wanted}")
