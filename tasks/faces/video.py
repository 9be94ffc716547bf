"""One video file -> face crop sequences: probe, plan, search, cut into sequences.

Runs in a decode process.
"""

import itertools
import math
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
from tasks.faces.crop import crop_quality
from tasks.faces.decode import FrameReader
from tasks.faces.detect import FaceDetector
from tasks.faces.fingerprint import fingerprint
from tasks.faces.plan import even_places, sample_plan
from tasks.faces.probe import probe_video
from tasks.faces.search import Pass, ReadFrames, Search
from tasks.faces.stopwatch import Stopwatch
from tasks.faces.track import Track

MAX_FINGERPRINTS = 32
"""Kept of one video's frames."""


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
    """Process one video; whatever is wrong with it becomes the result's status and reason.

    Args:
        path: the video.
        video_id: hash of its content.
        settings: which frames and faces are wanted, and what crops look like.
        detector: finds faces on one picture.
        decoder: see ``RunSettings``.
        is_retry: begin with the other decoder than the first attempt did.
        perturbation: what the video goes through first; the result tells of what it became.
        scratch_dir: where a perturbation may write; None: the system's folder for such files.

    Raises:
        MemoryError: it needs more than this process may use; another decoder may need less.
    """
    cv2.setNumThreads(1)
    result = VideoResult(video_id=video_id, status=Status.OK)
    watch = Stopwatch()
    try:
        with _opened(
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
                plan = sample_plan(probe, settings)
            search = Search(probe, read, settings, detector, watch)
            passes = search.whole(plan)
            found = passes[0]
            result = replace(
                result,
                reason=_remark(found),
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
                fingerprints=_fingerprints(found),
            )
            with watch.stage("crop"):
                num_faces, sequences = cut_faces(video_id, passes, settings)
            result = replace(result, num_faces=num_faces, sequences=sequences)
    except VideoError as error:
        result = replace(result, status=error.status, reason=error.reason)
    except cv2.error as error:
        reason = f"a frame of unusable shape: {error.err}"
        result = replace(result, status=Status.DECODE_ERROR, reason=reason)
    return replace(result, stage_seconds=watch.seconds)


@contextmanager
def _opened(
    path: Path,
    video_id: str,
    perturbation: Perturbation | None,
    *,
    decoder: Decoder,
    is_retry: bool,
    scratch_dir: Path | None,
    watch: Stopwatch,
) -> Iterator[tuple[VideoProbe, ReadFrames]]:
    """What the video holds, or what a perturbation left of it, and how to read that.

    Raises:
        VideoError: it cannot be read.
    """
    if perturbation is None:
        with watch.stage("demux"):
            probe = probe_video(path)
        yield probe, partial(FrameReader, path, probe, decoder=decoder, is_retry=is_retry)
        return
    from tasks.faces.perturb import perturbed_video  # noqa: PLC0415 - seldom wanted

    with perturbed_video(
        path,
        video_id,
        perturbation,
        decoder=decoder,
        is_retry=is_retry,
        scratch_dir=scratch_dir,
        watch=watch,
    ) as opened:
        yield opened


def _fingerprints(found: Pass) -> tuple[bytes, ...]:
    """Of frames spread over the pass."""
    places = even_places(len(found.samples), MAX_FINGERPRINTS)
    samples = [found.samples[place] for place in places]
    return tuple(s.fingerprint for s in samples if s.fingerprint is not None)


def _remark(found: Pass) -> str | None:
    num_sampled, num_decoded = len(found.plan.frame_indices), len(found.samples)
    if num_decoded == num_sampled:
        return None
    cause = f" ({found.problem})" if found.problem else ""
    return f"only {num_decoded} of {num_sampled} sampled frames could be decoded{cause}"


def cut_faces(
    video_id: str, passes: Sequence[Pass], settings: PreprocessSettings
) -> tuple[int, tuple[CropSequence, ...]]:
    """Number of the tracks that are judged, and their crop sequences.

    Raises:
        VideoError: no track is judged; the status says what they lack.
    """
    tracks = _judged_tracks(passes, settings)
    sequences = [
        sequence
        for track_id, track, found in tracks
        for sequence in _cut_sequences(video_id, track_id, track, found, settings)
    ]
    return len(tracks), tuple(sequences)


def _judged_tracks(
    passes: Sequence[Pass], settings: PreprocessSettings
) -> list[tuple[int, Track, Pass]]:
    """Tracks, with their numbers, that are long and large enough.

    Raises:
        VideoError: there is none; the status says what they lack.
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
        if its_pass.longest_of(track) >= settings.min_sequence_frames
    ]
    if not long_enough:
        raise VideoError(
            Status.TOO_FEW_FRAMES,
            f"the longest face track has {found.longest} frames of {len(found.samples)} "
            f"looked at; {settings.min_sequence_frames} are needed",
        )
    large = [item for item in long_enough if face_pixels(item[1]) >= settings.min_face_pixels]
    if not large:
        largest = max(face_pixels(track) for _, track, _ in long_enough)
        raise VideoError(
            Status.FACE_TOO_SMALL,
            f"the largest face is {largest:.0f} pixels; {settings.min_face_pixels} are needed",
        )
    return large


def face_pixels(track: Track) -> float:
    """Median longer side of the boxes of one face."""
    return float(np.median([sighting.box.side_pixels for sighting in track]))


def _cut_sequences(
    video_id: str, track_id: int, track: Track, found: Pass, settings: PreprocessSettings
) -> list[CropSequence]:
    parts = [
        part
        for stretch in found.stretches(track)
        if len(stretch) >= settings.min_sequence_frames
        for part in _even_parts(stretch, settings)
    ]
    return [
        _sequence(f"{video_id[:16]}-{track_id:02d}-{number:02d}", video_id, track_id, part, found)
        for number, part in enumerate(parts)
    ]


def _even_parts(stretch: Track, settings: PreprocessSettings) -> list[Track]:
    """Parts of nearly equal length, none longer or shorter than the settings want."""
    length = len(stretch)
    num_parts = math.ceil(length / settings.max_sequence_frames)
    if length // num_parts < settings.min_sequence_frames:
        # One part less, each of the largest length; the rest would be too short.
        num_parts -= 1
        length = num_parts * settings.max_sequence_frames
    edges = np.linspace(0, length, num_parts + 1).round().astype(int)
    return [stretch[start:end] for start, end in itertools.pairwise(edges)]


def _sequence(
    sequence_id: str, video_id: str, track_id: int, part: Track, found: Pass
) -> CropSequence:
    samples = [found.samples[sighting.box.sample_index] for sighting in part]
    quality = [crop_quality(sighting.crop_HWC) for sighting in part]
    return CropSequence(
        sequence_id=sequence_id,
        video_id=video_id,
        track_id=track_id,
        crops_THWC=np.stack([sighting.crop_HWC for sighting in part]),
        frame_indices=tuple(sample.frame_index for sample in samples),
        pts_seconds=tuple(sample.pts_seconds for sample in samples),
        boxes_xyxy=tuple(sighting.box.xyxy for sighting in part),
        confidences=tuple(sighting.box.confidence for sighting in part),
        sharpness=tuple(sharpness for sharpness, _ in quality),
        brightness=tuple(brightness for _, brightness in quality),
        keypoints_xy=_keypoints(part),
        fingerprints=tuple(seen for s in part if (seen := fingerprint(s.crop_HWC)) is not None),
    )


def _keypoints(part: Track) -> tuple[tuple[float, ...], ...]:
    """As in ``CropSequence``."""
    known = [sighting.keypoints_xy for sighting in part if sighting.keypoints_xy is not None]
    if len(known) < len(part):
        return ()
    return tuple(tuple(itertools.chain.from_iterable(points)) for points in known)
