"""One still picture -> crop sequences of one frame each: of its faces, or of all of it.

Runs in a decode process.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from reelcheck.config import PreprocessSettings
from reelcheck.errors import VideoError
from reelcheck.perturbations import Perturbation
from reelcheck.records import RGB, DecodePlan, FaceBox, Frame, Keypoints, VideoResult
from reelcheck.status import Status
from tasks.faces.decoding.image_file import find_still_codec, read_image
from tasks.faces.detection.boxes import scale_box
from tasks.faces.detection.detect import FaceDetector
from tasks.faces.detection.fingerprint import compute_fingerprint
from tasks.faces.detection.track import Sighting
from tasks.faces.detection.views import AS_SHOWN, View, list_other_views
from tasks.faces.search import MIN_BELIEVED_CONFIDENCE, Pass, Sample, make_sighting
from tasks.faces.stopwatch import Stopwatch
from tasks.faces.video import cut_faces

MAX_SEARCH_PIXELS = 2048
"""Longer side to which a larger picture is reduced for the search. The detector works on 192 pixels
and a tile is 0.4 of the picture, so it sees no less; the crops come from the full picture."""


def extract_image(
    path: Path,
    video_id: str,
    settings: PreprocessSettings,
    detector: FaceDetector,
    *,
    perturbation: Perturbation | None = None,
) -> VideoResult:
    """Process one still picture; any problem becomes the result's status and reason.

    Args:
        path: a file that ``find_still_codec`` knows.
        video_id: hash of its content.
        settings: whether to cut out faces or the whole picture, and how.
        detector: finds faces on one picture.
        perturbation: change of the picture before the search; changes of files and of time leave a
            picture as it is.

    Raises:
        MemoryError: it needs more than this process may use.
    """
    cv2.setNumThreads(1)
    codec = find_still_codec(path) or ""
    watch = Stopwatch()
    result = VideoResult(
        video_id=video_id,
        status=Status.OK,
        container="image",
        codec=codec,
        num_frames=1,
        decoder="pillow",
        num_frames_sampled=1,
        num_frames_decoded=0,
    )
    try:
        with watch.stage("decode"):
            frame = _perturb(read_image(path, codec), perturbation, video_id)
        height, width = frame.rgb_HWC.shape[:2]
        seen = compute_fingerprint(frame.rgb_HWC)
        result = replace(
            result,
            width=width,
            height=height,
            num_frames_decoded=1,
            fingerprints=() if seen is None else (seen,),
        )
        if settings.min_sequence_frames > 1:
            raise VideoError(
                Status.TOO_FEW_FRAMES,
                f"one picture; {settings.min_sequence_frames} frames of a face are needed",
            )
        with watch.stage("detect"):
            view, faces = find_faces(frame, settings, detector)
        result = replace(result, num_frames_with_face=int(bool(faces)), num_faces=0)
        if not faces and settings.still_crop == "face":
            raise VideoError(Status.NO_FACE, "no face on the picture")
        with watch.stage("crop"):
            found = _make_pass(frame, view, faces, settings)
            result = replace(result, head_rotation=found.view.rotation)
            num_faces, sequences = cut_faces(video_id, (found,), settings)
        result = replace(result, num_faces=num_faces, sequences=sequences)
    except VideoError as error:
        result = replace(result, status=error.status, reason=error.reason)
    except cv2.error as error:
        reason = f"a picture of unusable shape: {error.err}"
        result = replace(result, status=Status.DECODE_ERROR, reason=reason)
    return replace(result, stage_seconds=watch.seconds)


def _perturb(frame: Frame, perturbation: Perturbation | None, video_id: str) -> Frame:
    if perturbation is None:
        return frame
    from tasks.faces.perturb import perturb_frame  # noqa: PLC0415 - seldom wanted

    return perturb_frame(frame, perturbation, video_id=video_id)


def find_faces(
    frame: Frame, settings: PreprocessSettings, detector: FaceDetector
) -> tuple[View, list[FaceBox]]:
    """Find the faces of a picture, most certain first, and the view of it that shows them.

    Other views are tried only if the picture as it is shows no face, and count from
    ``MIN_BELIEVED_CONFIDENCE`` on, as for videos.

    Returns:
        Boxes in pixels of the full picture as the view turns it.
    """
    small, factor = _shrink_for_search(frame)

    def look(view: View) -> list[FaceBox]:
        boxes = view.make_finder(detector.detect)(view.turn(small), sample_index=0)
        return [
            scale_box(b, factor) for b in boxes if b.confidence >= settings.min_track_confidence
        ]

    faces = look(AS_SHOWN)
    if faces:
        return AS_SHOWN, faces
    looks = [(view, look(view)) for view in list_other_views(small)]
    believed = [
        (view, faces)
        for view, faces in looks
        if faces and faces[0].confidence >= MIN_BELIEVED_CONFIDENCE
    ]
    return max(believed, key=lambda item: item[1][0].confidence, default=(AS_SHOWN, []))


def sight_whole_picture(
    frame: Frame, faces: Sequence[FaceBox], settings: PreprocessSettings
) -> Sighting:
    """Make a sighting of the whole picture, squeezed into a square.

    Args:
        frame: the picture.
        faces: faces of the picture, in its pixels; exactly one face gives key points.
        settings: the side of the square.
    """
    height, width = frame.rgb_HWC.shape[:2]
    points = faces[0].keypoints_xy if len(faces) == 1 else None
    return Sighting(
        box=FaceBox(sample_index=0, xyxy=(0.0, 0.0, width, height), confidence=1.0),
        crop_HWC=squeeze(frame.rgb_HWC, settings.crop_pixels),
        keypoints_xy=Keypoints(*((x / width, y / height) for x, y in points)) if points else None,
    )


def squeeze(rgb_HWC: RGB, side: int) -> RGB:
    """Resize a picture to a square of the given side; its aspect ratio is lost."""
    height, width = rgb_HWC.shape[:2]
    # Area averaging avoids aliasing, but OpenCV only does it where both sides shrink.
    shrunk = cv2.resize(
        rgb_HWC, (min(width, side), min(height, side)), interpolation=cv2.INTER_AREA
    )
    return np.asarray(cv2.resize(shrunk, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)


def _shrink_for_search(frame: Frame) -> tuple[Frame, float]:
    """Shrink a large picture; the factor leads back to its own pixels."""
    height, width = frame.rgb_HWC.shape[:2]
    factor = max(1.0, max(height, width) / MAX_SEARCH_PIXELS)
    if factor == 1.0:
        return frame, factor
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    small = cv2.resize(frame.rgb_HWC, size, interpolation=cv2.INTER_AREA)
    return replace(frame, rgb_HWC=np.asarray(small, np.uint8)), factor


def _make_pass(
    frame: Frame, view: View, faces: Sequence[FaceBox], settings: PreprocessSettings
) -> Pass:
    """Make the pass of a video with one frame, in which each crop is a track.

    Args:
        frame: the picture.
        view: the view that shows the faces.
        faces: boxes in pixels of the picture as the view turns it.
        settings: what to cut out.
    """
    turned = view.turn(frame)
    if settings.still_crop == "whole":
        shown_faces = [view.turn_back(face, turned) for face in faces]
        view, sightings = AS_SHOWN, [sight_whole_picture(frame, shown_faces, settings)]
    else:
        sightings = [make_sighting(face, turned, view, settings) for face in faces]
    return Pass(
        plan=DecodePlan(
            frame_indices=(0,), runs=(), num_packets_in_order=0, largest_snap_seconds=0.0
        ),
        view=view,
        decoder="pillow",
        num_packets_decoded=0,
        problem=None,
        size=AS_SHOWN.measure_shown_size(frame),
        samples=(Sample(0, 0.0, 0, fingerprint=None),),
        tracks=tuple((sighting,) for sighting in sightings),
    )
