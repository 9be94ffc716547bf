"""What a recipe learns from few real faces: cross-validated over people, over several seeds.

Every labelled video of a store is scored once per seed, by a detector that has seen nobody of its
group:

    python benchmarks/real_faces.py STORE --out OUT --recipe lite-frames [--set KEY=VALUE]
                                    [--folds 3] [--seeds 0,1,2] [--levelled]

``--levelled`` first reduces every crop to 96 pixels and JPEG quality 40, in training and scoring:
what survives is about faces, what does not may be about the encoder. The same is tried on a store
of videos that went through ``reelcheck normalise``, which is another STORE.

Beside each figure stands the one of metadata alone: gradient boosting on codec, size, rate and face
size, which sees no pixel, in the same folds. Prints the AUC over all videos with the 95 % interval
of a bootstrap over groups, the difference from metadata with its interval (one draw for both), and
the mean AUC within a fold; writes the same, and every video's scores.
"""

import argparse
import json
import os
import time
from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import cross_val_predict

from models.data.dataset import CropDataset
from models.metrics.aggregation import aggregate_videos
from models.metrics.metrics import bootstrap_auc, bootstrap_auc_difference
from models.metrics.verdict import calibrate_score
from models.network.detector import Detector, HeadEnsemble
from models.training.inference import score_sequences
from reelcheck.config import SplitSettings
from reelcheck.recipes import load_recipe
from reelcheck.records import RGB
from reelcheck.settings import load_settings
from reelcheck.train_config import TrainSettings
from storage.atomic import write_text
from storage.checkpoints import read_card
from storage.crops import CropWriter, read_sequence
from storage.layout import ModelLayout, StoreLayout, find_preprocessed
from storage.rows import SplitRow
from storage.schemas import MANIFEST, SPLIT
from storage.tables import read_rows, write_table
from tasks.checkpoints.torch_model import load_detector
from tasks.splits.labelled import label_files, read_files
from tasks.splits.shortcuts import make_metadata_model, read_metadata_table
from tasks.splits.split import assign_splits
from tasks.splits.stored import hash_split
from tasks.splits.ties import find_likenesses
from tasks.training.features import encode_once, has_fixed_features
from tasks.training.rows import make_fold_splits
from tasks.training.train import train

_LEVEL_PIXELS, _LEVEL_QUALITY = 96, 40


def main() -> None:
    """Train, score, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--set", dest="changes", action="append", default=[])
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--levelled", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    started = time.process_time()
    layout = find_preprocessed(chosen.store)
    if chosen.levelled:
        layout = level_crops(layout, chosen.out / "levelled" / layout.preprocessing_hash)
    split_rows = read_connected_videos(layout)
    result: dict[str, Any] = {
        "recipe": chosen.recipe,
        "changes": chosen.changes,
        "levelled": chosen.levelled,
        "folds": chosen.folds,
        "videos": len(split_rows),
        "fakes": sum(row["label"] for row in split_rows),
        "groups": len({row["component"] for row in split_rows}),
        "seeds": {},
    }
    scores: dict[str, dict[str, list[float]]] = {}
    for seed in map(int, chosen.seeds.split(",")):
        fold_of = make_outer_folds(split_rows, num_folds=chosen.folds, seed=seed)
        found: dict[str, float] = {}
        for fold in range(chosen.folds):
            out = chosen.out / f"seed{seed}"
            store = make_fold_store(layout, split_rows, fold_of, fold, out, seed=seed)
            settings = load_settings(
                TrainSettings,
                section="train",
                base=load_recipe(chosen.recipe).train,
                overrides=[f"seed={seed}", *chosen.changes],
            )
            model = ModelLayout(out / f"model{fold}")
            card = train(store, model, settings)
            print(f"seed {seed} fold {fold} validation", card.validation["auc"], flush=True)
            found |= score_held_out(store, model)
        metadata = score_by_metadata(layout, split_rows, fold_of)
        result["seeds"][seed] = measure(found, metadata, split_rows, fold_of)
        result["cpu_seconds"] = round(time.process_time() - started)
        scores[str(seed)] = {video: [found[video], metadata[video]] for video in found}
        result["mean"] = {
            name: float(np.mean([measured[name]["value"] for measured in result["seeds"].values()]))
            for name in ("auc", "metadata", "difference")
        }
        text = json.dumps({**result, "scores": scores}, indent=2) + "\n"
        write_text(chosen.out / "real_faces.json", text)
    print(json.dumps(result, indent=2))


def level_crops(layout: StoreLayout, out: Path) -> StoreLayout:
    """Make the same store with crops that all went through 96 pixels and JPEG."""
    own = StoreLayout(out)
    own.shards_dir.mkdir(parents=True, exist_ok=True)
    for path in (layout.settings_path, layout.videos_path, layout.manifest_path):
        link(own.path / path.name, path)
    rows_of: dict[str, list[Any]] = defaultdict(list)
    for row in read_rows(layout.manifest_path, MANIFEST):
        rows_of[row["shard"]].append(row)
    for shard, rows in rows_of.items():
        link(own.shard_sequences_path(shard), layout.shard_sequences_path(shard))
        link(own.shard_videos_path(shard), layout.shard_videos_path(shard))
        if own.crops_paths(shard):
            continue
        rows.sort(key=lambda row: (row["crop_file"], row["crop_row"]))
        with CropWriter(partial(own.crops_path, shard)) as writer:
            for row in rows:
                sequence = read_sequence(layout, row)
                crops = np.stack([level_crop(crop) for crop in sequence.crops_THWC])
                place = writer.append(replace(sequence, crops_THWC=crops))
                assert place == (row["crop_file"], row["crop_row"])
    return own


def level_crop(crop_HWC: RGB) -> RGB:
    """Reduce a crop, pass it through JPEG, and enlarge it again."""
    side = crop_HWC.shape[0]
    small = cv2.resize(crop_HWC, (_LEVEL_PIXELS,) * 2, interpolation=cv2.INTER_AREA)
    _, file = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _LEVEL_QUALITY])
    decoded = np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR_RGB))
    return np.asarray(cv2.resize(decoded, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)


def link(path: Path, target: Path) -> None:
    """Make a link, unless it is there."""
    if not path.is_symlink():
        path.symlink_to(target.resolve())


def read_connected_videos(layout: StoreLayout) -> list[SplitRow]:
    """Read one row per labelled video with crops; its split does not matter."""
    rows = assign_splits(
        label_files(*read_files(layout)),
        SplitSettings(),
        likenesses=find_likenesses(layout),
    )
    return [row for row in rows if row["has_crops"]]


def make_outer_folds(split_rows: list[SplitRow], *, num_folds: int, seed: int) -> dict[str, int]:
    """Assign each video id the fold that scores it; groups are never divided."""
    rows: list[SplitRow] = [{**row, "split": "train"} for row in split_rows]
    return {
        row["video_id"]: fold
        for fold, dealt in enumerate(make_fold_splits(rows, folds=num_folds, seed=seed))
        for row in dealt
        if row["split"] == "val"
    }


def make_fold_store(
    layout: StoreLayout,
    split_rows: list[SplitRow],
    fold_of: dict[str, int],
    fold: int,
    out: Path,
    *,
    seed: int,
) -> StoreLayout:
    """Make the same store under a split whose test videos are this fold."""
    own = StoreLayout(out / f"store{fold}" / layout.preprocessing_hash)
    own.path.mkdir(parents=True, exist_ok=True)
    features = layout.features_dir("").absolute()
    features.mkdir(exist_ok=True)
    needed = (
        *(layout.settings_path, layout.videos_path, layout.manifest_path),
        *(layout.shards_dir, features),
    )
    for path in needed:
        link(own.path / path.name, path)
    rest = [row for row in split_rows if fold_of[row["video_id"]] != fold]
    inner = make_outer_folds(rest, num_folds=6, seed=seed)
    splits = {video: "val" if number == 0 else "train" for video, number in inner.items()}
    rows: list[SplitRow] = [
        {**row, "split": splits.get(row["video_id"], "test")} for row in split_rows
    ]
    write_table(own.split_path, rows, SPLIT, metadata={"split_hash": hash_split(rows)})
    return own


def score_held_out(store: StoreLayout, model: ModelLayout) -> dict[str, float]:
    """Score every test video, from features that are kept where the backbone did not learn."""
    card = read_card(model)
    assert card.training is not None
    held_out = {r["video_id"] for r in read_rows(store.split_path, SPLIT) if r["split"] == "test"}
    rows = [r for r in read_rows(store.manifest_path, MANIFEST) if r["video_id"] in held_out]
    detector = load_detector(model.path, card.model_id)
    features = None
    encoder = detector.first if isinstance(detector, HeadEnsemble) else detector
    if isinstance(encoder, Detector) and has_fixed_features(card.training):
        features = encode_once(store, rows, encoder)
    dataset = CropDataset(store, rows, features=features)
    logits = aggregate_videos(score_sequences(detector, dataset), card.aggregation)
    return {video: calibrate_score(logit, card.calibration) for video, logit in logits.items()}


def score_by_metadata(
    layout: StoreLayout, split_rows: list[SplitRow], fold_of: dict[str, int]
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
    scores: dict[str, float],
    metadata: dict[str, float],
    split_rows: list[SplitRow],
    fold_of: dict[str, int],
) -> dict[str, Any]:
    """Measure the pooled AUC, its distance from metadata's, and the mean AUC within a fold."""

    def gather(values: dict[str, Any]) -> NDArray[Any]:
        return np.array([values[row["video_id"]] for row in split_rows])

    labels = np.array([row["label"] for row in split_rows])
    groups = np.array([row["component"] for row in split_rows])
    own, others, folds = gather(scores), gather(metadata), gather(fold_of)
    within = [
        bootstrap_auc(own[folds == n], labels[folds == n], groups[folds == n], seed=0)
        for n in np.unique(folds)
    ]
    pooled = bootstrap_auc(own, labels, groups, seed=0)
    alone = bootstrap_auc(others, labels, groups, seed=0)
    difference = bootstrap_auc_difference(others, own, labels, groups, seed=0)
    assert pooled is not None
    assert alone is not None
    assert difference is not None
    return {
        "auc": pooled._asdict(),
        "metadata": alone._asdict(),
        "difference": difference._asdict(),
        "within_folds": float(np.mean([fold.value for fold in within if fold])),
    }


if __name__ == "__main__":
    main()
