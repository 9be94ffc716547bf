"""Passes over one video that find the faces in it.

One pass looks at the frames of a plan. Where that is not enough there are more: a closer look at
faces that show for a moment only, and a second look for faces that the detector does not see on the
frames as they are (turned, too small or too large). Frames are streamed: a frame is decoded,
searched, its faces are cut out, and it is forgotten; only crops stay.
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
from tasks.faces.boxes import box_iou
from tasks.faces.crop import face_square
from tasks.faces.decode import FrameReader
from tasks.faces.detect import FaceDetector
from tasks.faces.fingerprint import fingerprint
from tasks.faces.follow import MAX_FRAME_GAP_SECONDS, follow
from tasks.faces.plan import even_places, frames_plan
from tasks.faces.stopwatch import Stopwatch
from tasks.faces.track import Sighting, Track, link_sightings
from tasks.faces.views import AS_SHOWN, View, other_views

NUM_TRIED_FRAMES = 6
"""Frames on which other views are tried."""
MIN_BELIEVED_CONFIDENCE = 0.75
"""With a face to be seen, the second best of six frames is surer than this in 99 of 100 videos;
without one, none of many views is."""
MIN_BELIEVED_FRAMES = 2
MIN_BELIEVED_SHARE = 1 / 3
"""Another view is believed if it shows a face on so many of them, by number and by share."""
MIN_SAME_PERSON_IOU = 0.3
"""Two tracks are of one person if their boxes overlap so much at the same time."""


@dataclass(frozen=True)
class Sample:
    """One frame that was looked at."""

    frame_index: int
    pts_seconds: float
    run: int
    """Number of the run of neighbouring frames that it belongs to; 0 for all where runs do not
    matter."""
    fingerprint: bytes | None
    """Of the frame; None where next to nothing is to be seen."""


@dataclass(frozen=True)
class Pass:
    """What one pass over a plan of frames found."""

    plan: DecodePlan
    view: View
    decoder: str
    num_packets_decoded: int
    problem: str | None
    size: tuple[int, int] | None
    """Width and height of the first frame, as shown."""
    samples: tuple[Sample, ...]
    tracks: tuple[Track, ...]

    def stretches(self, track: Track) -> list[Track]:
        """The parts of a track that one sequence may span."""
        numbers = [self.samples[sighting.box.sample_index].run for sighting in track]
        edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1), len(track)]
        return [track[start:end] for start, end in itertools.pairwise(edges)]

    def longest_of(self, track: Track) -> int:
        """Frames of a track's longest stretch."""
        return max(map(len, self.stretches(track)))

    @property
    def longest(self) -> int:
        """Frames of the longest stretch of all."""
        return max(map(self.longest_of, self.tracks), default=0)

    def without(self, known: Sequence["tuple[Pass, Track]"]) -> "Pass":
        """Without the tracks of people that are known from another pass."""
        return replace(
            self,
            tracks=tuple(
                track
                for track in self.tracks
                if not any(self._is_same(track, *other) for other in known)
            ),
        )

    def _is_same(self, track: Track, other_pass: "Pass", other: Track) -> bool:
        """Whether most sightings of a track lie where the other track was at about that time."""
        times = np.array([other_pass.samples[s.box.sample_index].pts_seconds for s in other])
        num_same = 0
        for sighting in track:
            away = np.abs(times - self.samples[sighting.box.sample_index].pts_seconds)
            nearest = int(away.argmin())
            is_near = away[nearest] <= MAX_FRAME_GAP_SECONDS
            num_same += bool(
                is_near and box_iou(sighting.box, other[nearest].box) >= MIN_SAME_PERSON_IOU
            )
        return num_same > len(track) / 2

    @property
    def num_frames_with_face(self) -> int:
        """Frames on which any of the tracks is seen."""
        return len({sighting.box.sample_index for track in self.tracks for sighting in track})


ReadFrames = Callable[[DecodePlan], FrameReader]
"""Opens a video for the frames of a plan."""


@dataclass(frozen=True)
class Search:
    """Passes over one video."""

    probe: VideoProbe
    read: ReadFrames
    settings: PreprocessSettings
    detector: FaceDetector
    watch: Stopwatch = field(repr=False)

    def whole(self, plan: DecodePlan) -> tuple[Pass, ...]:
        """The pass that tells of the whole video, and perhaps one that adds people to it.

        Raises:
            VideoError: nothing can be decoded.
        """
        passes = self._closer_look(self._run(plan, AS_SHOWN))
        # What was found counts even where a later pass cannot decode anything.
        with suppress(VideoError):
            if passes[0].longest < self.settings.min_sequence_frames:
                passes = self._second_look(plan, passes)
        return passes

    def _run(self, plan: DecodePlan, view: View, *, is_closer: bool = False) -> Pass:
        has_runs = is_closer or self.settings.sampling == "clips"
        reader = self.read(plan)
        samples: list[Sample] = []
        sightings = []
        size = None
        turned = (view.turned(frame) for frame in self.watch.within("decode", reader))
        faces_of_frames = follow(turned, view.finder(self.detector.detect))
        for frame, faces in self.watch.within("detect", faces_of_frames):
            size = size or view.shown_size(frame)
            jumps = bool(samples) and frame.frame_index != samples[-1].frame_index + 1
            run = samples[-1].run + (has_runs and jumps) if samples else 0
            with self.watch.stage("crop"):
                seen = fingerprint(frame.rgb_HWC)
                samples.append(Sample(frame.frame_index, frame.pts_seconds, run, seen))
                sightings.append([sighting_of(face, frame, view, self.settings) for face in faces])
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
                if median_confidence(track) >= self.settings.min_track_confidence
            ),
        )

    def _closer_look(self, found: Pass) -> tuple[Pass, ...]:
        """Neighbouring frames around the first sighting of faces that show too shortly.

        A pass over frames far apart meets them too rarely. Of what is seen then, people that were
        met often enough before do not count again.
        """
        num_wanted = self.settings.min_sequence_frames
        is_long = {track: found.longest_of(track) >= num_wanted for track in found.tracks}
        frames = self._frames_around(found, [t for t, long in is_long.items() if not long])
        if len(frames) < num_wanted or set(frames) <= set(found.plan.frame_indices):
            return (found,)
        with self.watch.stage("demux"):
            plan = frames_plan(self.probe, np.array(frames))
        with suppress(VideoError):
            again = self._run(plan, found.view, is_closer=True)
            known = [(found, track) for track, long in is_long.items() if long]
            added = again.without(known)
            if added.longest >= num_wanted or added.longest > found.longest:
                return (found, added) if known else (added,)
        return (found,)

    def _frames_around(self, found: Pass, tracks: Sequence[Track]) -> list[int]:
        packets, length = self.probe.packets, self.settings.clip_frames
        by_length = sorted(tracks, key=lambda t: (-len(t), -median_confidence(t)))
        frames: set[int] = set()
        for track in by_length[: self.settings.num_clips]:
            sample = track[0].box.sample_index
            seen = found.samples[sample].frame_index
            begin = seen
            # What a restart shows is at hand; what comes before it is a long way to decode.
            if not packets.is_restart_P[packets.frame_index_P == seen].any():
                previous = found.samples[sample - 1].frame_index if sample else -1
                begin = max(previous + 1, seen - length)
            frames.update(range(begin, min(seen + length, self.probe.num_frames)))
        return sorted(frames)

    def _second_look(self, plan: DecodePlan, passes: tuple[Pass, ...]) -> tuple[Pass, ...]:
        """The passes again in another view that shows faces on some of the frames."""
        view = self._believed_view(plan)
        if view is None:
            return passes
        again = self._closer_look(self._run(plan, view))
        return again if again[0].longest > passes[0].longest else passes

    def _believed_view(self, plan: DecodePlan) -> View | None:
        with self.watch.stage("demux"):
            indices = np.array(plan.frame_indices)
            tried = frames_plan(self.probe, indices[even_places(len(indices), NUM_TRIED_FRAMES)])
        confidences: dict[View, list[float]] = defaultdict(list)
        num_frames = 0
        for frame in self.watch.within("decode", self.read(tried)):
            num_frames += 1
            with self.watch.stage("detect"):
                for view in other_views(frame):
                    find = view.finder(self.detector.detect)
                    faces = find(view.turned(frame), sample_index=0)
                    best = max((face.confidence for face in faces), default=0.0)
                    if best >= max(MIN_BELIEVED_CONFIDENCE, self.settings.min_track_confidence):
                        confidences[view].append(best)
        needed = max(MIN_BELIEVED_FRAMES, math.ceil(MIN_BELIEVED_SHARE * num_frames))
        return max(
            (view for view in confidences if len(confidences[view]) >= needed),
            key=lambda view: sum(confidences[view]),
            default=None,
        )


def sighting_of(face: FaceBox, turned: Frame, view: View, settings: PreprocessSettings) -> Sighting:
    """A face found on a turned frame, with its crop; the box lies on the frame as shown."""
    square = face_square(
        face.xyxy,
        margin=settings.margin,
        eyes_xy=face.eyes_xy if settings.align_eyes else None,
    )
    return Sighting(
        box=view.shown(face, turned),
        crop_HWC=square.cut(turned.rgb_HWC, crop_pixels=settings.crop_pixels),
        keypoints_xy=square.fractions(face.keypoints_xy) if face.keypoints_xy else None,
    )


def median_confidence(track: Track) -> float:
    """How sure the detector was of a track."""
    return float(np.median([sighting.box.confidence for sighting in track]))
