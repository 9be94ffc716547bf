"""What it costs to wait for the disk: answers written without, and with ``fsync``.

Prints wall and CPU seconds of each way, in turns: ``python benchmarks/fsync.py FOLDER``. The folder
must lie on the disk in question; it is emptied of what was written.
"""

import argparse
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from storage.checked.documents import write_document

CONTENT = {"frames": [{"index": number, "score": number / 7} for number in range(80)]}
"""About as many bytes as the answer for a clip has."""


def main() -> None:
    """Parse the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    folder = chosen.folder / "fsync"
    seconds: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for _ in range(chosen.rounds):
        for is_synced, measured in seconds.items():
            paths = [folder / f"{number}.json" for number in range(chosen.files)]
            measured.append(measure(lambda: write_all(paths, is_synced=is_synced)))  # noqa: B023 - called at once
            shutil.rmtree(folder)
    for is_synced, measured in seconds.items():
        wall, cpu = (median(values) for values in zip(*measured, strict=True))
        print(f"{chosen.files} files, synced {is_synced}: {wall:.1f} s wall, {cpu:.1f} s CPU")


def write_all(paths: list[Path], *, is_synced: bool) -> None:
    """Write the same document to each path."""
    for path in paths:
        write_document(path, CONTENT, is_synced=is_synced)


def measure(work: Callable[[], None]) -> tuple[float, float]:
    """Measure the wall and CPU seconds of some work."""
    started, cpu_started = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - cpu_started


if __name__ == "__main__":
    main()
