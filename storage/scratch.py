"""A temporary folder, for files that nobody needs after the run."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_PREFIX = "reelcheck-scratch-"
_LOCK = ".lock"


@contextmanager
def make_scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Make a folder that is removed with all its files when the block ends.

    A killed process leaves its folder without the lock on it; the next call removes such folders.

    Args:
        parent: folder to make it in; None: the system's folder for temporary files (``TMPDIR``).
    """
    parent = parent or Path(tempfile.gettempdir())
    for lock_path in parent.glob(f"{_PREFIX}*/{_LOCK}"):
        with suppress(OSError, Timeout), FileLock(lock_path, blocking=False):
            shutil.rmtree(lock_path.parent, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=parent) as name:
        folder = Path(name)
        with FileLock(folder / _LOCK):
            yield folder
