"""Crops + checkpoint -> logits per shard, and logits + files -> the result table."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

from prefect import task

from models.aggregation import video_logits
from models.calibration import calibrated_score, verdict_of
from models.dataset import CropDataset
from models.detector import Detector, Ensemble
from models.inference import best_device, score_sequences
from reelcheck.card import ModelCard
from reelcheck.errors import MismatchError
from reelcheck.progress import progress_bar
from reelcheck.records import ScoredSequence
from reelcheck.status import Status
from storage.checkpoints import read_card, read_weights
from storage.hashing import sha256_of
from storage.layout import ModelLayout, ScoreLayout, StoreLayout
from storage.schemas import LOGITS, SCORES, SEQUENCES, VIDEOS
from storage.tables import Row, read_rows, write_csv, write_table


@task(name="score shard", task_run_name="score {shard}")
def score_shard(shard: str, layout: StoreLayout, model: ModelLayout, out: ScoreLayout) -> int:
    """Write the logits of one shard's sequences; does nothing where they are there already.

    Returns:
        Number of sequences.
    """
    card = read_card(model)
    target = logits_path(out, layout, card, shard)
    rows = read_rows(layout.shard_sequences_path(shard), SEQUENCES)
    wanted = [row["sequence_id"] for row in rows]
    if target.exists() and wanted == [row["sequence_id"] for row in read_rows(target, LOGITS)]:
        return len(rows)
    detector = load_detector(model.path, card.model_id)
    with progress_bar(total=len(rows), description="score", unit="sequences") as bar:
        scored = score_sequences(detector, CropDataset(layout, rows), on_batch=bar.update)
    write_table(target, [asdict(sequence) for sequence in scored], LOGITS)
    return len(scored)


@task(name="write scores")
def write_scores(
    files: Collection[tuple[str, str]], layout: StoreLayout, model: ModelLayout, out: ScoreLayout
) -> list[Row]:
    """Write ``scores.csv`` and ``scores.parquet``: one row per input file.

    Args:
        files: root and path of the files that were asked for.
        layout: the store that holds their crops.
        model: the checkpoint.
        out: where the logits are and the tables go.
    """
    card = read_card(model)
    sequences = [
        ScoredSequence(**row)
        for shard in layout.done_shards()
        if (path := logits_path(out, layout, card, shard)).exists()
        for row in read_rows(path, LOGITS)
    ]
    wanted = set(files)
    videos = [v for v in read_rows(layout.videos_path, VIDEOS) if (v["root"], v["path"]) in wanted]
    rows = score_rows(videos, sequences, card)
    write_csv(out.csv_path, rows, SCORES)
    write_table(out.parquet_path, rows, SCORES)
    return rows


def score_rows(
    videos: Iterable[Row], sequences: Iterable[ScoredSequence], card: ModelCard
) -> list[Row]:
    """One score row per video row; without status ok there is no score, no verdict, no logit."""
    sequences = list(sequences)
    num_frames: dict[str, int] = defaultdict(int)
    for sequence in sequences:
        num_frames[sequence.video_id] += sequence.num_frames
    logits = video_logits(sequences)
    rows = []
    for video in videos:
        row = {
            **{key: video[key] for key in ("path", "video_id", "status", "reason", "num_faces")},
            "model_id": card.model_id,
            "preprocessing_hash": card.preprocessing_hash,
        }
        if video["status"] == Status.OK:
            row["num_frames"] = num_frames[video["video_id"]]
            row |= _judged(logits.get(video["video_id"], math.nan), card)
        rows.append(row)
    return rows


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


def logits_path(out: ScoreLayout, layout: StoreLayout, card: ModelCard, shard: str) -> Path:
    """Where one shard's logits under one model lie."""
    return out.shard_path(
        model_id=card.model_id, preprocessing_hash=layout.preprocessing_hash, shard=shard
    )


@lru_cache(maxsize=2)
def load_detector(path: Path, model_id: str) -> Detector | Ensemble:
    """The detector of a checkpoint folder, on the GPU if there is one, ready to score.

    Args:
        path: the checkpoint folder.
        model_id: part of the cache's key, so that a new model in an old folder is loaded anew.

    Raises:
        MismatchError: the weights are not those that the card describes.
    """
    layout = ModelLayout(path)
    card = read_card(layout)
    detector = (
        Ensemble(card.detector, num_members=card.num_members)
        if card.num_members > 1
        else Detector(card.detector)
    )
    weights = read_weights(layout.weights_path)
    if sha256_of(layout.weights_path)[:12] != model_id:
        raise MismatchError(
            f"{layout.weights_path} are not the weights that the card of model {model_id} "
            "describes; copy the whole checkpoint folder again"
        )
    detector.load_state_dict(weights)
    return detector.to(best_device()).eval()


def _judged(logit: float, card: ModelCard) -> Row:
    if not math.isfinite(logit):
        return {"status": str(Status.MODEL_ERROR), "reason": "the model gave no finite number"}
    score = calibrated_score(logit, card.calibration)
    return {"score": score, "logit": logit, "verdict": verdict_of(score, card.calibration)}
