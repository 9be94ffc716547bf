"""Divide videos into train, val and test so that connected videos are in one split.

- Videos are connected where they have something in common (``tasks/splits/ties.py``): a person, a
  source, a pair, a group, their content, or pictures that look alike. A component is all videos
  that are connected directly or through other videos; it moves as one.
- Splits that folders named train, val and test or the labels table give are kept. Where they put
  files that have something in common into different splits, the whole division is refused. A split
  that is given to no file is taken out of train. A video without a given split is left out where it
  would connect two splits.
- A later run moves no video to another split, unless the video's own split is given again: new
  videos join the split of their component. Where new knowledge connects videos of two splits, some
  of them are left out: first those of test, then those of val.
- Videos without crops are in a split, too: an evaluation says how many of them there were.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from reelcheck.config import SplitSettings
from reelcheck.errors import StoreError
from storage.layout import StoreLayout
from storage.lock import hold_run_lock
from storage.rows import SplitRow
from storage.schemas import SPLIT
from storage.tables import read_rows, write_table
from tasks.splits.dealing import choose_dates, deal_balanced, deal_by_name, split_of_date
from tasks.splits.labelled import LabelledFileRow, label_files, read_files
from tasks.splits.near_duplicates import Likeness
from tasks.splits.stored import hash_split, read_split_settings
from tasks.splits.ties import (
    SPLITS,
    Tie,
    connect_files,
    find_components,
    find_likenesses,
    find_ties,
)

LEFT_OUT = "left_out"
"""In the column ``split``: the video is in no split, because it would connect two."""
_log = logging.getLogger(__name__)


def split_store(layout: StoreLayout, settings: SplitSettings | None) -> dict[str, dict[str, int]]:
    """Write ``split.parquet`` for all labelled videos.

    Args:
        layout: the store.
        settings: None: those of the existing split, or the defaults.

    Returns:
        Videos per split and label.

    Raises:
        StoreError: too few labelled groups to divide, or connected videos were given two splits.
    """
    with hold_run_lock(layout):
        stored, previous = _read_previous(layout)
        files, likenesses = label_files(*read_files(layout)), find_likenesses(layout)
        settings = resolve_settings(settings, stored, files, likenesses)
        if stored is not None and settings != stored:
            _log.warning(
                "other settings than those of the existing split: all videos are divided again"
            )
            previous = {}
        rows = assign_splits(files, settings, previous=previous, likenesses=likenesses)
        metadata = {"split_hash": hash_split(rows), "settings": settings.model_dump_json()}
        write_table(layout.split_path, rows, SPLIT, metadata=metadata)
    if num_left := sum(row["split"] == LEFT_OUT for row in rows):
        _log.warning("%d videos are left out: each would connect two splits", num_left)
    return count_splits(rows)


def resolve_settings(
    wanted: SplitSettings | None,
    stored: SplitSettings | None,
    files: Sequence[LabelledFileRow],
    likenesses: Sequence[Likeness],
) -> SplitSettings:
    """Find the settings of a division; with by_date also the days on which val and test begin.

    The days are chosen once and then stored.

    Args:
        wanted: None: those of the existing division, or the defaults.
        stored: settings of the existing division.
        files: rows of ``label_files``.
        likenesses: videos that look alike.

    Raises:
        StoreError: a date is missing.
    """
    settings = wanted or stored or SplitSettings()
    if not settings.by_date or settings.test_from is not None:
        return settings
    if stored is not None and stored.by_date:
        days = {"val_from": stored.val_from, "test_from": stored.test_from}
        return settings.model_copy(update=days)
    joined = connect_files(len(files), find_ties(files, likenesses))
    day_of = _read_days([file for file in files if file["label"] is not None])
    newest: dict[str, str] = {}
    for position, file in enumerate(files):
        if file["video_id"] in day_of:
            root = str(joined[position])
            newest[root] = max(newest.get(root, ""), day_of[file["video_id"]])
    return choose_dates(settings, newest)


def assign_splits(
    files: Sequence[LabelledFileRow],
    settings: SplitSettings,
    *,
    previous: Mapping[str, str] | None = None,
    likenesses: Sequence[Likeness] = (),
) -> list[SplitRow]:
    """Assign a split to each labelled video; rows are sorted by video id.

    Args:
        files: rows of ``label_files``. A file without a label gets no split, but ties others
            together. Several files may hold the same video.
        settings: fractions, seed, and whether given splits and dates count.
        previous: earlier assignments by video id.
        likenesses: videos that look alike.

    Raises:
        StoreError: a split would lack one of the labels, connected videos were given two splits,
            or a date is missing.
    """
    settings = resolve_settings(settings, None, files, likenesses)
    ties = find_ties(files, likenesses)
    given = _collect_given(files, ties) if settings.honour_given else {}
    untaken = {"val", "test"} - set(given.values())
    before = {video: split for video, split in (previous or {}).items() if split in SPLITS}
    for video in before.keys() & given.keys():
        # The split is given again; but what was taken out of a given train is not moved back.
        if given[video] != "train" or before[video] not in untaken:
            before[video] = given[video]
    videos = {file["video_id"]: file for file in files if file["label"] is not None}
    label_of = {file["video_id"]: file["label"] for file in files if file["label"] is not None}
    day_of = _read_days(videos.values()) if settings.by_date else {}
    allowed = {video: {split} for video, split in before.items()}
    for video in videos.keys() - before.keys():
        if video in given:
            allowed[video] = {given[video]} | (untaken if given[video] == "train" else set())
        elif settings.by_date:
            # A newer video would bring its day into a split that ends before that day.
            first = SPLITS.index(split_of_date(day_of[video], settings))
            allowed[video] = set(SPLITS[first:])
    component_of = find_components(files, ties, allowed, first=before.keys())
    kept = [videos[video_id] for video_id in sorted(videos) if video_id in component_of]
    own_components = [component_of[video["video_id"]] for video in kept]
    assigned = _assign_components(
        kept,
        own_components,
        settings,
        given={component_of[v]: split for v, split in given.items() if v in component_of},
        before={component_of[v]: split for v, split in before.items() if v in component_of},
    )
    if settings.by_date:
        newest: dict[str, str] = {}
        for row, component in zip(kept, own_components, strict=True):
            newest[component] = max(newest.get(component, ""), day_of[row["video_id"]])
        assigned = {c: assigned.get(c) or split_of_date(day, settings) for c, day in newest.items()}
    rows: list[SplitRow] = [
        {
            "video_id": video_id,
            "component": component_of.get(video_id, video_id),
            "label": label_of[video_id],
            "split": assigned[component_of[video_id]] if video_id in component_of else LEFT_OUT,
            "has_crops": videos[video_id]["has_crops"],
        }
        for video_id in sorted(videos)
    ]
    _require_both_labels(rows, is_given=bool(given))
    return rows


def count_splits(rows: Iterable[SplitRow]) -> dict[str, dict[str, int]]:
    """Count videos with crops per split and label; left-out videos only where there are any."""
    counts = {name: {"real": 0, "fake": 0} for name in SPLITS}
    for row in rows:
        if row["has_crops"]:
            labels = counts.setdefault(row["split"], {"real": 0, "fake": 0})
            labels["fake" if row["label"] else "real"] += 1
    return counts


def _read_previous(layout: StoreLayout) -> tuple[SplitSettings | None, dict[str, str]]:
    """Read settings and assignments of the store's division, if it has one."""
    settings = read_split_settings(layout)
    if settings is None:
        return None, {}
    rows = read_rows(layout.split_path, SPLIT)
    return settings, {row["video_id"]: row["split"] for row in rows}


def _read_days(videos: Iterable[LabelledFileRow]) -> dict[str, str]:
    """Video id -> date of the video.

    Raises:
        StoreError: a video has no date.
    """
    videos = list(videos)
    undated = [video["path"] for video in videos if video["date"] is None]
    if undated:
        raise StoreError(
            f"by_date = true, but {len(undated)} videos have no date, for example {undated[0]}; "
            "fill the column date of the labels table (YYYY-MM-DD)"
        )
    return {video["video_id"]: video["date"] for video in videos if video["date"] is not None}


def _collect_given(files: Sequence[LabelledFileRow], ties: Iterable[Tie]) -> dict[str, str]:
    """Video id -> the split that the labelled files of the video were given.

    Raises:
        StoreError: files that have something in common were given two splits.
    """
    given = [file["split"] if file["label"] is not None else None for file in files]
    tied = ([files[n] for n in tie.members if given[n] is not None] for tie in ties)
    leaks = [leak for leak in map(_find_leak, tied) if leak is not None]
    if leaks:
        one, other = leaks[0]
        tie = "hold the same video"
        if one["video_id"] != other["video_id"]:
            tie = "are connected by person, group, pair, source or looks"
        raise StoreError(
            f"{one['root']}/{one['path']} (given to {one['split']}) and {other['root']}/"
            f"{other['path']} (given to {other['split']}) {tie}, as are files in {len(leaks)} "
            "groups in all: what is learned from one would be tested on the other. `reelcheck "
            "audit STORE` names them. Put such files into one of train, val and test, or divide "
            "again with --set honour_given=false"
        )
    return {
        file["video_id"]: split
        for file, split in zip(files, given, strict=True)
        if split is not None
    }


def _find_leak(
    files: Sequence[LabelledFileRow],
) -> tuple[LabelledFileRow, LabelledFileRow] | None:
    """Find two files that were given different splits; two files of one video come first."""
    ordered = sorted(files, key=lambda file: (file["video_id"], file["root"], file["path"]))
    crossing = [(one, other) for one, other in pairwise(ordered) if one["split"] != other["split"]]
    same = (pair for pair in crossing if pair[0]["video_id"] == pair[1]["video_id"])
    return next(same, crossing[0] if crossing else None)


def _assign_components(
    videos: Sequence[LabelledFileRow],
    own_components: Sequence[str],
    settings: SplitSettings,
    *,
    given: Mapping[str, str],
    before: Mapping[str, str],
) -> dict[str, str]:
    """Find the split of every component: as given, else as before, else dealt by chance.

    By date no component is dealt. A split that is given to no component is dealt to components
    that were given to train.
    """
    untaken = {"val", "test"} - set(given.values())
    assigned: dict[str, str] = {}
    of_train, of_all = set(), set()
    for component in own_components:
        split, earlier = given.get(component), before.get(component)
        if split == "train" and untaken:
            if earlier is None:
                of_train.add(component)
            else:
                assigned[component] = earlier if earlier in untaken else split
        elif split or earlier:
            assigned[component] = str(split or earlier)
        else:
            of_all.add(component)
    if settings.by_date:
        return assigned
    with_crops = [
        (video["label"], component)
        for video, component in zip(videos, own_components, strict=True)
        if video["has_crops"] and video["label"] is not None
    ]

    def deal(components: set[str], splits: set[str], *, is_first: bool) -> dict[str, str]:
        chosen = [(label, component) for label, component in with_crops if component in components]
        if not is_first or not chosen:
            return deal_by_name(components, splits, settings)
        labels, own = zip(*chosen, strict=True)
        dealt = deal_balanced(labels, own, splits, settings)
        return dealt | deal_by_name(components - set(dealt), splits, settings)

    return {
        **assigned,
        **deal(of_train, untaken, is_first=not before),
        **deal(of_all, {"val", "test"}, is_first=not (before or given)),
    }


def _require_both_labels(rows: Sequence[SplitRow], *, is_given: bool) -> None:
    advice = "; or divide again with --set honour_given=false" if is_given else ""
    counts = count_splits(rows)
    for name in SPLITS:
        for label, count in counts[name].items():
            if count == 0:
                raise StoreError(
                    f"the {name} split has no {label} video; add labelled videos of more people, "
                    "or change the fractions with --set val_fraction=… --set test_fraction=…"
                    f"{advice}"
                )
