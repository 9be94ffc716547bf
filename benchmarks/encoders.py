"""What a face costs in the encoder of each recipe, in OpenVINO on one thread of a CPU.

    python benchmarks/encoders.py [--recipes lite-transformer,clip-linear] [--rounds 5]

Random weights: the cost does not depend on them. The recipes take turns, so that a busy machine is
busy for all. Prints the median of milliseconds of CPU per crop over the rounds, and the size of the
weights.
"""

import argparse
import statistics
import time

import numpy as np

from models.interop.export import export_parts
from models.interop.runtime import OpenVINORuntime
from models.network.detector import Detector
from reelcheck.recipes import load_recipe
from reelcheck.records import RGB

_RECIPES = "lite-transformer,lite-frames,b3-transformer,clip-linear"


def main() -> None:
    """Export, encode, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", default=_RECIPES)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    names = chosen.recipes.split(",")
    timed, sizes = {}, {}
    for name in names:
        recipe = load_recipe(name)
        pixels = recipe.preprocess.crop_pixels
        parts = export_parts(Detector(recipe.train.detector), crop_pixels=pixels)
        runtime = OpenVINORuntime(parts.encoder, parts.head, num_threads=1)
        shape = (runtime.batch_size, pixels, pixels, 3)
        timed[name] = runtime, np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        sizes[name] = len(parts.encoder) + len(parts.head)
    for name, spent in zip(names, time_encoders(list(timed.values()), chosen.rounds), strict=True):
        pixels = timed[name][1].shape[1]
        print(
            f"{name:20} {pixels} px {statistics.median(spent):8.1f} ms "
            f"({min(spent):.1f}-{max(spent):.1f}) {sizes[name] / 1e6:8.1f} MB"
        )


def time_encoders(timed: list[tuple[OpenVINORuntime, RGB]], rounds: int) -> list[list[float]]:
    """Measure milliseconds of CPU per crop, of each runtime on its crops, in each round.

    Args:
        timed: runtimes, each with crops (N, H, W, 3), N a multiple of its batch.
        rounds: how often each has its turn; one more before them warms up.
    """
    spent: list[list[float]] = [[] for _ in timed]
    for number in range(rounds + 1):
        for own, (runtime, crops_NHWC) in zip(spent, timed, strict=True):
            started = time.process_time()
            for batch in np.split(crops_NHWC, len(crops_NHWC) // runtime.batch_size):
                runtime.encode(batch)
            if number:
                own.append((time.process_time() - started) / len(crops_NHWC) * 1000)
    return spent


if __name__ == "__main__":
    main()
