"""Which manifest rows a training run learns from, and which choose the epoch."""

from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from models.data.dataset import digest
from models.data.sampling import find_blendable
from reelcheck.errors import SettingsError, StoreError, TrainingError
from reelcheck.train_config import TrainSettings
from storage.rows import ManifestRow, SplitRow


@dataclass(frozen=True)
class TrainingRows:
    """Manifest rows to learn from, rows to choose by, and the split that says which."""

    train: list[ManifestRow]
    val: list[ManifestRow]
    split: list[SplitRow]
    """One row per labelled video."""


def group_by_split(
    manifest: Iterable[ManifestRow], split_rows: Iterable[SplitRow]
) -> dict[str, list[ManifestRow]]:
    """Group the manifest rows of videos by their split.

    Raises:
        StoreError: labels have changed since the split was made.
    """
    assigned = {row["video_id"]: row for row in split_rows}
    rows_of: dict[str, list[ManifestRow]] = {"train": [], "val": [], "test": []}
    for row in manifest:
        known = assigned.get(row["video_id"])
        if known is None or known["split"] not in rows_of:
            continue
        if row["label"] != known["label"]:
            raise StoreError(
                f"the label of {row['path']} has changed since the split was made; "
                "run: reelcheck split STORE"
            )
        rows_of[known["split"]].append(row)
    return rows_of


def choose_training_rows(
    manifest: Sequence[ManifestRow], split_rows: Sequence[SplitRow], settings: TrainSettings
) -> TrainingRows:
    """Choose the train and val rows that a run with these settings may use.

    Raises:
        StoreError: labels have changed since the split was made.
        TrainingError: a split holds no video, or only one label, or nothing that can be blended.
    """
    rows_of = group_by_split(manifest, split_rows)
    train, val = rows_of["train"], rows_of["val"]
    for name, rows in (("train", train), ("val", val)):
        if not rows:
            raise TrainingError(
                f"the {name} split holds no videos; run: reelcheck split STORE "
                "--set val_fraction=0.2, or add labelled videos"
            )
    if settings.self_blend > 0:
        # Validation uses blends only where it has no labelled fakes.
        blended = {"train": train} | ({"val": val} if settings.self_blend == 1 else {})
        for name, rows in blended.items():
            if not find_blendable(rows):
                raise TrainingError(
                    f"self_blend = {settings.self_blend:g}, but no real sequence of the {name} "
                    "split has key points; preprocess real videos, or use --set self_blend=0"
                )
    if settings.self_blend == 1:
        train, val = ([rows[n] for n in find_blendable(rows)] for rows in (train, val))
    else:
        _require_both_labels("train", train)
        _require_both_labels("val", val)
    return TrainingRows(train, val, list(split_rows))


def make_fold_splits(
    split_rows: Sequence[SplitRow], *, folds: int, seed: int
) -> list[list[SplitRow]]:
    """Divide train and val videos again for each fold; test stays test.

    Every video is in val of exactly one fold; components are never divided.

    Raises:
        SettingsError: fewer independent groups of one label than folds.
    """
    rows = [row for row in split_rows if row["split"] in {"train", "val"} and row["has_crops"]]
    groups = {
        name: len({row["component"] for row in rows if row["label"] == label})
        for label, name in ((0, "real"), (1, "fake"))
        # Without any fake there may still be self-blended ones; ``choose_training_rows`` decides.
        if label == 0 or any(row["label"] for row in rows)
    }
    fewest, name = min((count, name) for name, count in groups.items())
    if fewest < folds:
        advice = f"give folds of at most {fewest}, or add data" if fewest > 1 else "add data"
        raise SettingsError(
            f"folds = {folds}, but train and val hold only {fewest} independent groups of "
            f"{name} videos; {advice}"
        )
    labels = np.array([row["label"] for row in rows])
    components = np.array([row["component"] for row in rows])
    dealer = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    held_out = (
        {rows[position]["video_id"] for position in positions}
        for _, positions in dealer.split(labels, labels, components)
    )
    return [[_move_row(row, validated) for row in split_rows] for validated in held_out]


def take_subset(split_rows: Sequence[SplitRow], *, num_videos: int, seed: int) -> list[SplitRow]:
    """Keep about ``num_videos`` of the train videos, and all videos of other splits.

    Component after component is taken, real and fake in their shares; a larger subset holds the
    smaller ones.

    Raises:
        SettingsError: fewer than two videos are asked for, or more than there are.
    """
    train = [row for row in split_rows if row["split"] == "train" and row["has_crops"]]
    if not 2 <= num_videos <= len(train):
        raise SettingsError(
            f"subset size {num_videos} is not between 2 and {len(train)}, the train videos; "
            "give other --subset-sizes"
        )
    kept: set[str] = set()
    for label, share in Counter(row["label"] for row in train).items():
        wanted = max(1, round(num_videos * share / len(train)))
        own = [row for row in train if row["label"] == label]
        own.sort(key=lambda row: (digest(seed, str(row["component"])), row["video_id"]))
        kept |= {row["video_id"] for row in own[:wanted]}
    return [row for row in split_rows if row["split"] != "train" or row["video_id"] in kept]


def _move_row(row: SplitRow, validated: Set[str]) -> SplitRow:
    if row["split"] not in {"train", "val"}:
        return row
    return {**row, "split": "val" if row["video_id"] in validated else "train"}


def _require_both_labels(name: str, rows: Sequence[ManifestRow]) -> None:
    labels = {row["label"] for row in rows}
    for label, missing in ((0, "real"), (1, "fake")):
        if label not in labels:
            advice = "add labelled videos and run: reelcheck split STORE"
            if missing == "fake":
                advice += "; or learn from real videos alone with --set self_blend=1"
            raise TrainingError(f"the {name} split holds no {missing} video; {advice}")
