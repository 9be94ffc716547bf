"""One video file -> face crop sequences: probe, decode, detect, track, crop.

Runs in a decode process. Frames are streamed: a frame is decoded, searched, its faces are cut out,
and it is forgotten; only crops stay.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from reelcheck.config import PreprocessSettings
from reelcheck.errors import VideoError
from reelcheck.records import RGB, CropSequence, FaceBox, Frame, VideoProbe, VideoResult
from reelcheck.status import Status
from tasks.faces.crop import crop_face
from tasks.faces.decode import FrameReader
from tasks.faces.detect import FaceDetector
from tasks.faces.probe import probe_video
from tasks.faces.track import Sighting, Track, link_sightings


@dataclass(frozen=True)
class _Pass:
    """What one pass over a plan of frames found."""

    num_frames_sampled: int
    decoder: str
    problem: str | None
    size: tuple[int, int] | None
    """Width and height of the first frame, as shown."""
    frames: tuple[tuple[int, float], ...]
    """frame_index and pts_seconds of each decoded sample."""
    tracks: tuple[Track, ...]

    @property
    def longest(self) -> Track:
        return max(self.tracks, key=len, default=())

    @property
    def num_frames_with_face(self) -> int:
        return len({sighting.box.sample_index for track in self.tracks for sighting in track})


def extract_video(
    path: Path, video_id: str, settings: PreprocessSettings, detector: FaceDetector
) -> VideoResult:
    """Process one video; whatever is wrong with it becomes the result's status and reason."""
    cv2.setNumThreads(1)
    result = VideoResult(video_id=video_id, status=Status.OK)
    try:
        probe = probe_video(path)
        result = replace(
            result,
            container=probe.container,
            codec=probe.codec,
            average_fps=probe.average_fps,
            duration_seconds=probe.duration_seconds,
            num_frames=probe.num_frames,
        )
        found = _search(path, probe, settings, detector)
        result = replace(
            result,
            reason=found.problem,
            width=found.size[0] if found.size else None,
            height=found.size[1] if found.size else None,
            decoder=found.decoder,
            num_frames_sampled=found.num_frames_sampled,
            num_frames_decoded=len(found.frames),
            num_frames_with_face=found.num_frames_with_face,
            num_faces=0,
        )
        tracks = _judged_tracks(found, settings)
        sequences = tuple(
            sequence
            for track_id, track in tracks
            for sequence in _sequences(video_id, track_id, track, found, settings)
        )
        result = replace(result, num_faces=len(tracks), sequences=sequences)
    except VideoError as error:
        result = replace(result, status=error.status, reason=error.reason)
    except cv2.error as error:
        reason = f"a frame of unusable shape: {error.err}"
        result = replace(result, status=Status.DECODE_ERROR, reason=reason)
    except MemoryError:
        result = replace(result, status=Status.OUT_OF_MEMORY, reason="not enough memory")
    return result


def even_indices(num_frames: int, num_samples: int, *, first: int = 0) -> list[int]:
    """Up to ``num_samples`` distinct positions spread evenly over ``num_frames`` from ``first``."""
    places = np.linspace(0, num_frames - 1, min(num_samples, num_frames))
    return [first + int(place) for place in places.round()]


def _search(
    path: Path, probe: VideoProbe, settings: PreprocessSettings, detector: FaceDetector
) -> _Pass:
    """Sample the whole video; where faces show only for a moment, sample that moment again."""
    plan = even_indices(probe.num_frames, settings.num_frames)
    found = _run(path, probe, plan, settings, detector)
    if not 0 < len(found.longest) < settings.min_sequence_frames:
        return found
    first = found.frames[max(0, found.longest[0].box.sample_index - 1)][0]
    last_sample = min(len(found.frames) - 1, found.longest[-1].box.sample_index + 1)
    last = found.frames[last_sample][0]
    closer = even_indices(last - first + 1, settings.num_frames, first=first)
    if len(closer) < settings.min_sequence_frames or closer == plan:
        return found
    again = _run(path, probe, closer, settings, detector)
    return again if len(again.longest) > len(found.longest) else found


def _run(
    path: Path,
    probe: VideoProbe,
    plan: list[int],
    settings: PreprocessSettings,
    detector: FaceDetector,
) -> _Pass:
    reader = FrameReader(path, probe, plan)
    frames, sightings = [], []
    size = None
    for sample, frame in enumerate(reader):
        boxes = detector.detect(frame, sample_index=sample)
        size = size or (frame.rgb_HWC.shape[1], frame.rgb_HWC.shape[0])
        frames.append((frame.frame_index, frame.pts_seconds))
        sightings.append(tuple(Sighting(box, _cut(frame, box, settings)) for box in boxes))
    return _Pass(
        num_frames_sampled=len(plan),
        decoder=reader.decoder,
        problem=_remark(reader, num_sampled=len(plan), num_decoded=len(frames)),
        size=size,
        frames=tuple(frames),
        tracks=tuple(
            track
            for track in link_sightings(sightings)
            if _median_confidence(track) >= settings.min_track_confidence
        ),
    )


def _remark(reader: FrameReader, *, num_sampled: int, num_decoded: int) -> str | None:
    if num_decoded == num_sampled:
        return None
    cause = f" ({reader.problem})" if reader.problem else ""
    return f"only {num_decoded} of {num_sampled} sampled frames could be decoded{cause}"


def _cut(frame: Frame, box: FaceBox, settings: PreprocessSettings) -> RGB:
    return crop_face(
        frame.rgb_HWC, box.xyxy, margin=settings.margin, crop_pixels=settings.crop_pixels
    )


def _judged_tracks(found: _Pass, settings: PreprocessSettings) -> list[tuple[int, Track]]:
    """Tracks, with their numbers, that are long and large enough.

    Raises:
        VideoError: there is none; the status says what they lack.
    """
    if not found.tracks:
        raise VideoError(
            Status.NO_FACE, f"no face on any of {len(found.frames)} frames that were looked at"
        )
    long_enough = [
        (number, track)
        for number, track in enumerate(found.tracks)
        if len(track) >= settings.min_sequence_frames
    ]
    if not long_enough:
        raise VideoError(
            Status.TOO_FEW_FRAMES,
            f"the longest face track has {len(found.longest)} frames of {len(found.frames)} "
            f"looked at; {settings.min_sequence_frames} are needed",
        )
    large = [item for item in long_enough if face_pixels(item[1]) >= settings.min_face_pixels]
    if not large:
        largest = max(face_pixels(track) for _, track in long_enough)
        raise VideoError(
            Status.FACE_TOO_SMALL,
            f"the largest face is {largest:.0f} pixels; {settings.min_face_pixels} are needed",
        )
    return large


def _median_confidence(track: Track) -> float:
    return float(np.median([sighting.box.confidence for sighting in track]))


def face_pixels(track: Track) -> float:
    """Median longer side of the boxes of one face."""
    return float(np.median([sighting.box.side_pixels for sighting in track]))


def _sequences(
    video_id: str, track_id: int, track: Track, found: _Pass, settings: PreprocessSettings
) -> list[CropSequence]:
    """Cut a track into sequences of nearly equal length, none longer than the maximum."""
    num_parts = -(-len(track) // settings.max_sequence_frames)
    edges = np.linspace(0, len(track), num_parts + 1).round().astype(int)
    sequences = []
    for part in range(num_parts):
        sightings = track[edges[part] : edges[part + 1]]
        places = [found.frames[sighting.box.sample_index] for sighting in sightings]
        sequences.append(
            CropSequence(
                sequence_id=f"{video_id[:16]}-{track_id:02d}-{part:02d}",
                video_id=video_id,
                track_id=track_id,
                crops_THWC=np.stack([sighting.crop_HWC for sighting in sightings]),
                frame_indices=tuple(index for index, _ in places),
                pts_seconds=tuple(pts for _, pts in places),
                boxes_xyxy=tuple(sighting.box.xyxy for sighting in sightings),
                confidences=tuple(sighting.box.confidence for sighting in sightings),
            )
        )
    return sequences
