"""A folder for files that nobody needs after the run."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_PREFIX = "reelcheck-scratch-"
_LOCK = ".lock"


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """A folder that goes with all that is in it when the block ends.

    A process that was killed leaves its folder, but not its lock on it; the next one to ask for a
    folder removes such first.

    Args:
        parent: where it is made; None: the system's folder for temporary files (``TMPDIR``).
    """
    parent = parent or Path(tempfile.gettempdir())
    for lock_path in parent.glob(f"{_PREFIX}*/{_LOCK}"):
        with suppress(OSError, Timeout), FileLock(lock_path, blocking=False):
            shutil.rmtree(lock_path.parent, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=parent) as name:
        folder = Path(name)
        with FileLock(folder / _LOCK):
            yield folder
