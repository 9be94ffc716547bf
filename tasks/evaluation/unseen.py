"""The videos of a store that a model has not learned from; an evaluation takes no others."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reelcheck.card import ModelCard
from reelcheck.errors import MismatchError, StoreError
from storage.checkpoints import read_card
from storage.columns import Table
from storage.layout import ModelLayout, StoreLayout
from storage.rows import LabelColumns
from storage.schemas import (
    LABEL_COLUMNS,
    LEARNED,
    MANIFEST,
    SPLIT,
    VIDEOS,
)
from storage.tables import (
    keep_videos,
    read_rows,
    read_table,
)
from tasks.splits.labelled import LabelledFileRow, label_files
from tasks.splits.near_duplicates import find_near_duplicates
from tasks.splits.stored import read_split_hash


class KnownVideoRow(LabelledFileRow):
    """The row of a labelled video, with its component in the split."""

    component: str


def read_unseen_videos(
    layout: StoreLayout, model: ModelLayout, *, split: str
) -> dict[str, KnownVideoRow]:
    """Read the videos of a split, if this model has learned from none of them.

    Raises:
        MismatchError: other preprocessing, or the model has learned from some of these videos.
        StoreError: the split is empty, or labels have changed since it was made.
    """
    card = read_card(model)
    require_same_preprocessing(card, layout)
    known = read_known_videos(layout, split=split)
    # Imported weights come without a split: what they were trained on is in no store.
    if card.split_hash is not None:
        require_unseen(known, layout, model, card)
    return known


def read_known_videos(layout: StoreLayout, *, split: str | None) -> dict[str, KnownVideoRow]:
    """Read the labelled videos of a split by video id, sorted, with their components.

    Args:
        layout: the store.
        split: train, val or test; None: every labelled video.

    Raises:
        StoreError: the split holds no video with crops, or labels have changed since it was made.
    """
    chosen = [row for row in read_rows(layout.split_path, SPLIT) if split in {None, row["split"]}]
    if not any(row["has_crops"] for row in chosen):
        where = f"the {split} split" if split else "the store's split"
        raise StoreError(f"{where} holds no videos with crops; run: reelcheck split STORE")
    ids = [row["video_id"] for row in chosen]
    columns = ("video_id", *LABEL_COLUMNS)
    sequences = read_table(layout.manifest_path, MANIFEST, columns=columns)
    manifest = keep_videos(sequences, ids).to_pylist()
    videos = keep_videos(read_table(layout.videos_path, VIDEOS), ids).to_pylist()
    files = {file["video_id"]: file for file in reversed(label_files(videos, manifest))}
    # Each copy may have other labels; the manifest has those of all copies.
    merged = {row["video_id"]: _take_labels(row) for row in manifest}
    known: dict[str, KnownVideoRow] = {}
    for row in chosen:
        file = files.get(row["video_id"])
        if file is None or file["label"] != row["label"]:
            path = row["video_id"] if file is None else file["path"]
            raise StoreError(
                f"{path} is gone or has another label since the split was made; "
                "run: reelcheck split STORE"
            )
        known[row["video_id"]] = {
            **file,
            **merged.get(row["video_id"], _take_labels(file)),
            "component": row["component"],
            "split": row["split"],
        }
    return known


def _take_labels(row: LabelColumns) -> LabelColumns:
    values: Mapping[str, Any] = row
    labels: Any = {name: values[name] for name in LABEL_COLUMNS}
    return labels  # type: ignore[no-any-return]


def require_same_preprocessing(card: ModelCard, layout: StoreLayout) -> None:
    """Refuse crops that were made otherwise than those the model was trained on.

    Raises:
        MismatchError: the hashes differ.
    """
    if card.preprocessing_hash != layout.preprocessing_hash:
        raise MismatchError(
            f"model {card.model_id} was trained on crops of preprocessing "
            f"{card.preprocessing_hash}, the store holds {layout.preprocessing_hash}; run "
            "preprocess again with the model's settings (they are in its card.json)"
        )


def require_unseen(
    known: Mapping[str, KnownVideoRow], layout: StoreLayout, model: ModelLayout, card: ModelCard
) -> None:
    """Refuse videos that the model has learned from, videos tied to those, and copies.

    Copies, re-encoded or mirrored ones too, are recognised by their looks. Under the split that the
    model was trained with there are none: videos that look alike are in one split.

    Raises:
        MismatchError: there are such videos.
    """
    learned = read_rows(model.learned_path, LEARNED, columns=("video_id", "component"))
    learned_ids = {row[key] for row in learned for key in ("video_id", "component")}
    seen = {name for name, row in known.items() if {name, row["component"]} & learned_ids}
    if read_split_hash(layout) != card.split_hash:
        seen |= _find_copies(known, layout, model)
    if seen:
        raise MismatchError(
            f"the model has learned from {len(seen)} of these videos or from copies of them, for "
            f"example {known[min(seen)]['path']}; an evaluation on them would prove nothing. "
            "Evaluate on the split it was trained with, or train a new model"
        )


def _find_copies(
    known: Mapping[str, KnownVideoRow], layout: StoreLayout, model: ModelLayout
) -> set[str]:
    """Find videos that look like a video that the model has learned from."""
    learned = read_table(model.learned_path, LEARNED)
    # The same video may be on both sides.
    learned_ids = pc.binary_join_element_wise(_LEARNED, learned["video_id"], "")

    def add_learned(path: Path, table: Table[Any], name: str) -> pa.Table:
        own = keep_videos(
            read_table(path, table, columns=("video_id", "fingerprints")), list(known)
        )
        both = [*own["video_id"].chunks, *learned_ids.chunks]
        hashes = [*own["fingerprints"].chunks, *learned[name].chunks]
        return pa.table(
            {"video_id": pa.chunked_array(both), "fingerprints": pa.chunked_array(hashes)}
        )

    alike = find_near_duplicates(
        add_learned(layout.videos_path, VIDEOS, "frames"),
        add_learned(layout.manifest_path, MANIFEST, "faces"),
    )
    pairs = {(pair.first, pair.second) for pair in alike}
    pairs |= {(second, first) for first, second in pairs}
    return {one for one, other in pairs if one in known and other.startswith(_LEARNED)}


_LEARNED = "learned "
