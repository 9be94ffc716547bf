"""Is a store fit to train and test on? What crosses its parts, how they are balanced, shortcuts.

Looks at the parts of ``split.parquet``; where there is none, at those that folders or the labels
table give. Nothing is taken on trust: what ties videos together is found anew.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from prefect import task

from reelcheck.status import NO_VIDEO
from storage.atomic import atomic_path, write_text
from storage.layout import StoreLayout
from storage.lock import run_lock
from storage.schemas import SPLIT
from storage.tables import Row, read_rows
from tasks.audit_plot import draw_audit
from tasks.links import PARTS, Tie, components, find_ties, likenesses_of
from tasks.shortcuts import Shortcuts, find_shortcuts, read_metadata_table
from tasks.split import labelled_files, read_files

CONTRADICTION = "opposite labels"
"""Kind of a leak that is none: copies of one video with different labels, in whatever parts."""
UNBALANCED_FROM = 0.2
"""Difference between a part's share of fakes and that of all videos."""


@dataclass(frozen=True, kw_only=True)
class LeakedFile:
    """A file that has something in common with one in another part."""

    part: str
    path: str
    label: int


@dataclass(frozen=True, kw_only=True)
class Leak:
    """Something that files in several parts have in common."""

    kind: str
    """As in ``Tie``, or ``CONTRADICTION``."""
    value: str
    files: tuple[LeakedFile, ...]


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was found."""

    parts_from: str
    """``split``, ``given`` or ``none``: without parts there is nothing to leak between."""
    leaks: tuple[Leak, ...]
    counts: Mapping[str, Mapping[str, int]]
    """Part -> label -> videos."""
    num_near_duplicates: int
    """Pairs of different contents that look alike, wherever they are."""
    shortcuts: Shortcuts | None
    """None: too few groups of one label to tell."""

    @property
    def unbalanced(self) -> tuple[str, ...]:
        """Parts with quite another share of fakes than all videos have, or with one label only."""
        totals = {name: counts["real"] + counts["fake"] for name, counts in self.counts.items()}
        overall = sum(c["fake"] for c in self.counts.values()) / max(1, sum(totals.values()))
        return tuple(
            name
            for name, counts in self.counts.items()
            if name in PARTS
            and (
                not counts["real"]
                or not counts["fake"]
                or abs(counts["fake"] / totals[name] - overall) >= UNBALANCED_FROM
            )
        )

    @property
    def is_clean(self) -> bool:
        """Nothing leaks, and metadata does not tell the label."""
        return not self.leaks and (self.shortcuts is None or self.shortcuts.verdict != "fail")


@task(name="audit")
def audit(layout: StoreLayout) -> Audit:
    """Look for leaks, imbalance and shortcuts in a labelled store.

    Writes ``audit.json``, ``audit.csv`` with the files of every leak, and ``audit.png``.

    Raises:
        StoreError: no video with crops has a label, or a table is missing.
    """
    videos, sequences = read_files(layout)
    files = labelled_files(videos, sequences)
    likenesses = likenesses_of(layout)
    ties = find_ties(files, likenesses)
    split_of = _split(layout)
    parts = [_part(file, split_of) for file in files]
    leaks = [*_contradictions(videos, split_of), *_leaks(files, ties, parts)]
    found = Audit(
        parts_from="split" if split_of is not None else "given" if any(parts) else "none",
        leaks=tuple(leaks),
        counts=_counts(files, parts),
        num_near_duplicates=len({(pair.first, pair.second) for pair in likenesses}),
        shortcuts=_shortcuts(files, read_metadata_table(layout), ties),
    )
    with run_lock(layout):
        with atomic_path(layout.audit_leaks_path) as temporary:
            rows, names = leak_rows(found.leaks), ["leak", "kind", "value", "part", "label", "path"]
            pd.DataFrame(rows, columns=names).to_csv(temporary, index=False)
        draw_audit(layout.audit_plot_path, counts=found.counts, shortcuts=found.shortcuts)
        write_text(layout.audit_path, json.dumps(_as_json(found), indent=2) + "\n")
    return found


def leak_rows(leaks: Iterable[Leak]) -> list[Row]:
    """One row per file of each leak."""
    return [
        {
            "leak": str(number),
            "kind": leak.kind,
            "value": leak.value,
            "part": file.part,
            "label": "fake" if file.label else "real",
            "path": file.path,
        }
        for number, leak in enumerate(leaks, start=1)
        for file in leak.files
    ]


def _as_json(found: Audit) -> dict[str, Any]:
    shortcuts = None
    if found.shortcuts is not None:
        shortcuts = {
            **asdict(found.shortcuts),
            "auc": found.shortcuts.auc._asdict(),
            "verdict": found.shortcuts.verdict,
        }
    return {
        **asdict(found),
        "shortcuts": shortcuts,
        "unbalanced": found.unbalanced,
        "is_clean": found.is_clean,
    }


def _split(layout: StoreLayout) -> dict[str, str] | None:
    if not layout.split_path.exists():
        return None
    return {row["video_id"]: row["split"] for row in read_rows(layout.split_path, SPLIT)}


def _part(file: Row, split_of: Mapping[str, str] | None) -> str | None:
    """The part that a labelled file is in; None: it is in none."""
    if file["label"] is None:
        return None
    part = file["split"] if split_of is None else split_of.get(file["video_id"])
    return part if part in PARTS else None


def _leaks(
    files: Sequence[Row], ties: Iterable[Tie], parts: Sequence[str | None]
) -> Iterator[Leak]:
    for tie in ties:
        placed = [member for member in tie.members if parts[member] is not None]
        if len({parts[member] for member in placed}) > 1:
            yield Leak(
                kind=tie.kind,
                value=tie.value,
                files=tuple(_leaked(files[member], parts[member]) for member in placed),
            )


def _contradictions(videos: Iterable[Row], split_of: Mapping[str, str] | None) -> Iterator[Leak]:
    """Contents of which one copy is said to be real and another fake."""
    copies: dict[str, list[Row]] = defaultdict(list)
    for file in videos:
        is_video = file["video_id"] is not None and file["status"] not in NO_VIDEO
        if is_video and file["label"] is not None:
            copies[file["video_id"]].append(file)
    for _, files in sorted(copies.items()):
        if len({file["label"] for file in files}) > 1:
            yield Leak(
                kind=CONTRADICTION,
                value=min(file["path"] for file in files),
                files=tuple(_leaked(file, _part(file, split_of)) for file in files),
            )


def _leaked(file: Row, part: str | None) -> LeakedFile:
    path = str(PurePosixPath(file["root"], file["path"]))
    return LeakedFile(part=part or "none", path=path, label=file["label"])


def _counts(files: Sequence[Row], parts: Sequence[str | None]) -> dict[str, dict[str, int]]:
    """Videos with crops per part and label; files in no part under ``none``."""
    counts = {part: {"real": 0, "fake": 0} for part in (*PARTS, "none")}
    found: dict[str, tuple[str, int]] = {}
    for file, part in zip(files, parts, strict=True):
        # Of copies one may be in a part and another in none.
        is_better = part is not None or file["video_id"] not in found
        if file["label"] is not None and file["has_crops"] and is_better:
            found[file["video_id"]] = (part or "none", file["label"])
    for part, label in found.values():
        counts[part]["fake" if label else "real"] += 1
    return {part: labels for part, labels in counts.items() if any(labels.values())}


def _shortcuts(files: Sequence[Row], table: pd.DataFrame, ties: Sequence[Tie]) -> Shortcuts | None:
    joined = components(len(files), ties)
    place_of = {
        file["video_id"]: place
        for place, file in enumerate(files)
        if file["label"] is not None and file["has_crops"]
    }
    places = [place_of[video_id] for video_id in table.index if video_id in place_of]
    chosen = [files[place] for place in places]
    return find_shortcuts(
        table.loc[[file["video_id"] for file in chosen]],
        np.array([file["label"] for file in chosen]),
        np.array([joined[place] for place in places]),
        [file["path"] for file in chosen],
    )
