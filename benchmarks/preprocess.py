"""Preprocessing speed beside the machine's limit, on a folder of your own videos.

    python benchmarks/preprocess.py FOLDER [--rounds 3] [--limit 20]

Per round and video, in turn, in one process and one thread: (a) our whole work on the video
(probe, decode, faces, crops), (b) PyAV decoding every frame and doing nothing with it, the limit of
whatever looks at every frame. CPU seconds, start-up excluded; the medians over rounds and their
ratio are printed as JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import av

from reelcheck.config import PreprocessSettings
from reelcheck.errors import VideoError
from reelcheck.status import Status
from tasks.discover import find_files
from tasks.faces.decode import choose_decoder
from tasks.faces.detect import FaceDetector
from tasks.faces.probe import open_container, probe_video, video_stream
from tasks.faces.video import extract_video
from tasks.faces.weights import configured_face_model_sha256, find_face_model


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=20, help="videos")
    options = parser.parse_args()
    settings = PreprocessSettings(face_model_sha256=configured_face_model_sha256())
    model_path = find_face_model(settings.face_model_sha256)
    with FaceDetector(model_path, min_confidence=settings.min_confidence) as detector:
        paths = _usable(options.folder, settings, detector)[: options.limit]
        ours, limit = [], []
        for _ in range(options.rounds):
            pairs = [
                (
                    _cpu_seconds(lambda p=path: extract_video(p, "0" * 64, settings, detector)),
                    _cpu_seconds(lambda p=path: _decode_all(p)),
                )
                for path in paths
            ]
            ours.append(sum(pair[0] for pair in pairs))
            limit.append(sum(pair[1] for pair in pairs))
    print(
        json.dumps(
            {
                "videos": len(paths),
                "rounds": options.rounds,
                "read_by_decord": [choose_decoder(probe_video(path)) for path in paths].count(
                    "decord"
                ),
                "preprocess_cpu_seconds": round(statistics.median(ours), 3),
                "decode_every_frame_cpu_seconds": round(statistics.median(limit), 3),
                "preprocess_videos_per_cpu_second": round(len(paths) / statistics.median(ours), 2),
                "throughput_over_limit": round(
                    statistics.median(b / a for a, b in zip(ours, limit, strict=True)), 3
                ),
            },
            indent=2,
        )
    )


def _usable(folder: Path, settings: PreprocessSettings, detector: FaceDetector) -> list[Path]:
    """Videos with a face; this pass also warms the page cache and the detector."""
    paths = [Path(file.root) / file.path for file in find_files(folder)]
    results = [(path, extract_video(path, "0" * 64, settings, detector)) for path in paths]
    return [path for path, result in results if result.status is Status.OK]


def _cpu_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _decode_all(path: Path) -> None:
    try:
        with open_container(path) as container:
            stream = video_stream(container)
            stream.codec_context.thread_count = 1
            for _ in container.decode(stream):
                pass
    except (VideoError, av.FFmpegError):
        return


if __name__ == "__main__":
    main()
