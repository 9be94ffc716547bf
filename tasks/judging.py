"""One video's faces and their features -> what the model says of it: tracks, segments, frames.

- How the logits of sequences become those of tracks and of the video, the model card says.
- Segments are stretches of a sequence that are judged like a whole one: they say where to look.
- A frame's score is what it says alone. Its head is trained beside the one that decides and is not
  calibrated itself: it ranks frames, it does not decide.
"""

import itertools
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from models.aggregation import track_logit, video_logit
from models.runtime import Floats, Judgement, Runtime, encode_all
from models.verdict import calibrated_score, verdict_of
from reelcheck.card import Aggregation, Calibration, ModelCard
from reelcheck.records import RGB, CropSequence, VideoResult
from reelcheck.status import Status
from storage.schemas import STAGES
from storage.tables import Row

_COPIED = tuple(
    field.name
    for field in fields(VideoResult)
    if field.name not in {"sequences", "stage_seconds", "status", "reason", "fingerprints"}
)
PART_LOOKS_FAKE = "part_looks_fake"
"""Flag: not fake as a whole, but a segment alone would be: perhaps only these seconds are."""
_BLURRED_BELOW = 20.0
"""Variance of the Laplacian."""
_DARK_BELOW, _BRIGHT_FROM = 40.0, 215.0
"""Mean luma, of 255."""


@dataclass(frozen=True, eq=False)
class JudgedSequence:
    """A crop sequence and what the model says of it."""

    sequence: CropSequence
    whole: Judgement
    segments: tuple[tuple[float, float, float], ...]
    """First and last second, and logit, of each."""


@dataclass(frozen=True, eq=False)
class JudgedTrack:
    """One face."""

    track_id: int
    sequences: tuple[JudgedSequence, ...]
    logit: float
    """As its sequences give it together."""


def judged(
    results: Iterable[VideoResult], card: ModelCard, runtime: Runtime
) -> Iterator[tuple[VideoResult, list[JudgedTrack], Row]]:
    """Each result with its tracks, the most suspicious first, and its row (``video_row``).

    Frames of several videos go through the encoder together; each sequence is judged alone, so no
    answer depends on what came with it.
    """
    clocked = _Clocked(runtime)
    settings = card.preprocessing
    no_crops = np.zeros((0, settings.crop_pixels, settings.crop_pixels, 3), np.uint8)
    items = (
        (result, np.concatenate([no_crops, *(s.crops_THWC for s in result.sequences)]))
        for result in results
    )
    for result, features_ND in encode_all(clocked, items):
        started = time.process_time()
        tracks = judge_sequences(
            result.sequences,
            features_ND,
            clocked,
            min_frames=settings.min_sequence_frames,
            aggregation=card.aggregation,
        )
        row = video_row(result, tracks, card)
        spent = time.process_time() - started + len(features_ND) * clocked.seconds_per_frame
        yield result, tracks, row | {"model_seconds": round(spent, 4)}


class _Clocked:
    """A runtime that counts the CPU seconds of its encoder."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.name = runtime.name
        self.batch_size = runtime.batch_size
        self._seconds, self._num_frames = 0.0, 0

    @property
    def seconds_per_frame(self) -> float:
        """CPU seconds, so far."""
        return self._seconds / max(1, self._num_frames)

    def encode(self, frames_NHWC: RGB) -> Floats:
        """See ``Runtime``."""
        started = time.process_time()
        features_ND = self._runtime.encode(frames_NHWC)
        self._seconds += time.process_time() - started
        self._num_frames += len(frames_NHWC)
        return features_ND

    def judge(self, features_TD: Floats, seconds_T: Floats) -> Judgement:
        """See ``Runtime``."""
        return self._runtime.judge(features_TD, seconds_T)


def judge_sequences(
    sequences: Sequence[CropSequence],
    features_ND: Floats,
    runtime: Runtime,
    *,
    min_frames: int,
    aggregation: Aggregation,
) -> list[JudgedTrack]:
    """The tracks of a video, the most suspicious first.

    Args:
        sequences: S crop sequences.
        features_ND: of all their frames, one sequence after the other.
        runtime: the model.
        min_frames: shortest segment.
        aggregation: how the logits of a track's sequences become one.
    """
    edges = np.cumsum([0, *(sequence.num_frames for sequence in sequences)])
    judged = [
        _judge(sequence, features_ND[start:end], runtime, min_frames)
        for sequence, (start, end) in zip(sequences, itertools.pairwise(edges), strict=True)
    ]
    by_track = itertools.groupby(
        sorted(judged, key=lambda item: item.sequence.track_id),
        key=lambda item: item.sequence.track_id,
    )
    tracks = [
        JudgedTrack(track_id, items, track_logit([i.whole.logit for i in items], aggregation))
        for track_id, items in ((track_id, tuple(group)) for track_id, group in by_track)
    ]
    # A logit that is no number comes first: it decides that the video has no score.
    return sorted(tracks, key=lambda t: (math.isfinite(t.logit), -t.logit, t.track_id))


def video_row(result: VideoResult, tracks: Sequence[JudgedTrack], card: ModelCard) -> Row:
    """What is known of one content, as in the table of scores, without path, time and evidence."""
    calibration = card.calibration
    row: Row = {
        **{name: getattr(result, name) for name in _COPIED},
        **{f"{s}_seconds": round(result.stage_seconds.get(s, 0.0), 4) for s in STAGES},
        "status": str(result.status),
        "reason": result.reason,
        "threshold": calibration.threshold,
        "real_below": calibration.real_below,
        "fake_from": calibration.fake_from,
        "quality_flags": [],
        "tracks": [],
        "segments": [],
        "frames": [],
        "model_id": card.model_id,
        "preprocessing_hash": card.preprocessing_hash,
    }
    if result.status is not Status.OK:
        return row
    if not all(map(_is_finite, tracks)):
        problem = "the model gave no finite number"
        return row | {"status": str(Status.MODEL_ERROR), "reason": problem}
    by_track = [[judged.whole.logit for judged in track.sequences] for track in tracks]
    logit = video_logit(by_track, card.aggregation)
    score = calibrated_score(logit, calibration)
    verdict, segments = verdict_of(score, calibration), _segment_rows(tracks, calibration)
    flags = quality_flags(result, tracks[0], crop_pixels=_crop_pixels(result, card))
    if verdict != "fake" and verdict_of(segments[0]["score"], calibration) == "fake":
        flags.append(PART_LOOKS_FAKE)
    return row | {
        "score": score,
        "logit": logit,
        "verdict": verdict,
        "num_frames_used": sum(item.sequence.num_frames for t in tracks for item in t.sequences),
        "quality_flags": flags,
        "tracks": [_track_row(track, calibration) for track in tracks],
        "segments": segments,
        "frames": [row for track in tracks for row in _frame_rows(track, calibration)],
    }


def quality_flags(result: VideoResult, track: JudgedTrack, *, crop_pixels: float) -> list[str]:
    """What makes the answer less certain than its score says.

    ``small_face``: the crop was enlarged for the model; ``blurred``, ``dark``, ``bright``: the
    crops as the model sees them; ``damaged``: frames could not be decoded; ``face_seldom_seen``: on
    fewer than half of the frames that were looked at.
    """
    row = _track_row(track, None)
    decoded = result.num_frames_decoded or 0
    flags = {
        "small_face": row["face_pixels"] < crop_pixels,
        "blurred": row["sharpness"] < _BLURRED_BELOW,
        "dark": row["brightness"] < _DARK_BELOW,
        "bright": row["brightness"] >= _BRIGHT_FROM,
        "damaged": decoded < (result.num_frames_sampled or 0),
        "face_seldom_seen": 2 * row["num_frames"] < decoded,
    }
    return [name for name, is_raised in flags.items() if is_raised]


def _crop_pixels(result: VideoResult, card: ModelCard) -> float:
    """Side of a face box, or of a picture taken whole, that fills a crop without being enlarged."""
    settings = card.preprocessing
    is_whole = result.container == "image" and settings.still_crop == "whole"
    return settings.crop_pixels / (1.0 if is_whole else settings.margin)


def _is_finite(track: JudgedTrack) -> bool:
    """All that the model says of it are numbers."""
    return all(
        np.isfinite(judged.whole.logit)
        and np.isfinite(judged.whole.frame_logits_T).all()
        and np.isfinite(judged.whole.frame_weights_T).all()
        and all(math.isfinite(logit) for _, _, logit in judged.segments)
        for judged in track.sequences
    )


def _judge(
    sequence: CropSequence, features_TD: Floats, runtime: Runtime, min_frames: int
) -> JudgedSequence:
    # Relative before float32: a late time stamp must not cost precision.
    seconds = np.asarray(sequence.pts_seconds)
    seconds_T = (seconds - seconds[0]).astype(np.float32)
    whole = runtime.judge(features_TD, seconds_T)
    segments = []
    for start, end in _windows(len(seconds_T), min_frames):
        is_whole = end - start == len(seconds_T)
        part = whole if is_whole else runtime.judge(features_TD[start:end], seconds_T[start:end])
        segments.append((float(seconds[start]), float(seconds[end - 1]), part.logit))
    return JudgedSequence(sequence, whole, tuple(segments))


def _windows(num_frames: int, size: int) -> Iterator[tuple[int, int]]:
    """Places of ``size`` frames, half of them shared with the next; the last ends at the end."""
    if num_frames <= size:
        yield 0, num_frames
        return
    num_windows = math.ceil((num_frames - size) / max(1, size / 2)) + 1
    for start in np.linspace(0, num_frames - size, num_windows).round().astype(int):
        yield int(start), int(start) + size


def _track_row(track: JudgedTrack, calibration: Calibration | None) -> Row:
    sequences = [judged.sequence for judged in track.sequences]
    boxes = np.concatenate([sequence.boxes_xyxy for sequence in sequences])
    return {
        "track_id": track.track_id,
        "start_seconds": min(sequence.pts_seconds[0] for sequence in sequences),
        "end_seconds": max(sequence.pts_seconds[-1] for sequence in sequences),
        "num_frames": sum(sequence.num_frames for sequence in sequences),
        "box_xyxy": [round(float(edge), 1) for edge in np.median(boxes, axis=0)],
        "face_pixels": float(np.median((boxes[:, 2:] - boxes[:, :2]).max(axis=1))),
        "sharpness": _median(sequence.sharpness for sequence in sequences),
        "brightness": _median(sequence.brightness for sequence in sequences),
        "logit": track.logit,
        "score": None if calibration is None else calibrated_score(track.logit, calibration),
    }


def _median(values: Iterable[Sequence[float]]) -> float:
    return float(np.median(np.concatenate([np.asarray(part) for part in values])))


def _segment_rows(tracks: Sequence[JudgedTrack], calibration: Calibration) -> list[Row]:
    rows = [
        {
            "track_id": track.track_id,
            "start_seconds": start,
            "end_seconds": end,
            "score": calibrated_score(logit, calibration),
        }
        for track in tracks
        for judged in track.sequences
        for start, end, logit in judged.segments
    ]
    return sorted(rows, key=lambda r: (-r["score"], r["start_seconds"], r["track_id"]))


def _frame_rows(track: JudgedTrack, calibration: Calibration) -> list[Row]:
    rows = [
        {
            "track_id": track.track_id,
            "frame_index": frame_index,
            "pts_seconds": seconds,
            "score": calibrated_score(float(logit), calibration),
            "weight": float(weight),
            "is_evidence": False,
        }
        for judged in track.sequences
        for frame_index, seconds, logit, weight in zip(
            judged.sequence.frame_indices,
            judged.sequence.pts_seconds,
            judged.whole.frame_logits_T,
            judged.whole.frame_weights_T,
            strict=True,
        )
    ]
    return sorted(rows, key=lambda row: row["pts_seconds"])
