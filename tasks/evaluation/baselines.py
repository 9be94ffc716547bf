"""Baselines of an evaluation on the same videos: single frames, metadata, chance."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from models.metrics.metrics import bootstrap_auc, compute_metrics
from reelcheck.card import UNCALIBRATED, ModelCard
from storage.layout import StoreLayout
from storage.rows import EvaluatedRow
from storage.schemas import SPLIT
from storage.tables import Row, read_rows
from tasks.evaluation.predictions import take_score_columns
from tasks.splits.shortcuts import make_metadata_model, read_metadata_table

MODEL, FRAMES, METADATA, CHANCE = "this model", "its frames alone", "metadata", "chance"
_FIGURES = ("auc", "average_precision", "eer", "tpr_at_fpr_5")
_EDGE = 1e-12


def measure_baselines(
    rows: Sequence[EvaluatedRow], layout: StoreLayout, card: ModelCard
) -> list[Row]:
    """Measure how well the model and each baseline rank the videos; a row each.

    - its frames alone: the mean of the frame scores of the most suspicious face, for a model that
      looks at frames together. They come from a head of the same network, not from a network that
      was trained for it.
    - metadata: gradient boosting on how files were made (``tasks/splits/shortcuts.py``), fitted on
      the train and val splits of the same store.
    - chance.

    Args:
        rows: the evaluated videos.
        layout: the store.
        card: card of the model.
    """
    scored = [row for row in rows if row["score"] is not None]
    scores, labels, groups = take_score_columns(scored)
    measured = [_measure_ranking(MODEL, scores, labels, groups)]
    if card.detector.transformer is not None:
        frame_scores = [_score_frames_alone(row) for row in scored]
        measured.append(_measure_ranking(FRAMES, frame_scores, labels, groups))
    if (metadata_scores := _score_by_metadata(scored, layout)) is not None:
        measured.append(_measure_ranking(METADATA, metadata_scores, labels, groups))
    share = float(labels.mean()) if len(labels) else None
    chance = {"auc": 0.5, "average_precision": share, "eer": 0.5, "tpr_at_fpr_5": 0.05}
    return [*measured, {"name": CHANCE, **chance, "low": None, "high": None}]


def _measure_ranking(
    name: str, scores: Iterable[float], labels: NDArray[np.int64], groups: NDArray[Any]
) -> Row:
    values = np.array(list(scores), dtype=np.float64)
    # Figures of the ranking need no threshold, but the function takes a calibration.
    metrics = compute_metrics(values, labels, UNCALIBRATED)
    interval = bootstrap_auc(values, labels, groups, seed=0)
    return {
        "name": name,
        **{figure: metrics[figure] for figure in _FIGURES},
        "low": interval and interval.low,
        "high": interval and interval.high,
    }


def _score_frames_alone(row: EvaluatedRow) -> float:
    """Average the logits of the frames of each track; take the highest mean as a score."""
    by_track: dict[int, list[float]] = {}
    for frame in row["frames"]:
        by_track.setdefault(frame["track_id"], []).append(frame["score"])
    means = [logit(np.clip(scores, _EDGE, 1 - _EDGE)).mean() for scores in by_track.values()]
    return float(1 / (1 + np.exp(-max(means))))


def _score_by_metadata(scored: Sequence[EvaluatedRow], layout: StoreLayout) -> list[float] | None:
    """Score by metadata; None where the train and val splits do not hold both labels."""
    table = read_metadata_table(layout)
    # Imported models may be measured on any split: its videos are left out of the fit.
    measured = {row["component"] for row in scored}
    label_of = {
        row["video_id"]: row["label"]
        for row in read_rows(layout.split_path, SPLIT)
        if row["split"] in {"train", "val"}
        and row["has_crops"]
        and row["component"] not in measured
    }
    known = table.loc[[video_id for video_id in table.index if video_id in label_of]]
    labels = [label_of[video_id] for video_id in known.index]
    if len(set(labels)) < 2 or not scored:
        return None
    model = make_metadata_model(len(labels)).fit(known, labels)
    wanted = table.loc[[row["video_id"] for row in scored]]
    scores: list[float] = model.predict_proba(wanted)[:, 1].tolist()
    return scores
