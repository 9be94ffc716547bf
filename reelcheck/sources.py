"""Find the videos that the label ``source`` names, as ``real/a.mp4`` or only ``a.mp4``."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath


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
