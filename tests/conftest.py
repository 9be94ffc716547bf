"""Shared fixtures: tiny real H.264 videos, rendered, and the guards around every test."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

# Before Prefect is imported anywhere: tests need neither its log nor its telemetry.
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")

from reelcheck.errors import FaceModelError
from tasks.faces.weights import configured_face_model_sha256, find_face_model
from tasks.synthetic.clip import render_frames
from tasks.synthetic.dataset import SyntheticSettings, generate_dataset, write_h264


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - guards third-party code that uses the global generator


@pytest.fixture(scope="session")
def face_model() -> Path:
    """The face detector's weights; the test is skipped where they cannot be had."""
    try:
        return find_face_model(configured_face_model_sha256())
    except FaceModelError as error:
        pytest.skip(f"no face model: {error}")


@pytest.fixture(scope="session")
def face_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One rendered face, 24 frames, 256 x 192, 25 frames per second, H.264 in MP4."""
    path = tmp_path_factory.mktemp("face") / "face.mp4"
    frames = render_frames(identity_seed=1, clip_seed=2, kind="real", num_frames=24, height=192)
    write_h264(path, frames, fps=25, crf=20)
    return path


@pytest.fixture(scope="session")
def faceless_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A moving grey ramp, 24 frames, no face."""
    path = tmp_path_factory.mktemp("faceless") / "ramp.mp4"
    ramp = np.linspace(0, 255, 256, dtype=np.uint8)
    rows = [np.roll(ramp, 4 * shift) for shift in range(24)]
    frames = (np.repeat(np.tile(row, (192, 1))[..., None], 3, axis=2) for row in rows)
    write_h264(path, frames, fps=25, crf=20)
    return path


@pytest.fixture(scope="session")
def synthetic_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``videos/`` (24 clips of 12 people in 6 groups) and ``labels.csv``."""
    folder = tmp_path_factory.mktemp("synthetic") / "data"
    generate_dataset(folder, SyntheticSettings(num_identities=12, clips_per_identity=1))
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real videos beside the checkout; skipped where they are absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder of real test videos (../shared/data) is not here")
    return folder


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """One throw-away Prefect server for all tests that run flows."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield
