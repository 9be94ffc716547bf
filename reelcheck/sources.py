"""Which video does a ``source`` name mean? Labels say ``real/a.mp4`` or just ``a.mp4``."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath


def source_resolver(videos: Iterable[tuple[str, str]]) -> Callable[[str], str]:
    """Source name -> video id where exactly one video has that path or name, else the name itself.

    Args:
        videos: path and video id of every video that can be meant.
    """
    by_path: dict[str, str] = {}
    by_name: dict[str, set[str]] = defaultdict(set)
    for path, video_id in videos:
        by_path[path] = video_id
        by_name[PurePosixPath(path).name].add(video_id)

    def resolve(source: str) -> str:
        same_name = by_name.get(PurePosixPath(source).name, set())
        unambiguous = min(same_name) if len(same_name) == 1 else source
        return by_path.get(source, unambiguous)

    return resolve
