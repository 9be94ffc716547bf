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
from tasks.faces.boxes import scaled
from tasks.faces.detect import FaceDetector
from tasks.faces.fingerprint import fingerprint
from tasks.faces.image_file import read_image, still_codec
from tasks.faces.search import MIN_BELIEVED_CONFIDENCE, Pass, Sample, sighting_of
from tasks.faces.stopwatch import Stopwatch
from tasks.faces.track import Sighting
from tasks.faces.video import cut_faces
from tasks.faces.views import AS_SHOWN, View, other_views

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
    """Process one still picture; whatever is wrong with it becomes the result's status and reason.

    Args:
        path: a file that ``still_codec`` knows.
        video_id: hash of its content.
        settings: whether faces or the whole is wanted, and what crops look like.
        detector: finds faces on one picture.
        perturbation: what the picture goes through first; those of files and of time leave it as
            it is.

    Raises:
        MemoryError: it needs more than this process may use.
    """
    cv2.setNumThreads(1)
    codec = still_codec(path) or ""
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
            frame = _perturbed(read_image(path, codec), perturbation, video_id)
        height, width = frame.rgb_HWC.shape[:2]
        seen = fingerprint(frame.rgb_HWC)
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
            found = _found(frame, view, faces, settings)
            result = replace(result, head_rotation=found.view.rotation)
            num_faces, sequences = cut_faces(video_id, (found,), settings)
        result = replace(result, num_faces=num_faces, sequences=sequences)
    except VideoError as error:
        result = replace(result, status=error.status, reason=error.reason)
    except cv2.error as error:
        reason = f"a picture of unusable shape: {error.err}"
        result = replace(result, status=Status.DECODE_ERROR, reason=reason)
    return replace(result, stage_seconds=watch.seconds)


def _perturbed(frame: Frame, perturbation: Perturbation | None, video_id: str) -> Frame:
    if perturbation is None:
        return frame
    from tasks.faces.perturb import perturbed_frame  # noqa: PLC0415 - seldom wanted

    return perturbed_frame(frame, perturbation, video_id=video_id)


def find_faces(
    frame: Frame, settings: PreprocessSettings, detector: FaceDetector
) -> tuple[View, list[FaceBox]]:
    """The faces of a picture, most certain first, and the view of it that shows them.

    Other views are tried only if the picture as it is shows none, and are believed from
    ``MIN_BELIEVED_CONFIDENCE`` on, as with videos.

    Returns:
        Boxes in pixels of the full picture as the view turns it.
    """
    small, factor = _for_search(frame)

    def look(view: View) -> list[FaceBox]:
        boxes = view.finder(detector.detect)(view.turned(small), sample_index=0)
        return [scaled(b, factor) for b in boxes if b.confidence >= settings.min_track_confidence]

    faces = look(AS_SHOWN)
    if faces:
        return AS_SHOWN, faces
    looks = [(view, look(view)) for view in other_views(small)]
    believed = [
        (view, faces)
        for view, faces in looks
        if faces and faces[0].confidence >= MIN_BELIEVED_CONFIDENCE
    ]
    return max(believed, key=lambda item: item[1][0].confidence, default=(AS_SHOWN, []))


def whole_picture(frame: Frame, faces: Sequence[FaceBox], settings: PreprocessSettings) -> Sighting:
    """All of a picture, squeezed into a square.

    Args:
        frame: the picture.
        faces: those on it, in its pixels; key points are known where there is exactly one.
        settings: the side of the square.
    """
    height, width = frame.rgb_HWC.shape[:2]
    points = faces[0].keypoints_xy if len(faces) == 1 else None
    return Sighting(
        box=FaceBox(sample_index=0, xyxy=(0.0, 0.0, width, height), confidence=1.0),
        crop_HWC=squeezed(frame.rgb_HWC, settings.crop_pixels),
        keypoints_xy=Keypoints(*((x / width, y / height) for x, y in points)) if points else None,
    )


def squeezed(rgb_HWC: RGB, side: int) -> RGB:
    """The picture as a square of the given side; its aspect is lost."""
    height, width = rgb_HWC.shape[:2]
    # Area averaging avoids aliasing, but OpenCV only does it where both sides shrink.
    shrunk = cv2.resize(
        rgb_HWC, (min(width, side), min(height, side)), interpolation=cv2.INTER_AREA
    )
    return np.asarray(cv2.resize(shrunk, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)


def _for_search(frame: Frame) -> tuple[Frame, float]:
    """The picture, smaller if it is large, and the factor that leads back to its own pixels."""
    height, width = frame.rgb_HWC.shape[:2]
    factor = max(1.0, max(height, width) / MAX_SEARCH_PIXELS)
    if factor == 1.0:
        return frame, factor
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    small = cv2.resize(frame.rgb_HWC, size, interpolation=cv2.INTER_AREA)
    return replace(frame, rgb_HWC=np.asarray(small, np.uint8)), factor


def _found(
    frame: Frame, view: View, faces: Sequence[FaceBox], settings: PreprocessSettings
) -> Pass:
    """What is cut out, as if of a video of one frame: each crop is a track.

    Args:
        frame: the picture.
        view: shows the faces.
        faces: in pixels of the picture as the view turns it.
        settings: what is cut out.
    """
    turned = view.turned(frame)
    if settings.still_crop == "whole":
        shown = [view.shown(face, turned) for face in faces]
        view, sightings = AS_SHOWN, [whole_picture(frame, shown, settings)]
    else:
        sightings = [sighting_of(face, turned, view, settings) for face in faces]
    return Pass(
        plan=DecodePlan(
            frame_indices=(0,), runs=(), num_packets_in_order=0, largest_snap_seconds=0.0
        ),
        view=view,
        decoder="pillow",
        num_packets_decoded=0,
        problem=None,
        size=AS_SHOWN.shown_size(frame),
        samples=(Sample(0, 0.0, 0, fingerprint=None),),
        tracks=tuple((sighting,) for sighting in sightings),
    )
