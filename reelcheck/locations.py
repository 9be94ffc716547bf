"""Where something lies: a path on this machine, or a URL such as ``s3://bucket/videos``.

The label ``source`` names the videos that lie at a path, as ``real/a.mp4`` or only ``a.mp4``.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypedDict

from pydantic import BeforeValidator, WithJsonSchema


def _to_text(location: Any) -> Any:
    return str(location) if isinstance(location, Path) else location


Location = Annotated[str | Path, BeforeValidator(_to_text), WithJsonSchema({"type": "string"})]
"""A folder or file, by path or URL; as a flow's parameter always text."""


class FileRow(TypedDict):
    """The columns of a table that name an input file."""

    root: str
    path: str


def is_url(location: str | Path) -> bool:
    """Whether a location is an address such as ``s3://bucket/videos`` or ``https://…/video.mp4``."""
    return isinstance(location, str) and "://" in location


def is_web_url(location: str | Path) -> bool:
    """Whether a location is a file of a web server."""
    return isinstance(location, str) and location.lower().startswith(("http://", "https://"))


def location_of(row: FileRow) -> str:
    """Join root and path of an input file: its path on this machine, or its URL."""
    root, path = row["root"], row["path"]
    return f"{root.rstrip('/')}/{path}" if is_url(root) else str(Path(root, path))


def make_source_finder(videos: Iterable[tuple[str, str]]) -> Callable[[str], frozenset[str]]:
    """Make a function: source name -> ids of the videos with that path, or else that file name.

    Args:
        videos: path and video id of every video.
    """
    by_path: dict[str, set[str]] = defaultdict(set)
    by_name: dict[str, set[str]] = defaultdict(set)
    for path, video_id in videos:
        by_path[path].add(video_id)
        by_name[PurePosixPath(path).name].add(video_id)

    def find(source: str) -> frozenset[str]:
        name = PurePosixPath(source).name
        return frozenset(by_path.get(source) or by_name.get(name) or ())

    return find
