"""Write a labelled data set of synthetic clips: H.264 files and one table of labels.

`labels.csv` is written last, so that its presence says that the set is complete; every file gets
its final name only when it is whole, so that an interrupted run can simply be started again.
"""

import csv
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from reelcheck.errors import SettingsError
from tasks.synthetic.clip import render_frames
from tasks.synthetic.plan import SyntheticSettings, Video, plan_videos

__all__ = ["SyntheticSettings", "generate_dataset", "write_h264"]

_COLUMNS: Final = ("path", "label", "group", "generator", "source")
# Raise this when the pixels of equal settings change: it keeps two looks out of one folder.
_RENDERER_VERSION: Final = 1


def generate_dataset(
    out_dir: Path,
    settings: SyntheticSettings,
    *,
    num_workers: int = 2,
    on_video: Callable[[], None] | None = None,
) -> Path:
    """Render a data set into `out_dir`, or finish one that was interrupted there.

    Writes `settings.json`, `videos/real/*.mp4`, `videos/fake/*.mp4` and, last, `labels.csv` with
    the columns path, label, group, generator and source (paths relative to `videos`, posix form).

    Args:
        out_dir: A new folder, or one that an earlier run with the same settings has filled.
        settings: What to render.
        num_workers: Number of processes; it has no influence on the content.
        on_video: Called in this process after each video, also for each that an interrupted run
            has left, so that a progress bar reaches its end. Not called for a complete set.

    Returns:
        The path of `labels.csv`.

    Raises:
        SettingsError: The folder holds other videos than `settings` asks for.
    """
    labels_path = out_dir / "labels.csv"
    is_claimed = _claim_folder(out_dir, settings)
    if is_claimed and labels_path.exists():
        return labels_path
    notify = on_video or _ignore
    videos = plan_videos(settings)
    videos_dir = out_dir / "videos"
    for label in ("real", "fake"):
        (videos_dir / label).mkdir(parents=True, exist_ok=True)
    missing = [video for video in videos if not (videos_dir / video.path).exists()]
    for _ in range(len(videos) - len(missing)):
        notify()
    _render_all(videos_dir, missing, num_workers=num_workers, notify=notify)
    _write_labels(labels_path, videos)
    return labels_path


def write_h264(path: Path, frames: Iterable[NDArray[np.uint8]], *, fps: int, crf: int) -> None:
    """Encode frames as an H.264 mp4 that appears under its name only when it is complete.

    Args:
        path: File to write; its folder must exist.
        frames: At least one uint8 RGB frame of (height, width, 3), all alike, with even sides.
        fps: Frames per second.
        crf: x264's constant rate factor: about 17 (nearly transparent) to 30 (coarse).

    Raises:
        ValueError: There is no frame.
    """
    temporary = _name_temporary(path)
    try:
        _encode(temporary, frames, fps=fps, crf=crf)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _encode(path: Path, frames: Iterable[NDArray[np.uint8]], *, fps: int, crf: int) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        # One thread: x264's decisions, and so the bytes, depend on the number of threads.
        options = {"crf": str(crf), "preset": "veryfast", "threads": "1"}
        stream = container.add_stream("libx264", rate=Fraction(fps), options=options)
        stream.pix_fmt = "yuv420p"
        num_frames = 0
        for pixels in frames:
            if num_frames == 0:
                stream.height, stream.width = pixels.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            num_frames += 1
        if num_frames == 0:
            raise ValueError("a video needs at least one frame")
        container.mux(stream.encode(None))


def _claim_folder(out_dir: Path, settings: SyntheticSettings) -> bool:
    """Mark `out_dir` as the folder of `settings`; return whether an earlier run had done so."""
    path = out_dir / "settings.json"
    wanted = {**asdict(settings), "renderer_version": _RENDERER_VERSION}
    if path.exists():
        if json.loads(path.read_text(encoding="utf-8")) != wanted:
            raise SettingsError(f"{out_dir} was made with other settings; choose another folder")
        return True
    # Videos of unknown origin would be taken for finished ones of this set.
    if (out_dir / "videos").exists() or (out_dir / "labels.csv").exists():
        raise SettingsError(f"{out_dir} holds videos or labels already; choose another folder")
    out_dir.mkdir(parents=True, exist_ok=True)
    _replace_text(path, json.dumps(wanted, indent=2) + "\n")
    return False


def _render_all(
    videos_dir: Path, videos: Sequence[Video], *, num_workers: int, notify: Callable[[], None]
) -> None:
    if not videos:
        return
    # Spawned, not forked: a forked child of a process with threads can hang.
    pool = ProcessPoolExecutor(
        max_workers=min(num_workers, len(videos)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=cv2.setNumThreads,
        initargs=(1,),
    )
    try:
        for future in as_completed([pool.submit(_render, videos_dir, video) for video in videos]):
            future.result()
            notify()
    finally:
        # After a failure there is no point in rendering the rest first.
        pool.shutdown(cancel_futures=True)


def _render(videos_dir: Path, video: Video) -> None:
    frames = render_frames(
        identity_seed=video.identity_seed,
        clip_seed=video.clip_seed,
        kind=video.kind,
        donor_seed=video.donor_seed,
        num_frames=video.num_frames,
        height=video.height,
    )
    write_h264(videos_dir / video.path, frames, fps=video.fps, crf=video.crf)


def _write_labels(path: Path, videos: Sequence[Video]) -> None:
    temporary = _name_temporary(path)
    with temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for video in videos:
            generator = "" if video.kind == "real" else video.kind
            writer.writerow((video.path, video.label, video.group, generator, video.source))
    temporary.replace(path)


def _replace_text(path: Path, text: str) -> None:
    temporary = _name_temporary(path)
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _name_temporary(path: Path) -> Path:
    """Return where a file is written until it is whole; no other process uses the same name."""
    return path.with_name(f"{path.name}.{os.getpid()}.part")


def _ignore() -> None:
    """Stand in for a caller that wants no notice."""
