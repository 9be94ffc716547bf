"""What a model says of a video's faces -> its row: who is suspected, where, and how surely."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judged_faces import (
    CALIBRATION,
    MIN_FRAMES,
    VIDEO_ID,
    FirstFeature,
    judged,
    result_of,
    row_of,
    sequence_of,
)
from scipy.special import expit

from models.metrics.aggregation import AGGREGATIONS
from reelcheck.card import ModelCard
from reelcheck.status import Status
from storage.schemas import SCORES, STAGES
from storage.tables import Row, read_rows, write_table
from tasks.scoring.predict import (
    make_video_row,
    predict_tracks,
)


@settings(deadline=None)
@given(num_frames=st.integers(1, 200), size=st.integers(1, 40))
def test_segments_cover_all_frames_and_the_last_ends_at_the_end(num_frames: int, size: int) -> None:
    runtime = FirstFeature()
    features_ND = np.arange(num_frames, dtype=np.float32)[:, None]
    [track] = predict_tracks(
        [sequence_of(num_frames)],
        features_ND,
        runtime,
        min_frames=size,
        aggregation=AGGREGATIONS[0],
    )
    [item] = track.sequences
    # The frames' numbers are their features: what was judged says which frames a segment has.
    parts = [features_TD[:, 0].astype(int).tolist() for features_TD, _ in runtime.asked[1:]]
    parts = parts or [list(range(num_frames))]
    assert {len(part) for part in parts} == {min(size, num_frames)}
    assert all(part == list(range(part[0], part[-1] + 1)) for part in parts)
    assert sorted({frame for part in parts for frame in part}) == list(range(num_frames))
    assert parts[-1][-1] == num_frames - 1
    for before, after in itertools.pairwise(parts):
        # A step forward of at most half a segment.
        assert 0 < after[0] - before[0] <= max(1, math.ceil(size / 2))
    assert item.segments == tuple(
        (part[0] / 25, part[-1] / 25, float(np.mean(part))) for part in parts
    )


def test_a_sequence_as_short_as_a_segment_is_judged_once() -> None:
    runtime = FirstFeature()
    features_ND = np.zeros((MIN_FRAMES, 1), np.float32)
    predict_tracks(
        [sequence_of(MIN_FRAMES)],
        features_ND,
        runtime,
        min_frames=MIN_FRAMES,
        aggregation=AGGREGATIONS[0],
    )
    assert len(runtime.asked) == 1


@pytest.mark.parametrize("first_second", [0.0, 3.5, 1e9])
def test_the_model_sees_times_from_the_first_frame_of_what_it_judges(first_second: float) -> None:
    runtime = FirstFeature()
    sequence = sequence_of(9, first_second=first_second)
    predict_tracks(
        [sequence], np.zeros((9, 1), np.float32), runtime, min_frames=9, aggregation=AGGREGATIONS[0]
    )
    [(_, seconds_T)] = runtime.asked
    assert seconds_T.dtype == np.float32
    # A second of 1e9 is a double good for 1e-7 s; as float32 it would be 64 s off.
    np.testing.assert_allclose(seconds_T, np.arange(9) / 25, atol=1e-6)


def test_features_go_to_the_sequences_they_belong_to(card: ModelCard) -> None:
    sequences = [
        sequence_of(3, track_id=1),
        sequence_of(5, track_id=0),
        sequence_of(2, track_id=1, part=1, first_frame=40),
    ]
    logits = [1.0, 2, 3, -4, -5, -6, -7, -8, 20, 22]
    row = row_of(sequences, logits, card)
    assert [(track["track_id"], track["logit"]) for track in row["tracks"]] == [
        (1, (2.0 + 21.0) / 2),
        (0, -6.0),
    ]
    assert row["logit"] == (2.0 + 21.0) / 2
    assert row["num_frames_used"] == 10
    shown = [(frame["track_id"], frame["frame_index"]) for frame in row["frames"]]
    assert shown == [(1, 0), (1, 1), (1, 2), (1, 40), (1, 41), *((0, n) for n in range(5))]
    np.testing.assert_allclose(
        [frame["score"] for frame in row["frames"]],
        expit(np.array([1, 2, 3, 20, 22, -4, -5, -6, -7, -8]) / CALIBRATION.temperature),
    )


def test_altered_face_comes_first_and_its_altered_stretch_is_the_top_segment(
    card: ModelCard,
) -> None:
    # Track 1 is altered on its frames 8 to 11.
    altered = [6.0 if 8 <= frame < 12 else -3.0 for frame in range(20)]
    sequences = [sequence_of(20, track_id=0), sequence_of(20, track_id=1, first_second=2.0)]
    row = row_of(sequences, [-3.5] * 20 + altered, card)
    assert [track["track_id"] for track in row["tracks"]] == [1, 0]
    first, *others = row["segments"]
    assert first["track_id"] == 1
    assert (first["start_seconds"], first["end_seconds"]) == (2 + 8 / 25, 2 + 11 / 25)
    assert first["score"] == pytest.approx(expit(6.0 / CALIBRATION.temperature))
    assert all(segment["score"] < first["score"] for segment in others)
    assert [s["score"] for s in others] == sorted((s["score"] for s in others), reverse=True)


LOGITS = st.floats(-60, 60, width=32)


@settings(deadline=None)
@given(logits=st.lists(LOGITS, min_size=1, max_size=4))
def test_the_worst_track_decides(card: ModelCard, logits: list[float]) -> None:
    sequences = [sequence_of(2, track_id=track) for track in range(len(logits))]
    row = row_of(sequences, [logit for logit in logits for _ in range(2)], card)
    score = float(expit(max(logits) / CALIBRATION.temperature))
    assert row["logit"] == max(logits)
    assert row["score"] == row["tracks"][0]["score"] == pytest.approx(score)
    expected = "fake" if score >= 0.7 else "real" if score < 0.3 else "inconclusive"
    assert row["verdict"] == expected
    scores = [track["score"] for track in row["tracks"]]
    assert scores == sorted(scores, reverse=True)


@settings(deadline=None)
@given(order=st.permutations(range(3)))
def test_equally_suspected_tracks_keep_the_order_of_their_numbers(
    card: ModelCard, order: list[int]
) -> None:
    row = row_of([sequence_of(2, track_id=track) for track in order], [1.0] * 6, card)
    assert [track["track_id"] for track in row["tracks"]] == [0, 1, 2]


NOT_JUDGED = ("score", "verdict", "logit", "num_frames_used")
LISTS = ("quality_flags", "tracks", "segments", "frames")


@pytest.mark.parametrize("position", [0, 5, 9])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_logit_of_any_track_that_is_no_number_is_a_model_error(
    card: ModelCard, position: int, number: float
) -> None:
    logits = [1.0] * 10
    logits[position] = number
    sequences = [sequence_of(5, track_id=0), sequence_of(5, track_id=1)]
    row = row_of(sequences, logits, card)
    assert row["status"] == Status.MODEL_ERROR
    assert "finite" in row["reason"]
    assert [row.get(name) for name in NOT_JUDGED] == [None] * 4
    assert [row[name] for name in LISTS] == [[]] * 4


@pytest.mark.parametrize("field", ["frame_logits_T", "frame_weights_T"])
def test_frames_that_get_no_number_are_a_model_error_too(card: ModelCard, field: str) -> None:
    # Their head is another one than that which decides.
    [track] = judged([sequence_of(3)], [1.0, 2.0, 3.0])
    [item] = track.sequences
    broken = replace(item.whole, **{field: np.array([1, np.nan, 1], np.float32)})
    tracks = [replace(track, sequences=(replace(item, whole=broken),))]
    row = make_video_row(result_of(item.sequence), tracks, card)
    assert row["status"] == Status.MODEL_ERROR


def in_table(row: Row, folder: Path) -> Row:
    """The row as the table of scores gives it back; JSON takes it as well."""
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    write_table(folder / "scores.parquet", [{**row, "root": "/r", "path": "p"}], SCORES)
    [stored] = read_rows(folder / "scores.parquet", SCORES)
    return stored


NULL_WHERE_OK = {
    *("reason", "size_bytes", "mtime_ns", "ctime_ns", "evidence_path"),  # not of the model
    *("codec", "width", "height", "average_fps", "duration_seconds", "num_frames", "decoder"),
    *("num_packets_decoded", "largest_snap_seconds", "num_frames_with_face", "num_faces"),
    "head_rotation",
}


def test_row_of_a_judged_video_fits_the_table(tmp_path: Path, card: ModelCard) -> None:
    sequences = [
        sequence_of(9, track_id=0, side=40.0),
        sequence_of(6, track_id=1, first_frame=3, first_second=0.5),
        sequence_of(6, track_id=1, part=1, first_frame=20, first_second=0.5),
    ]
    row = in_table(row_of(sequences, np.linspace(-3, 3, 21).tolist(), card), tmp_path)
    assert {name for name, value in row.items() if value is None} == NULL_WHERE_OK
    assert (row["status"], row["video_id"], row["model_id"]) == ("ok", VIDEO_ID, card.model_id)
    assert row["preprocessing_hash"] == card.preprocessing_hash
    for name in ("threshold", "real_below", "fake_from"):
        assert row[name] == getattr(CALIBRATION, name)
    seconds = {stage: row[f"{stage}_seconds"] for stage in STAGES}
    assert seconds == {"demux": 0, "decode": 0.25, "detect": 0, "crop": 0, "model": 0}
    for name in ("tracks", "segments", "frames"):
        assert row[name]
        assert not any(value is None for item in row[name] for value in item.values())
    first, second = row["tracks"]
    assert (first["track_id"], first["num_frames"]) == (1, 12)
    assert (first["start_seconds"], first["end_seconds"]) == (0.5 + 3 / 25, 0.5 + 25 / 25)
    assert second["box_xyxy"] == [10.0, 20.0, 50.0, 56.0]
    assert second["face_pixels"] == 40.0
    assert (second["sharpness"], second["brightness"]) == (100.0, 120.0)
    for track in (0, 1):
        frames = [frame for frame in row["frames"] if frame["track_id"] == track]
        assert [f["pts_seconds"] for f in frames] == sorted(f["pts_seconds"] for f in frames)
    assert not any(frame["is_evidence"] for frame in row["frames"])


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.OK])
def test_row_of_a_video_that_was_not_judged_has_no_score(
    tmp_path: Path, card: ModelCard, status: Status
) -> None:
    result = result_of(status=status, reason="why", num_frames_decoded=3)
    row = in_table(make_video_row(result, [], card), tmp_path)
    assert (row["status"], row["reason"], row["num_frames_decoded"]) == (str(status), "why", 3)
    assert [row[name] for name in NOT_JUDGED] == [None] * 4
    assert [row[name] for name in LISTS] == [[]] * 4
