"""What an evaluation is compared with, on the same videos: less than the model, and chance."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from models.metrics import group_bootstrap_auc, video_metrics
from reelcheck.card import UNCALIBRATED, ModelCard
from storage.layout import StoreLayout
from storage.schemas import SPLIT
from storage.tables import Row, read_rows
from tasks.answers import score_columns
from tasks.shortcuts import metadata_model, read_metadata_table

MODEL, FRAMES, METADATA, CHANCE = "this model", "its frames alone", "metadata", "chance"
_FIGURES = ("auc", "average_precision", "eer", "tpr_at_fpr_5")
_EDGE = 1e-12


def baselines(rows: Sequence[Row], layout: StoreLayout, card: ModelCard) -> list[Row]:
    """Ranking figures of the model and of what it is compared with, by name.

    - its frames alone: the mean of what each frame says by itself, of the face that says most; only
      of a model that judges frames together. It is a head of the same network, not a network that
      was trained for it.
    - metadata: gradient boosting on how files were made (``tasks/shortcuts.py``), fitted on the
      train and val parts of the same store.
    - chance.

    Args:
        rows: of the evaluated part (``storage.schemas.EVALUATED``).
        layout: the store.
        card: of the model.
    """
    scored = [row for row in rows if row["score"] is not None]
    scores, labels, groups = score_columns(scored)
    found = [_figures(MODEL, scores, labels, groups)]
    if card.detector.transformer is not None:
        found.append(_figures(FRAMES, [_frames_alone(row) for row in scored], labels, groups))
    if (of_metadata := _metadata_scores(scored, layout)) is not None:
        found.append(_figures(METADATA, of_metadata, labels, groups))
    share = float(labels.mean()) if len(labels) else None
    chance = {"auc": 0.5, "average_precision": share, "eer": 0.5, "tpr_at_fpr_5": 0.05}
    return [*found, {"name": CHANCE, **chance, "low": None, "high": None}]


def _figures(
    name: str, scores: Iterable[float], labels: NDArray[np.int64], groups: NDArray[Any]
) -> Row:
    values = np.array(list(scores), dtype=np.float64)
    # Figures of the ranking need no threshold; the function that works them out does.
    metrics = video_metrics(values, labels, UNCALIBRATED)
    interval = group_bootstrap_auc(values, labels, groups, seed=0)
    return {
        "name": name,
        **{figure: metrics[figure] for figure in _FIGURES},
        "low": interval and interval.low,
        "high": interval and interval.high,
    }


def _frames_alone(row: Row) -> float:
    """Mean over frames of their logits, of the track where it is highest, as a score."""
    by_track: dict[int, list[float]] = {}
    for frame in row["frames"]:
        by_track.setdefault(frame["track_id"], []).append(frame["score"])
    means = [logit(np.clip(scores, _EDGE, 1 - _EDGE)).mean() for scores in by_track.values()]
    return float(1 / (1 + np.exp(-max(means))))


def _metadata_scores(scored: Sequence[Row], layout: StoreLayout) -> list[float] | None:
    """None where the train and val parts do not hold both labels."""
    table = read_metadata_table(layout)
    # Imported models may be measured on any part: what is judged is not fitted on.
    judged = {row["component"] for row in scored}
    label_of = {
        row["video_id"]: row["label"]
        for row in read_rows(layout.split_path, SPLIT)
        if row["split"] in {"train", "val"} and row["has_crops"] and row["component"] not in judged
    }
    known = table.loc[[video_id for video_id in table.index if video_id in label_of]]
    labels = [label_of[video_id] for video_id in known.index]
    if len(set(labels)) < 2 or not scored:
        return None
    model = metadata_model(len(labels)).fit(known, labels)
    wanted = table.loc[[row["video_id"] for row in scored]]
    scores: list[float] = model.predict_proba(wanted)[:, 1].tolist()
    return scores
