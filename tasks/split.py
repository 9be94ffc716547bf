"""Divide videos into train, val and test so that nothing connected is on two sides.

- Connected are videos that have something in common (``tasks/links.py``): a person, a source, a
  pair, a group, their content, or pictures that look alike; and what they connect to in turn. These
  move as one.
- What folders named train, val and test or the labels table give is kept; a component that they put
  on two sides is refused. A part that they give to nobody is taken out of train.
- A later run moves no video to another part: new videos join their component's part, and one that
  would connect two parts is left out of all of them. Only where what is known now connects videos
  that are on two sides already are some left out: those of test, then those of val.
- Videos without crops are in a part, too: an evaluation tells how many of them there were.
"""

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from prefect import task
from scipy.cluster.hierarchy import DisjointSet

from reelcheck.config import SplitSettings
from reelcheck.errors import StoreError
from reelcheck.status import NO_VIDEO
from storage.layout import StoreLayout
from storage.schemas import MANIFEST, SPLIT, VIDEOS
from storage.tables import Row, read_metadata, read_rows, write_table
from tasks.dealing import deal_balanced, deal_by_date, deal_by_name
from tasks.links import Tie, components, find_ties, likenesses_of
from tasks.near_duplicates import Likeness

SPLITS = ("train", "val", "test")
LEFT_OUT = "left_out"
"""In the column ``split``: in no part, because it would connect two."""
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
    stored, previous = _previous(layout)
    settings = settings or stored or SplitSettings()
    videos = read_rows(layout.videos_path, VIDEOS)
    manifest = read_rows(layout.manifest_path, MANIFEST)
    rows = assign_splits(
        labelled_files(videos, manifest),
        settings,
        # Under other settings all is dealt anew.
        previous=previous if settings == stored else {},
        likenesses=likenesses_of(videos, manifest),
    )
    metadata = {"split_hash": split_hash(rows), "settings": settings.model_dump_json()}
    write_table(layout.split_path, rows, SPLIT, metadata=metadata)
    if num_left := sum(row["split"] == LEFT_OUT for row in rows):
        _log.warning("%d videos are left out: each would connect two parts", num_left)
    return count_splits(rows)


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
    likenesses: Iterable[Likeness] = (),
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
    ties = find_ties(files, likenesses)
    given = _given(files, ties) if settings.honour_given else {}
    before = {video: part for video, part in (previous or {}).items() if part in SPLITS}
    component_of = _connected(files, ties, before)
    videos = {file["video_id"]: file for file in files if file["label"] is not None}
    kept = [videos[video_id] for video_id in sorted(videos) if video_id in component_of]
    assigned = _assigned(
        kept,
        [component_of[video["video_id"]] for video in kept],
        settings,
        given={component_of[v]: part for v, part in given.items() if v in component_of},
        before={component_of[v]: part for v, part in before.items() if v in component_of},
    )
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
    counts = {name: {"real": 0, "fake": 0} for name in SPLITS}
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


def _connected(
    files: Sequence[Row], ties: Sequence[Tie], before: Mapping[str, str]
) -> dict[str, str]:
    """Video id -> its component, named after the smallest id in it; without those left out.

    Videos are added one by one, those of an earlier run first. One that would connect two parts is
    not added: a labelled one is left out, and of one without a label nothing is learned anyway.
    """
    ties_of: dict[str, set[int]] = defaultdict(set)
    for number, tie in enumerate(ties):
        for member in tie.members:
            ties_of[files[member]["video_id"]].add(number)
    rank = {part: place for place, part in enumerate(SPLITS)}
    videos = sorted(
        {file["video_id"] for file in files},
        key=lambda video: (rank.get(before.get(video, ""), len(SPLITS)), video),
    )
    joined: DisjointSet[str | int] = DisjointSet([*videos, *range(len(ties))])
    part_of: dict[str | int, str] = {}
    added = []
    for video in videos:
        roots = {joined[number] for number in ties_of[video]}
        parts = {part_of[root] for root in roots if root in part_of}
        parts |= {before[video]} if video in before else set()
        if len(parts) > 1:
            continue
        for number in ties_of[video]:
            joined.merge(video, number)
        if parts:
            part_of[joined[video]] = parts.pop()
        added.append(video)
    names: dict[str | int, str] = {}
    for video in sorted(added):
        names.setdefault(joined[video], video)
    return {video: names[joined[video]] for video in added}


def _given(files: Sequence[Row], ties: Sequence[Tie]) -> dict[str, str]:
    """Video -> the part that its component was given, where its files were given any.

    Raises:
        StoreError: two parts for one component.
    """
    joined = components(len(files), ties)
    placed: dict[int, list[Row]] = defaultdict(list)
    for place, file in enumerate(files):
        if file["split"] is not None and file["label"] is not None:
            placed[joined[place]].append(file)
    leaks = [found for found in map(_leak, placed.values()) if found is not None]
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
        file["video_id"]: placed[joined[place]][0]["split"]
        for place, file in enumerate(files)
        if joined[place] in placed
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
    """The part of every component: as given, else as before, else dealt.

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
        newest, sizes = _newest(videos, own_components), Counter(own_components)
        by_date = deal_by_date(newest, before, sizes, settings)
        return {c: assigned.get(c) or by_date[c] for c in own_components}
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


def _newest(videos: Sequence[Row], own_components: Sequence[str]) -> dict[str, str]:
    """Component -> date of its newest video.

    Raises:
        StoreError: a video has no date.
    """
    undated = [video["path"] for video in videos if video["date"] is None]
    if undated:
        raise StoreError(
            f"by_date = true, but {len(undated)} videos have no date, for example {undated[0]}; "
            "fill the column date of the labels table (YYYY-MM-DD)"
        )
    newest: dict[str, str] = {}
    for video, component in zip(videos, own_components, strict=True):
        newest[component] = max(newest.get(component, ""), video["date"])
    return newest


def _require_both_labels(rows: Sequence[Row], *, is_given: bool) -> None:
    anew = "; or divide anew with --set honour_given=false" if is_given else ""
    counts = count_splits(rows)
    for name in SPLITS:
        for label, count in counts[name].items():
            if count == 0:
                raise StoreError(
                    f"the {name} part has no {label} video; add labelled videos of more people, or "
                    f"change the fractions with --set val_fraction=… --set test_fraction=…{anew}"
                )
