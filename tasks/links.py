"""What ties videos together: they must not be on two sides of a split.

A tie is something that several files have in common: a person, a source video, a pair, a group, the
same content, or pictures that look alike.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import PurePosixPath

from scipy.cluster.hierarchy import DisjointSet

from reelcheck.sources import source_finder
from storage.layout import StoreLayout
from storage.schemas import MANIFEST, VIDEOS
from storage.tables import Row, read_table
from tasks.near_duplicates import Likeness, near_duplicates

PARTS = ("train", "val", "test")
"""Of a split."""
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
            # A name that can mean several videos ties to all of them: too much is no leak.
            for video_id in find(name) if name not in places else (name,):
                members[kind, name].update(places[video_id])
    for group in _groups(likenesses):
        members["looks", group[0]].update(place for name in group for place in places.get(name, ()))
    return sorted(
        Tie(kind, _shown(kind, name, files, places), tuple(sorted(tied)))
        for (kind, name), tied in members.items()
        if len(tied) > 1
    )


def likenesses_of(layout: StoreLayout) -> list[Likeness]:
    """Videos of a store that look alike, by the fingerprints in its two tables.

    Raises:
        StoreError: one of them is missing or damaged.
    """
    columns = ("video_id", "fingerprints")
    return near_duplicates(
        read_table(layout.videos_path, VIDEOS, columns=columns),
        read_table(layout.manifest_path, MANIFEST, columns=columns),
    )


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


def connected(
    files: Sequence[Row],
    ties: Sequence[Tie],
    allowed: Mapping[str, set[str]],
    *,
    first: Set[str],
) -> dict[str, str]:
    """Video id -> its component, named after the smallest id in it; without those left out.

    Videos are added one by one. One for whose component no part would be left is not added: a
    labelled one is left out, and of one without a label nothing is learned anyway.

    Args:
        files: rows with a video id.
        ties: what they have in common.
        allowed: video id -> parts that it may be in; all, where it is not named.
        first: ids of the videos that are added first.
    """
    ties_of = _ties_of(files, ties)

    def turn(video: str) -> tuple[object, ...]:
        own = allowed.get(video, set(PARTS))
        return video not in first, len(own), min(map(PARTS.index, own)), video

    videos = sorted({file["video_id"] for file in files}, key=turn)
    joined: DisjointSet[str | int] = DisjointSet([*videos, *range(len(ties))])
    left_of: dict[str | int, set[str]] = {}
    added = []
    for video in videos:
        left = set(allowed.get(video, PARTS))
        for number in ties_of[video]:
            left &= left_of.get(joined[number], set(PARTS))
        if not left:
            continue
        for number in ties_of[video]:
            joined.merge(video, number)
        left_of[joined[video]] = left
        added.append(video)
    names: dict[str | int, str] = {}
    for video in sorted(added):
        names.setdefault(joined[video], video)
    return {video: names[joined[video]] for video in added}


def _ties_of(files: Sequence[Row], ties: Iterable[Tie]) -> dict[str, set[int]]:
    """Video id -> places of its ties."""
    found: dict[str, set[int]] = defaultdict(set)
    for number, tie in enumerate(ties):
        for member in tie.members:
            found[files[member]["video_id"]].add(number)
    return found


def _keys(file: Row, find: Callable[[str], frozenset[str]]) -> Iterator[tuple[str, str]]:
    """Kind and name of all that a file may have in common with others."""
    yield "content", file["video_id"]
    for column, kind in _NAMES.items():
        if file[column] is not None:
            yield kind, file[column]
    if file["source"] is not None:
        found = find(file["source"])
        if len(found) == 1:
            yield "source", next(iter(found))
        else:
            # Of a source that is not here only the name is sure to be written alike.
            yield "source", file["source"] if found else PurePosixPath(file["source"]).name


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
