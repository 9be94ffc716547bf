"""Code of a decode process: its limits, its detector, one video at a time.

A video is hostile input: it is opened only here, in a process that ends with its parent, that has a
limit of memory, and that the pool kills at the video's deadline.
"""

import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from reelcheck.config import Decoder, PreprocessSettings
from reelcheck.errors import FaceModelError
from reelcheck.locations import is_url
from reelcheck.parent import die_with_parent
from reelcheck.perturbations import Perturbation
from reelcheck.records import VideoResult
from reelcheck.status import Status

_M_MMAP_THRESHOLD = -3
_LARGE_BLOCK_BYTES = 2**20
_state: dict[str, object] = {}


def limit_process(max_memory_bytes: int, parent_pid: int) -> None:
    """Prepare this process for videos: it ends with its parent, has a memory limit, is silent."""
    die_with_parent(parent_pid)
    if sys.platform == "linux":
        import resource  # noqa: PLC0415 - Unix only

        resource.setrlimit(resource.RLIMIT_DATA, (max_memory_bytes, max_memory_bytes))
        _return_freed_memory()
    os.environ.update(GLOG_minloglevel="3", TF_CPP_MIN_LOG_LEVEL="3")
    # MediaPipe and FFmpeg write notes to stderr, which would disturb the progress bar.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a decode process does with each video."""

    settings: PreprocessSettings
    perturbation: Perturbation | None = None
    """Change of each video before the face search."""
    scratch_dir: Path | None = None
    """Folder for perturbed files and for fetched videos."""


def start_worker(work: Work, model_path: Path, max_memory_bytes: int, parent_pid: int) -> None:
    """Set the limits and load the detector; called once per process."""
    limit_process(max_memory_bytes, parent_pid)
    _state["work"] = work
    try:
        from tasks.faces.detection.detect import FaceDetector  # noqa: PLC0415 - slow; wanted only in here

        _state["detector"] = FaceDetector(model_path, min_confidence=work.settings.min_confidence)
    except Exception as error:  # noqa: BLE001 - raised by extract_one; the pool would swallow it
        _state["error"] = f"the face detector {model_path} cannot be started: {error}"


def check_worker() -> None:
    """Return if this process is ready for work.

    Raises:
        FaceModelError: the process has no working detector.
    """
    if "error" in _state:
        raise FaceModelError(str(_state["error"]))


def extract_one(location: str, video_id: str, decoder: Decoder, *, is_retry: bool) -> VideoResult:
    """Process one video or still picture with this process's detector.

    Args:
        location: path or URL.
        video_id: its SHA-256.
        decoder: see ``RunSettings``; without effect on a still picture.
        is_retry: an earlier attempt failed; begin with the other decoder.

    Raises:
        FaceModelError: the process has no working detector, whatever the video is.
    """
    check_worker()
    try:
        with _open_local_file(location, video_id) as path:
            return _extract(path, video_id, decoder, is_retry=is_retry)
    except _FetchError as error:
        return VideoResult(video_id=video_id, status=Status.UNREADABLE, reason=str(error))


class _FetchError(Exception):
    """An object cannot be fetched, or has changed."""


@contextmanager
def _open_local_file(location: str, video_id: str) -> Iterator[Path]:
    """Give the file itself, or the fetched file, until the block ends."""
    if not is_url(location):
        yield Path(location)
        return
    from storage.object_store.objects import fetch  # noqa: PLC0415 - slow; most videos are files

    with tempfile.TemporaryDirectory(prefix=f"{video_id}.", dir=_work().scratch_dir) as folder:
        path = Path(folder) / "object"
        try:
            digest = fetch(location, path)
        except OSError as error:
            raise _FetchError(str(error)) from error
        if digest != video_id:
            raise _FetchError("it has changed since it was listed; run again")
        yield path


def _work() -> Work:
    work = _state["work"]
    assert isinstance(work, Work)  # noqa: S101 - set by start_worker
    return work


def _extract(path: Path, video_id: str, decoder: Decoder, *, is_retry: bool) -> VideoResult:
    from tasks.faces.decoding.image_file import find_still_codec  # noqa: PLC0415
    from tasks.faces.detection.detect import FaceDetector  # noqa: PLC0415 - see start_worker
    from tasks.faces.image import extract_image  # noqa: PLC0415
    from tasks.faces.video import extract_video  # noqa: PLC0415

    work, detector = _work(), _state["detector"]
    assert isinstance(detector, FaceDetector)  # noqa: S101 - set by start_worker
    if find_still_codec(path) is not None:
        return extract_image(
            path, video_id, work.settings, detector, perturbation=work.perturbation
        )
    return extract_video(
        path,
        video_id,
        work.settings,
        detector,
        decoder=decoder,
        is_retry=is_retry,
        perturbation=work.perturbation,
        scratch_dir=work.scratch_dir,
    )


def _return_freed_memory() -> None:
    """Let glibc return the memory of every freed picture to the system.

    By default it learns to keep blocks of their size, and the process stays as large as its largest
    video made it.
    """
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
