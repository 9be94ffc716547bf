"""A store of made-up crop sequences and a detector small enough to train in a second.

Real files, written by the project's own writers: bright crops are fake, dark ones are real.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from reelcheck.config import DetectorSettings, PreprocessSettings, TrainSettings, settings_hash
from reelcheck.records import RGB, CropSequence
from storage.crops import write_crops
from storage.layout import StoreLayout, preprocessed
from storage.schemas import MANIFEST, SEQUENCES, SPLIT, VIDEO_RESULTS, VIDEOS
from storage.tables import read_rows, write_table
from tasks.split import split_hash

SIDE = 32
PREPROCESSING = PreprocessSettings(crop_pixels=SIDE, num_frames=12)
DETECTOR = DetectorSettings(
    backbone="test_resnet",
    feature_dim=16,
    depth=1,
    num_heads=2,
    dropout=0.1,
    pooling="mean",
)
TRAINING = TrainSettings(
    detector=DETECTOR, batch_size=4, max_epochs=3, min_frames=2, learning_rate=5e-3
)


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One video of the store."""

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
        shape = (self.num_frames, SIDE, SIDE, 3)
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
            )
            for track in range(self.num_tracks)
        ]

    def labels(self) -> dict[str, Any]:
        return {"label": self.label, "source": self.source, "generator": self.generator}


def clips(num_pairs: int = 4, *, part: str = "train", **changes: Any) -> list[Clip]:
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


def three_parts() -> list[Clip]:
    return [*clips(4), *clips(2, part="val"), *clips(3, part="test")]


def write_store(
    store: Path,
    videos: Sequence[Clip],
    *,
    settings: PreprocessSettings = PREPROCESSING,
    shard_size: int = 3,
) -> StoreLayout:
    """Every file that preprocess and split would have left."""
    layout = preprocessed(store, settings_hash(settings))
    layout.path.mkdir(parents=True)
    layout.settings_path.write_text(settings.model_dump_json(), encoding="utf-8")
    for start in range(0, len(videos), shard_size):
        _write_shard(layout, f"shard-{start:03d}", videos[start : start + shard_size])
    write_tables(layout, videos)
    return layout


def write_tables(layout: StoreLayout, videos: Sequence[Clip]) -> None:
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
        {"video_id": v.video_id, "component": v.video_id, "label": v.label, "split": v.part}
        for v in videos
        if v.label is not None
    ]
    write_table(
        layout.split_path, split_rows, SPLIT, metadata={"split_hash": split_hash(split_rows)}
    )


def _write_shard(layout: StoreLayout, shard: str, videos: Sequence[Clip]) -> None:
    sequences = [sequence for video in videos for sequence in video.sequences()]
    write_crops(layout.crops_path(shard), sequences)
    rows = [
        {
            **{name: getattr(sequence, name) for name in _COPIED},
            "shard": shard,
            "row": row,
            "face_pixels": 40.0,
        }
        for row, sequence in enumerate(sequences)
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
)
