"""Sequences of a made-up video, a model that judges them by one number, and their row."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.interop.runtime import Engine, Floats, SequencePrediction
from models.metrics.aggregation import AGGREGATIONS
from reelcheck.card import Calibration, ModelCard
from reelcheck.records import RGB, CropSequence, VideoResult
from reelcheck.status import Status
from storage.tables import Row
from tasks.scoring.predict import (
    TrackPrediction,
    make_video_row,
    predict_tracks,
)

CALIBRATION = Calibration(temperature=2.0, threshold=0.5, real_below=0.3, fake_from=0.7)
MIN_FRAMES = 4
VIDEO_ID = "0" * 64


class FirstFeature:
    """Judges a frame by its only feature, a sequence by the mean; remembers what it was asked."""

    name: Engine = "torch"
    batch_size = 8

    def __init__(self) -> None:
        self.asked: list[tuple[Floats, Floats]] = []

    def encode(self, frames_NHWC: RGB) -> Floats:
        raise NotImplementedError

    def classify(self, features_TD: Floats, seconds_T: Floats) -> SequencePrediction:
        self.asked.append((features_TD, seconds_T))
        weights_T = np.full(len(features_TD), 1 / len(features_TD), np.float32)
        return SequencePrediction(float(features_TD.mean()), features_TD[:, 0], weights_T)


def sequence_of(
    num_frames: int,
    *,
    track_id: int = 0,
    part: int = 0,
    first_frame: int = 0,
    first_second: float = 0.0,
    side: float = 100.0,
    sharpness: float = 100.0,
    brightness: float = 120.0,
) -> CropSequence:
    frames = range(first_frame, first_frame + num_frames)
    return CropSequence(
        sequence_id=f"{VIDEO_ID[:16]}-{track_id:02d}-{part:02d}",
        video_id=VIDEO_ID,
        track_id=track_id,
        crops_THWC=np.zeros((num_frames, 2, 2, 3), np.uint8),
        frame_indices=tuple(frames),
        pts_seconds=tuple(first_second + frame / 25 for frame in frames),
        boxes_xyxy=((10.0, 20.0, 10.0 + side, 20.0 + 0.9 * side),) * num_frames,
        confidences=(0.9,) * num_frames,
        sharpness=(sharpness,) * num_frames,
        brightness=(brightness,) * num_frames,
        keypoints_xy=(),
    )


def result_of(*sequences: CropSequence, **changes: Any) -> VideoResult:
    known: dict[str, Any] = {
        "video_id": VIDEO_ID,
        "status": Status.OK,
        "container": "mov,mp4",
        "num_frames_sampled": 30,
        "num_frames_decoded": 30,
        "sequences": sequences,
        "stage_seconds": {"decode": 0.25},
    }
    return VideoResult(**(known | changes))


def judged(
    sequences: Sequence[CropSequence], logits_N: Sequence[float], *, min_frames: int = MIN_FRAMES
) -> list[TrackPrediction]:
    features_ND = np.array(logits_N, np.float32)[:, None]
    return predict_tracks(
        sequences, features_ND, FirstFeature(), min_frames=min_frames, aggregation=AGGREGATIONS[0]
    )


def row_of(
    sequences: Sequence[CropSequence], logits_N: Sequence[float], card: ModelCard, **changes: Any
) -> Row:
    tracks = judged(sequences, logits_N)
    return make_video_row(result_of(*sequences, **changes), tracks, card)
