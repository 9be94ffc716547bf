"""A model's predictions for the same videos after they were compressed, blurred, darkened ...

Each perturbation is applied to the video itself, before faces are searched, so that a face that is
no longer found counts as lost coverage. The table of a perturbation is written when it is complete;
a second run makes the missing tables, and tries videos again that failed for a passing reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from models.interop.runtime import Runtime
from models.metrics.metrics import bootstrap_auc, bootstrap_auc_difference
from reelcheck.card import ModelCard
from reelcheck.config import RunSettings
from reelcheck.locations import is_url, location_of
from reelcheck.perturbations import Perturbation
from reelcheck.progress import show_progress
from reelcheck.records import VideoResult
from reelcheck.status import RETRIED, Status
from storage.atomic import atomic_path
from storage.outputs import EvaluationLayout
from storage.rows import EvaluatedRow
from storage.schemas import EVALUATED
from storage.tables import Row, write_table
from tasks.evaluation.predictions import predict_rows, read_finished_rows, take_score_columns
from tasks.evaluation.unseen import KnownVideoRow
from tasks.intake.shards import make_shards
from tasks.preprocessing.decode_pool import DecodePool


def load_or_predict_perturbed(
    perturbation: Perturbation,
    known: Mapping[str, KnownVideoRow],
    card: ModelCard,
    runtime: Runtime,
    output: EvaluationLayout,
    *,
    run: RunSettings,
    key: Mapping[str, str],
) -> list[EvaluatedRow]:
    """Read the rows after a perturbation, or predict and write them; sorted by video id.

    Args:
        perturbation: what is done to each video.
        known: the videos, by video id.
        card: card of the model.
        runtime: the model.
        output: folder of the table.
        run: how to use the machine.
        key: names model and videos; a table under another key is replaced.
    """
    path = output.perturbed_path(perturbation.name)
    key = {**key, "perturbation": perturbation.name}
    done = read_finished_rows(path, key) or []
    done = [row for row in done if not _is_tried_again(row, known[str(row["video_id"])])]
    todo = {name: known[name] for name in known.keys() - {row["video_id"] for row in done}}
    if not todo:
        return done
    locations = {name: location_of(row) for name, row in todo.items() if _is_unchanged(row)}
    gone = [
        VideoResult(video_id=name, status=Status.MISSING, reason="the file is gone or has changed")
        for name in sorted(todo.keys() - locations.keys())
    ]
    shards = make_shards(locations, shard_size=run.shard_size)
    with (
        DecodePool(shards, card.preprocessing, run, perturbation=perturbation) as pool,
        show_progress(total=len(todo), description=perturbation.name, unit="videos") as bar,
    ):
        results = (result for shard in shards for result in pool.results(shard))
        rows = predict_rows(gone, todo, card, runtime, on_row=lambda: bar.update(1))
        rows += predict_rows(results, todo, card, runtime, on_row=lambda: bar.update(1))
    rows = sorted([*done, *rows], key=lambda row: str(row["video_id"]))
    write_table(path, rows, EVALUATED, metadata=key)
    return rows


def measure_robustness(
    perturbation: Perturbation,
    before: Sequence[EvaluatedRow],
    after: Sequence[EvaluatedRow],
    *,
    threshold: float,
) -> Row:
    """Measure what a perturbation changed.

    Returns:
        ``name``, ``family``, ``strength``; ``coverage``; ``auc`` with ``low`` and ``high``;
        ``auc_change`` with its own interval, on videos that have a score both times;
        ``false_alarm_share`` and ``hit_share`` at the threshold; ``real_logit_shift``, the mean
        change on real videos; ``largest_logit_change``.
    """
    scored = [row for row in after if row["score"] is not None]
    scores, labels, groups = take_score_columns(scored)
    auc = bootstrap_auc(scores, labels, groups, seed=0)
    pairs = [
        (old, new)
        for old, new in zip(before, after, strict=True)
        if old["score"] is not None and new["score"] is not None
    ]
    old_scores, both_labels, both_groups = take_score_columns([old for old, _ in pairs])
    new_scores, _, _ = take_score_columns([new for _, new in pairs])
    change = bootstrap_auc_difference(old_scores, new_scores, both_labels, both_groups, seed=0)
    old_logits, new_logits = (
        np.array([pair[side]["logit"] for pair in pairs], dtype=np.float64) for side in (0, 1)
    )
    shifts = new_logits - old_logits
    called = scores >= threshold
    return {
        "name": perturbation.name,
        **asdict(perturbation),
        "coverage": len(scored) / len(after),
        **_name_values("auc", "low", "high", interval=auc),
        **_name_values("auc_change", "auc_change_low", "auc_change_high", interval=change),
        "false_alarm_share": _take_mean(called[labels == 0]),
        "hit_share": _take_mean(called[labels == 1]),
        "real_logit_shift": _take_mean(shifts[both_labels == 0]),
        "largest_logit_change": float(np.abs(shifts).max()) if len(shifts) else None,
    }


def write_robustness(path: Path, rows: Sequence[Row]) -> None:
    """Write the table of all perturbations as CSV."""
    with atomic_path(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)


def find_worst_case(rows: Sequence[Row]) -> Row | None:
    """Find the perturbation with the lowest AUC; None where no AUC is defined."""
    defined = [row for row in rows if row["auc"] is not None]
    return min(defined, key=lambda row: float(row["auc"]), default=None)


def _name_values(*names: str, interval: tuple[float, float, float] | None) -> Row:
    return dict(zip(names, interval or (None,) * 3, strict=True))


def _take_mean(values: Any) -> float | None:
    return float(values.mean()) if len(values) else None


def _is_tried_again(row: EvaluatedRow, known: KnownVideoRow) -> bool:
    """Whether the status says nothing of the video itself, or its file is back."""
    is_back = row["status"] == Status.MISSING and _is_unchanged(known)
    return row["status"] in RETRIED or is_back


def _is_unchanged(row: KnownVideoRow) -> bool:
    """Whether size and time are those of the store; an object is checked when it is fetched."""
    location = location_of(row)
    if is_url(location):
        return True
    try:
        info = Path(location).stat()
    except OSError:
        return False
    return (info.st_size, info.st_mtime_ns) == (row["size_bytes"], row["mtime_ns"])
