"""Which manifest rows a training run learns from, chooses by, and leaves alone."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from models.dataset import digest
from models.sampling import blendable
from reelcheck.errors import SettingsError, StoreError, TrainingError
from reelcheck.train_config import TrainSettings
from storage.tables import Row


@dataclass(frozen=True)
class Parts:
    """Manifest rows by what they are for, and the split that says so."""

    train: list[Row]
    val: list[Row]
    split: list[Row]
    """One row per labelled video (``storage.schemas.SPLIT``)."""


def rows_by_split(manifest: Iterable[Row], split_rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Manifest rows of the videos of each part.

    Raises:
        StoreError: labels have changed since the split was made.
    """
    assigned = {row["video_id"]: row for row in split_rows}
    parts: dict[str, list[Row]] = {"train": [], "val": [], "test": []}
    for row in manifest:
        known = assigned.get(row["video_id"])
        if known is None or known["split"] not in parts:
            continue
        if row["label"] != known["label"]:
            raise StoreError(
                f"the label of {row['path']} has changed since the split was made; "
                "run: reelcheck split STORE"
            )
        parts[known["split"]].append(row)
    return parts


def training_parts(
    manifest: Sequence[Row], split_rows: Sequence[Row], settings: TrainSettings
) -> Parts:
    """The train and val rows that a run with these settings may look at.

    Raises:
        StoreError: labels have changed since the split was made.
        TrainingError: a part holds no video, or only one label, or nothing that can be blended.
    """
    parts = rows_by_split(manifest, split_rows)
    train, val = parts["train"], parts["val"]
    for name, rows in (("train", train), ("val", val)):
        if not rows:
            raise TrainingError(
                f"the {name} part of the split holds no videos; run: reelcheck split STORE "
                "--set val_fraction=0.2, or add labelled videos"
            )
    if settings.self_blend > 0:
        # Validation blends only where it must do without labelled fakes.
        blended = {"train": train} | ({"val": val} if settings.self_blend == 1 else {})
        for name, rows in blended.items():
            if not blendable(rows):
                raise TrainingError(
                    f"self_blend = {settings.self_blend:g}, but no real sequence of the {name} "
                    "part has key points; preprocess real videos, or use --set self_blend=0"
                )
    if settings.self_blend == 1:
        train, val = ([rows[n] for n in blendable(rows)] for rows in (train, val))
    else:
        _require_both_labels("train", train)
        _require_both_labels("val", val)
    return Parts(train, val, list(split_rows))


def fold_splits(split_rows: Sequence[Row], *, folds: int, seed: int) -> list[list[Row]]:
    """For each fold the split in which train and val videos are divided anew; test stays test.

    Every video is in the val part of exactly one fold; components are never divided.

    Raises:
        SettingsError: fewer independent groups of one label than folds.
    """
    rows = [row for row in split_rows if row["split"] in {"train", "val"} and row["has_crops"]]
    groups = {
        name: len({row["component"] for row in rows if row["label"] == label})
        for label, name in ((0, "real"), (1, "fake"))
        # Without any fake there may still be self-blended ones; ``training_parts`` decides.
        if label == 0 or any(row["label"] for row in rows)
    }
    fewest, name = min((count, name) for name, count in groups.items())
    if fewest < folds:
        advice = f"give folds of at most {fewest}, or add data" if fewest > 1 else "add data"
        raise SettingsError(
            f"folds = {folds}, but train and val parts hold only {fewest} independent groups of "
            f"{name} videos; {advice}"
        )
    labels = np.array([row["label"] for row in rows])
    components = np.array([row["component"] for row in rows])
    dealer = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    splits = []
    for _, places in dealer.split(labels, labels, components):
        held_out = {rows[place]["video_id"] for place in places}
        splits.append(
            [
                {**row, "split": "val" if row["video_id"] in held_out else "train"}
                if row["split"] in {"train", "val"}
                else row
                for row in split_rows
            ]
        )
    return splits


def subset(split_rows: Sequence[Row], *, num_videos: int, seed: int) -> list[Row]:
    """The split without all but about ``num_videos`` of its train videos.

    Component after component is taken, real and fake in their shares; a larger subset holds a
    smaller one.

    Raises:
        SettingsError: fewer than two, or more than there are.
    """
    train = [row for row in split_rows if row["split"] == "train" and row["has_crops"]]
    if not 2 <= num_videos <= len(train):
        raise SettingsError(
            f"subset size {num_videos} is not between 2 and {len(train)}, the videos of the train "
            "part; give other --subset-sizes"
        )
    kept: set[str] = set()
    for label, share in Counter(row["label"] for row in train).items():
        wanted = max(1, round(num_videos * share / len(train)))
        own = [row for row in train if row["label"] == label]
        own.sort(key=lambda row: (digest(seed, str(row["component"])), row["video_id"]))
        kept |= {row["video_id"] for row in own[:wanted]}
    return [row for row in split_rows if row["split"] != "train" or row["video_id"] in kept]


def _require_both_labels(name: str, rows: Sequence[Row]) -> None:
    labels = {row["label"] for row in rows}
    for label, missing in ((0, "real"), (1, "fake")):
        if label not in labels:
            advice = "add labelled videos and run: reelcheck split STORE"
            if missing == "fake":
                advice += "; or learn from real videos alone with --set self_blend=1"
            raise TrainingError(f"the {name} part of the split holds no {missing} video; {advice}")
