"""Code of a decode process: its limits, its detector, one video at a time.

A video is hostile input: it is decoded only here, in a process that ends with its parent, that has
a limit of memory, and that the pool kills at the video's deadline. What is decoded is what was
hashed: see ``hold_content``.
"""

import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reelcheck.config import Decoder, NormaliseSettings, PreprocessSettings
from reelcheck.errors import FaceModelError, VideoError
from reelcheck.locations import is_url
from reelcheck.perturbations import Perturbation
from reelcheck.processes import die_with_parent
from reelcheck.reading import ReadLimits, hold_content, make_unreadable
from reelcheck.records import VideoResult

if TYPE_CHECKING:
    from tasks.faces.decoding.reencode import Reencoded
    from tasks.faces.decoding.stills import Still

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
    limits: ReadLimits
    perturbation: Perturbation | None = None
    """Change of each video before the face search."""
    finds_copies: bool = False
    """Whether faces get fingerprints; only the videos of a store are compared."""
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
        with _hold_content(location, video_id) as path:
            result = _extract(path, video_id, decoder, is_retry=is_retry)
            return _add_fingerprints(result) if _work().finds_copies else result
    except VideoError as error:
        return VideoResult(video_id=video_id, status=error.status, reason=error.reason)


@contextmanager
def _hold_content(location: str, video_id: str) -> Iterator[Path]:
    """Give a path to the content of that id, in its file or fetched, until the block ends.

    Raises:
        VideoError: it cannot be read, or it is another content, now or at the end.
    """
    limits = _work().limits
    if not is_url(location):
        with hold_content(Path(location), video_id, limits) as path:
            yield path
        return
    from storage.object_store.objects import fetch  # noqa: PLC0415 - slow; most videos are files

    # Nobody else may write to the folder.
    with tempfile.TemporaryDirectory(prefix=f"{video_id}.", dir=_work().scratch_dir) as folder:
        path = Path(folder) / "object"
        if fetch(location, path, limits) != video_id:
            raise make_unreadable("it has changed since it was listed; run again")
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


def reencode_one(
    path: Path, video_id: str, target: Path, settings: NormaliseSettings, limits: ReadLimits
) -> "Reencoded":
    """Write the video of that id in a profile; see ``reencode``."""
    from tasks.faces.decoding.reencode import reencode  # noqa: PLC0415 - slow; wanted only in here

    try:
        with hold_content(path, video_id, limits) as held:
            return reencode(held, target, settings)
    except VideoError:
        # The file may have changed when the target was complete.
        target.unlink(missing_ok=True)
        raise


def read_stills_of(
    path: Path,
    video_id: str,
    frame_indices: Sequence[int],
    settings: PreprocessSettings,
    *,
    max_stills: int,
    max_side_pixels: int,
    limits: ReadLimits,
) -> "list[Still]":
    """Read frames of the video of that id; see ``read_stills``."""
    from tasks.faces.decoding.stills import read_stills  # noqa: PLC0415 - slow; wanted only in here

    with hold_content(path, video_id, limits) as held:
        return read_stills(
            held,
            frame_indices,
            settings,
            max_stills=max_stills,
            max_side_pixels=max_side_pixels,
        )


def _add_fingerprints(result: VideoResult) -> VideoResult:
    from tasks.faces.detection.detect import FaceDetector  # noqa: PLC0415 - see start_worker
    from tasks.faces.video import add_fingerprints  # noqa: PLC0415

    detector = _state["detector"]
    assert isinstance(detector, FaceDetector)  # noqa: S101 - set by start_worker
    return add_fingerprints(result, detector)


def _return_freed_memory() -> None:
    """Let glibc return the memory of every freed picture to the system.

    By default it learns to keep blocks of their size, and the process stays as large as its largest
    video made it.
    """
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
