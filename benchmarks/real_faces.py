"""What a small detector learns from few real faces: cross-validated over people, never tuned.

Every labelled video of a store is scored once, by a detector that has seen nobody of its group:

    python benchmarks/real_faces.py STORE --out OUT [--folds 3] [--seed 0]

1. frames: each frame alone, from random weights, on real videos and their self-blends only.
2. transformer: the same backbone, then a small Transformer over time, again without a true fake.
3. with fakes: as 2, with the labelled fakes of the training groups beside the self-blends.
4. metadata: gradient boosting on codec, size, rate and face size; it sees no pixel.

Prints the AUC over all videos with the 95 % interval of a bootstrap over groups, and writes both.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")

import numpy as np
import torch
from sklearn.model_selection import cross_val_predict

from models.metrics.metrics import bootstrap_auc
from reelcheck.config import SplitSettings
from reelcheck.recipes import load_recipe
from reelcheck.settings import load_settings
from reelcheck.train_config import TrainSettings
from storage.atomic import write_text
from storage.layout import ModelLayout, StoreLayout, find_preprocessed
from storage.schemas import SPLIT
from storage.tables import Row, write_table
from tasks.evaluation.predictions import choose_evaluation_layout, load_or_predict_rows
from tasks.evaluation.unseen import read_unseen_videos
from tasks.splits.labelled import label_files, read_files
from tasks.splits.shortcuts import make_metadata_model, read_metadata_table
from tasks.splits.split import assign_splits, hash_split
from tasks.splits.ties import find_likenesses
from tasks.training.rows import make_fold_splits
from tasks.training.train import train

FRAMES = (
    "self_blend=1",
    "min_frames=1",
    "max_frames=1",
    "batch_size=32",
    "passes_per_epoch=40",
    "ema_decay=0.99",
    "select_by=auc",
    "patience_epochs=100",
    "augment.rotation=0",
    "augment.noise=0",
    "augment.blur=0",
)
OVER_TIME = (
    "self_blend=1",
    "min_frames=4",
    "max_frames=8",
    "batch_size=16",
    "passes_per_epoch=6",
    "select_by=auc",
    "patience_epochs=100",
    "freeze_batch_norm=true",
    "detector.transformer.pooling=attention",
    "phases.0.learning_rate=5e-4",
)


def main() -> None:
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    started = time.process_time()
    layout = find_preprocessed(chosen.store)
    split_rows = read_connected_videos(layout)
    fold_of = make_outer_folds(split_rows, num_folds=chosen.folds, seed=chosen.seed)
    found: dict[str, dict[str, float]] = {"frames": {}, "transformer": {}, "with fakes": {}}
    for fold in range(chosen.folds):
        own = make_fold_store(layout, split_rows, fold_of, fold, chosen.out, seed=chosen.seed)
        models = chosen.out / f"models{fold}"
        run = {"store": own, "seed": chosen.seed}
        frames = fit(models / "frames", "b3-frames-fast", FRAMES, epochs=chosen.epochs, **run)
        start = (*OVER_TIME, f"init_from={frames.weights_path}")
        over_time = fit(models / "time", "b3-transformer-fast", start, epochs=8, **run)
        start = (*OVER_TIME, f"init_from={over_time.weights_path}", "self_blend=0.5")
        with_fakes = fit(models / "fakes", "b3-transformer-fast", start, epochs=8, **run)
        for name, model in zip(found, (frames, over_time, with_fakes), strict=True):
            found[name] |= score_held_out(own, model)
    found["metadata"] = score_by_metadata(layout, split_rows, fold_of)
    result = {
        "folds": chosen.folds,
        "seed": chosen.seed,
        "videos": len(split_rows),
        "fakes": sum(row["label"] for row in split_rows),
        "groups": len({row["component"] for row in split_rows}),
        "cpu_seconds": round(time.process_time() - started),
        "auc": {name: measure(scores, split_rows, fold_of) for name, scores in found.items()},
    }
    write_text(chosen.out / "real_faces.json", json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def read_connected_videos(layout: StoreLayout) -> list[Row]:
    """Read one row per labelled video with crops; its split does not matter."""
    rows = assign_splits(
        label_files(*read_files(layout)),
        SplitSettings(),
        likenesses=find_likenesses(layout),
    )
    return [row for row in rows if row["has_crops"]]


def make_outer_folds(split_rows: list[Row], *, num_folds: int, seed: int) -> dict[str, int]:
    """Assign each video id the fold that scores it; groups are never divided."""
    rows = [{**row, "split": "train"} for row in split_rows]
    return {
        row["video_id"]: fold
        for fold, dealt in enumerate(make_fold_splits(rows, folds=num_folds, seed=seed))
        for row in dealt
        if row["split"] == "val"
    }


def make_fold_store(
    layout: StoreLayout,
    split_rows: list[Row],
    fold_of: dict[str, int],
    fold: int,
    out: Path,
    *,
    seed: int,
) -> StoreLayout:
    """Make the same store under a split whose test videos are this fold."""
    own = StoreLayout(out / f"store{fold}" / layout.preprocessing_hash)
    own.path.mkdir(parents=True, exist_ok=True)
    needed = (layout.settings_path, layout.videos_path, layout.manifest_path, layout.shards_dir)
    for path in needed:
        link = own.path / path.name
        if not link.exists():
            link.symlink_to(path.resolve())
    rest = [row for row in split_rows if fold_of[row["video_id"]] != fold]
    inner = make_outer_folds(rest, num_folds=6, seed=seed)
    parts = {video: "val" if number == 0 else "train" for video, number in inner.items()}
    rows = [{**row, "split": parts.get(row["video_id"], "test")} for row in split_rows]
    write_table(own.split_path, rows, SPLIT, metadata={"split_hash": hash_split(rows)})
    return own


def fit(
    out: Path, recipe: str, changes: tuple[str, ...], *, store: StoreLayout, epochs: int, seed: int
) -> ModelLayout:
    """A recipe with changes, trained into a folder."""
    settings = load_settings(
        TrainSettings,
        section="train",
        base=load_recipe(recipe).train,
        overrides=[f"phases.0.max_epochs={epochs}", f"seed={seed}", *changes],
    )
    model = ModelLayout(out)
    card = train(store, model, settings)
    print(out, "validation AUC", card.validation["auc"], flush=True)
    return model


def score_held_out(store: StoreLayout, model: ModelLayout) -> dict[str, float]:
    """Score every test video."""
    output = choose_evaluation_layout(store, model, split="test", out=None)
    known = read_unseen_videos(store, model, split="test")
    rows = load_or_predict_rows(store, model, known, output)
    return {row["video_id"]: row["score"] for row in rows}


def score_by_metadata(
    layout: StoreLayout, split_rows: list[Row], fold_of: dict[str, int]
) -> dict[str, float]:
    """Scores of a model that sees how a file was made and not what it shows."""
    table = read_metadata_table(layout)
    ids = [row["video_id"] for row in split_rows]
    labels = np.array([row["label"] for row in split_rows])
    folds = np.array([fold_of[video] for video in ids])
    places = [(np.flatnonzero(folds != n), np.flatnonzero(folds == n)) for n in np.unique(folds)]
    model = make_metadata_model(len(labels))
    scores = cross_val_predict(model, table.loc[ids], labels, cv=places, method="predict_proba")
    return dict(zip(ids, scores[:, 1].tolist(), strict=True))


def measure(
    scores: dict[str, float], split_rows: list[Row], fold_of: dict[str, int]
) -> dict[str, Any]:
    """Pooled AUC with its interval, and the AUC of each fold."""
    labels = np.array([row["label"] for row in split_rows])
    groups = np.array([row["component"] for row in split_rows])
    values = np.array([scores[row["video_id"]] for row in split_rows])
    folds = np.array([fold_of[row["video_id"]] for row in split_rows])
    pooled = bootstrap_auc(values, labels, groups, seed=0)
    by_fold = [
        bootstrap_auc(values[folds == n], labels[folds == n], groups[folds == n], seed=0)
        for n in np.unique(folds)
    ]
    return {
        "pooled": pooled._asdict() if pooled else None,
        "by_fold": [fold.value if fold else None for fold in by_fold],
    }


if __name__ == "__main__":
    main()
