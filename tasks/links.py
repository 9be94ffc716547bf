"""What ties videos together: they must not be on two sides of a split.

A tie is something that several files have in common: a person, a source video, a pair, a group, the
same content, or pictures that look alike.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from scipy.cluster.hierarchy import DisjointSet

from reelcheck.sources import source_finder
from storage.tables import Row
from tasks.near_duplicates import Likeness, near_duplicates

_NAMES = {"group": "group", "identity": "person", "donor": "person", "pair": "pair"}
"""Label column -> what its values name."""


@dataclass(frozen=True, order=True)
class Tie:
    """Something that files have in common."""

    kind: str
    """``content``, ``person``, ``group``, ``pair``, ``source`` or ``looks``."""
    value: str
    """Which one, for people."""
    members: tuple[int, ...]
    """Places of the files, ascending; two or more."""


def find_ties(files: Sequence[Row], likenesses: Iterable[Likeness] = ()) -> list[Tie]:
    """All that the files have in common, sorted.

    Args:
        files: rows with path, video id and the label columns.
        likenesses: videos that look alike. Those that look like the same video are tied together.
    """
    members: dict[tuple[str, str], set[int]] = defaultdict(set)
    places: dict[str, list[int]] = defaultdict(list)
    find = source_finder((file["path"], file["video_id"]) for file in files)
    for place, file in enumerate(files):
        places[file["video_id"]].append(place)
        for key in _keys(file, find):
            members[key].add(place)
    for kind, name in list(members):
        if kind == "source":
            members[kind, name].update(places.get(name, ()))
    for group in _groups(likenesses):
        members["looks", group[0]].update(place for name in group for place in places.get(name, ()))
    return sorted(
        Tie(kind, _shown(kind, name, files, places), tuple(sorted(tied)))
        for (kind, name), tied in members.items()
        if len(tied) > 1
    )


def likenesses_of(videos: Iterable[Row], manifest: Iterable[Row]) -> list[Likeness]:
    """Videos of a store that look alike, by the fingerprints in its two tables."""
    return near_duplicates(*fingerprints_of(videos, manifest))


def fingerprints_of(
    videos: Iterable[Row], manifest: Iterable[Row]
) -> tuple[dict[str, list[bytes]], dict[str, list[bytes]]]:
    """Video id -> fingerprints of its frames, and of its face crops.

    Args:
        videos: rows of the table of files.
        manifest: rows of the manifest.
    """
    frames = {row["video_id"]: row["fingerprints"] or [] for row in videos if row["video_id"]}
    faces: dict[str, list[bytes]] = defaultdict(list)
    for row in manifest:
        faces[row["video_id"]] += row["fingerprints"]
    return frames, dict(faces)


def components(num_files: int, ties: Iterable[Tie]) -> "DisjointSet[int]":
    """Files that ties connect, directly or through others."""
    joined = DisjointSet(range(num_files))
    for tie in ties:
        for member in tie.members[1:]:
            joined.merge(tie.members[0], member)
    return joined


def _keys(file: Row, find: Callable[[str], frozenset[str]]) -> Iterator[tuple[str, str]]:
    """Kind and name of all that a file may have in common with others."""
    yield "content", file["video_id"]
    for column, kind in _NAMES.items():
        if file[column] is not None:
            yield kind, file[column]
    if file["source"] is not None:
        # A name that can mean several videos ties to all of them: too much is no leak.
        for name in find(file["source"]) or {PurePosixPath(file["source"]).name}:
            yield "source", name


def _groups(likenesses: Iterable[Likeness]) -> list[list[str]]:
    joined: DisjointSet[str] = DisjointSet()
    for first, second, _ in likenesses:
        joined.add(first)
        joined.add(second)
        joined.merge(first, second)
    return [sorted(group) for group in joined.subsets()]


def _shown(kind: str, name: str, files: Sequence[Row], places: dict[str, list[int]]) -> str:
    """A video is shown by the first of its paths, anything else as it is."""
    known = places.get(name) if kind in {"content", "source", "looks"} else None
    return min(str(files[place]["path"]) for place in known) if known else name
