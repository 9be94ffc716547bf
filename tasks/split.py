"""Divide videos into train, val and test so that nothing connected is on two sides.

- Connected are videos that share a group or an identity, a fake and its source, a pair; and what
  they connect to in turn (connected components). These move as one.
- Components are dealt with StratifiedGroupKFold, which balances the labels.
- A later run keeps what is assigned: new videos join their component's part; only a component that
  a new link joins across parts is moved, to train, where it can harm no evaluation.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
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
        StoreError: too few labelled groups to divide.
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
        files: rows with path, video id and the label columns. Those without a label get no part,
            but tie others together. Several files may hold the same video.
        settings: fractions and seed.
        previous: earlier assignments by video id.

    Raises:
        StoreError: a part would lack one of the labels.
    """
    component_of = dict(zip((file["video_id"] for file in files), connect(files), strict=True))
    labelled = {file["video_id"]: file for file in files if file["label"] is not None}
    videos = list(labelled.values())
    videos.sort(key=lambda video: str(video["video_id"]))
    components = [component_of[video["video_id"]] for video in videos]
    assigned = _inherited(videos, components, previous or {})
    fresh = [i for i, component in enumerate(components) if component not in assigned]
    if not assigned:
        assigned = _deal(videos, components, settings)
    elif fresh:
        assigned |= _deal_some(videos, components, fresh, settings)
    rows = [
        {
            "video_id": video["video_id"],
            "component": component,
            "label": video["label"],
            "split": assigned[component],
        }
        for video, component in zip(videos, components, strict=True)
    ]
    _require_both_labels(rows)
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


def _inherited(
    videos: Sequence[Row], components: Sequence[str], previous: Mapping[str, str]
) -> dict[str, str]:
    seen: dict[str, set[str]] = defaultdict(set)
    for video, component in zip(videos, components, strict=True):
        if video["video_id"] in previous:
            seen[component].add(previous[video["video_id"]])
    return {c: parts.pop() if len(parts) == 1 else "train" for c, parts in seen.items()}


def _deal(
    videos: Sequence[Row], components: Sequence[str], settings: SplitSettings
) -> dict[str, str]:
    """Test first, then val from what is left."""
    everything = list(range(len(videos)))
    test = _take(videos, components, everything, settings.test_fraction, settings.seed)
    rest = [index for index in everything if index not in test]
    val = _take(
        videos,
        components,
        rest,
        settings.val_fraction / (1 - settings.test_fraction),
        settings.seed,
    )
    parts = dict.fromkeys(test, "test") | dict.fromkeys(val, "val")
    return {components[index]: parts.get(index, "train") for index in everything}


def _deal_some(
    videos: Sequence[Row], components: Sequence[str], fresh: Sequence[int], settings: SplitSettings
) -> dict[str, str]:
    """Assign new components one by one, by a hash of their name: independent of what came with."""
    assigned = {}
    for index in fresh:
        digest = hashlib.sha256(f"{settings.seed} {components[index]}".encode()).digest()
        place = int.from_bytes(digest[:8]) / 2**64
        if place < settings.test_fraction:
            part = "test"
        elif place < settings.test_fraction + settings.val_fraction:
            part = "val"
        else:
            part = "train"
        assigned[components[index]] = part
    return assigned


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


def _require_both_labels(rows: Sequence[Row]) -> None:
    for name, counts in count_splits(rows).items():
        for label, count in counts.items():
            if count == 0:
                raise StoreError(
                    f"the {name} part has no {label} video; add labelled videos of more people, or "
                    "change the fractions with --set val_fraction=… --set test_fraction=…"
                )
