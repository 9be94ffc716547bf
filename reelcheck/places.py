"""Where something lies: a path on this machine, or a URL such as ``s3://bucket/videos``."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema


def _as_text(place: Any) -> Any:
    return str(place) if isinstance(place, Path) else place


Place = Annotated[str | Path, BeforeValidator(_as_text), WithJsonSchema({"type": "string"})]
"""A folder or file, by path or URL; as a flow's parameter always text."""


def is_url(place: str | Path) -> bool:
    """Such as ``s3://bucket/videos`` or ``https://…/video.mp4``."""
    return isinstance(place, str) and "://" in place


def joined(folder: str, name: str) -> str:
    """What lies under a relative name in a folder."""
    return f"{folder.rstrip('/')}/{name}" if is_url(folder) else str(Path(folder, name))
