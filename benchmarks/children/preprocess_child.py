"""The processes that ``preprocess.py`` measures: one kind of work each, JSON in, JSON out.

Everything is imported where it is used: what a kind of work does not need, it does not pay for.
"""
# ruff: noqa: PLC0415

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reelcheck.config import Decoder

Numbers = dict[str, float]
NUM_WORKERS = 2


def main() -> None:
    """Do the work that the command line names, on what stdin says."""
    works: dict[str, Callable[..., dict[str, Any]]] = {
        "usable": find_usable,
        "ours": run_ours,
        "naive": run_naive,
        "pool": run_pool,
    }
    print(json.dumps(works[sys.argv[1]](**json.load(sys.stdin))))


def find_usable(folder: str) -> dict[str, Any]:
    """Videos with status ok, with their length and height."""
    from reelcheck.status import Status
    from tasks.intake.discover import find_files

    extract = prepare("auto")
    paths = [Path(file.root) / file.path for file in find_files(Path(folder))]
    results = [(path, extract(path)) for path in paths]
    return {
        "videos": [
            {"path": str(path), "seconds": result.duration_seconds, "height": result.height}
            for path, result in results
            if result.status is Status.OK
        ]
    }


def prepare(decoder: "Decoder") -> Callable[[Path], Any]:
    """Our whole work on one video, after the start of a worker."""
    import numpy as np

    from reelcheck.config import PreprocessSettings
    from reelcheck.records import Frame
    from tasks.faces.detection.detect import FaceDetector
    from tasks.faces.detection.weights import find_face_model, hash_configured_face_model
    from tasks.faces.video import extract_video

    settings = PreprocessSettings(face_model_sha256=hash_configured_face_model())
    model_path = find_face_model(settings.face_model_sha256)
    detector = FaceDetector(model_path, min_confidence=settings.min_confidence)
    black = np.zeros((64, 64, 3), np.uint8)
    detector.detect(Frame(frame_index=0, pts_seconds=0.0, rgb_HWC=black), sample_index=0)
    return lambda path: extract_video(path, "0" * 64, settings, detector, decoder=decoder)


def run_ours(paths: list[str], decoder: "Decoder") -> Numbers:
    """One worker's work."""
    extract = prepare(decoder)
    stages: dict[str, float] = {}

    def work(path: str) -> None:
        for stage, seconds in extract(Path(path)).stage_seconds.items():
            stages[stage] = stages.get(stage, 0.0) + seconds

    return {**measure(work, paths), **{f"{name}_cpu_seconds": stages[name] for name in stages}}


def run_naive(paths: list[str]) -> Numbers:
    """Every frame through OpenCV and MediaPipe, faces cut out."""
    import cv2
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    from tasks.faces.detection.weights import find_face_model, hash_configured_face_model

    model_path = str(find_face_model(hash_configured_face_model()))
    options = vision.FaceDetectorOptions(base_options=BaseOptions(model_asset_path=model_path))
    detector = vision.FaceDetector.create_from_options(options)

    def work(path: str) -> None:
        capture = cv2.VideoCapture(path)
        crops = []
        while True:
            is_read, bgr = capture.read()
            if not is_read:
                break
            rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=rgb)
            for found in detector.detect(image).detections:
                box = found.bounding_box
                left, top = max(0, box.origin_x), max(0, box.origin_y)
                face = rgb[top : box.origin_y + box.height, left : box.origin_x + box.width]
                crops.append(cv2.resize(face, (112, 112), interpolation=cv2.INTER_AREA))
        capture.release()

    return measure(work, paths)


def measure(work: Callable[[str], None], paths: list[str]) -> Numbers:
    """CPU and wall seconds of the work on all paths."""
    started, wall_started = time.process_time(), time.perf_counter()
    for path in paths:
        work(path)
    return {
        "work_cpu_seconds": time.process_time() - started,
        "work_wall_seconds": time.perf_counter() - wall_started,
    }


def copy_video(path: Path, store: Path, number: int) -> Path:
    """Make a copy with another content, and so another id, but the same pictures."""
    from storage.hashing import sha256_of

    copy = store / "videos" / str(number) / f"{sha256_of(path)}{path.suffix}"
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(path.read_bytes() + b"\0\0\0\x0cfree" + number.to_bytes(4))
    return copy


def run_pool(paths: list[str], copies: int, store: str) -> dict[str, Any]:
    """Copies of the videos through the pool into a store, as in a run of preprocess."""
    from reelcheck.config import PreprocessSettings, RunSettings
    from reelcheck.records import Shard
    from storage.hashing import sha256_of
    from storage.layout import locate_preprocessed
    from tasks.faces.detection.weights import hash_configured_face_model
    from tasks.preprocessing.decode_pool import DecodePool
    from tasks.preprocessing.extract import extract_shard

    settings = PreprocessSettings(face_model_sha256=hash_configured_face_model())
    layout = locate_preprocessed(Path(store), "benchmark")
    shards = [
        Shard(
            name=f"shard-{copy}",
            position=f"{copy + 1}/{copies}",
            video_ids=tuple(sha256_of(path) for path in locations),
            locations=tuple(map(str, locations)),
        )
        for copy in range(copies)
        if (locations := [copy_video(Path(path), Path(store), copy) for path in paths])
    ]
    run = RunSettings(num_workers=NUM_WORKERS)
    peaks: dict[int, int] = {}
    is_over = threading.Event()
    watcher = threading.Thread(target=watch_children, args=(peaks, is_over))
    watcher.start()
    started = time.perf_counter()
    try:
        with DecodePool(shards, settings, run, finds_copies=True) as pool:
            done = [extract_shard(shard, layout, pool) for shard in shards]
    finally:
        is_over.set()
        watcher.join()
    return {
        "wall_seconds": time.perf_counter() - started,
        "work_cpu_seconds": sum(sum(part.cpu_seconds.values()) for part in done),
        "parent_peak_mb": read_peak_kb(os.getpid()) // 1024,
        "children_peak_mb": sorted((peak // 1024 for peak in peaks.values()), reverse=True),
    }


def watch_children(peaks: dict[int, int], is_over: threading.Event) -> None:
    """Note the largest memory of each process under this one, until told that it is over (Linux).

    What is smaller than a Python that has imported NumPy is a helper, no decode process.
    """
    while not is_over.wait(0.2):
        for children in Path("/proc/self/task").glob("*/children"):
            for pid in map(int, children.read_text().split()):
                peak = read_peak_kb(pid)
                if peak > 100 * 1024:
                    peaks[pid] = max(peak, peaks.get(pid, 0))


def read_peak_kb(pid: int) -> int:
    """Largest resident memory of a process so far; 0 if it is gone or cannot be known."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


if __name__ == "__main__":
    main()
