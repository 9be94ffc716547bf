"""Divide videos into train, val and test so that nothing connected is on two sides.

- Connected are videos that have something in common (``tasks/links.py``): a person, a source, a
  pair, a group, their content, or pictures that look alike; and what they connect to in turn. These
  move as one.
- What folders named train, val and test or the labels table give is kept; where they put files
  that have something in common on two sides, all is refused. A part that they give to nobody is
  taken out of train. A video without a part is left out where it would connect two parts.
- A later run moves no video to another part, unless its own part is given anew: new videos join
  their component's part. Only where what is known now connects videos that are on two sides already
  are some left out: those of test, then those of val.
- Videos without crops are in a part, too: an evaluation tells how many of them there were.
"""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from prefect import task

from reelcheck.config import SplitSettings
from reelcheck.errors import StoreError
from reelcheck.status import NO_VIDEO
from storage.layout import StoreLayout
from storage.lock import run_lock
from storage.schemas import LABEL_COLUMNS, MANIFEST, SPLIT, VIDEOS
from storage.tables import Row, read_metadata, read_rows, write_table
from tasks.dealing import deal_balanced, deal_by_name, part_of_date, with_dates
from tasks.links import PARTS, Tie, components, connected, find_ties, likenesses_of
from tasks.near_duplicates import Likeness

LEFT_OUT = "left_out"
"""In the column ``split``: in no part, because it would connect two."""
_FILE_COLUMNS = ("root", "path", "video_id", "status", *LABEL_COLUMNS)
_log = logging.getLogger(__name__)


@task(name="split")
def split(layout: StoreLayout, settings: SplitSettings | None) -> dict[str, dict[str, int]]:
    """Write ``split.parquet`` for all labelled videos.

    Args:
        layout: the store.
        settings: None: those of the existing split, or the defaults.

    Returns:
        Videos per split and label.

    Raises:
        StoreError: too few labelled groups to divide, or given parts that connected videos cross.
    """
    with run_lock(layout):
        stored, previous = _previous(layout)
        files, likenesses = labelled_files(*read_files(layout)), likenesses_of(layout)
        settings = effective_settings(settings, stored, files, likenesses)
        if stored is not None and settings != stored:
            _log.warning("other settings than those of the existing split: all is dealt anew")
            previous = {}
        rows = assign_splits(files, settings, previous=previous, likenesses=likenesses)
        metadata = {"split_hash": split_hash(rows), "settings": settings.model_dump_json()}
        write_table(layout.split_path, rows, SPLIT, metadata=metadata)
    if num_left := sum(row["split"] == LEFT_OUT for row in rows):
        _log.warning("%d videos are left out: each would connect two parts", num_left)
    return count_splits(rows)


def stored_settings(layout: StoreLayout) -> SplitSettings | None:
    """Those of the store's split, if it has one."""
    return _previous(layout)[0]


def effective_settings(
    wanted: SplitSettings | None,
    stored: SplitSettings | None,
    files: Sequence[Row],
    likenesses: Sequence[Likeness],
) -> SplitSettings:
    """What a split is made with: with by_date also the days on which val and test begin.

    These are chosen once and then stored.

    Args:
        wanted: None: those of the existing split, or the defaults.
        stored: of the existing split.
        files: rows of ``labelled_files``.
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
    joined = components(len(files), find_ties(files, likenesses))
    day_of = _days([file for file in files if file["label"] is not None])
    newest: dict[str, str] = {}
    for place, file in enumerate(files):
        if file["video_id"] in day_of:
            root = str(joined[place])
            newest[root] = max(newest.get(root, ""), day_of[file["video_id"]])
    return with_dates(settings, newest)


def read_files(layout: StoreLayout) -> tuple[list[Row], list[Row]]:
    """What ``labelled_files`` takes: rows of the two tables, without what it does not need.

    Raises:
        StoreError: a table is missing or damaged.
    """
    return (
        read_rows(layout.videos_path, VIDEOS, columns=_FILE_COLUMNS),
        read_rows(layout.manifest_path, MANIFEST, columns=("video_id", "label")),
    )


def labelled_files(videos: Iterable[Row], manifest: Iterable[Row]) -> list[Row]:
    """Every file of a store, with what the split needs.

    A label only where the file is a video and its copies agree; ``has_crops``: there is something
    to be judged. A file that could not be read has a video id of its own: it is nobody's copy, but
    its labels tie others together.

    Raises:
        StoreError: no video with crops has a label.
    """
    label_of = {row["video_id"]: row["label"] for row in manifest}
    if all(label is None for label in label_of.values()):
        raise StoreError(
            "no video with crops has a label; run preprocess with --labels CSV, or put the videos "
            "into folders named real and fake"
        )
    files = [{**f, "video_id": f["video_id"] or f"{f['root']}/{f['path']}"} for f in videos]
    labels: dict[str, set[int]] = defaultdict(set)
    for file in files:
        if file["label"] is not None and file["status"] not in NO_VIDEO:
            labels[file["video_id"]].add(file["label"])
    agreed = {video_id: found.pop() for video_id, found in labels.items() if len(found) == 1}
    return [
        {**f, "label": agreed.get(f["video_id"]), "has_crops": f["video_id"] in label_of}
        for f in files
    ]


def assign_splits(
    files: Sequence[Row],
    settings: SplitSettings,
    *,
    previous: Mapping[str, str] | None = None,
    likenesses: Sequence[Likeness] = (),
) -> list[Row]:
    """Split rows (``storage.schemas.SPLIT``), one per labelled video, sorted by video id.

    Args:
        files: rows of ``labelled_files``. Those without a label get no part, but tie others
            together. Several files may hold the same video.
        settings: fractions, seed, and whether given parts and dates count.
        previous: earlier assignments by video id.
        likenesses: videos that look alike.

    Raises:
        StoreError: a part would lack one of the labels, the given parts of connected videos differ,
            or a date is missing.
    """
    settings = effective_settings(settings, None, files, likenesses)
    ties = find_ties(files, likenesses)
    given = _given(files, ties) if settings.honour_given else {}
    untaken = {"val", "test"} - set(given.values())
    before = {video: part for video, part in (previous or {}).items() if part in PARTS}
    for video in before.keys() & given.keys():
        # Given anew; but what is taken out of a given train is not moved back.
        if given[video] != "train" or before[video] not in untaken:
            before[video] = given[video]
    videos = {file["video_id"]: file for file in files if file["label"] is not None}
    day_of = _days(videos.values()) if settings.by_date else {}
    allowed = {video: {part} for video, part in before.items()}
    for video in videos.keys() - before.keys():
        if video in given:
            allowed[video] = {given[video]} | (untaken if given[video] == "train" else set())
        elif settings.by_date:
            # A newer video would bring its day into a part that ends before.
            first = PARTS.index(part_of_date(day_of[video], settings))
            allowed[video] = set(PARTS[first:])
    component_of = connected(files, ties, allowed, first=before.keys())
    kept = [videos[video_id] for video_id in sorted(videos) if video_id in component_of]
    own_components = [component_of[video["video_id"]] for video in kept]
    assigned = _assigned(
        kept,
        own_components,
        settings,
        given={component_of[v]: part for v, part in given.items() if v in component_of},
        before={component_of[v]: part for v, part in before.items() if v in component_of},
    )
    if settings.by_date:
        newest: dict[str, str] = {}
        for row, component in zip(kept, own_components, strict=True):
            newest[component] = max(newest.get(component, ""), day_of[row["video_id"]])
        assigned = {c: assigned.get(c) or part_of_date(day, settings) for c, day in newest.items()}
    rows = [
        {
            "video_id": video_id,
            "component": component_of.get(video_id, video_id),
            "label": videos[video_id]["label"],
            "split": assigned[component_of[video_id]] if video_id in component_of else LEFT_OUT,
            "has_crops": videos[video_id]["has_crops"],
        }
        for video_id in sorted(videos)
    ]
    _require_both_labels(rows, is_given=bool(given))
    return rows


def split_hash(rows: Iterable[Row]) -> str:
    """Twelve hexadecimal digits that name who is in which part, with which label."""
    columns = ("video_id", "component", "label", "split")
    lines = sorted(" ".join(str(row[column]) for column in columns) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def count_splits(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    """Videos with crops per split and label; those left out only where there are any."""
    counts = {name: {"real": 0, "fake": 0} for name in PARTS}
    for row in rows:
        if row["has_crops"]:
            part = counts.setdefault(row["split"], {"real": 0, "fake": 0})
            part["fake" if row["label"] else "real"] += 1
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


def _days(videos: Iterable[Row]) -> dict[str, str]:
    """Video id -> its date.

    Raises:
        StoreError: a video has none.
    """
    videos = list(videos)
    undated = [video["path"] for video in videos if video["date"] is None]
    if undated:
        raise StoreError(
            f"by_date = true, but {len(undated)} videos have no date, for example {undated[0]}; "
            "fill the column date of the labels table (YYYY-MM-DD)"
        )
    return {video["video_id"]: video["date"] for video in videos}


def _given(files: Sequence[Row], ties: Iterable[Tie]) -> dict[str, str]:
    """Video -> the part that its own files were given.

    Raises:
        StoreError: files that have something in common were given two parts.
    """
    placed = [file["split"] is not None and file["label"] is not None for file in files]
    tied = ([files[member] for member in tie.members if placed[member]] for tie in ties)
    leaks = [found for found in map(_leak, tied) if found is not None]
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
            "anew with --set honour_given=false"
        )
    return {
        file["video_id"]: file["split"]
        for file, is_placed in zip(files, placed, strict=True)
        if is_placed
    }


def _leak(files: Sequence[Row]) -> tuple[Row, Row] | None:
    """Two files that were given different parts, if there are any; rather of the same video."""
    ordered = sorted(files, key=lambda file: (file["video_id"], file["root"], file["path"]))
    crossing = [(one, other) for one, other in pairwise(ordered) if one["split"] != other["split"]]
    same = (pair for pair in crossing if pair[0]["video_id"] == pair[1]["video_id"])
    return next(same, crossing[0] if crossing else None)


def _assigned(
    videos: Sequence[Row],
    own_components: Sequence[str],
    settings: SplitSettings,
    *,
    given: Mapping[str, str],
    before: Mapping[str, str],
) -> dict[str, str]:
    """The part of every component: as given, else as before, else dealt; by date none is dealt.

    A part that is given to nobody is dealt to components that were given to train.
    """
    untaken = {"val", "test"} - set(given.values())
    assigned: dict[str, str] = {}
    of_train, of_all = set(), set()
    for component in own_components:
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
    if settings.by_date:
        return assigned
    judged = [
        (video["label"], component)
        for video, component in zip(videos, own_components, strict=True)
        if video["has_crops"]
    ]

    def dealt(some: set[str], parts: set[str], *, is_first: bool) -> dict[str, str]:
        chosen = [(label, component) for label, component in judged if component in some]
        if not is_first or not chosen:
            return deal_by_name(some, parts, settings)
        labels, of_judged = zip(*chosen, strict=True)
        found = deal_balanced(labels, of_judged, parts, settings)
        return found | deal_by_name(some - set(found), parts, settings)

    return {
        **assigned,
        **dealt(of_train, untaken, is_first=not before),
        **dealt(of_all, {"val", "test"}, is_first=not (before or given)),
    }


def _require_both_labels(rows: Sequence[Row], *, is_given: bool) -> None:
    anew = "; or divide anew with --set honour_given=false" if is_given else ""
    counts = count_splits(rows)
    for name in PARTS:
        for label, count in counts[name].items():
            if count == 0:
                raise StoreError(
                    f"the {name} part has no {label} video; add labelled videos of more people, or "
                    f"change the fractions with --set val_fraction=… --set test_fraction=…{anew}"
                )
