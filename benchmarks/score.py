"""What it costs to score a folder with EfficientNet-B3 + Transformer, beside a naive scorer.

    python benchmarks/score.py FOLDER [--rounds 3] [--limit 40] [--no-long] [--no-memory]

Weights are random: they cost what trained ones do. Every measurement is a process of its own, from
its start to its end; they take turns, round by round, and medians over the rounds count. CPU
seconds are user + system of the process and its children.

- ours: the whole command `reelcheck score`, which writes tables, evidence and page. With random
  weights about half of the videos are called fake, and have heat maps made; ours_no_heat_maps has
  none.
- naive: OpenCV reads every frame, MediaPipe looks at each in full size, and eager torch in fp32
  judges the faces on 30 of them, one video at a time. It writes nothing.
- naive_30: the same, but MediaPipe looks at those 30 frames only.
- decode: the ffmpeg program decodes every frame on one thread. matmul: matrix products with as much
  arithmetic as the network needs for the same frames. Together: what would be left if all else were
  free and nothing could be left undecoded.
- forward: milliseconds of one thread per frame, by runtime, and their largest difference in logit.
- long: one clip repeated to five minutes.
- memory: peak of the scoring process and of its largest decode process for 1, 4 and 10 times as
  many videos.

Results are printed as JSON.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from processes import FFMPEG, describe_machine, read_children_cpu_seconds, run_process

Numbers = dict[str, float]
CHILD = Path(__file__).parent / "children" / "score_child.py"
PACKAGES = ("torch", "openvino", "onnxruntime", "mediapipe", "av")
LONG_SECONDS = 300.0
LARGE_HEIGHT = 720


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=40, help="videos")
    parser.add_argument("--long", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    report: dict[str, Any] = {"machine": describe_machine(PACKAGES), "rounds": options.rounds}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = str(folder / "model")
        run_child("make_model", folder=model)
        clips = run_child("clips", folder=str(options.folder.absolute()), limit=options.limit)[
            "clips"
        ]
        paths = [clip["path"] for clip in clips]
        report |= {"videos": len(paths), "seconds": sum(clip["seconds"] for clip in clips)}
        report["clips"] = compare(paths, model, folder, options.rounds)
        show(report["clips"])
        if options.long:
            large = [clip for clip in clips if clip["height"] >= LARGE_HEIGHT] or clips
            long = repeat(min(large, key=lambda clip: abs(clip["seconds"] - 10)), folder)
            report["long"] = compare([long], model, folder, options.rounds)
            show(report["long"])
        report["forward"] = run_child("forward", model=model)
        if options.memory:
            report["memory"] = measure_memory(paths, model, folder)
    print(json.dumps(report, indent=2))


def show(result: object) -> None:
    """Print a section of the report at once."""
    print(json.dumps(result), file=sys.stderr, flush=True)


def run_child(name: str, **arguments: object) -> dict[str, Any]:
    """Run a fresh process and return its report."""
    return run_process(CHILD, name, **arguments)


def compare(paths: list[str], model: str, folder: Path, rounds: int) -> dict[str, Any]:
    """Compare every way on the same videos, in turn; ratios are medians over the rounds."""
    measures: dict[str, Callable[[], Numbers]] = {
        "ours": lambda: run_ours(paths, model, folder),
        "ours_one_worker": lambda: run_ours(paths, model, folder, "--workers", "1"),
        "ours_no_heat_maps": lambda: run_ours(paths, model, folder, "--set", "heat_maps=false"),
        "naive": lambda: run_naive(paths, model, looks_at_all=True),
        "naive_30": lambda: run_naive(paths, model, looks_at_all=False),
        "matmul": lambda: measure(lambda: run_child("matmul", num_videos=len(paths))),
    }
    if shutil.which("ffmpeg"):
        measures["decode"] = lambda: measure(lambda: decode_all(paths))
    taken: dict[str, list[Numbers]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            taken[name].append(measure())
    result: dict[str, Any] = {
        name: {key: round(statistics.median(n[key] for n in found), 3) for key in found[0]}
        for name, found in taken.items()
    }
    for name in set(measures) - {"ours"}:
        ratios = [
            other["cpu_seconds"] / own["cpu_seconds"]
            for other, own in zip(taken[name], taken["ours"], strict=True)
        ]
        result[f"{name}_over_ours"] = [round(r, 2) for r in sorted(ratios)]
    return result


def run_naive(paths: list[str], model: str, *, looks_at_all: bool) -> Numbers:
    """A measurement of the naive scorer."""
    return measure(lambda: run_child("naive", paths=paths, model=model, looks_at_all=looks_at_all))


def measure(work: Callable[[], object]) -> Numbers:
    """CPU and wall seconds of processes that ``work`` starts and waits for."""
    before, started = read_children_cpu_seconds(), time.perf_counter()
    work()
    return {
        "cpu_seconds": read_children_cpu_seconds() - before,
        "wall_seconds": time.perf_counter() - started,
    }


def run_ours(paths: list[str], model: str, folder: Path, *options: str) -> Numbers:
    """Run the whole command; measure the time of its first prediction and its stages."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    (folder / "list.txt").write_text("\n".join(paths), encoding="utf-8")
    first: list[float] = []

    def run() -> None:
        started = time.perf_counter()
        command = (sys.executable, "-m", "flows", "score", f"@{folder / 'list.txt'}", *options)
        process = subprocess.Popen(
            (*command, "--model", model, "--out", str(out)),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert process.stdout is not None
        for line in process.stdout:
            if b".m" in line and not first:
                first.append(time.perf_counter() - started)
        if process.wait():
            sys.exit("the command failed")

    found = measure(run)
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert summary["statuses"] == {"ok": len(paths)}, summary
    stages = {f"{stage}_seconds": seconds for stage, seconds in summary["stage_seconds"].items()}
    return {**found, "first_prediction_seconds": first[0], **stages}


def decode_all(paths: list[str]) -> None:
    """Every frame of every video, thrown away."""
    for path in paths:
        command = (*FFMPEG, "-threads", "1", "-i", path, "-map", "0:v:0", "-f", "null", "-")
        subprocess.run(command, capture_output=True, check=False)


def repeat(clip: dict[str, Any], folder: Path) -> str:
    """Repeat the clip for five minutes, without encoding it again."""
    path = folder / f"long{Path(clip['path']).suffix}"
    times = round(LONG_SECONDS / clip["seconds"])
    repeat = (*FFMPEG, "-stream_loop", str(times - 1), "-i", clip["path"], "-map", "0:v:0")
    subprocess.run((*repeat, "-c", "copy", str(path)), check=True)
    return str(path)


def measure_memory(paths: list[str], model: str, folder: Path) -> dict[str, Any]:
    """Peaks of one run over more and more contents: copies with a few bytes more at the end."""
    measured = {}
    for times in (1, 4, 10):
        copies = folder / f"copies{times}"
        copies.mkdir()
        for number in range(times):
            for path in paths[:10]:
                data = Path(path).read_bytes() + b"\0\0\0\x0cfree" + number.to_bytes(4)
                (copies / f"{number} {Path(path).name}").write_bytes(data)
        out = str(folder / f"memory{times}")
        measured[f"{10 * times} videos"] = run_child(
            "memory", folder=str(copies), model=model, out=out
        )
    return measured


if __name__ == "__main__":
    main()
