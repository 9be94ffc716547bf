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
from tasks.discover import find_files
from tasks.faces.decode import FrameReader, reads_exactly
from tasks.faces.plan import sample_plan
from tasks.faces.probe import coded_packets, open_container, probe_video, video_stream

SAMPLINGS = ("spread", "clips", "uniform", "all")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=int, default=40, help="videos")
    options = parser.parse_args()
    videos = _readable(options.folder)[: options.limit]
    rounds = [_one_round(videos) for _ in range(options.rounds)]
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
                    sampling: _packet_share(videos, sampling) for sampling in SAMPLINGS
                },
            },
            indent=2,
        )
    )


def _readable(folder: Path) -> list[tuple[Path, VideoProbe]]:
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


def _one_round(videos: list[tuple[Path, VideoProbe]]) -> dict[str, float]:
    seconds: dict[str, float] = defaultdict(float)
    for path, probe in videos:
        seconds["every frame"] += _cpu_seconds(partial(_decode_all, path))
        seconds["probe and plan"] += _cpu_seconds(partial(_probe_and_plan, path))
        for sampling in SAMPLINGS:
            plan = _plan(probe, sampling)
            by_plan = FrameReader(path, probe, plan, decoder="pyav")
            seconds[f"{sampling}, PyAV by plan"] += _cpu_seconds(partial(_drain, by_plan))
            by_decord = FrameReader(path, probe, plan, decoder="decord")
            seconds[f"{sampling}, decord"] += _cpu_seconds(partial(_drain, by_decord))
    return dict(seconds)


def _probe_and_plan(path: Path) -> None:
    sample_plan(probe_video(path), PreprocessSettings())


def _plan(probe: VideoProbe, sampling: str) -> DecodePlan:
    return sample_plan(probe, PreprocessSettings.model_validate({"sampling": sampling}))


def _packet_share(videos: list[tuple[Path, VideoProbe]], sampling: str) -> float:
    sent = sum(_plan(probe, sampling).num_packets for _, probe in videos)
    return round(sent / sum(probe.packets.num_packets for _, probe in videos), 3)


def _decode_all(path: Path) -> None:
    with open_container(path) as container:
        stream = video_stream(container)
        stream.codec_context.thread_count = 1
        for packet in coded_packets(container, stream):
            packet.decode()


def _drain(reader: FrameReader) -> None:
    for _ in reader:
        pass


def _cpu_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main()
