"""JSON documents that carry a checksum of their content.

The last key, ``checksum``, is of the content apart from white space. A document that was cut,
edited or has rotted is refused.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reelcheck.errors import DamagedError, StoreError
from storage.atomic import write_text

_CHECKSUM = "checksum"
_NUM_DIGITS = 16


def write_document(path: Path, content: Mapping[str, Any], *, is_synced: bool = True) -> None:
    """Write a document atomically.

    Args:
        path: the file.
        content: what JSON can hold, and no NaN; read again, tuples are lists and keys are text.
        is_synced: see ``atomic_path``.
    """
    sealed = {**content, _CHECKSUM: _compute_checksum(content)}
    write_text(path, json.dumps(sealed, indent=1, allow_nan=False) + "\n", is_synced=is_synced)


def read_document(path: Path) -> dict[str, Any]:
    """Read the content of a document.

    Raises:
        DamagedError: it is not as it was written.
        StoreError: it is missing.
    """
    try:
        content: object = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise StoreError(f"{path} is missing; run the step that makes it again") from None
    except (OSError, ValueError, RecursionError) as error:
        raise _make_error(path, str(error)) from error
    if not isinstance(content, dict):
        raise _make_error(path, "it holds no object")
    if content.pop(_CHECKSUM, None) != _compute_checksum(content):
        raise _make_error(path, "it was changed after it was written")
    return content


def _compute_checksum(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_NUM_DIGITS]


def _make_error(path: Path, reason: str) -> DamagedError:
    return DamagedError(f"{path} cannot be read ({reason}); delete it and run again")
