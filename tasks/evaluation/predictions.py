"""A model's predictions on one split of a store, as a table with the labels.

The crops of the store go through the same network as those of a scoring run, so that the figures
hold for what users get. Videos of the split that gave no crops are rows, too.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.interop.runtime import Runtime
from reelcheck.card import ModelCard
from reelcheck.progress import show_progress
from reelcheck.records import VideoResult
from storage.checkpoints import read_card
from storage.columns import SCHEMA_VERSION
from storage.crops import read_sequence
from storage.layout import ModelLayout, StoreLayout
from storage.outputs import EvaluationLayout
from storage.results import result_of_row
from storage.rows import EvaluatedRow
from storage.schemas import (
    EVALUATED,
    MANIFEST,
)
from storage.tables import (
    keep_videos,
    read_metadata,
    read_rows,
    read_table,
    write_table,
)
from tasks.checkpoints.runtimes import open_runtime
from tasks.evaluation.unseen import KnownVideoRow
from tasks.scoring.predict import PREDICTION_VERSION, predict_videos
from tasks.splits.stored import read_split_hash


def choose_evaluation_layout(
    layout: StoreLayout, model: ModelLayout, *, split: str, out: Path | None
) -> EvaluationLayout:
    """Choose the folder of an evaluation: ``out``, or one in the model's folder."""
    if out is not None:
        return EvaluationLayout(out)
    return model.evaluation(split, read_split_hash(layout))


def load_or_predict_rows(
    layout: StoreLayout,
    model: ModelLayout,
    known: Mapping[str, KnownVideoRow],
    output: EvaluationLayout,
) -> list[EvaluatedRow]:
    """Read the rows of an evaluation, or predict and write them; sorted by video id.

    Args:
        layout: the store.
        model: the checkpoint.
        known: the videos, by video id.
        output: folder of the table.
    """
    card = read_card(model)
    key = prediction_key(card, known)
    if (done := read_finished_rows(output.videos_path, key)) is not None:
        return done
    with show_progress(total=len(known), description="evaluate", unit="videos") as bar:
        results = read_stored_results(layout, known)
        rows = predict_rows(results, known, card, open_runtime(model), on_row=lambda: bar.update(1))
    write_table(output.videos_path, rows, EVALUATED, metadata=key)
    return rows


def read_finished_rows(path: Path, key: Mapping[str, str]) -> list[EvaluatedRow] | None:
    """Read a table that was written under this key; None: there is none."""
    if path.exists() and key.items() <= read_metadata(path).items():
        return read_rows(path, EVALUATED)
    return None


def prediction_key(card: ModelCard, known: Mapping[str, KnownVideoRow]) -> dict[str, str]:
    """Make the key of a table of predictions: all that decides them, apart from the pixels."""
    videos = [_take_deciding(known[name]) for name in sorted(known)]
    values = [videos, SCHEMA_VERSION, PREDICTION_VERSION]
    return {
        "model_id": card.model_id,
        "evaluated": sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12],
    }


def _take_deciding(row: KnownVideoRow) -> list[str | int | None]:
    return [
        row["video_id"],
        row["component"],
        row["label"],
        row["status"],
        row["generator"],
        row["dataset"],
    ]


def read_stored_results(
    layout: StoreLayout, known: Mapping[str, KnownVideoRow]
) -> Iterator[VideoResult]:
    """Read the results of preprocessing for these videos, with their crops, sorted by id."""
    # Rows take far more memory as dictionaries, so that they are made video by video.
    table = keep_videos(read_table(layout.manifest_path, MANIFEST), list(known)).combine_chunks()
    indices: dict[str, list[int]] = defaultdict(list)
    for index, video_id in enumerate(table["video_id"].to_pylist()):
        indices[video_id].append(index)
    for video_id in sorted(known):
        rows = table.take(indices[video_id]).to_pylist() if video_id in indices else []
        own = tuple(read_sequence(layout, row) for row in rows)
        yield result_of_row(known[video_id], own)


def predict_rows(
    results: Iterable[VideoResult],
    known: Mapping[str, KnownVideoRow],
    card: ModelCard,
    runtime: Runtime,
    *,
    on_row: Callable[[], object],
) -> list[EvaluatedRow]:
    """Predict videos; the rows are in the order of the results.

    Args:
        results: results of preprocessing, with crops.
        known: the videos, by video id.
        card: card of the model.
        runtime: the model.
        on_row: called after each video.
    """
    rows = []
    for result, _, prediction in predict_videos(results, card, runtime):
        tracks = prediction["tracks"]
        size = tracks[0]["face_pixels"] if tracks else None
        values = {**known[result.video_id], **prediction, "face_pixels": size}
        rows.append(EVALUATED.complete(values))
        on_row()
    return rows


def make_score_table(rows: Sequence[EvaluatedRow]) -> pd.DataFrame:
    """Make the table that ``evaluate_table`` takes."""
    table = pd.DataFrame(rows, columns=EVALUATED.names)
    table["group"] = table["component"]
    table["frame_scores"] = [[frame["score"] for frame in frames] for frames in table["frames"]]
    return table[
        [
            "video_id",
            "label",
            "status",
            "score",
            "group",
            "generator",
            "dataset",
            "codec",
            "face_pixels",
            "frame_scores",
        ]
    ]


def take_score_columns(
    rows: Sequence[EvaluatedRow],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.str_]]:
    """Take scores, labels and groups of rows that have a score."""
    return (
        np.array([row["score"] for row in rows], dtype=np.float64),
        np.array([row["label"] for row in rows], dtype=np.int64),
        np.array([row["component"] for row in rows], dtype=str),
    )
