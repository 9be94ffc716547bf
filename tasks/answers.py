"""A model's answers on one part of a store, as a table with the labels.

The crops of the store go through the same judge as those of a scoring run, so that what is measured
is what users get. Videos of the part that gave no crops are rows, too.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.runtime import Runtime
from reelcheck.card import ModelCard
from reelcheck.errors import MismatchError, StoreError
from reelcheck.progress import progress_bar
from reelcheck.records import VideoResult
from reelcheck.status import Status
from storage.checkpoints import read_card
from storage.crops import read_sequence
from storage.layout import ModelLayout, StoreLayout
from storage.outputs import EvaluationLayout
from storage.schemas import (
    EVALUATED,
    LABEL_COLUMNS,
    LEARNED,
    MANIFEST,
    SCHEMA_VERSION,
    SPLIT,
    VIDEOS,
)
from storage.tables import (
    Row,
    only_videos,
    read_metadata,
    read_rows,
    read_table,
    write_table,
)
from tasks.judging import judged
from tasks.near_duplicates import near_duplicates
from tasks.runtimes import open_runtime
from tasks.split import labelled_files

_RESULT_FIELDS = [
    f.name for f in fields(VideoResult) if f.name not in {"sequences", "stage_seconds"}
]


def evaluation_layout(
    layout: StoreLayout, model: ModelLayout, *, part: str, out: Path | None
) -> EvaluationLayout:
    """Where an evaluation on a part of a store's split is written."""
    if out is not None:
        return EvaluationLayout(out)
    return model.evaluation(part, read_metadata(layout.split_path)["split_hash"])


def unseen_videos(layout: StoreLayout, model: ModelLayout, *, part: str) -> dict[str, Row]:
    """``known_videos`` of a part that says something about this model.

    Raises:
        MismatchError: other preprocessing, or the model has learned from some of these videos.
        StoreError: the part is empty, or labels have changed since the split.
    """
    card = read_card(model)
    require_same_preprocessing(card, layout)
    known = known_videos(layout, part=part)
    # Imported weights come without a split: what they were trained on is in no store.
    if card.split_hash is not None:
        require_unseen(known, layout, model, card)
    return known


def evaluated_rows(
    layout: StoreLayout, model: ModelLayout, known: Mapping[str, Row], output: EvaluationLayout
) -> list[Row]:
    """Rows of ``storage.schemas.EVALUATED``, sorted by video id; judged once, then read.

    Args:
        layout: the store.
        model: the checkpoint.
        known: what is known of the videos, by video id.
        output: where the table is written.
    """
    card = read_card(model)
    key = answer_key(card, known)
    if (done := finished_rows(output.videos_path, key)) is not None:
        return done
    with progress_bar(total=len(known), description="evaluate", unit="videos") as bar:
        results = stored_results(layout, known)
        rows = judged_rows(results, known, card, open_runtime(model), on_row=lambda: bar.update(1))
    write_table(output.videos_path, rows, EVALUATED, metadata=key)
    return rows


def finished_rows(path: Path, key: Mapping[str, str]) -> list[Row] | None:
    """Rows of a table that was written under this key; None: there is none."""
    if path.exists() and key.items() <= read_metadata(path).items():
        return read_rows(path, EVALUATED)
    return None


def answer_key(card: ModelCard, known: Mapping[str, Row]) -> dict[str, str]:
    """All that decides what a table of answers holds, apart from the pixels."""
    videos = [[known[name][column] for column in _DECIDING] for name in sorted(known)]
    said = [card.calibration.model_dump(), card.aggregation, videos, SCHEMA_VERSION]
    return {
        "model_id": card.model_id,
        "evaluated": sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12],
    }


_DECIDING = ("video_id", "component", "label", "status", "generator", "dataset")


def known_videos(layout: StoreLayout, *, part: str | None) -> dict[str, Row]:
    """Video id -> what is known of a video of this part, with its component; sorted.

    Args:
        layout: the store.
        part: train, val or test; None: every labelled video.

    Raises:
        StoreError: the part holds no video with crops, or labels have changed since the split.
    """
    chosen = [row for row in read_rows(layout.split_path, SPLIT) if part in {None, row["split"]}]
    if not any(row["has_crops"] for row in chosen):
        where = f"the {part} part" if part else "the split"
        raise StoreError(f"{where} holds no videos; run: reelcheck split STORE")
    ids = [row["video_id"] for row in chosen]
    columns = ("video_id", *LABEL_COLUMNS)
    sequences = read_table(layout.manifest_path, MANIFEST, columns=columns)
    manifest = only_videos(sequences, ids).to_pylist()
    videos = only_videos(read_table(layout.videos_path, VIDEOS), ids).to_pylist()
    files = {file["video_id"]: file for file in reversed(labelled_files(videos, manifest))}
    # Of copies each may know something else; the manifest has it together.
    merged = {row["video_id"]: {name: row[name] for name in LABEL_COLUMNS} for row in manifest}
    known = {}
    for row in chosen:
        file = files.get(row["video_id"])
        if file is None or file["label"] != row["label"]:
            path = row["video_id"] if file is None else file["path"]
            raise StoreError(
                f"{path} has gone or has another label since the split was made; "
                "run: reelcheck split STORE"
            )
        also = {"component": row["component"], "split": row["split"]}
        known[row["video_id"]] = {**file, **merged.get(row["video_id"], {}), **also}
    return known


def stored_results(layout: StoreLayout, known: Mapping[str, Row]) -> Iterator[VideoResult]:
    """What preprocessing found in these videos, with their crops, sorted by id."""
    # Rows take far more memory as dictionaries: they are made video by video.
    table = only_videos(read_table(layout.manifest_path, MANIFEST), list(known)).combine_chunks()
    places: dict[str, list[int]] = defaultdict(list)
    for place, video_id in enumerate(table["video_id"].to_pylist()):
        places[video_id].append(place)
    for video_id in sorted(known):
        values: Row = {name: known[video_id][name] for name in _RESULT_FIELDS}
        values["status"] = Status(values["status"])
        values["fingerprints"] = tuple(values["fingerprints"] or ())
        rows = table.take(places[video_id]).to_pylist() if video_id in places else []
        own = tuple(read_sequence(layout, row) for row in rows)
        yield VideoResult(**values, sequences=own)


def judged_rows(
    results: Iterable[VideoResult],
    known: Mapping[str, Row],
    card: ModelCard,
    runtime: Runtime,
    *,
    on_row: Callable[[], object],
) -> list[Row]:
    """Rows of ``storage.schemas.EVALUATED``, in the order of the results.

    Args:
        results: what was found in each video, with its crops.
        known: what else is known of it, by video id.
        card: of the model.
        runtime: the model.
        on_row: called after each.
    """
    rows = []
    for result, _, answer in judged(results, card, runtime):
        size = answer["tracks"][0]["face_pixels"] if answer["tracks"] else None
        row = {**known[result.video_id], **answer, "face_pixels": size}
        rows.append({name: row.get(name) for name in EVALUATED.names})
        on_row()
    return rows


def score_table(rows: Iterable[Row]) -> pd.DataFrame:
    """The columns that ``evaluate_table`` takes."""
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


def score_columns(
    rows: Sequence[Row],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.str_]]:
    """Scores, labels and groups of rows that have a score."""
    return (
        np.array([row["score"] for row in rows], dtype=np.float64),
        np.array([row["label"] for row in rows], dtype=np.int64),
        np.array([row["component"] for row in rows], dtype=str),
    )


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


def require_unseen(
    known: Mapping[str, Row], layout: StoreLayout, model: ModelLayout, card: ModelCard
) -> None:
    """Refuse videos that the model was trained or calibrated on, or tied to such, or copies.

    Copies, re-encoded or mirrored ones too, are known by their looks. Under the split that the
    model was trained with there are none: what looks alike is in one part.

    Raises:
        MismatchError: there are such videos.
    """
    learned = read_rows(model.learned_path, LEARNED, columns=("video_id", "component"))
    learned_ids = {row[key] for row in learned for key in ("video_id", "component")}
    seen = {name for name, row in known.items() if {name, row["component"]} & learned_ids}
    if read_metadata(layout.split_path)["split_hash"] != card.split_hash:
        seen |= _copies(known, layout, model)
    if seen:
        raise MismatchError(
            f"the model has learned from {len(seen)} of these videos or from copies of them, for "
            f"example {known[min(seen)]['path']}; an evaluation on them would prove nothing. "
            "Evaluate on the split it was trained with, or train a new model"
        )


def _copies(known: Mapping[str, Row], layout: StoreLayout, model: ModelLayout) -> set[str]:
    """Videos that look like one that the model has learned from."""
    learned = read_table(model.learned_path, LEARNED)
    # The same video may be on both sides.
    learned_ids = pc.binary_join_element_wise(_LEARNED, learned["video_id"], "")

    def with_learned(path: Path, schema: pa.Schema, name: str) -> pa.Table:
        own = only_videos(
            read_table(path, schema, columns=("video_id", "fingerprints")), list(known)
        )
        both = [*own["video_id"].chunks, *learned_ids.chunks]
        hashes = [*own["fingerprints"].chunks, *learned[name].chunks]
        return pa.table(
            {"video_id": pa.chunked_array(both), "fingerprints": pa.chunked_array(hashes)}
        )

    alike = near_duplicates(
        with_learned(layout.videos_path, VIDEOS, "frames"),
        with_learned(layout.manifest_path, MANIFEST, "faces"),
    )
    pairs = {(pair.first, pair.second) for pair in alike}
    pairs |= {(second, first) for first, second in pairs}
    return {one for one, other in pairs if one in known and other.startswith(_LEARNED)}


_LEARNED = "learned "
