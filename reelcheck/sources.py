"""Which videos can a ``source`` name mean? Labels say ``real/a.mp4`` or just ``a.mp4``."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath


def source_finder(videos: Iterable[tuple[str, str]]) -> Callable[[str], frozenset[str]]:
    """Source name -> ids of the videos with that path, or else with that file name.

    Args:
        videos: path and video id of every video that can be meant.
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
