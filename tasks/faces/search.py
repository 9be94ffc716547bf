"""Passes over one video that find its faces and cut them out.

The first pass searches the frames of a plan. If it does not find enough, more passes follow: a
closer look at faces that are visible for a moment only, and a second look for faces that the
detector does not see on the frames as they are (turned, too small or too large). Frames are
streamed: a frame is decoded, searched, its faces are cut out, and only the crops are kept.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np

from reelcheck.config import PreprocessSettings
from reelcheck.errors import VideoError
from reelcheck.records import DecodePlan, FaceBox, Frame, VideoProbe
from tasks.faces.decoding.decode import FrameReader
from tasks.faces.decoding.plan import plan_frames, space_evenly
from tasks.faces.detection.boxes import compute_iou
from tasks.faces.detection.crop import place_square
from tasks.faces.detection.detect import FaceDetector
from tasks.faces.detection.fingerprint import compute_fingerprint
from tasks.faces.detection.follow import MAX_FRAME_GAP_SECONDS, follow_faces
from tasks.faces.detection.track import Sighting, Track, link_sightings
from tasks.faces.detection.views import AS_SHOWN, View, list_other_views
from tasks.faces.stopwatch import Stopwatch

NUM_TRIED_FRAMES = 6
"""Number of frames on which other views are tried."""
MIN_BELIEVED_CONFIDENCE = 0.75
"""In 99 of 100 videos with a face, the second best confidence of six frames is above this value;
without a face, no view reaches it."""
MIN_BELIEVED_FRAMES = 2
MIN_BELIEVED_SHARE = 1 / 3
"""Another view counts if it shows a face on this number and on this share of the tried frames."""
MIN_SAME_PERSON_IOU = 0.3
"""Two tracks show one person if their boxes overlap by at least this IoU at the same time."""


@dataclass(frozen=True)
class Sample:
    """One searched frame."""

    frame_index: int
    pts_seconds: float
    run: int
    """Number of its run of neighbouring frames; 0 for all if runs do not matter."""
    fingerprint: bytes | None
    """Perceptual hash of the frame; None: the frame shows almost nothing."""


@dataclass(frozen=True)
class Pass:
    """Result of one pass over the frames of a plan."""

    plan: DecodePlan
    view: View
    decoder: str
    num_packets_decoded: int
    problem: str | None
    size: tuple[int, int] | None
    """Width and height of the first frame, as shown."""
    samples: tuple[Sample, ...]
    tracks: tuple[Track, ...]

    def split_stretches(self, track: Track) -> list[Track]:
        """Split a track into the stretches that one sequence may span."""
        numbers = [self.samples[sighting.box.sample_index].run for sighting in track]
        edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1), len(track)]
        return [track[start:end] for start, end in itertools.pairwise(edges)]

    def measure_longest(self, track: Track) -> int:
        """Count the frames of a track's longest stretch."""
        return max(map(len, self.split_stretches(track)))

    @property
    def longest(self) -> int:
        """Number of frames in the longest stretch of all tracks."""
        return max(map(self.measure_longest, self.tracks), default=0)

    def drop_known(self, known: Sequence["tuple[Pass, Track]"]) -> "Pass":
        """Leave out the tracks of people that are known from another pass."""
        return replace(
            self,
            tracks=tuple(
                track
                for track in self.tracks
                if not any(self._is_same(track, *other) for other in known)
            ),
        )

    def _is_same(self, track: Track, other_pass: "Pass", other: Track) -> bool:
        """Whether most sightings of a track lie where the other track is at about the same time."""
        times = np.array([other_pass.samples[s.box.sample_index].pts_seconds for s in other])
        num_same = 0
        for sighting in track:
            away = np.abs(times - self.samples[sighting.box.sample_index].pts_seconds)
            nearest = int(away.argmin())
            is_near = away[nearest] <= MAX_FRAME_GAP_SECONDS
            num_same += bool(
                is_near and compute_iou(sighting.box, other[nearest].box) >= MIN_SAME_PERSON_IOU
            )
        return num_same > len(track) / 2

    @property
    def num_frames_with_face(self) -> int:
        """Number of frames on which any track is seen."""
        return len({sighting.box.sample_index for track in self.tracks for sighting in track})


ReadFrames = Callable[[DecodePlan], FrameReader]
"""Makes the reader of a plan's frames."""


@dataclass(frozen=True)
class Search:
    """Passes over one video."""

    probe: VideoProbe
    read: ReadFrames
    settings: PreprocessSettings
    detector: FaceDetector
    watch: Stopwatch = field(repr=False)

    def run(self, plan: DecodePlan) -> tuple[Pass, ...]:
        """Run the pass that describes the whole video, and perhaps one that adds people.

        Raises:
            VideoError: nothing can be decoded.
        """
        passes = self._look_closer(self._run_pass(plan, AS_SHOWN))
        # The first result counts even if a later pass cannot decode anything.
        with suppress(VideoError):
            if passes[0].longest < self.settings.min_sequence_frames:
                passes = self._look_again(plan, passes)
        return passes

    def _run_pass(self, plan: DecodePlan, view: View, *, is_closer: bool = False) -> Pass:
        has_runs = is_closer or self.settings.sampling == "clips"
        reader = self.read(plan)
        samples: list[Sample] = []
        sightings = []
        size = None
        turned = (view.turn(frame) for frame in self.watch.within("decode", reader))
        faces_of_frames = follow_faces(turned, view.make_finder(self.detector.detect))
        for frame, faces in self.watch.within("detect", faces_of_frames):
            size = size or view.measure_shown_size(frame)
            jumps = bool(samples) and frame.frame_index != samples[-1].frame_index + 1
            run = samples[-1].run + (has_runs and jumps) if samples else 0
            with self.watch.stage("crop"):
                seen = compute_fingerprint(frame.rgb_HWC)
                samples.append(Sample(frame.frame_index, frame.pts_seconds, run, seen))
                sightings.append(
                    [make_sighting(face, frame, view, self.settings) for face in faces]
                )
        with self.watch.stage("crop"):
            tracks = link_sightings(sightings)
        return Pass(
            plan=plan,
            view=view,
            decoder=reader.decoder,
            num_packets_decoded=reader.num_packets_decoded,
            problem=reader.problem,
            size=size,
            samples=tuple(samples),
            tracks=tuple(
                track
                for track in tracks
                if compute_median_confidence(track) >= self.settings.min_track_confidence
            ),
        )

    def _look_closer(self, found: Pass) -> tuple[Pass, ...]:
        """Search neighbouring frames around the first sighting of faces that are seen too shortly.

        A pass over distant frames meets such faces too rarely. People with enough sightings in the
        first pass do not count again.
        """
        num_wanted = self.settings.min_sequence_frames
        is_long = {track: found.measure_longest(track) >= num_wanted for track in found.tracks}
        frames = self._choose_frames_around(found, [t for t, long in is_long.items() if not long])
        if len(frames) < num_wanted or set(frames) <= set(found.plan.frame_indices):
            return (found,)
        with self.watch.stage("demux"):
            plan = plan_frames(self.probe, np.array(frames))
        with suppress(VideoError):
            again = self._run_pass(plan, found.view, is_closer=True)
            known = [(found, track) for track, long in is_long.items() if long]
            added = again.drop_known(known)
            if added.longest >= num_wanted or added.longest > found.longest:
                return (found, added) if known else (added,)
        return (found,)

    def _choose_frames_around(self, found: Pass, tracks: Sequence[Track]) -> list[int]:
        packets, length = self.probe.packets, self.settings.clip_frames
        by_length = sorted(tracks, key=lambda t: (-len(t), -compute_median_confidence(t)))
        frames: set[int] = set()
        for track in by_length[: self.settings.num_clips]:
            sample = track[0].box.sample_index
            seen = found.samples[sample].frame_index
            begin = seen
            # A restart's own frame is cheap; frames before it need a long way of decoding.
            if not packets.is_restart_P[packets.frame_index_P == seen].any():
                previous = found.samples[sample - 1].frame_index if sample else -1
                begin = max(previous + 1, seen - length)
            frames.update(range(begin, min(seen + length, self.probe.num_frames)))
        return sorted(frames)

    def _look_again(self, plan: DecodePlan, passes: tuple[Pass, ...]) -> tuple[Pass, ...]:
        """Repeat the passes in another view, if one shows faces on enough frames."""
        view = self._find_believed_view(plan)
        if view is None:
            return passes
        again = self._look_closer(self._run_pass(plan, view))
        return again if again[0].longest > passes[0].longest else passes

    def _find_believed_view(self, plan: DecodePlan) -> View | None:
        with self.watch.stage("demux"):
            indices = np.array(plan.frame_indices)
            tried = plan_frames(self.probe, indices[space_evenly(len(indices), NUM_TRIED_FRAMES)])
        confidences: dict[View, list[float]] = defaultdict(list)
        num_frames = 0
        for frame in self.watch.within("decode", self.read(tried)):
            num_frames += 1
            with self.watch.stage("detect"):
                for view in list_other_views(frame):
                    find = view.make_finder(self.detector.detect)
                    faces = find(view.turn(frame), sample_index=0)
                    best = max((face.confidence for face in faces), default=0.0)
                    if best >= max(MIN_BELIEVED_CONFIDENCE, self.settings.min_track_confidence):
                        confidences[view].append(best)
        needed = max(MIN_BELIEVED_FRAMES, math.ceil(MIN_BELIEVED_SHARE * num_frames))
        return max(
            (view for view in confidences if len(confidences[view]) >= needed),
            key=lambda view: sum(confidences[view]),
            default=None,
        )


def make_sighting(
    face: FaceBox, turned: Frame, view: View, settings: PreprocessSettings
) -> Sighting:
    """Cut out a face of a turned frame; the box refers to the frame as shown."""
    square = place_square(
        face.xyxy,
        margin=settings.margin,
        eyes_xy=face.eyes_xy if settings.align_eyes else None,
    )
    return Sighting(
        box=view.turn_back(face, turned),
        crop_HWC=square.cut(turned.rgb_HWC, crop_pixels=settings.crop_pixels),
        keypoints_xy=square.locate_keypoints(face.keypoints_xy) if face.keypoints_xy else None,
    )


def compute_median_confidence(track: Track) -> float:
    """Compute the median of the detector's confidence over a track."""
    return float(np.median([sighting.box.confidence for sighting in track]))
