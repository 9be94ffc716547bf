"""Crop stores written by the project's own writers, and a detector that is trained in a second."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from models.metrics.aggregation import AGGREGATIONS
from reelcheck.card import Calibration, ModelCard
from reelcheck.config import PreprocessSettings
from reelcheck.records import RGB, CropSequence
from reelcheck.settings import settings_hash
from reelcheck.train_config import DetectorSettings, Phase, TrainSettings, TransformerSettings
from storage.checkpoints import save_checkpoint
from storage.crops import CropWriter
from storage.layout import ModelLayout, StoreLayout, locate_preprocessed
from storage.schemas import MANIFEST, SEQUENCES, SPLIT, VIDEO_RESULTS, VIDEOS
from storage.tables import read_rows, write_table

CROP_SIDE = 32
FRONTAL_KEYPOINTS = (0.36, 0.36, 0.65, 0.37, 0.5, 0.54, 0.5, 0.69, 0.22, 0.44, 0.82, 0.45)
"""Where BlazeFace sees them in the crop of a face that looks into the camera."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One video of a made-up store: bright crops are fake, dark ones are real."""

    path: str
    label: int | None
    part: str = "train"
    source: str | None = None
    generator: str | None = None
    num_frames: int = 4
    num_tracks: int = 1
    first_second: float = 0.0
    pixels_from: str | None = None
    """Take the pixels that the clip of this path has."""

    @property
    def video_id(self) -> str:
        return sha256(self.path.encode()).hexdigest()

    def pixels(self, track: int = 0) -> RGB:
        """The crops of one face: noise around a brightness that tells the label."""
        name = f"{self.pixels_from or self.path}/{track}"
        rng = np.random.default_rng(list(sha256(name.encode()).digest()))
        middle = 180 if self.label else 60
        shape = (self.num_frames, CROP_SIDE, CROP_SIDE, 3)
        return np.clip(rng.normal(middle, 25, shape), 0, 255).astype(np.uint8)

    def sequences(self) -> list[CropSequence]:
        times = tuple(self.first_second + frame / 25 for frame in range(self.num_frames))
        return [
            CropSequence(
                sequence_id=f"{self.video_id[:16]}-{track:02d}-00",
                video_id=self.video_id,
                track_id=track,
                crops_THWC=self.pixels(track),
                frame_indices=tuple(range(self.num_frames)),
                pts_seconds=times,
                boxes_xyxy=((0.0, 0.0, 40.0, 40.0),) * self.num_frames,
                confidences=(0.9,) * self.num_frames,
                sharpness=(100.0,) * self.num_frames,
                brightness=(120.0,) * self.num_frames,
                keypoints_xy=(FRONTAL_KEYPOINTS,) * self.num_frames,
            )
            for track in range(self.num_tracks)
        ]

    def labels(self) -> dict[str, Any]:
        return {"label": self.label, "source": self.source, "generator": self.generator}


class Tiny:
    """Crop stores written by the project's own writers, and a detector trained in a second."""

    Clip = Clip
    preprocessing = PreprocessSettings(crop_pixels=CROP_SIDE, num_frames=12)
    calibration = Calibration(temperature=2.0, threshold=0.5, real_below=0.3, fake_from=0.7)
    detector = DetectorSettings(
        backbone="test_resnet",
        transformer=TransformerSettings(
            feature_dim=16, depth=1, num_heads=2, dropout=0.1, pooling="mean"
        ),
    )
    training = TrainSettings(
        detector=detector,
        batch_size=4,
        min_frames=2,
        phases=(Phase(max_epochs=3, learning_rate=5e-3),),
    )

    def clips(self, num_pairs: int = 4, *, part: str = "train", **changes: Any) -> list[Clip]:
        """As many real clips as fake ones, each fake made from the real one of its number."""
        return [
            Clip(
                path=f"{part}/{kind}_{number}.mp4",
                label=int(kind == "fake"),
                part=part,
                source=f"{part}/real_{number}.mp4" if kind == "fake" else None,
                **changes,
            )
            for number in range(num_pairs)
            for kind in ("real", "fake")
        ]

    def save_model(self, folder: Path, *, seed: int = 0, **architecture: Any) -> ModelLayout:
        """A checkpoint folder with random weights; changes are to the Transformer."""
        import torch

        from models.network.detector import Detector
        from storage.weights import weights_to_bytes

        torch.manual_seed(seed)
        assert self.detector.transformer is not None
        transformer = self.detector.transformer.model_copy(update=architecture)
        detector = self.detector.model_copy(update={"transformer": transformer})
        weights = weights_to_bytes(Detector(detector).state_dict())
        card = ModelCard(
            weights_sha256=sha256(weights).hexdigest(),
            detector=detector,
            training=self.training.model_copy(update={"detector": detector}),
            preprocessing=self.preprocessing,
            split_hash="0" * 12,
            calibration=self.calibration,
            aggregation=AGGREGATIONS[0],
            num_videos={},
            validation={},
            versions={},
        )
        save_checkpoint(ModelLayout(folder), weights, card)
        return ModelLayout(folder)

    @staticmethod
    def seal(values: dict[str, Any]) -> dict[str, Any]:
        """The content of a changed card with the ids that it would have had from the beginning."""
        own = {k: v for k, v in values.items() if k not in ModelCard.model_computed_fields}
        card = ModelCard.model_validate(own)
        return own | {name: getattr(card, name) for name in ModelCard.model_computed_fields}

    def save_exported_model(self, folder: Path, *, seed: int = 0) -> None:
        """The same, and its ONNX files in their own place."""
        from tasks.checkpoints.export import ensure_onnx_files

        ensure_onnx_files(self.save_model(folder, seed=seed))

    def three_parts(self) -> list[Clip]:
        return [*self.clips(4), *self.clips(2, part="val"), *self.clips(3, part="test")]

    def write_store(
        self,
        store: Path,
        videos: Sequence[Clip],
        *,
        settings: PreprocessSettings | None = None,
        shard_size: int = 3,
    ) -> StoreLayout:
        """Every file that preprocess and split would have left."""
        settings = settings or self.preprocessing
        layout = locate_preprocessed(store, settings_hash(settings))
        layout.path.mkdir(parents=True)
        layout.settings_path.write_text(settings.model_dump_json(), encoding="utf-8")
        for start in range(0, len(videos), shard_size):
            _write_shard(layout, f"shard-{start:03d}", videos[start : start + shard_size])
        self.write_tables(layout, videos)
        return layout

    def write_tables(self, layout: StoreLayout, videos: Sequence[Clip]) -> None:
        """Videos, manifest and split, for the shards that are there."""
        known = {video.video_id: video for video in videos}
        write_table(
            layout.videos_path,
            [
                {"root": "/videos", "path": v.path, **_result(v), "num_faces": v.num_tracks}
                | v.labels()
                for v in videos
            ],
            VIDEOS,
        )
        sequence_rows = [row for shard in layout.done_shards() for row in _rows(layout, shard)]
        write_table(
            layout.manifest_path,
            [
                {**row, "path": known[row["video_id"]].path, **known[row["video_id"]].labels()}
                for row in sequence_rows
                if row["video_id"] in known
            ],
            MANIFEST,
        )
        split_rows = [
            {
                "video_id": v.video_id,
                "component": v.video_id,
                "label": v.label,
                "split": v.part,
                "has_crops": True,
            }
            for v in videos
            if v.label is not None
        ]
        # Here and not above: it imports Prefect, which most tests can do without.
        from tasks.splits.stored import hash_split

        write_table(
            layout.split_path, split_rows, SPLIT, metadata={"split_hash": hash_split(split_rows)}
        )


def _write_shard(layout: StoreLayout, shard: str, videos: Sequence[Clip]) -> None:
    sequences = [sequence for video in videos for sequence in video.sequences()]
    with CropWriter(partial(layout.crops_path, shard)) as writer:
        places = [writer.append(sequence) for sequence in sequences]
    rows = [
        {
            **{name: getattr(sequence, name) for name in _COPIED},
            "shard": shard,
            "crop_file": crop_file,
            "crop_row": crop_row,
            "face_pixels": 40.0,
        }
        for sequence, (crop_file, crop_row) in zip(sequences, places, strict=True)
    ]
    write_table(layout.shard_sequences_path(shard), rows, SEQUENCES)
    write_table(layout.shard_videos_path(shard), [_result(v) for v in videos], VIDEO_RESULTS)


def _result(video: Clip) -> dict[str, Any]:
    return {"video_id": video.video_id, "status": "ok", "num_frames": video.num_frames}


def _rows(layout: StoreLayout, shard: str) -> list[dict[str, Any]]:
    return read_rows(layout.shard_sequences_path(shard), SEQUENCES)


_COPIED = (
    "sequence_id",
    "video_id",
    "track_id",
    "num_frames",
    "frame_indices",
    "pts_seconds",
    "boxes_xyxy",
    "confidences",
    "sharpness",
    "brightness",
    "keypoints_xy",
    "fingerprints",
)
