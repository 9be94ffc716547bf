"""Find faces on one frame with MediaPipe's BlazeFace, full range.

- Full range, always: the short-range model misses faces below a tenth of the frame.
- IMAGE mode, because VIDEO mode does not track and brings nothing.
- Import this module only in decode processes: MediaPipe takes seconds to import, and a detector
  made before a fork hangs in the child.
"""

import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import mediapipe
from mediapipe.tasks.python import BaseOptions, vision
from mediapipe.tasks.python.components.containers.keypoint import NormalizedKeypoint

from reelcheck.records import FaceBox, Frame, Keypoints


class FaceDetector:
    """MediaPipe face detector; use it with ``with``, because it must be closed explicitly."""

    def __init__(self, model_path: Path, *, min_confidence: float) -> None:
        options = vision.FaceDetectorOptions(
            base_options=BaseOptions(model_asset_path=str(model_path)),
            min_detection_confidence=min_confidence,
        )
        self._detector = vision.FaceDetector.create_from_options(options)
        _keep_profiling_signals_ignored()

    def detect(self, frame: Frame, *, sample_index: int) -> list[FaceBox]:
        """Find the faces on one frame, most certain first."""
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=frame.rgb_HWC)
        height, width = frame.rgb_HWC.shape[:2]
        boxes = [
            FaceBox(
                sample_index=sample_index,
                xyxy=(
                    float(found.bounding_box.origin_x),
                    float(found.bounding_box.origin_y),
                    float(found.bounding_box.origin_x + found.bounding_box.width),
                    float(found.bounding_box.origin_y + found.bounding_box.height),
                ),
                confidence=float(found.categories[0].score),
                keypoints_xy=_scale_keypoints(found.keypoints, width=width, height=height),
            )
            for found in self._detector.detect(image).detections
        ]
        return sorted(boxes, key=lambda box: -box.confidence)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._detector.close()


def _scale_keypoints(
    keypoints: Sequence[NormalizedKeypoint], *, width: int, height: int
) -> Keypoints:
    return Keypoints(*((float(point.x) * width, float(point.y) * height) for point in keypoints))


def _keep_profiling_signals_ignored() -> None:
    """Tell Python that SIGPROF is ignored.

    MediaPipe's threads get that signal for as long as they live. It ignores the signal in C, where
    Python does not see it: whoever saves and restores all handlers, as Lightning does around a
    training run, would restore the default, which ends the process (seen with MediaPipe 1.0).
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGPROF) is signal.SIG_DFL:
        signal.signal(signal.SIGPROF, signal.SIG_IGN)
