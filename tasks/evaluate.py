"""A checkpoint on labelled videos that it has never seen -> metrics."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from prefect import task

from models.aggregation import video_logits
from models.dataset import CropDataset
from models.inference import score_sequences
from models.metrics import Metrics, video_metrics
from models.verdict import calibrated_score
from reelcheck.card import Calibration, ModelCard
from reelcheck.errors import MismatchError, StoreError
from reelcheck.progress import progress_bar
from reelcheck.status import Status
from storage.atomic import write_text
from storage.checkpoints import read_card
from storage.layout import ModelLayout, StoreLayout
from storage.schemas import MANIFEST, SPLIT, VIDEOS
from storage.tables import Row, read_metadata, read_rows
from tasks.networks import load_detector
from tasks.parts import rows_by_split

Evaluation = dict[str, Any]
"""Metrics with the model, split and part that they belong to."""


@task(name="evaluate")
def evaluate(layout: StoreLayout, model: ModelLayout, *, part: str = "test") -> Evaluation:
    """Metrics of a model on one part of a store's split, also written beside the model.

    Raises:
        MismatchError: other preprocessing, or the model has learned from some of these videos.
        StoreError: the part is empty.
    """
    card = read_card(model)
    require_same_preprocessing(card, layout)
    split_rows = read_rows(layout.split_path, SPLIT)
    rows = rows_by_split(read_rows(layout.manifest_path, MANIFEST), split_rows)[part]
    if not rows:
        raise StoreError(f"the {part} part holds no videos; run: reelcheck split STORE")
    # Imported weights come without a split: what they were trained on is in no store.
    if card.split_hash is not None:
        require_unseen(rows, split_rows, model)
    key = {
        "model_id": card.model_id,
        "split_hash": read_metadata(layout.split_path)["split_hash"],
        "part": part,
    }
    measured = _read(model, key) or {**key, **_measure(rows, layout, model)}
    metrics: Evaluation = {**measured, **_coverage(layout)}
    write_text(model.evaluation_path, json.dumps(metrics, indent=2) + "\n")
    return metrics


def require_same_preprocessing(card: ModelCard, layout: StoreLayout) -> None:
    """Refuse crops that were made otherwise than those the model was trained on.

    Raises:
        MismatchError: naming the two hashes.
    """
    if card.preprocessing_hash != layout.preprocessing_hash:
        raise MismatchError(
            f"model {card.model_id} was trained on crops of preprocessing "
            f"{card.preprocessing_hash}, the store holds {layout.preprocessing_hash}; run "
            "preprocess again with the model's settings (they are in its card.json)"
        )


def require_unseen(rows: Sequence[Row], split_rows: Sequence[Row], model: ModelLayout) -> None:
    """Refuse videos that the model was trained or calibrated on, or that were tied to such.

    Raises:
        MismatchError: there are such videos.
    """
    learned = [row for row in read_rows(model.split_path, SPLIT) if row["split"] != "test"]
    learned_ids = {row[key] for row in learned for key in ("video_id", "component")}
    component_of = {row["video_id"]: row["component"] for row in split_rows}
    seen = {
        row["video_id"]
        for row in rows
        if {row["video_id"], component_of[row["video_id"]]} & learned_ids
    }
    if seen:
        raise MismatchError(
            f"the model has learned from {len(seen)} of these videos, for example "
            f"{min(seen)[:12]}…; an evaluation on them would prove nothing. Evaluate on the split "
            "it was trained with, or train a new model"
        )


def judged_videos(rows: Sequence[Row], layout: StoreLayout, model: ModelLayout) -> pd.DataFrame:
    """One row per video: ``label``, ``generator`` and ``logit``, which may be no finite number."""
    card = read_card(model)
    detector = load_detector(model.path, card.model_id)
    with progress_bar(total=len(rows), description="evaluate", unit="sequences") as bar:
        scored = score_sequences(detector, CropDataset(layout, rows), on_batch=bar.update)
    known = pd.DataFrame(rows).groupby("video_id")[["label", "generator"]].first()
    return known.join(pd.Series(video_logits(scored), name="logit"))


def _measure(rows: Sequence[Row], layout: StoreLayout, model: ModelLayout) -> Metrics:
    card = read_card(model)
    videos = judged_videos(rows, layout, model)
    failed = ~np.isfinite(videos["logit"])
    videos = videos[~failed]
    metrics = {**_metrics(videos, card.calibration), "num_model_error": int(failed.sum())}
    for generator in sorted(videos["generator"].dropna().unique()):
        # Each kind of fake against all reals.
        chosen = videos[(videos["generator"] == generator) | (videos["label"] == 0)]
        metrics[f"auc_{generator}"] = _metrics(chosen, card.calibration)["auc"]
    return metrics


def _metrics(videos: pd.DataFrame, calibration: Calibration) -> Metrics:
    scores = np.array([calibrated_score(logit, calibration) for logit in videos["logit"]])
    return video_metrics(scores, videos["label"].to_numpy(dtype=np.int64), calibration)


def _coverage(layout: StoreLayout) -> Metrics:
    """Labelled videos of the whole store that gave crops: what the metrics do not speak of."""
    labelled = [row for row in read_rows(layout.videos_path, VIDEOS) if row["label"] is not None]
    statuses = Counter(row["status"] for row in labelled)
    return {"store_labelled": len(labelled), "store_scorable": statuses[Status.OK]}


def _read(model: ModelLayout, key: dict[str, str]) -> Evaluation | None:
    if not model.evaluation_path.exists():
        return None
    metrics: Evaluation = json.loads(model.evaluation_path.read_text(encoding="utf-8"))
    return metrics if {name: metrics.get(name) for name in key} == key else None
