"""The same videos, compressed, blurred, darkened ...: what becomes of a model's answers?

Each perturbation is applied to the video itself, before faces are searched, so that a face that is
no longer found is seen as lost coverage. Its table is written when it is whole; a second run makes
those that are missing, and tries again what says nothing of a video.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from models.metrics import group_bootstrap_auc, paired_difference
from models.runtime import Runtime
from reelcheck.card import ModelCard
from reelcheck.config import RunSettings
from reelcheck.perturbations import Perturbation
from reelcheck.progress import progress_bar
from reelcheck.records import VideoResult
from reelcheck.status import RETRIED, Status
from storage.atomic import atomic_path
from storage.outputs import EvaluationLayout
from storage.schemas import EVALUATED
from storage.tables import Row, write_table
from tasks.answers import finished_rows, judged_rows, score_columns
from tasks.decode_pool import DecodePool
from tasks.discover import shards_of


def perturbed_rows(
    perturbation: Perturbation,
    known: Mapping[str, Row],
    card: ModelCard,
    runtime: Runtime,
    output: EvaluationLayout,
    *,
    run: RunSettings,
    key: Mapping[str, str],
) -> list[Row]:
    """Rows of ``storage.schemas.EVALUATED`` after a perturbation, sorted by video id.

    Args:
        perturbation: what is done to each video.
        known: what is known of the videos, by video id.
        card: of the model.
        runtime: the model.
        output: where the table is written.
        run: how to use the machine.
        key: names model and videos; a table under another key is made anew.
    """
    path = output.perturbed_path(perturbation.name)
    key = {**key, "perturbation": perturbation.name}
    done = finished_rows(path, key) or []
    done = [row for row in done if not _is_tried_again(row, known[row["video_id"]])]
    todo = {name: known[name] for name in known.keys() - {row["video_id"] for row in done}}
    if not todo:
        return done
    there = {name: str(_path(row)) for name, row in todo.items() if _is_unchanged(row)}
    gone = [
        VideoResult(video_id=name, status=Status.MISSING, reason="the file is gone or has changed")
        for name in sorted(todo.keys() - there.keys())
    ]
    shards = shards_of(there, shard_size=run.shard_size)
    with (
        DecodePool(shards, card.preprocessing, run, perturbation=perturbation) as pool,
        progress_bar(total=len(todo), description=perturbation.name, unit="videos") as bar,
    ):
        results = (result for shard in shards for result in pool.results(shard))
        rows = judged_rows(gone, todo, card, runtime, on_row=lambda: bar.update(1))
        rows += judged_rows(results, todo, card, runtime, on_row=lambda: bar.update(1))
    rows = sorted([*done, *rows], key=lambda row: str(row["video_id"]))
    write_table(path, rows, EVALUATED, metadata=key)
    return rows


def robustness_row(
    perturbation: Perturbation, before: Sequence[Row], after: Sequence[Row], *, threshold: float
) -> Row:
    """What a perturbation changed.

    Returns:
        ``name``, ``family``, ``strength``; ``coverage``; ``auc`` with ``low`` and ``high``;
        ``auc_change`` with its own interval, on videos that have a score both times;
        ``false_alarm_share`` and ``hit_share`` at the threshold; ``real_logit_shift``, the mean
        change on real videos; ``largest_logit_change``.
    """
    scored = [row for row in after if row["score"] is not None]
    scores, labels, groups = score_columns(scored)
    auc = group_bootstrap_auc(scores, labels, groups, seed=0)
    pairs = [
        (old, new)
        for old, new in zip(before, after, strict=True)
        if old["score"] is not None and new["score"] is not None
    ]
    old_scores, both_labels, both_groups = score_columns([old for old, _ in pairs])
    new_scores, _, _ = score_columns([new for _, new in pairs])
    change = paired_difference(old_scores, new_scores, both_labels, both_groups, seed=0)
    shifts = np.array([new["logit"] - old["logit"] for old, new in pairs])
    called = scores >= threshold
    return {
        "name": perturbation.name,
        **asdict(perturbation),
        "coverage": len(scored) / len(after),
        **_named("auc", "low", "high", interval=auc),
        **_named("auc_change", "auc_change_low", "auc_change_high", interval=change),
        "false_alarm_share": _mean(called[labels == 0]),
        "hit_share": _mean(called[labels == 1]),
        "real_logit_shift": _mean(shifts[both_labels == 0]),
        "largest_logit_change": float(np.abs(shifts).max()) if len(shifts) else None,
    }


def write_robustness(path: Path, rows: Sequence[Row]) -> None:
    """Write the table of all perturbations as CSV."""
    with atomic_path(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)


def worst_case(rows: Sequence[Row]) -> Row | None:
    """The perturbation with the lowest AUC; None where no AUC is defined."""
    defined = [row for row in rows if row["auc"] is not None]
    return min(defined, key=lambda row: float(row["auc"]), default=None)


def _named(*names: str, interval: tuple[float, float, float] | None) -> Row:
    return dict(zip(names, interval or (None,) * 3, strict=True))


def _mean(values: Any) -> float | None:
    return float(values.mean()) if len(values) else None


def _path(row: Row) -> Path:
    return Path(row["root"], row["path"])


def _is_tried_again(answer: Row, known: Row) -> bool:
    """The row says nothing of the video itself, or its file is back."""
    is_back = answer["status"] == Status.MISSING and _is_unchanged(known)
    return answer["status"] in RETRIED or is_back


def _is_unchanged(row: Row) -> bool:
    """As far as size and time tell."""
    try:
        info = _path(row).stat()
    except OSError:
        return False
    return (info.st_size, info.st_mtime_ns) == (row["size_bytes"], row["mtime_ns"])
