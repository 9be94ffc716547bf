"""A table of scored videos with known labels -> all figures that are reported of a model."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.metrics.metrics import (
    Labels,
    Metrics,
    bootstrap_auc,
    bootstrap_metrics,
    bootstrap_share,
    compute_metrics,
    explain_undefined,
)
from models.metrics.weighted_metrics import Floats
from reelcheck.card import Calibration
from reelcheck.status import Status

Evaluation = dict[str, Any]
"""Figures that JSON can hold; None where undefined."""

_UNKNOWN = "unknown"
_FACE_EDGES = (0, 48, 96, 192, np.inf)
_FACE_NAMES = ("<48", "48-96", "96-192", ">=192")
"""Pixels of the longer side of a face; the lower edge belongs to the bucket."""


def evaluate_table(
    table: pd.DataFrame, calibration: Calibration, *, num_draws: int = 1000, seed: int = 0
) -> Evaluation:
    """Find metrics, their intervals, what failures could hide, and figures by kind of video.

    The order of the rows changes nothing.

    Args:
        table: one row per video. ``video_id`` (unique), ``label`` (1 fake, 0 real), ``status``,
            ``score`` (in [0, 1]; missing where the status is not ok), ``group`` (videos that are
            alike; missing: alone), ``generator``, ``dataset``, ``codec``, ``face_pixels`` (missing:
            unknown) and ``frame_scores`` (a list of floats in [0, 1]).
        calibration: calibration of the model that gave the scores.
        num_draws: number of draws of the bootstrap over groups.
        seed: same seed, same intervals.

    Returns:
        - ``num_videos``, ``num_scored``, ``num_groups`` (of scored videos), ``coverage`` (the share
          that was scored), ``statuses`` (counts)
        - ``metrics``, ``intervals`` (95 %), ``undefined`` (reasons): of scored videos
        - ``failed_as_wrong``: figures if every failed video had got the worst possible score
        - ``frames``: single frames, each with the label of its video
        - ``false_alarms``: share of the real videos that the threshold calls fake
        - ``by``: for each generator (its fakes against all reals), dataset, codec and size of
          face: counts, AUC with its interval, true and false positive rate at the threshold

    Raises:
        ValueError: a video twice, a label that is neither 0 nor 1, a score outside [0, 1], a score
            of a failed video, or none of one that did not fail.
    """
    table = _check_table(table)
    scored = table[table["status"] == Status.OK]
    scores, labels, groups = _take_columns(scored)
    bootstrap = {"num_draws": num_draws, "seed": seed}
    metrics = compute_metrics(scores, labels, calibration)
    intervals = bootstrap_metrics(scores, labels, groups, calibration, **bootstrap)
    return {
        "num_videos": len(table),
        "num_scored": len(scored),
        "num_groups": int(scored["group"].nunique()),
        "coverage": len(scored) / len(table) if len(table) else None,
        "statuses": {
            str(k): int(n) for k, n in table["status"].value_counts().sort_index().items()
        },
        "metrics": metrics,
        "intervals": {name: [found.low, found.high] for name, found in intervals.items()},
        "undefined": {k: explain_undefined(k, labels) for k, v in metrics.items() if v is None},
        "failed_as_wrong": _count_failed_as_wrong(table, calibration),
        "frames": _evaluate_frames(scored, calibration),
        "false_alarms": _evaluate_false_alarms(scored, calibration, **bootstrap),
        "by": {
            kind: [
                {"name": name, **_evaluate_slice(rows, calibration, **bootstrap)}
                for name, rows in slices
            ]
            for kind, slices in _list_slices(scored).items()
        },
    }


def _check_table(table: pd.DataFrame) -> pd.DataFrame:
    """Check the table, sort it by video and give its columns plain types."""
    failed = table["status"] != Status.OK
    table = table.assign(
        label=table["label"].astype(np.int64),
        score=table["score"].astype(np.float64),
        face_pixels=table["face_pixels"].astype(np.float64),
        group=table["group"].fillna(table["video_id"]).astype(str),
    )
    scores = table["score"]
    for problem, rows in (
        ("is there twice", table["video_id"].duplicated()),
        ("has a label that is neither 0 nor 1", ~table["label"].isin((0, 1))),
        ("has failed and yet has a score", failed & scores.notna()),
        ("has not failed and yet has no score", ~failed & scores.isna()),
        ("has a score outside [0, 1]", scores.notna() & ~scores.between(0, 1)),
    ):
        if rows.any():
            raise ValueError(f"video {table['video_id'][rows].iloc[0]} {problem}")
    return table.sort_values("video_id")


def _take_columns(rows: pd.DataFrame) -> tuple[Floats, Labels, NDArray[Any]]:
    """Take scores, labels and groups as arrays."""
    return rows["score"].to_numpy(), rows["label"].to_numpy(), rows["group"].to_numpy(dtype=str)


def _count_failed_as_wrong(table: pd.DataFrame, calibration: Calibration) -> Metrics:
    """Rank failed fakes below all scored videos, and failed reals above them."""
    labels = table["label"].to_numpy()
    scores = table["score"].fillna(table["label"].map({1: -np.inf, 0: np.inf})).to_numpy()
    # Ranks instead of scores: these three metrics depend only on order and side of the threshold.
    ranks = np.unique([*scores, calibration.threshold], return_inverse=True)[1] / (len(scores) + 1)
    by_rank = calibration.model_copy(update={"threshold": ranks[-1]})
    metrics = compute_metrics(ranks[:-1], labels, by_rank)
    return {name: metrics[name] for name in ("auc", "accuracy", "balanced_accuracy")}


def _evaluate_frames(scored: pd.DataFrame, calibration: Calibration) -> Metrics:
    scored = scored.dropna(subset="frame_scores")
    scores_of = [np.asarray(scores, dtype=np.float64) for scores in scored["frame_scores"]]
    scores = np.concatenate([*scores_of, np.empty(0)])
    labels = np.repeat(scored["label"].to_numpy(), [len(each) for each in scores_of])
    metrics = compute_metrics(scores, labels, calibration)
    return {"num_frames": len(scores)} | {k: metrics[k] for k in ("auc", "average_precision")}


def _evaluate_false_alarms(
    scored: pd.DataFrame, calibration: Calibration, **bootstrap: int
) -> Metrics:
    scores, _, groups = _take_columns(scored[scored["label"] == 0])
    called = scores >= calibration.threshold
    found = bootstrap_share(called, groups, **bootstrap)
    return {
        "num_real": len(scores),
        "share": _find_share(called),
        "low": found and found.low,
        "high": found and found.high,
    }


def _list_slices(scored: pd.DataFrame) -> dict[str, list[tuple[str, pd.DataFrame]]]:
    """List the slices of each kind: name and videos."""
    real, fakes = scored[scored["label"] == 0], scored[scored["label"] == 1]
    sizes = pd.cut(scored["face_pixels"], _FACE_EDGES, right=False, labels=_FACE_NAMES)
    return {
        "generator": [
            (name, pd.concat([rows, real])) for name, rows in _group_by(fakes, fakes["generator"])
        ],
        "dataset": _group_by(scored, scored["dataset"]),
        "codec": _group_by(scored, scored["codec"]),
        "face_pixels": sorted(
            _group_by(scored, sizes), key=lambda named: (*_FACE_NAMES, _UNKNOWN).index(named[0])
        ),
    }


def _group_by(rows: pd.DataFrame, values: "pd.Series[Any]") -> list[tuple[str, pd.DataFrame]]:
    """Group rows by value, in the order of names; rows without a value come last."""
    if values.isna().all():
        return []
    names = values.astype(object).where(values.notna(), _UNKNOWN).astype(str)
    found = [(str(name), own) for name, own in rows.groupby(names)]
    return sorted(found, key=lambda named: (named[0] == _UNKNOWN, named[0]))


def _evaluate_slice(rows: pd.DataFrame, calibration: Calibration, **bootstrap: int) -> Metrics:
    scores, labels, groups = _take_columns(rows)
    called = scores >= calibration.threshold
    found = bootstrap_auc(scores, labels, groups, **bootstrap)
    return {
        "num_real": int((labels == 0).sum()),
        "num_fake": int((labels == 1).sum()),
        "auc": compute_metrics(scores, labels, calibration)["auc"],
        "low": found and found.low,
        "high": found and found.high,
        "tpr": _find_share(called[labels == 1]),
        "fpr": _find_share(called[labels == 0]),
    }


def _find_share(hits: NDArray[np.bool_]) -> float | None:
    return float(hits.mean()) if len(hits) else None
