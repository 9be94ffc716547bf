"""One video file -> face crop sequences: probe, plan, search, cut into sequences.

Runs in a decode process.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from reelcheck.config import Decoder, PreprocessSettings
from reelcheck.errors import VideoError
from reelcheck.perturbations import Perturbation
from reelcheck.records import CropSequence, VideoProbe, VideoResult
from reelcheck.status import Status
from tasks.faces.decoding.decode import FrameReader
from tasks.faces.decoding.plan import plan_samples, space_evenly
from tasks.faces.decoding.probe import probe_video
from tasks.faces.detection.aligned import (
    MAX_CROPS,
    compute_face_fingerprints,
    locate_again,
)
from tasks.faces.detection.crop import measure_quality
from tasks.faces.detection.detect import FaceDetector
from tasks.faces.detection.track import Track
from tasks.faces.search import Pass, ReadFrames, Search
from tasks.faces.stopwatch import Stopwatch

MAX_FINGERPRINTS = 32
"""Largest number of fingerprints that are kept of a video's frames."""
_MAX_KEYPOINT_MOVE = 0.3
"""Largest difference, in sides of a crop, of eyes, nose and mouth as seen on frame and crop."""


def extract_video(
    path: Path,
    video_id: str,
    settings: PreprocessSettings,
    detector: FaceDetector,
    *,
    decoder: Decoder = "auto",
    is_retry: bool = False,
    perturbation: Perturbation | None = None,
    scratch_dir: Path | None = None,
) -> VideoResult:
    """Process one video; any problem becomes the result's status and reason.

    Args:
        path: the video.
        video_id: hash of its content.
        settings: which frames to search and how to cut out faces.
        detector: finds faces on one picture.
        decoder: see ``RunSettings``.
        is_retry: begin with the decoder that the first attempt did not begin with.
        perturbation: change of the video before the search; the result describes the changed video.
        scratch_dir: folder for a perturbed file; None: the system's folder for temporary files.

    Raises:
        MemoryError: it needs more memory than this process may use; another decoder may need less.
    """
    cv2.setNumThreads(1)
    result = VideoResult(video_id=video_id, status=Status.OK)
    watch = Stopwatch()
    try:
        with _open(
            path,
            video_id,
            perturbation,
            decoder=decoder,
            is_retry=is_retry,
            scratch_dir=scratch_dir,
            watch=watch,
        ) as (probe, read):
            result = replace(
                result,
                container=probe.container,
                codec=probe.codec,
                average_fps=probe.average_fps,
                duration_seconds=probe.duration_seconds,
                num_frames=probe.num_frames,
            )
            with watch.stage("demux"):
                plan = plan_samples(probe, settings)
            search = Search(probe, read, settings, detector, watch)
            passes = search.run(plan)
            found = passes[0]
            result = replace(
                result,
                reason=_describe_loss(found),
                width=found.size[0] if found.size else None,
                height=found.size[1] if found.size else None,
                decoder=found.decoder,
                num_packets_decoded=found.num_packets_decoded,
                largest_snap_seconds=found.plan.largest_snap_seconds,
                num_frames_sampled=len(found.plan.frame_indices),
                num_frames_decoded=len(found.samples),
                num_frames_with_face=found.num_frames_with_face,
                num_faces=0,
                head_rotation=found.view.rotation if found.tracks else None,
                fingerprints=_take_fingerprints(found),
            )
            with watch.stage("crop"), _blaming_damage(result):
                num_faces, sequences = cut_faces(video_id, passes, settings)
            result = replace(result, num_faces=num_faces, sequences=sequences)
    except VideoError as error:
        result = replace(result, status=error.status, reason=error.reason)
    except cv2.error as error:
        reason = f"a frame of unusable shape: {error.err}"
        result = replace(result, status=Status.DECODE_ERROR, reason=reason)
    return replace(result, stage_seconds=watch.seconds)


@contextmanager
def _open(
    path: Path,
    video_id: str,
    perturbation: Perturbation | None,
    *,
    decoder: Decoder,
    is_retry: bool,
    scratch_dir: Path | None,
    watch: Stopwatch,
) -> Iterator[tuple[VideoProbe, ReadFrames]]:
    """Give the probe of the video, or of the perturbed one, and its reader.

    Raises:
        VideoError: the video cannot be read.
    """
    if perturbation is None:
        with watch.stage("demux"):
            probe = probe_video(path)
        yield probe, partial(FrameReader, path, probe, decoder=decoder, is_retry=is_retry)
        return
    from tasks.faces.perturb import open_perturbed_video  # noqa: PLC0415 - seldom wanted

    with open_perturbed_video(
        path,
        video_id,
        perturbation,
        decoder=decoder,
        is_retry=is_retry,
        scratch_dir=scratch_dir,
        watch=watch,
    ) as opened:
        yield opened


def _take_fingerprints(found: Pass) -> tuple[bytes, ...]:
    """Take the fingerprints of frames that are spread over the pass."""
    indices = space_evenly(len(found.samples), MAX_FINGERPRINTS)
    samples = [found.samples[index] for index in indices]
    return tuple(s.fingerprint for s in samples if s.fingerprint is not None)


def _describe_loss(found: Pass) -> str | None:
    num_sampled, num_decoded = len(found.plan.frame_indices), len(found.samples)
    if found.problem is None and num_decoded == num_sampled:
        return None
    cause = f" ({found.problem})" if found.problem else ""
    return f"damaged: {num_decoded} of {num_sampled} sampled frames are beyond doubt{cause}"


@contextmanager
def _blaming_damage(result: VideoResult) -> Iterator[None]:
    """Say that the damage is to blame where the frames that it left show too little."""
    try:
        yield
    except VideoError as error:
        if (result.num_frames_decoded or 0) < (result.num_frames_sampled or 0):
            reason = f"{result.reason}; {error.reason}"
            raise VideoError(Status.DECODE_ERROR, reason) from error
        raise


def cut_faces(
    video_id: str, passes: Sequence[Pass], settings: PreprocessSettings
) -> tuple[int, tuple[CropSequence, ...]]:
    """Cut crop sequences of all tracks that are long and large enough, and count these tracks.

    Raises:
        VideoError: no track is; the status gives the reason.
    """
    tracks = _choose_tracks(passes, settings)
    sequences = [
        sequence
        for track_id, track, found in tracks
        for sequence in _cut_sequences(video_id, track_id, track, found, settings)
    ]
    return len(tracks), tuple(sequences)


def _choose_tracks(
    passes: Sequence[Pass], settings: PreprocessSettings
) -> list[tuple[int, Track, Pass]]:
    """Choose the tracks that are long and large enough, with their numbers.

    Raises:
        VideoError: no track is; the status gives the reason.
    """
    found = passes[0]
    if not found.tracks:
        raise VideoError(
            Status.NO_FACE, f"no face on any of {len(found.samples)} frames that were looked at"
        )
    tracks = [(track, its_pass) for its_pass in passes for track in its_pass.tracks]
    long_enough = [
        (number, track, its_pass)
        for number, (track, its_pass) in enumerate(tracks)
        if its_pass.measure_longest(track) >= settings.min_sequence_frames
    ]
    if not long_enough:
        raise VideoError(
            Status.TOO_FEW_FRAMES,
            f"the longest face track has {found.longest} frames of {len(found.samples)} "
            f"looked at; {settings.min_sequence_frames} are needed",
        )
    large = [
        item for item in long_enough if measure_face_pixels(item[1]) >= settings.min_face_pixels
    ]
    if not large:
        largest = max(measure_face_pixels(track) for _, track, _ in long_enough)
        raise VideoError(
            Status.FACE_TOO_SMALL,
            f"the largest face is {largest:.0f} pixels; {settings.min_face_pixels} are needed",
        )
    return large


def measure_face_pixels(track: Track) -> float:
    """Compute the median of the longer side of a face's boxes, in pixels."""
    return float(np.median([sighting.box.side_pixels for sighting in track]))


def _cut_sequences(
    video_id: str, track_id: int, track: Track, found: Pass, settings: PreprocessSettings
) -> list[CropSequence]:
    pieces = [
        piece
        for stretch in found.split_stretches(track)
        if len(stretch) >= settings.min_sequence_frames
        for piece in _divide_evenly(stretch, settings)
    ]
    return [
        _make_sequence(
            f"{video_id[:16]}-{track_id:02d}-{number:02d}", video_id, track_id, piece, found
        )
        for number, piece in enumerate(pieces)
    ]


def _divide_evenly(stretch: Track, settings: PreprocessSettings) -> list[Track]:
    """Divide a stretch into pieces of nearly equal length, within the lengths of the settings."""
    length = len(stretch)
    num_pieces = math.ceil(length / settings.max_sequence_frames)
    if length // num_pieces < settings.min_sequence_frames:
        # One piece less, each of the largest length: another would be too short.
        num_pieces -= 1
        length = num_pieces * settings.max_sequence_frames
    edges = np.linspace(0, length, num_pieces + 1).round().astype(int)
    return [stretch[start:end] for start, end in itertools.pairwise(edges)]


def _make_sequence(
    sequence_id: str, video_id: str, track_id: int, piece: Track, found: Pass
) -> CropSequence:
    samples = [found.samples[sighting.box.sample_index] for sighting in piece]
    quality = [measure_quality(sighting.crop_HWC) for sighting in piece]
    return CropSequence(
        sequence_id=sequence_id,
        video_id=video_id,
        track_id=track_id,
        crops_THWC=np.stack([sighting.crop_HWC for sighting in piece]),
        frame_indices=tuple(sample.frame_index for sample in samples),
        pts_seconds=tuple(sample.pts_seconds for sample in samples),
        boxes_xyxy=tuple(sighting.box.xyxy for sighting in piece),
        confidences=tuple(sighting.box.confidence for sighting in piece),
        sharpness=tuple(sharpness for sharpness, _ in quality),
        brightness=tuple(brightness for _, brightness in quality),
        keypoints_xy=_collect_keypoints(piece),
    )


def add_fingerprints(result: VideoResult, detector: FaceDetector) -> VideoResult:
    """Add perceptual hashes of some crops' faces, by which copies are found.

    The key points of these crops are replaced by those that are found on the crops themselves.
    """
    watch = Stopwatch()
    with watch.stage("detect"):
        sequences = tuple(_add_own_fingerprints(s, detector) for s in result.sequences)
    seconds = Counter(result.stage_seconds) + Counter(watch.seconds)
    return replace(result, sequences=sequences, stage_seconds=dict(seconds))


def _add_own_fingerprints(sequence: CropSequence, detector: FaceDetector) -> CropSequence:
    indices = space_evenly(sequence.num_frames, MAX_CROPS).tolist()
    crops = [sequence.crops_THWC[index] for index in indices]
    keypoints = list(sequence.keypoints_xy)
    located = locate_again(crops, detector.detect)
    for place, index in enumerate(indices):
        points = located[place]
        if points is None or not keypoints:
            continue
        again = np.ravel(points)
        # The crop of a whole picture may show a head that is not upright, which misleads.
        if np.abs(again - keypoints[index])[:8].max() > _MAX_KEYPOINT_MOVE:
            located[place] = None
        else:
            keypoints[index] = tuple(again.tolist())
    return replace(
        sequence,
        keypoints_xy=tuple(keypoints),
        fingerprints=compute_face_fingerprints(crops, located),
    )


def _collect_keypoints(piece: Track) -> tuple[tuple[float, ...], ...]:
    """Collect key points in the form of ``CropSequence``."""
    known = [sighting.keypoints_xy for sighting in piece if sighting.keypoints_xy is not None]
    if len(known) < len(piece):
        return ()
    return tuple(tuple(itertools.chain.from_iterable(points)) for points in known)
