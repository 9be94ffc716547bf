"""CPU cost of preprocessing beside plain decoders, on your own videos, on this machine.

    python benchmarks/preprocess.py FOLDER [--rounds 5] [--limit 20] [--no-long]

Every measurement is a process of its own; they take turns, round by round, and medians over the
rounds count, so that a busy machine disturbs all alike. CPU seconds are user + system of the
process and its children. ``work`` leaves out the start of Python and of the face detector, which a
worker pays once for hundreds of videos, and for ffmpeg the bare start of its process, which
``whole`` contains.

- ours_auto, ours_decord, ours_pyav: one worker's work on all videos (probe, plan, decode, detect,
  crop), with each choice of decoder.
- ffmpeg_all, ffmpeg_references: the ffmpeg program decodes every frame, or only those that others
  refer to, and does nothing with them.
- naive: OpenCV reads every frame, MediaPipe looks at each in full size, every face is cut out.

Then, unless --no-long: the same clip 1, 10 and 30 times as long; and 1, 4 and 10 times as many
videos through the real pool of two processes, with the memory that it takes. Only videos with
status ok take part. Results are printed as JSON, the ratios last.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from processes import FFMPEG, describe_machine, read_children_cpu_seconds, run_process

Numbers = dict[str, float]
CHILD = Path(__file__).parent / "children" / "preprocess_child.py"
LENGTHS = (1, 10, 30)
COPIES = (1, 4, 10)
CLIP_SECONDS, CLIP_HEIGHT = 10.0, 720


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=int, default=20, help="videos, spread over the folder")
    parser.add_argument("--long", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    _, usable = run_child("usable", folder=str(options.folder.absolute()))
    chosen = take_spread(usable["videos"], options.limit)
    paths = [video["path"] for video in chosen]
    report: dict[str, Any] = {
        "machine": describe_versions(),
        "rounds": options.rounds,
        "videos": len(paths),
    }
    report["decoding"] = compare(paths, options.rounds)
    show("decoding", report["decoding"])
    if options.long:
        with tempfile.TemporaryDirectory() as folder:
            report["length"] = measure_lengths(
                find_nearest_clip(usable["videos"]), Path(folder), options.rounds
            )
            show("length", report["length"])
            report["number"] = measure_numbers(paths, Path(folder))
            show("number", report["number"])
    print(json.dumps({**report, **compute_ratios(report)}, indent=2))


def show(title: str, result: object) -> None:
    """A section as soon as it is there; the whole report comes last."""
    print(f"{title}: {json.dumps(result)}", file=sys.stderr, flush=True)


def take_spread(items: Sequence[Any], max_items: int) -> list[Any]:
    """Up to ``max_items``, evenly from first to last."""
    step = max(1.0, len(items) / max_items)
    return [items[int(place * step)] for place in range(min(max_items, len(items)))]


def describe_versions() -> dict[str, Any]:
    """Describe the machine and the versions."""
    found = describe_machine(("av", "decord", "mediapipe", "opencv-contrib-python", "numpy"))
    if shutil.which("ffmpeg") is None:
        return {**found, "ffmpeg": "absent: not measured"}
    printed = subprocess.run(("ffmpeg", "-version"), capture_output=True, text=True, check=True)
    return {**found, "ffmpeg": printed.stdout.split()[2]}


def run_child(name: str, **arguments: object) -> tuple[float, dict[str, Any]]:
    """CPU seconds of a fresh process and its children, and what it reports."""
    before = read_children_cpu_seconds()
    report = run_process(CHILD, name, **arguments)
    return read_children_cpu_seconds() - before, report


def compare(paths: list[str], rounds: int) -> dict[str, Numbers]:
    """Compare every way on the same videos, in turn."""
    measures: dict[str, Callable[[], Numbers]] = {
        **{
            f"ours_{decoder}": measure_ours(paths, decoder)
            for decoder in ("auto", "decord", "pyav")
        },
        "naive": lambda: measure_child("naive", paths=paths),
    }
    if shutil.which("ffmpeg"):
        measures["ffmpeg_all"] = measure_ffmpeg(paths)
        measures["ffmpeg_references"] = measure_ffmpeg(paths, "-skip_frame", "noref")
    return measure_in_turn(measures, rounds, num_videos=len(paths))


def measure_ours(paths: list[str], decoder: str) -> Callable[[], Numbers]:
    """A measurement of one worker's work."""
    return lambda: measure_child("ours", paths=paths, decoder=decoder)


def measure_child(name: str, **arguments: object) -> Numbers:
    """Measure a child process that works through videos."""
    whole, report = run_child(name, **arguments)
    return {"whole_cpu_seconds": whole, **report}


def measure_ffmpeg(paths: list[str], *options: str) -> Callable[[], Numbers]:
    """A measurement of the ffmpeg program, one thread, one process per video."""

    def measure() -> Numbers:
        before, started = read_children_cpu_seconds(), time.perf_counter()
        for path in paths:
            command = (*FFMPEG, "-threads", "1", *options, "-i", path, "-map", "0:v:0")
            subprocess.run((*command, "-f", "null", "-"), capture_output=True, check=False)
        wall, whole = time.perf_counter() - started, read_children_cpu_seconds() - before
        for _ in paths:
            subprocess.run(("ffmpeg", "-version"), capture_output=True, check=True)
        start = read_children_cpu_seconds() - before - whole
        return {
            "whole_cpu_seconds": whole,
            "work_cpu_seconds": whole - start,
            "work_wall_seconds": wall,
        }

    return measure


def measure_in_turn(
    measures: dict[str, Callable[[], Numbers]], rounds: int, *, num_videos: int
) -> dict[str, Numbers]:
    """Medians of each measure over the rounds."""
    taken: dict[str, list[Numbers]] = {name: [] for name in measures}
    for number in range(rounds):
        names = list(measures)
        shift = number % len(names)  # nobody is always first
        for name in names[shift:] + names[:shift]:
            taken[name].append(measures[name]())
    results = {}
    for name, numbers_of_rounds in taken.items():
        keys = numbers_of_rounds[0]
        medians = {key: statistics.median(n[key] for n in numbers_of_rounds) for key in keys}
        medians["videos_per_work_cpu_second"] = num_videos / medians["work_cpu_seconds"]
        medians["videos_per_wall_second"] = num_videos / medians["work_wall_seconds"]
        results[name] = {key: round(value, 3) for key, value in medians.items()}
    return results


def find_nearest_clip(videos: Sequence[dict[str, Any]]) -> str:
    """The video nearest to ten seconds, of those of 720 lines or more if there are any."""
    large = [video for video in videos if video["height"] >= CLIP_HEIGHT] or videos
    return str(min(large, key=lambda video: abs(video["seconds"] - CLIP_SECONDS))["path"])


def measure_lengths(clip: str, folder: Path, rounds: int) -> dict[str, Any]:
    """The clip once and repeated, by us and by a full decode."""
    if not shutil.which("ffmpeg"):
        return {"skipped": "no ffmpeg to repeat a clip with"}
    measures: dict[str, Callable[[], Numbers]] = {}
    for times in LENGTHS:
        path = str(folder / f"{times}x{Path(clip).suffix}")
        repeat = (*FFMPEG, "-stream_loop", str(times - 1), "-i", clip, "-map", "0:v:0")
        subprocess.run((*repeat, "-c", "copy", path), check=True)
        measures[f"ours_{times}x"] = measure_ours([path], "auto")
        measures[f"ffmpeg_{times}x"] = measure_ffmpeg([path])
    return {"clip": Path(clip).name, **measure_in_turn(measures, rounds, num_videos=1)}


def measure_numbers(paths: list[str], folder: Path) -> dict[str, Any]:
    """The real pool over more and more videos; once each, as it takes long."""
    results = {}
    for copies in COPIES:
        store = folder / f"store{copies}"
        cpu_seconds, report = run_child("pool", paths=paths, copies=copies, store=str(store))
        shutil.rmtree(store)
        num_videos = len(paths) * copies
        results[f"{copies}x"] = {
            "videos": num_videos,
            "whole_cpu_seconds_per_video": round(cpu_seconds / num_videos, 4),
            "work_cpu_seconds_per_video": round(report["work_cpu_seconds"] / num_videos, 4),
            "videos_per_wall_second": round(num_videos / report["wall_seconds"], 2),
            "parent_peak_mb": report["parent_peak_mb"],
            "children_peak_mb": report["children_peak_mb"],
        }
    return results


def compute_ratios(report: dict[str, Any]) -> dict[str, Any]:
    """Compute ratios of CPU seconds; above 1 we are cheaper."""
    found: dict[str, Any] = {}
    decoding = report["decoding"]
    for name in sorted(decoding.keys() - {"ours_auto"}):
        for part in ("work", "whole"):
            key = f"{part}_cpu_seconds"
            ratio = decoding[name][key] / decoding["ours_auto"][key]
            found[f"{name}_over_ours_{part}"] = round(ratio, 3)
    if "ours_30x" in report.get("length", {}):
        length = report["length"]
        work = {name: length[name]["work_cpu_seconds"] for name in length if name != "clip"}
        found["ours_10x_over_1x"] = round(work["ours_10x"] / work["ours_1x"], 3)
        found["ours_30x_over_1x"] = round(work["ours_30x"] / work["ours_1x"], 3)
        found["ffmpeg_30x_over_ours_30x"] = round(work["ffmpeg_30x"] / work["ours_30x"], 3)
    if "number" in report:
        few, many = report["number"]["1x"], report["number"][f"{COPIES[-1]}x"]
        for key in ("work_cpu_seconds_per_video", "parent_peak_mb"):
            found[f"{key}_change_percent"] = round(100 * (many[key] / few[key] - 1), 1)
        peaks = [max(section["children_peak_mb"]) for section in (few, many)]
        found["child_peak_mb_change_percent"] = round(100 * (peaks[1] / peaks[0] - 1), 1)
    return {"ratios": found}


if __name__ == "__main__":
    main()
