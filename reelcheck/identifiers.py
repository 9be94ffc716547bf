"""Names that are hashes; by their pattern they are safe as parts of a file's name."""

import re
from typing import Annotated

from pydantic import Field

from reelcheck.errors import StoreError

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""Names a content: a video, or a file."""
ShortHash = Annotated[str, Field(pattern="^[0-9a-f]{12}$")]
"""Names settings, or a split. 48 bits tell accidents apart; they do not stop who computes."""
ModelId = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
"""Names a model. 128 bits: 48 can be met in hours, by trying the last digits of a temperature."""

MODEL_ID_DIGITS = 32
_VIDEO_ID = re.compile("[0-9a-f]{64}")


def require_video_id(name: str) -> str:
    """Give back the name of a content, before it becomes part of a path.

    Raises:
        StoreError: it is no SHA-256, as in a table that somebody has changed.
    """
    if _VIDEO_ID.fullmatch(name) is None:
        raise StoreError(
            f"{name!r} is no video id (64 hexadecimal digits): the table that it comes from was "
            "changed; delete that table, and run the command again"
        )
    return name
