"""Is a store fit to train and test on? What crosses its splits, how they are balanced, shortcuts.

The audit looks at the splits of ``split.parquet``; without that file, at those that folders or the
labels table give. It trusts no earlier step: what ties videos together is found again.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

import numpy as np
import pandas as pd

from reelcheck.locations import location_of
from reelcheck.status import NO_VIDEO
from storage.atomic import atomic_path
from storage.checked.documents import write_document
from storage.checked.sums import write_sums
from storage.layout import StoreLayout
from storage.lock import hold_run_lock
from storage.rows import VideoRow
from storage.schemas import SPLIT
from storage.tables import read_rows, shield_row
from tasks.splits.audit_plot import draw_audit
from tasks.splits.labelled import LabelledFileRow, label_files, read_files
from tasks.splits.shortcuts import Shortcuts, find_shortcuts, read_metadata_table
from tasks.splits.ties import SPLITS, Tie, connect_files, find_likenesses, find_ties

CONTRADICTION = "opposite labels"
"""Kind of a leak that crosses no splits: copies of one video with different labels."""
EDITS_COVERED = (
    "same content under any name",
    "other codec, size, rate, speed, direction or piece",
    "colours, noise, blur, borders",
    "mirrored",
    "turned by up to 20 degrees",
    "zoomed to the face while all of it is in the picture",
    "set into another picture",
    "a banner beside the face",
)
"""Edits of a video under which its copy is found (``benchmarks/near_duplicates.py``)."""
EDITS_NOT_COVERED = (
    "a face that is cut off or half covered",
    "a face of few pixels in a large picture",
    "another clip of the same person, if no column names the person",
)
"""Edits under which a copy may be missed, and what else looks do not tell."""
UNBALANCED_FROM = 0.2
"""Difference between the share of fakes in a split and that in all videos."""


@dataclass(frozen=True, kw_only=True)
class LeakedFile:
    """A file that has something in common with a file in another split."""

    split: str
    path: str
    label: int


@dataclass(frozen=True, kw_only=True)
class Leak:
    """Something that files in several splits have in common."""

    kind: str
    """As in ``Tie``, or ``CONTRADICTION``."""
    value: str
    files: tuple[LeakedFile, ...]


class LeakedFileRow(TypedDict):
    """A line of ``audit.csv``."""

    leak: str
    kind: str
    value: str
    split: str
    label: str
    path: str


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Findings of the audit of a store."""

    splits_from: str
    """``split``, ``given`` or ``none``: without splits there is nothing to leak between."""
    leaks: tuple[Leak, ...]
    counts: Mapping[str, Mapping[str, int]]
    """Split -> label -> number of videos."""
    num_near_duplicates: int
    """Pairs of different contents that look alike, in any splits."""
    edits_covered: tuple[str, ...] = EDITS_COVERED
    """How far the search for copies reaches."""
    edits_not_covered: tuple[str, ...] = EDITS_NOT_COVERED
    shortcuts: Shortcuts | None
    """None: one label has too few groups to find shortcuts."""

    @property
    def unbalanced(self) -> tuple[str, ...]:
        """Splits whose share of fakes differs much from that of all videos, or with one label."""
        totals = {name: counts["real"] + counts["fake"] for name, counts in self.counts.items()}
        overall = sum(c["fake"] for c in self.counts.values()) / max(1, sum(totals.values()))
        return tuple(
            name
            for name, counts in self.counts.items()
            if name in SPLITS
            and (
                not counts["real"]
                or not counts["fake"]
                or abs(counts["fake"] / totals[name] - overall) >= UNBALANCED_FROM
            )
        )

    @property
    def is_clean(self) -> bool:
        """Whether nothing leaks, and metadata does not tell the label."""
        return not self.leaks and (self.shortcuts is None or self.shortcuts.verdict != "fail")


def audit(layout: StoreLayout) -> Audit:
    """Look for leaks, imbalance and shortcuts in a labelled store.

    Writes ``audit.json``, ``audit.csv`` with the files of every leak, and ``audit.png``.

    Raises:
        StoreError: no video with crops has a label, or a table is missing.
    """
    videos, sequences = read_files(layout)
    files = label_files(videos, sequences)
    likenesses = find_likenesses(layout)
    ties = find_ties(files, likenesses)
    split_of = _read_split(layout)
    splits = [_find_split(file, split_of) for file in files]
    leaks = [*_find_contradictions(videos, split_of), *_find_leaks(files, ties, splits)]
    result = Audit(
        splits_from="split" if split_of is not None else "given" if any(splits) else "none",
        leaks=tuple(leaks),
        counts=_count_videos(files, splits),
        num_near_duplicates=len({(pair.first, pair.second) for pair in likenesses}),
        shortcuts=_find_shortcuts(files, read_metadata_table(layout), ties),
    )
    with hold_run_lock(layout):
        with atomic_path(layout.audit_leaks_path) as temporary:
            rows = map(shield_row, list_leaked_files(result.leaks))
            names = list(LeakedFileRow.__annotations__)
            pd.DataFrame(rows, columns=names).to_csv(temporary, index=False)
        draw_audit(layout.audit_plot_path, counts=result.counts, shortcuts=result.shortcuts)
        write_document(layout.audit_path, _make_json(result))
        write_sums(layout.path, (layout.audit_leaks_path, layout.audit_plot_path))
    return result


def list_leaked_files(leaks: Iterable[Leak]) -> list[LeakedFileRow]:
    """Make one row per file of each leak."""
    return [
        {
            "leak": str(number),
            "kind": leak.kind,
            "value": leak.value,
            "split": file.split,
            "label": "fake" if file.label else "real",
            "path": file.path,
        }
        for number, leak in enumerate(leaks, start=1)
        for file in leak.files
    ]


def _make_json(result: Audit) -> dict[str, Any]:
    shortcuts = None
    if result.shortcuts is not None:
        shortcuts = {
            **asdict(result.shortcuts),
            "auc": result.shortcuts.auc._asdict(),
            "verdict": result.shortcuts.verdict,
        }
    return {
        **asdict(result),
        "shortcuts": shortcuts,
        "unbalanced": result.unbalanced,
        "is_clean": result.is_clean,
    }


def _read_split(layout: StoreLayout) -> dict[str, str] | None:
    if not layout.split_path.exists():
        return None
    return {row["video_id"]: row["split"] for row in read_rows(layout.split_path, SPLIT)}


def _find_split(file: VideoRow | LabelledFileRow, split_of: Mapping[str, str] | None) -> str | None:
    """The split that a labelled file is in; None: the file is in no split."""
    if file["label"] is None:
        return None
    split = file["split"] if split_of is None else split_of.get(file["video_id"] or "")
    return split if split in SPLITS else None


def _find_leaks(
    files: Sequence[LabelledFileRow], ties: Iterable[Tie], splits: Sequence[str | None]
) -> Iterator[Leak]:
    for tie in ties:
        placed = [member for member in tie.members if splits[member] is not None]
        if len({splits[member] for member in placed}) > 1:
            yield Leak(
                kind=tie.kind,
                value=tie.value,
                files=tuple(_make_leaked_file(files[member], splits[member]) for member in placed),
            )


def _find_contradictions(
    videos: Iterable[VideoRow], split_of: Mapping[str, str] | None
) -> Iterator[Leak]:
    """Find contents of which one copy is labelled real and another fake."""
    copies: dict[str, list[VideoRow]] = defaultdict(list)
    for file in videos:
        is_video = file["status"] not in NO_VIDEO and file["label"] is not None
        if is_video and file["video_id"] is not None:
            copies[file["video_id"]].append(file)
    for _, files in sorted(copies.items()):
        if len({file["label"] for file in files}) > 1:
            yield Leak(
                kind=CONTRADICTION,
                value=min(file["path"] for file in files),
                files=tuple(_make_leaked_file(file, _find_split(file, split_of)) for file in files),
            )


def _make_leaked_file(file: VideoRow | LabelledFileRow, split: str | None) -> LeakedFile:
    label = file["label"]
    assert label is not None  # noqa: S101 - a file without a label leaks nothing
    path = location_of(file)
    return LeakedFile(split=split or "none", path=path, label=label)


def _count_videos(
    files: Sequence[LabelledFileRow], splits: Sequence[str | None]
) -> dict[str, dict[str, int]]:
    """Count videos with crops per split and label; videos in no split under ``none``."""
    counts = {name: {"real": 0, "fake": 0} for name in (*SPLITS, "none")}
    where: dict[str, tuple[str, int]] = {}
    for file, split in zip(files, splits, strict=True):
        # One copy may be in a split and another copy in none.
        is_better = split is not None or file["video_id"] not in where
        if file["label"] is not None and file["has_crops"] and is_better:
            where[file["video_id"]] = (split or "none", file["label"])
    for name, label in where.values():
        counts[name]["fake" if label else "real"] += 1
    return {name: labels for name, labels in counts.items() if any(labels.values())}


def _find_shortcuts(
    files: Sequence[LabelledFileRow], table: pd.DataFrame, ties: Sequence[Tie]
) -> Shortcuts | None:
    joined = connect_files(len(files), ties)
    position_of = {
        file["video_id"]: position
        for position, file in enumerate(files)
        if file["label"] is not None and file["has_crops"]
    }
    positions = [position_of[video_id] for video_id in table.index if video_id in position_of]
    chosen = [files[position] for position in positions]
    return find_shortcuts(
        table.loc[[file["video_id"] for file in chosen]],
        np.array([file["label"] for file in chosen]),
        np.array([joined[position] for position in positions]),
        [file["path"] for file in chosen],
    )
