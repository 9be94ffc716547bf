"""What ties videos together: tied videos must not be in two splits.

A tie is something that several files have in common: a person, a source video, a pair, a group, the
same content, or pictures that look alike.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

from scipy.cluster.hierarchy import DisjointSet

from reelcheck.locations import make_source_finder
from storage.layout import StoreLayout
from storage.rows import LabelColumns, ManifestRow, VideoRow
from storage.schemas import MANIFEST, VIDEOS
from storage.tables import read_table
from tasks.splits.confirm import confirm_pairs
from tasks.splits.near_duplicates import Likeness, find_near_duplicates

SPLITS = ("train", "val", "test")
"""The three sides of a division."""


class TiedFileRow(LabelColumns):
    """Columns of a file by which ties are found."""

    path: str
    video_id: str


@dataclass(frozen=True, order=True)
class Tie:
    """Something that files have in common."""

    kind: str
    """``content``, ``person``, ``group``, ``pair``, ``source`` or ``looks``."""
    value: str
    """Name of the thing that the files have in common, for people."""
    members: tuple[int, ...]
    """Positions of the files in their list, ascending; two or more."""


def find_ties(files: Sequence[TiedFileRow], likenesses: Iterable[Likeness] = ()) -> list[Tie]:
    """Find everything that two or more of the files have in common; sorted.

    Args:
        files: one row per file.
        likenesses: pairs of videos that look alike. Videos that are connected by such pairs are
            tied together.
    """
    members: dict[tuple[str, str], set[int]] = defaultdict(set)
    positions: dict[str, list[int]] = defaultdict(list)
    find = make_source_finder((file["path"], file["video_id"]) for file in files)
    for position, file in enumerate(files):
        positions[file["video_id"]].append(position)
        for key in _list_keys(file, find):
            members[key].add(position)
    for kind, name in list(members):
        if kind == "source":
            # A name that can mean several videos ties to all of them: too many ties are no leak.
            for video_id in find(name) if name not in positions else (name,):
                members[kind, name].update(positions[video_id])
    for group in _group_likenesses(likenesses):
        alike = (position for name in group for position in positions.get(name, ()))
        members["looks", group[0]].update(alike)
    return sorted(
        Tie(kind, _describe_value(kind, name, files, positions), tuple(sorted(tied)))
        for (kind, name), tied in members.items()
        if len(tied) > 1
    )


def find_likenesses(layout: StoreLayout) -> list[Likeness]:
    """Find the videos of a store that look alike, by the fingerprints in its two tables.

    Where those leave a doubt, its crops decide.

    Raises:
        StoreError: a table is missing or damaged, or a crop file is damaged.
    """
    columns = ("video_id", "fingerprints")
    return find_near_duplicates(
        read_table(layout.videos_path, VIDEOS, columns=columns),
        read_table(layout.manifest_path, MANIFEST, columns=columns),
        confirm=partial(confirm_pairs, layout),
    )


def group_fingerprints(
    videos: Iterable[VideoRow], manifest: Iterable[ManifestRow]
) -> tuple[dict[str, list[bytes]], dict[str, list[bytes]]]:
    """Group fingerprints by video id: those of frames, and those of face crops.

    Args:
        videos: rows of the table of files.
        manifest: rows of the manifest.
    """
    frames = {row["video_id"]: row["fingerprints"] or [] for row in videos if row["video_id"]}
    faces: dict[str, list[bytes]] = defaultdict(list)
    for row in manifest:
        faces[row["video_id"]] += row["fingerprints"]
    return frames, dict(faces)


def connect_files(num_files: int, ties: Iterable[Tie]) -> "DisjointSet[int]":
    """Connect files that have a tie in common, directly or through other files."""
    joined = DisjointSet(range(num_files))
    for tie in ties:
        for member in tie.members[1:]:
            joined.merge(tie.members[0], member)
    return joined


def find_components(
    files: Sequence[TiedFileRow],
    ties: Sequence[Tie],
    allowed: Mapping[str, set[str]],
    *,
    first: Set[str],
) -> dict[str, str]:
    """Give each video its component; a component is named after the smallest video id in it.

    Videos are added one by one. A video is left out where its component could then be in no split.

    Args:
        files: one row per file.
        ties: what the files have in common.
        allowed: video id -> splits that the video may be in; all splits where it has no entry.
        first: ids of the videos that are added first.

    Returns:
        Video id -> component, without the videos that are left out.
    """
    ties_of = _index_ties(files, ties)

    def order_of(video: str) -> tuple[object, ...]:
        own = allowed.get(video, set(SPLITS))
        return video not in first, len(own), min(map(SPLITS.index, own)), video

    videos = sorted({file["video_id"] for file in files}, key=order_of)
    joined: DisjointSet[str | int] = DisjointSet([*videos, *range(len(ties))])
    left_of: dict[str | int, set[str]] = {}
    added = []
    for video in videos:
        left = set(allowed.get(video, SPLITS))
        for number in ties_of[video]:
            left &= left_of.get(joined[number], set(SPLITS))
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


def _index_ties(files: Sequence[TiedFileRow], ties: Iterable[Tie]) -> dict[str, set[int]]:
    """Video id -> positions of its ties."""
    numbers: dict[str, set[int]] = defaultdict(set)
    for number, tie in enumerate(ties):
        for member in tie.members:
            numbers[files[member]["video_id"]].add(number)
    return numbers


def _list_keys(
    file: TiedFileRow, find: Callable[[str], frozenset[str]]
) -> Iterator[tuple[str, str]]:
    """Kind and name of everything that a file may have in common with others."""
    yield "content", file["video_id"]
    names = (
        ("group", file["group"]),
        ("person", file["identity"]),
        ("person", file["donor"]),
        ("pair", file["pair"]),
    )
    for kind, name in names:
        if name is not None:
            yield kind, name
    if file["source"] is not None:
        sources = find(file["source"])
        if len(sources) == 1:
            yield "source", next(iter(sources))
        else:
            # A source that is not in the store may be written with different folders.
            yield "source", file["source"] if sources else PurePosixPath(file["source"]).name


def _group_likenesses(likenesses: Iterable[Likeness]) -> list[list[str]]:
    joined: DisjointSet[str] = DisjointSet()
    for first, second, _ in likenesses:
        joined.add(first)
        joined.add(second)
        joined.merge(first, second)
    return [sorted(group) for group in joined.subsets()]


def _describe_value(
    kind: str, name: str, files: Sequence[TiedFileRow], positions: Mapping[str, list[int]]
) -> str:
    """A video is described by the first of its paths, anything else by its name."""
    known = positions.get(name) if kind in {"content", "source", "looks"} else None
    return min(files[position]["path"] for position in known) if known else name
