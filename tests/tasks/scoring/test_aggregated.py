"""The rule in a model's card decides how a video's sequences become one answer."""

from typing import Any

import numpy as np
import pytest

from models.interop.runtime import Engine, Floats, SequencePrediction
from models.metrics.aggregation import AGGREGATIONS
from reelcheck.card import Aggregation, ModelCard
from reelcheck.records import RGB, CropSequence, VideoResult
from reelcheck.status import Status
from tasks.scoring.predict import predict_videos

LOGITS = {(0, 0): 3.0, (0, 1): -4.0, (1, 0): 1.0, (1, 1): 1.5, (2, 0): -2.0}
"""Track and part -> logit."""
EXPECTED: dict[Aggregation, tuple[float, list[tuple[int, float]]]] = {
    "worst_track_of_mean_sequence_logits": (1.25, [(1, 1.25), (0, -0.5), (2, -2.0)]),
    "worst_sequence_logit": (3.0, [(0, 3.0), (1, 1.5), (2, -2.0)]),
    "mean_sequence_logit": (-0.1, [(1, 1.25), (0, -0.5), (2, -2.0)]),
}
"""Rule -> the video's logit, and its tracks with theirs, the most suspicious first."""


class FirstPixel:
    """Says of a frame what its first pixel is, less 100, in tenths."""

    name: Engine = "torch"
    batch_size = 2

    def encode(self, frames_NHWC: RGB) -> Floats:
        return (frames_NHWC[:, 0, 0, :1].astype(np.float32) - 100) / 10

    def classify(self, features_TD: Floats, seconds_T: Floats) -> SequencePrediction:
        weights_T = np.full(len(features_TD), 1 / len(features_TD), np.float32)
        return SequencePrediction(float(features_TD.mean()), features_TD[:, 0], weights_T)


def sequence_of(track: int, part: int, value: int, *, side: int, first: int) -> CropSequence:
    return CropSequence(
        sequence_id=f"v-{track:02d}-{part:02d}",
        video_id="v",
        track_id=track,
        crops_THWC=np.full((3, side, side, 3), value, np.uint8),
        frame_indices=tuple(range(first, first + 3)),
        pts_seconds=tuple((first + frame) / 25 for frame in range(3)),
        boxes_xyxy=((0.0, 0.0, 100.0, 100.0),) * 3,
        confidences=(0.9,) * 3,
        sharpness=(100.0,) * 3,
        brightness=(120.0,) * 3,
        keypoints_xy=(),
    )


def test_rules_of_these_tests_are_all_there_are() -> None:
    assert set(EXPECTED) == set(AGGREGATIONS)


@pytest.mark.parametrize("rule", AGGREGATIONS)
def test_rule_of_the_card_decides_over_track_and_video(tiny: Any, rule: Aggregation) -> None:
    card = ModelCard(
        weights_sha256="0" * 64,
        detector=tiny.detector,
        training=None,
        preprocessing=tiny.preprocessing,
        split_hash=None,
        calibration=tiny.calibration,
        aggregation=rule,
        num_videos={},
        validation={},
        versions={},
    )
    sequences = tuple(
        sequence_of(
            track,
            part,
            100 + round(10 * value),
            side=tiny.preprocessing.crop_pixels,
            first=3 * part,
        )
        for (track, part), value in LOGITS.items()
    )
    results = [
        VideoResult(video_id="v", status=Status.OK, sequences=sequences),
        VideoResult(video_id="w", status=Status.NO_FACE, reason="x"),
    ]
    (result, tracks, row), (_, none, empty) = predict_videos(results, card, FirstPixel())
    logit, by_track = EXPECTED[rule]
    assert result is results[0]
    assert row["logit"] == pytest.approx(logit)
    assert [track.track_id for track in tracks] == [number for number, _ in by_track]
    assert [track["logit"] for track in row["tracks"]] == pytest.approx([x for _, x in by_track])
    # Where to look does not depend on the rule.
    assert row["segments"][0]["track_id"] == 0
    assert (none, empty["status"], empty.get("score"), empty["tracks"]) == ([], "no_face", None, [])
