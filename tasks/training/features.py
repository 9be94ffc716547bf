"""Encode every crop once, where the backbone does not learn and nothing changes its input."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from models.data.dataset import CropDataset
from models.data.features import FeatureCache
from models.network.detector import Detector
from models.training.inference import choose_device
from reelcheck.progress import show_progress
from reelcheck.train_config import DetectorSettings, TrainSettings
from storage.layout import StoreLayout
from storage.rows import ManifestRow
from storage.weights import weights_to_bytes


def has_fixed_features(settings: TrainSettings) -> bool:
    """Whether a crop has the same features in every epoch of a run."""
    return (
        not settings.trains_backbone
        and settings.starts_from_weights
        and settings.self_blend == 0
        and not any(settings.augment.model_dump().values())
    )


def encode_once(
    layout: StoreLayout, rows: Sequence[ManifestRow], detector: Detector
) -> FeatureCache:
    """Compute the features of all crops of these rows that are not in the store's cache.

    Args:
        layout: the store; the features are kept in there.
        rows: manifest rows.
        detector: its backbone is used, as in evaluation; the head is not.
    """
    cache = FeatureCache(layout, name_encoder(detector))
    with cache.hold_lock():
        _encode_missing(layout, rows, detector, cache)
    return cache


def _encode_missing(
    layout: StoreLayout, rows: Sequence[ManifestRow], detector: Detector, cache: FeatureCache
) -> None:
    shards: dict[str, list[ManifestRow]] = defaultdict(list)
    for row in cache.list_missing(rows):
        shards[row["shard"]].append(row)
    num_frames = sum(row["num_frames"] for own in shards.values() for row in own)
    device = choose_device()
    detector.to(device).eval()
    with show_progress(total=num_frames, description="features", unit="frames") as bar:
        for shard, own in shards.items():
            dataset = CropDataset(layout, own)
            features_of: dict[str, Tensor] = {}
            for number, row in enumerate(own):
                frames_TCHW = dataset[number].frames_TCHW
                with torch.inference_mode():
                    features_of[row["sequence_id"]] = detector.encode(frames_TCHW.to(device)).cpu()
                bar.update(len(frames_TCHW))
            cache.write(shard, features_of)


def name_encoder(detector: Detector) -> str:
    """Name what decides the features of a crop: weights, padding, size, normalisation."""
    own = {name: getattr(detector.settings, name) for name in _INPUT_SETTINGS}
    text = json.dumps(DetectorSettings(**own).model_dump(mode="json"), sort_keys=True)
    weights = weights_to_bytes(detector.backbone.state_dict())
    return hashlib.sha256(text.encode() + weights).hexdigest()[:16]


_INPUT_SETTINGS = (
    "backbone",
    "feature_layers",
    "input_pixels",
    "pixel_mean",
    "pixel_std",
    "padding",
)
