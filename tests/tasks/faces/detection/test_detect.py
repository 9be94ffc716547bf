"""What the real detector says of a rendered face."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reelcheck.records import RGB, Frame
from tasks.faces.detection.detect import FaceDetector
from tasks.synthetic.clip import render_frames


@pytest.fixture(scope="module")
def face() -> RGB:
    frames = render_frames(identity_seed=1, clip_seed=2, kind="real", num_frames=1, height=192)
    return next(iter(frames))


def as_frame(rgb: RGB) -> Frame:
    return Frame(frame_index=0, pts_seconds=0.0, rgb_HWC=np.ascontiguousarray(rgb))


def test_detect_key_points_are_where_a_face_has_them(detector: FaceDetector, face: RGB) -> None:
    for rgb in (face, face[:, ::-1]):
        (found,) = detector.detect(as_frame(rgb), sample_index=5)
        assert found.sample_index == 5
        points = found.keypoints_xy
        assert points is not None
        x1, y1, x2, y2 = found.xyxy
        # The person's right is on the left of the picture, and never the other way round.
        across = [points.right_ear, points.right_eye, points.nose_tip, points.left_eye]
        assert [x for x, _ in across] == sorted(x for x, _ in across)
        assert points.left_eye[0] < points.left_ear[0]
        assert x1 < points.right_eye[0] < found.centre[0] < points.left_eye[0] < x2
        down = [points.left_eye, points.nose_tip, points.mouth_centre]
        assert y1 < down[0][1] < down[1][1] < down[2][1] < y2
        eyes = points.right_eye, points.left_eye
        assert abs(eyes[1][1] - eyes[0][1]) < 0.2 * (eyes[1][0] - eyes[0][0])
        assert found.eyes_xy == eyes


def test_detect_key_points_are_in_pixels_of_the_frame(detector: FaceDetector, face: RGB) -> None:
    wider = np.zeros((face.shape[0] + 40, face.shape[1] + 60, 3), np.uint8)
    wider[40:, 60:] = face
    (before,) = detector.detect(as_frame(face), sample_index=0)
    (after,) = detector.detect(as_frame(wider), sample_index=0)
    moved = np.array(after.keypoints_xy) - np.array(before.keypoints_xy)
    assert moved == pytest.approx(np.array([(60, 40)] * 6), abs=0.1 * before.side_pixels)


def test_detect_nothing_on_a_plain_picture(detector: FaceDetector) -> None:
    assert detector.detect(as_frame(np.full((120, 160, 3), 128, np.uint8)), sample_index=0) == []


SIGNALS_RESTORED = """
import signal
import sys
import time
from pathlib import Path

import numpy as np

from reelcheck.records import Frame
from tasks.faces.detection.detect import FaceDetector

signal.signal(signal.SIGPROF, signal.SIG_DFL)  # MediaPipe in the parent left it ignored
detector = FaceDetector(Path(sys.argv[1]), min_confidence=0.5)
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    if (handler := signal.getsignal(number)) is not None:
        signal.signal(number, handler)
frame = Frame(frame_index=0, pts_seconds=0.0, rgb_HWC=np.zeros((480, 640, 3), np.uint8))
while time.process_time() < float(sys.argv[2]):
    detector.detect(frame, sample_index=0)
print("alive")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_process_survives_that_somebody_restores_all_signal_handlers(face_model: Path) -> None:
    cpu_seconds = 4  # import and start take 2 of them, the signals come every 10 ms
    result = subprocess.run(
        [sys.executable, "-c", SIGNALS_RESTORED, face_model, str(cpu_seconds)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[4])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, "alive\n"), result.stderr
