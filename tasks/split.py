"""Divide videos into train, val and test so that nothing connected is on two sides.

- Connected are videos that share a group or an identity, a fake and its source, a pair; and what
  they connect to in turn (connected components). These move as one.
- What folders named train, val and test or the labels table give is kept; a component that they put
  on two sides is refused. A part that they give to nobody is taken out of train.
- Components are dealt with StratifiedGroupKFold, which balances the labels.
- A later run keeps what is assigned: new videos join their component's part; only a component that
  a new link joins across parts is moved, to train, where it can harm no evaluation.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import pairwise
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray
from prefect import task
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from reelcheck.config import SplitSettings
from reelcheck.errors import StoreError
from reelcheck.sources import source_finder
from storage.layout import StoreLayout
from storage.schemas import MANIFEST, SPLIT, VIDEOS
from storage.tables import Row, read_metadata, read_rows, write_table

SPLITS = ("train", "val", "test")
_LINK_COLUMNS = ("group", "identity", "pair")


@task(name="split")
def split(layout: StoreLayout, settings: SplitSettings | None) -> dict[str, dict[str, int]]:
    """Write ``split.parquet`` for all labelled videos that have crops.

    Args:
        layout: the store.
        settings: None: those of the existing split, or the defaults.

    Returns:
        Videos per split and label.

    Raises:
        StoreError: too few labelled groups to divide, or given parts that connected videos cross.
    """
    stored, previous = _previous(layout)
    settings = settings or stored or SplitSettings()
    # Under other settings all is dealt anew.
    rows = assign_splits(_files(layout), settings, previous=previous if settings == stored else {})
    metadata = {"split_hash": split_hash(rows), "settings": settings.model_dump_json()}
    write_table(layout.split_path, rows, SPLIT, metadata=metadata)
    return count_splits(rows)


def assign_splits(
    files: Sequence[Row], settings: SplitSettings, *, previous: Mapping[str, str] | None = None
) -> list[Row]:
    """Split rows (``storage.schemas.SPLIT``), one per video, sorted by video id.

    Args:
        files: rows with root, path, video id and the label columns. Those without a label get no
            part, but tie others together. Several files may hold the same video.
        settings: fractions, seed, and whether given parts count.
        previous: earlier assignments by video id.

    Raises:
        StoreError: a part would lack one of the labels, or the given parts of connected videos
            differ.
    """
    component_of = dict(zip((file["video_id"] for file in files), connect(files), strict=True))
    labelled = {file["video_id"]: file for file in files if file["label"] is not None}
    videos = list(labelled.values())
    videos.sort(key=lambda video: str(video["video_id"]))
    components = [component_of[video["video_id"]] for video in videos]
    used = [file for file in files if file["video_id"] in labelled]
    given = _given(used, component_of) if settings.honour_given else {}
    assigned = _assigned(videos, components, settings, given=given, previous=previous or {})
    rows = [
        {
            "video_id": video["video_id"],
            "component": component,
            "label": video["label"],
            "split": assigned[component],
        }
        for video, component in zip(videos, components, strict=True)
    ]
    _require_both_labels(rows, is_given=bool(given))
    return rows


def connect(videos: Sequence[Row]) -> list[str]:
    """For each row the name of its connected component: the smallest video id in it."""
    find = source_finder((video["path"], video["video_id"]) for video in videos)
    members: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, video in enumerate(videos):
        members["video", video["video_id"]].append(index)
        for column in _LINK_COLUMNS:
            if video[column] is not None:
                members[column, video[column]].append(index)
        if video["source"] is not None:
            # A name that can mean several videos ties to all of them: too much is no leak.
            sources = find(video["source"])
            for source in sources:
                members["video", source].append(index)
            if not sources:
                members["source name", PurePosixPath(video["source"]).name].append(index)
    pairs = [(group[0], other) for group in members.values() for other in group[1:]]
    left, right = np.array(pairs, dtype=int).reshape(-1, 2).T
    size = (len(videos), len(videos))
    graph = coo_array((np.ones(len(left)), (left, right)), shape=size)
    _, numbers = connected_components(graph, directed=False)
    smallest: dict[int, str] = {}
    for number, video in zip(numbers, videos, strict=True):
        smallest[number] = min(smallest.get(number, video["video_id"]), video["video_id"])
    return [smallest[number] for number in numbers]


def split_hash(rows: Iterable[Row]) -> str:
    """Twelve hexadecimal digits that name who is in which part, with which label."""
    columns = ("video_id", "component", "label", "split")
    lines = sorted(" ".join(str(row[column]) for column in columns) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def count_splits(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    """Videos per split and label."""
    counts = {name: {"real": 0, "fake": 0} for name in SPLITS}
    for row in rows:
        counts[row["split"]]["fake" if row["label"] else "real"] += 1
    return counts


def _previous(layout: StoreLayout) -> tuple[SplitSettings | None, dict[str, str]]:
    """Settings and assignments of the store's split, if it has one."""
    if not layout.split_path.exists():
        return None, {}
    rows = read_rows(layout.split_path, SPLIT)
    stored = read_metadata(layout.split_path).get("settings")
    if stored is None:
        raise StoreError(f"{layout.split_path} lacks its settings; delete it and split again")
    settings = SplitSettings.model_validate_json(stored)
    return settings, {row["video_id"]: row["split"] for row in rows}


def _files(layout: StoreLayout) -> list[Row]:
    """Every file of the store; a label only where its video has crops and copies agree."""
    manifest = read_rows(layout.manifest_path, MANIFEST)
    label_of = {row["video_id"]: row["label"] for row in manifest if row["label"] is not None}
    if not label_of:
        raise StoreError(
            "no video with crops has a label; run preprocess with --labels CSV, or put the videos "
            "into folders named real and fake"
        )
    return [
        {
            **file,
            # A file that could not be read is nobody's copy, but its labels tie others together.
            "video_id": file["video_id"] or f"{file['root']}/{file['path']}",
            "label": label_of.get(file["video_id"]),
        }
        for file in read_rows(layout.videos_path, VIDEOS)
    ]


def _given(files: Sequence[Row], component_of: Mapping[str, str]) -> dict[str, str]:
    """Component -> the part that its files were given, where they were given any.

    Raises:
        StoreError: two parts for one component.
    """
    by_component: dict[str, list[Row]] = defaultdict(list)
    for file in files:
        if file["split"] is not None:
            by_component[component_of[file["video_id"]]].append(file)
    leaks = [found for found in map(_leak, by_component.values()) if found is not None]
    if leaks:
        one, other = leaks[0]
        tie = "hold the same video"
        if one["video_id"] != other["video_id"]:
            tie = "are connected by group, identity, pair or source"
        raise StoreError(
            f"{one['root']}/{one['path']} (given to {one['split']}) and {other['root']}/"
            f"{other['path']} (given to {other['split']}) {tie}, as are files in {len(leaks)} "
            "groups in all: what is learned from one would be tested on the other. Put such files "
            "into one of train, val and test, or divide anew with --set honour_given=false"
        )
    return {component: files[0]["split"] for component, files in by_component.items()}


def _leak(files: Sequence[Row]) -> tuple[Row, Row] | None:
    """Two files that were given different parts, if there are any; rather of the same video."""
    ordered = sorted(files, key=lambda file: (file["video_id"], file["root"], file["path"]))
    crossing = [(one, other) for one, other in pairwise(ordered) if one["split"] != other["split"]]
    same = (pair for pair in crossing if pair[0]["video_id"] == pair[1]["video_id"])
    return next(same, crossing[0] if crossing else None)


def _assigned(
    videos: Sequence[Row],
    components: Sequence[str],
    settings: SplitSettings,
    *,
    given: Mapping[str, str],
    previous: Mapping[str, str],
) -> dict[str, str]:
    """The part of every component: as given, else as before, else dealt.

    A part that is given to nobody is dealt to components that were given to train.
    """
    before = _inherited(videos, components, previous)
    untaken = {"val", "test"} - set(given.values())
    assigned: dict[str, str] = {}
    of_train, of_all = set(), set()
    for component in components:
        part, earlier = given.get(component), before.get(component)
        if part == "train" and untaken:
            if earlier is None:
                of_train.add(component)
            else:
                assigned[component] = earlier if earlier in untaken else part
        elif part or earlier:
            assigned[component] = str(part or earlier)
        else:
            of_all.add(component)

    def dealt(some: Set[str], parts: Set[str], *, is_first: bool) -> dict[str, str]:
        if not is_first:
            return _deal_some(some, parts, settings)
        return _deal(videos, components, some, parts, settings) if some else {}

    return {
        **assigned,
        **dealt(of_train, untaken, is_first=not before),
        **dealt(of_all, {"val", "test"}, is_first=not (before or given)),
    }


def _inherited(
    videos: Sequence[Row], components: Sequence[str], previous: Mapping[str, str]
) -> dict[str, str]:
    seen: dict[str, set[str]] = defaultdict(set)
    for video, component in zip(videos, components, strict=True):
        if video["video_id"] in previous:
            seen[component].add(previous[video["video_id"]])
    return {c: parts.pop() if len(parts) == 1 else "train" for c, parts in seen.items()}


def _deal(
    videos: Sequence[Row],
    components: Sequence[str],
    some: Set[str],
    parts: Set[str],
    settings: SplitSettings,
) -> dict[str, str]:
    """Parts of some components: test first, then val from what is left, the rest to train."""
    everything = [index for index, component in enumerate(components) if component in some]
    dealt = dict.fromkeys(some, "train")
    for part, fraction in (
        ("test", settings.test_fraction),
        ("val", settings.val_fraction / (1 - settings.test_fraction)),
    ):
        if part in parts:
            rest = [index for index in everything if dealt[components[index]] == "train"]
            taken = _take(videos, components, rest, fraction, settings.seed)
            dealt |= {components[index]: part for index in taken}
    return dealt


def _deal_some(some: Set[str], parts: Set[str], settings: SplitSettings) -> dict[str, str]:
    """Parts of components one by one, by a hash of their name: independent of what came with."""
    dealt = {}
    for component in some:
        digest = hashlib.sha256(f"{settings.seed} {component}".encode()).digest()
        place = int.from_bytes(digest[:8]) / 2**64
        if "test" not in parts:
            place = settings.test_fraction + place * (1 - settings.test_fraction)
        if place < settings.test_fraction:
            dealt[component] = "test"
        elif "val" in parts and place < settings.test_fraction + settings.val_fraction:
            dealt[component] = "val"
        else:
            dealt[component] = "train"
    return dealt


def _take(
    videos: Sequence[Row],
    components: Sequence[str],
    indices: Sequence[int],
    fraction: float,
    seed: int,
) -> set[int]:
    """The fold of about this fraction whose size and balance come closest to the whole."""
    labels = np.array([videos[index]["label"] for index in indices])
    groups = np.array([components[index] for index in indices])
    num_folds = min(
        round(1 / fraction), len(set(groups)), int(np.bincount(labels, minlength=2).min())
    )
    if num_folds < 2:
        raise StoreError(
            f"cannot split {len(indices)} videos in {len(set(groups))} unconnected groups "
            f"({int((labels == 0).sum())} real, {int((labels == 1).sum())} fake): both labels are "
            "needed, in several groups each. Add videos, or correct the group column of the labels"
        )
    folds = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    parts = [part for _, part in folds.split(labels, labels, groups)]
    best = min(parts, key=lambda part: _deviation(labels, part, fraction))
    return {indices[place] for place in best}


def _deviation(labels: NDArray[np.int64], part: NDArray[np.int64], fraction: float) -> float:
    wanted = np.bincount(labels, minlength=2) * fraction
    return float(np.abs(np.bincount(labels[part], minlength=2) - wanted).sum())


def _require_both_labels(rows: Sequence[Row], *, is_given: bool) -> None:
    anew = "; or divide anew with --set honour_given=false" if is_given else ""
    for name, counts in count_splits(rows).items():
        for label, count in counts.items():
            if count == 0:
                raise StoreError(
                    f"the {name} part has no {label} video; add labelled videos of more people, or "
                    f"change the fractions with --set val_fraction=… --set test_fraction=…{anew}"
                )
