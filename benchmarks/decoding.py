"""The price of each way to the same frames, on a folder of your own videos.

    python benchmarks/decoding.py FOLDER [--rounds 5] [--limit 40]

Per round and video, in turn, in one process and one thread: every frame by PyAV (nothing made of
them), then each sampling by PyAV, which leaves out what it can, and by decord; wanted frames are
made RGB. CPU seconds; the medians over rounds, relative to every frame, are printed as JSON. Only
videos that decord reads exactly, so that all columns are about the same files.

"""

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

from reelcheck.config import PreprocessSettings
from reelcheck.errors import VideoError
from reelcheck.records import DecodePlan, VideoProbe
from tasks.faces.decoding.decode import FrameReader, reads_exactly
from tasks.faces.decoding.plan import plan_samples
from tasks.faces.decoding.probe import (
    find_video_stream,
    open_container,
    probe_video,
    read_coded_packets,
)
from tasks.intake.discover import find_files

SAMPLINGS = ("spread", "clips", "uniform", "all")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=int, default=40, help="videos")
    options = parser.parse_args()
    videos = _find_readable(options.folder)[: options.limit]
    rounds = [_measure_round(videos) for _ in range(options.rounds)]
    shares = {
        name: round(statistics.median(r[name] / r["every frame"] for r in rounds), 3)
        for name in rounds[0]
    }
    print(
        json.dumps(
            {
                "videos": len(videos),
                "video_seconds": round(sum(probe.duration_seconds for _, probe in videos)),
                "rounds": options.rounds,
                "cpu_seconds_every_frame": round(
                    statistics.median(r["every frame"] for r in rounds), 3
                ),
                "cpu_relative_to_every_frame": shares,
                "packets_relative_to_every_frame": {
                    sampling: _measure_packet_share(videos, sampling) for sampling in SAMPLINGS
                },
            },
            indent=2,
        )
    )


def _find_readable(folder: Path) -> list[tuple[Path, VideoProbe]]:
    found = []
    for file in find_files(folder):
        path = Path(file.root) / file.path
        try:
            probe = probe_video(path)
        except VideoError:
            continue
        if reads_exactly(probe):
            found.append((path, probe))
    return found


def _measure_round(videos: list[tuple[Path, VideoProbe]]) -> dict[str, float]:
    seconds: dict[str, float] = defaultdict(float)
    for path, probe in videos:
        seconds["every frame"] += _measure_cpu_seconds(partial(_decode_all, path))
        seconds["probe and plan"] += _measure_cpu_seconds(partial(_probe_and_plan, path))
        for sampling in SAMPLINGS:
            plan = _plan(probe, sampling)
            by_plan = FrameReader(path, probe, plan, decoder="pyav")
            seconds[f"{sampling}, PyAV by plan"] += _measure_cpu_seconds(partial(_drain, by_plan))
            by_decord = FrameReader(path, probe, plan, decoder="decord")
            seconds[f"{sampling}, decord"] += _measure_cpu_seconds(partial(_drain, by_decord))
    return dict(seconds)


def _probe_and_plan(path: Path) -> None:
    plan_samples(probe_video(path), PreprocessSettings())


def _plan(probe: VideoProbe, sampling: str) -> DecodePlan:
    return plan_samples(probe, PreprocessSettings.model_validate({"sampling": sampling}))


def _measure_packet_share(videos: list[tuple[Path, VideoProbe]], sampling: str) -> float:
    sent = sum(_plan(probe, sampling).num_packets for _, probe in videos)
    return round(sent / sum(probe.packets.num_packets for _, probe in videos), 3)


def _decode_all(path: Path) -> None:
    with open_container(path) as container:
        stream = find_video_stream(container)
        stream.codec_context.thread_count = 1
        for packet in read_coded_packets(container, stream):
            packet.decode()


def _drain(reader: FrameReader) -> None:
    for _ in reader:
        pass


def _measure_cpu_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main()
