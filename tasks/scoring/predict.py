"""One video's faces and their features -> the model's prediction: tracks, segments, frames.

- The model card says how the logits of sequences become those of tracks and of the video.
- Segments are stretches of a sequence that are predicted like a whole one: they say where to look.
- A frame's score is what the frame says alone. Its head is trained beside the one that decides and
  is not calibrated: it ranks frames, it does not decide.
"""

import itertools
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from models.interop.runtime import Floats, Runtime, SequencePrediction, encode_all
from models.metrics.aggregation import aggregate_track, aggregate_video
from models.metrics.verdict import calibrate_score, decide_verdict
from reelcheck.card import Aggregation, Calibration, ModelCard
from reelcheck.records import RGB, CropSequence, VideoResult
from reelcheck.status import Status
from storage.results import probe_columns
from storage.rows import FrameRow, PredictionRow, SegmentRow, TrackRow

PREDICTION_VERSION = 1
"""Version of the algorithm. Increase it when the same logits give other rows."""
PART_LOOKS_FAKE = "part_looks_fake"
"""Flag: not fake as a whole, but a segment alone would be: perhaps only these seconds are."""
_BLURRED_BELOW = 20.0
"""Variance of the Laplacian."""
_DARK_BELOW, _BRIGHT_FROM = 40.0, 215.0
"""Mean luma, of 255."""


@dataclass(frozen=True, eq=False)
class PredictedSequence:
    """A crop sequence and the model's predictions for it."""

    sequence: CropSequence
    whole: SequencePrediction
    segments: tuple[tuple[float, float, float], ...]
    """First second, last second and logit of each segment."""


@dataclass(frozen=True, eq=False)
class TrackPrediction:
    """The prediction for one face track."""

    track_id: int
    sequences: tuple[PredictedSequence, ...]
    logit: float
    """Joined from the logits of the sequences."""


def predict_videos(
    results: Iterable[VideoResult], card: ModelCard, runtime: Runtime
) -> Iterator[tuple[VideoResult, list[TrackPrediction], PredictionRow]]:
    """Yield each result with its tracks, the most suspicious first, and its row.

    Frames of several videos go through the encoder together; the head takes each sequence alone, so
    that no prediction depends on what came with it.
    """
    clocked = _ClockedRuntime(runtime)
    settings = card.preprocessing
    no_crops = np.zeros((0, settings.crop_pixels, settings.crop_pixels, 3), np.uint8)
    items = (
        (result, np.concatenate([no_crops, *(s.crops_THWC for s in result.sequences)]))
        for result in results
    )
    for result, features_ND in encode_all(clocked, items):
        started = time.process_time()
        tracks = predict_tracks(
            result.sequences,
            features_ND,
            clocked,
            min_frames=settings.min_sequence_frames,
            aggregation=card.aggregation,
        )
        row = make_video_row(result, tracks, card)
        spent = time.process_time() - started + len(features_ND) * clocked.seconds_per_frame
        yield result, tracks, {**row, "model_seconds": round(spent, 4)}


class _ClockedRuntime:
    """A runtime that counts the CPU seconds of its encoder."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.name = runtime.name
        self.batch_size = runtime.batch_size
        self._seconds, self._num_frames = 0.0, 0

    @property
    def seconds_per_frame(self) -> float:
        """Mean CPU seconds of the frames encoded until now."""
        return self._seconds / max(1, self._num_frames)

    def encode(self, frames_NHWC: RGB) -> Floats:
        """See ``Runtime``."""
        started = time.process_time()
        features_ND = self._runtime.encode(frames_NHWC)
        self._seconds += time.process_time() - started
        self._num_frames += len(frames_NHWC)
        return features_ND

    def classify(self, features_TD: Floats, seconds_T: Floats) -> SequencePrediction:
        """See ``Runtime``."""
        return self._runtime.classify(features_TD, seconds_T)


def predict_tracks(
    sequences: Sequence[CropSequence],
    features_ND: Floats,
    runtime: Runtime,
    *,
    min_frames: int,
    aggregation: Aggregation,
) -> list[TrackPrediction]:
    """Predict the tracks of one video, the most suspicious first.

    Args:
        sequences: S crop sequences.
        features_ND: features of all their frames, one sequence after the other.
        runtime: the model.
        min_frames: frames of a segment.
        aggregation: how the logits of a track's sequences become one.
    """
    edges = np.cumsum([0, *(sequence.num_frames for sequence in sequences)])
    predicted = [
        _predict_sequence(sequence, features_ND[start:end], runtime, min_frames)
        for sequence, (start, end) in zip(sequences, itertools.pairwise(edges), strict=True)
    ]
    by_track = itertools.groupby(
        sorted(predicted, key=lambda item: item.sequence.track_id),
        key=lambda item: item.sequence.track_id,
    )
    tracks = [
        TrackPrediction(
            track_id, items, aggregate_track([i.whole.logit for i in items], aggregation)
        )
        for track_id, items in ((track_id, tuple(group)) for track_id, group in by_track)
    ]
    # A logit that is no number comes first: it decides that the video has no score.
    return sorted(tracks, key=lambda t: (math.isfinite(t.logit), -t.logit, t.track_id))


def make_video_row(
    result: VideoResult, tracks: Sequence[TrackPrediction], card: ModelCard
) -> PredictionRow:
    """Make the row of one content; evidence and the time of the model are added by others."""
    row = _make_empty_row(result, card)
    if result.status is not Status.OK:
        return row
    if not all(map(_is_finite, tracks)):
        problem = "the model gave no finite number"
        return {**row, "status": str(Status.MODEL_ERROR), "reason": problem}
    calibration = card.calibration
    by_track = [[item.whole.logit for item in track.sequences] for track in tracks]
    logit = aggregate_video(by_track, card.aggregation)
    score = calibrate_score(logit, calibration)
    verdict, segments = decide_verdict(score, calibration), _make_segment_rows(tracks, calibration)
    flags = find_quality_flags(result, tracks[0], crop_pixels=_measure_filling_side(result, card))
    if verdict != "fake" and decide_verdict(segments[0]["score"], calibration) == "fake":
        flags.append(PART_LOOKS_FAKE)
    return {
        **row,
        "score": score,
        "logit": logit,
        "verdict": verdict,
        "num_frames_used": sum(item.sequence.num_frames for t in tracks for item in t.sequences),
        "quality_flags": flags,
        "tracks": [_make_track_row(track, calibration) for track in tracks],
        "segments": segments,
        "frames": [frame for track in tracks for frame in _make_frame_rows(track, calibration)],
    }


def _make_empty_row(result: VideoResult, card: ModelCard) -> PredictionRow:
    """Make the row of a content without a score."""
    seconds = {stage: round(spent, 4) for stage, spent in result.stage_seconds.items()}
    return {
        "video_id": result.video_id,
        **probe_columns(result),
        "demux_seconds": seconds.get("demux", 0.0),
        "decode_seconds": seconds.get("decode", 0.0),
        "detect_seconds": seconds.get("detect", 0.0),
        "crop_seconds": seconds.get("crop", 0.0),
        "model_seconds": 0.0,
        "status": str(result.status),
        "reason": result.reason,
        "score": None,
        "verdict": None,
        "logit": None,
        "threshold": card.calibration.threshold,
        "real_below": card.calibration.real_below,
        "fake_from": card.calibration.fake_from,
        "num_frames_used": None,
        "quality_flags": [],
        "tracks": [],
        "segments": [],
        "frames": [],
        "evidence_path": None,
        "model_id": card.model_id,
        "preprocessing_hash": card.preprocessing_hash,
    }


def find_quality_flags(
    result: VideoResult, track: TrackPrediction, *, crop_pixels: float
) -> list[str]:
    """Find what makes the prediction less certain than its score says.

    ``small_face``: the crop was enlarged for the model; ``blurred``, ``dark``, ``bright``: the
    crops as the model sees them; ``damaged``: frames could not be decoded, or only with doubt, and
    were left out; ``face_seldom_seen``: on fewer than half of the frames that were looked at.
    """
    row = _make_track_row(track, None)
    decoded = result.num_frames_decoded or 0
    flags = {
        "small_face": row["face_pixels"] < crop_pixels,
        "blurred": row["sharpness"] < _BLURRED_BELOW,
        "dark": row["brightness"] < _DARK_BELOW,
        "bright": row["brightness"] >= _BRIGHT_FROM,
        "damaged": result.reason is not None,
        "face_seldom_seen": 2 * row["num_frames"] < decoded,
    }
    return [name for name, is_raised in flags.items() if is_raised]


def _measure_filling_side(result: VideoResult, card: ModelCard) -> float:
    """Side of a face box, or of a picture taken whole, that fills a crop without being enlarged."""
    settings = card.preprocessing
    is_whole = result.container == "image" and settings.still_crop == "whole"
    return settings.crop_pixels / (1.0 if is_whole else settings.margin)


def _is_finite(track: TrackPrediction) -> bool:
    """Whether all predictions for a track are numbers."""
    return all(
        np.isfinite(item.whole.logit)
        and np.isfinite(item.whole.frame_logits_T).all()
        and np.isfinite(item.whole.frame_weights_T).all()
        and all(math.isfinite(logit) for _, _, logit in item.segments)
        for item in track.sequences
    )


def _predict_sequence(
    sequence: CropSequence, features_TD: Floats, runtime: Runtime, min_frames: int
) -> PredictedSequence:
    # Relative before float32: a late time stamp must not cost precision.
    seconds = np.asarray(sequence.pts_seconds)
    seconds_T = (seconds - seconds[0]).astype(np.float32)
    whole = runtime.classify(features_TD, seconds_T)
    segments = []
    for start, end in _cut_windows(len(seconds_T), min_frames):
        is_whole = end - start == len(seconds_T)
        segment = (
            whole if is_whole else runtime.classify(features_TD[start:end], seconds_T[start:end])
        )
        segments.append((float(seconds[start]), float(seconds[end - 1]), segment.logit))
    return PredictedSequence(sequence, whole, tuple(segments))


def _cut_windows(num_frames: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of windows of ``size`` frames; each shares half with the next.

    The last window ends with the sequence.
    """
    if num_frames <= size:
        yield 0, num_frames
        return
    num_windows = math.ceil((num_frames - size) / max(1, size / 2)) + 1
    for start in np.linspace(0, num_frames - size, num_windows).round().astype(int):
        yield int(start), int(start) + size


def _make_track_row(track: TrackPrediction, calibration: Calibration | None) -> TrackRow:
    sequences = [item.sequence for item in track.sequences]
    boxes = np.concatenate([sequence.boxes_xyxy for sequence in sequences])
    return {
        "track_id": track.track_id,
        "start_seconds": min(sequence.pts_seconds[0] for sequence in sequences),
        "end_seconds": max(sequence.pts_seconds[-1] for sequence in sequences),
        "num_frames": sum(sequence.num_frames for sequence in sequences),
        "box_xyxy": [round(float(edge), 1) for edge in np.median(boxes, axis=0)],
        "face_pixels": float(np.median((boxes[:, 2:] - boxes[:, :2]).max(axis=1))),
        "sharpness": _take_median(sequence.sharpness for sequence in sequences),
        "brightness": _take_median(sequence.brightness for sequence in sequences),
        "logit": track.logit,
        "score": None if calibration is None else calibrate_score(track.logit, calibration),
    }


def _take_median(values: Iterable[Sequence[float]]) -> float:
    return float(np.median(np.concatenate([np.asarray(piece) for piece in values])))


def _make_segment_rows(
    tracks: Sequence[TrackPrediction], calibration: Calibration
) -> list[SegmentRow]:
    rows: list[SegmentRow] = [
        {
            "track_id": track.track_id,
            "start_seconds": start,
            "end_seconds": end,
            "score": calibrate_score(logit, calibration),
        }
        for track in tracks
        for item in track.sequences
        for start, end, logit in item.segments
    ]
    return sorted(rows, key=lambda r: (-r["score"], r["start_seconds"], r["track_id"]))


def _make_frame_rows(track: TrackPrediction, calibration: Calibration) -> list[FrameRow]:
    rows: list[FrameRow] = [
        {
            "track_id": track.track_id,
            "frame_index": frame_index,
            "pts_seconds": seconds,
            "score": calibrate_score(float(logit), calibration),
            "weight": float(weight),
            "is_evidence": False,
        }
        for item in track.sequences
        for frame_index, seconds, logit, weight in zip(
            item.sequence.frame_indices,
            item.sequence.pts_seconds,
            item.whole.frame_logits_T,
            item.whole.frame_weights_T,
            strict=True,
        )
    ]
    return sorted(rows, key=lambda row: row["pts_seconds"])
