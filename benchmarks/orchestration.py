"""What Prefect adds to preprocessing: the flow with a server beside the same functions without.

    python benchmarks/orchestration.py [--folder VIDEOS] [--videos 128] [--rounds 5]

Every run is a process of its own and starts with an empty store; the ways take turns, round by
round, and medians count. CPU seconds are those of the run, its decode processes and, for the flow,
the server; what starting Python and importing costs is left out, as a worker's runs all pay it.

- plain: the functions, one after the other. flow: the flow, its runs and tasks kept by a server.
- large: shards of 64 videos, the default; small: shards of 2 videos.

What a task costs is what small shards cost in addition with the flow, over what they cost without,
per task. A run costs the rest. ``share`` is a task's cost over the cost of 64 videos without
Prefect, and ``share_of_a_run`` all that the flow adds to a run of the videos that were given.
Without ``--folder`` the videos are rendered, two seconds long and small: dearer ones make the
share smaller. Results are printed as JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from processes import describe_machine, run_process

SHARD_SIZES = {"large": 64, "small": 2}
START_SECONDS = 180.0


def main() -> None:
    """Measure and print, or be one of the measured processes."""
    if sys.argv[1:] and sys.argv[1] in WORK:
        print(json.dumps(WORK[sys.argv[1]](**json.load(sys.stdin))))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--videos", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--port", type=int, default=4390)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = options.folder or render(Path(folder) / "data", options.videos)
        report = measure(source.absolute(), Path(folder), options.rounds, options.port)
    facts = describe_machine(("prefect", "sqlalchemy"))
    print(json.dumps({"machine": facts, "rounds": options.rounds, **report}, indent=2))


def render(folder: Path, num_videos: int) -> Path:
    """Render a folder of short videos."""
    from tasks.synthetic.dataset import SyntheticSettings, generate_dataset  # noqa: PLC0415

    people = max(2, num_videos // 4 // 2 * 2)
    generate_dataset(folder, SyntheticSettings(num_identities=people, clips_per_identity=2))
    return folder / "videos"


def measure(source: Path, folder: Path, rounds: int, port: int) -> dict[str, Any]:
    """Medians of every way, and what follows from them."""
    taken: dict[str, list[dict[str, float]]] = {}
    with run_server(folder / "home", port) as pid:
        os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
        for number in range(rounds):
            ways = [(way, size) for way in WORK for size in SHARD_SIZES]
            for way, size in ways[:: 1 if number % 2 else -1]:  # nobody is always first
                before = read_cpu_seconds(pid)
                found = run_process(
                    Path(__file__), way, source=str(source),
                    store=str(folder / f"{way}-{size}-{number}"), shard_size=SHARD_SIZES[size],
                )  # fmt: skip
                if way == "flow":
                    found["server_cpu_seconds"] = read_cpu_seconds(pid) - before
                    found["cpu_seconds"] += found["server_cpu_seconds"]
                taken.setdefault(f"{way} {size}", []).append(found)
                print(f"{way} {size}: {json.dumps(found)}", file=sys.stderr, flush=True)
    medians = {
        way: {key: round(statistics.median(r[key] for r in found), 4) for key in found[0]}
        for way, found in taken.items()
    }
    return {"medians": medians, **{key: compute_costs(medians, key) for key in KEYS}}


KEYS = ("cpu_seconds", "wall_seconds")


def compute_costs(medians: dict[str, dict[str, float]], key: str) -> dict[str, float]:
    """Compute the cost of a task and of a run, and their shares."""
    value = {way: found[key] for way, found in medians.items()}
    more_tasks = medians["flow small"]["shards"] - medians["flow large"]["shards"]
    added = {size: value[f"flow {size}"] - value[f"plain {size}"] for size in SHARD_SIZES}
    per_task = (added["small"] - added["large"]) / more_tasks
    per_video = value["plain large"] / medians["plain large"]["videos"]
    return {
        "per_task": round(per_task, 4),
        "per_run": round(added["large"] - per_task * medians["flow large"]["shards"], 3),
        "per_video_without_prefect": round(per_video, 4),
        "share": round(per_task / (per_video * SHARD_SIZES["large"]), 4),
        "share_of_a_run": round(added["large"] / value["plain large"], 4),
    }


@contextmanager
def run_server(home: Path, port: int) -> Iterator[int]:
    """A Prefect server; its process id."""
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    }
    command = (sys.executable, "-m", "prefect", "server", "start", "--port", str(port))
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/api/health")
            yield process.pid
        finally:
            process.terminate()


def wait_for(url: str) -> None:
    """Wait until the server answers."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            if time.monotonic() > deadline:
                sys.exit(f"no server at {url}")
            time.sleep(0.5)


def read_cpu_seconds(pid: int) -> float:
    """User and system time of a running process (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_plain(source: str, store: str, shard_size: int) -> dict[str, float]:
    """The steps of the flow, called as what they are."""
    from reelcheck.config import PreprocessSettings, RunSettings  # noqa: PLC0415
    from reelcheck.processes import measure_cpu_seconds  # noqa: PLC0415
    from reelcheck.settings import settings_hash  # noqa: PLC0415
    from storage.layout import locate_preprocessed  # noqa: PLC0415
    from tasks.faces.detection.weights import hash_configured_face_model  # noqa: PLC0415
    from tasks.intake.discover import discover  # noqa: PLC0415
    from tasks.intake.shards import plan_shards  # noqa: PLC0415
    from tasks.preprocessing.collect import collect_tables  # noqa: PLC0415
    from tasks.preprocessing.decode_pool import DecodePool  # noqa: PLC0415
    from tasks.preprocessing.extract import extract_shard  # noqa: PLC0415

    started, cpu_started = time.perf_counter(), measure_cpu_seconds()
    settings = PreprocessSettings(face_model_sha256=hash_configured_face_model())
    run, layout = (
        RunSettings(shard_size=shard_size),
        locate_preprocessed(Path(store), settings_hash(settings)),
    )
    files = discover(source, layout, labels=None, exclude=None)
    layout.shards_dir.mkdir(parents=True, exist_ok=True)
    shards = plan_shards(files, layout, shard_size=shard_size, retry_failed=False)
    with DecodePool(shards, settings, run) as pool:
        done = [extract_shard(shard, layout, pool) for shard in shards]
    collect_tables(files, layout, is_complete=True)
    return {
        "cpu_seconds": measure_cpu_seconds() - cpu_started,
        "wall_seconds": time.perf_counter() - started,
        "videos": sum(part.num_videos for part in done),
        "shards": len(shards),
    }


def run_flow(source: str, store: str, shard_size: int) -> dict[str, float]:
    """The flow, as a worker runs it."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
    from flows.preprocess import preprocess  # noqa: PLC0415
    from reelcheck.config import RunSettings  # noqa: PLC0415
    from reelcheck.processes import measure_cpu_seconds  # noqa: PLC0415
    from storage.layout import find_preprocessed  # noqa: PLC0415

    started, cpu_started = time.perf_counter(), measure_cpu_seconds()
    summary = preprocess(source, store, run=RunSettings(shard_size=shard_size))
    return {
        "cpu_seconds": measure_cpu_seconds() - cpu_started,
        "wall_seconds": time.perf_counter() - started,
        "videos": summary.num_videos,
        "shards": len(find_preprocessed(Path(store)).done_shards()),
    }


WORK = {"plain": run_plain, "flow": run_flow}

if __name__ == "__main__":
    main()
