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

_RECIPES = "lite-transformer,lite-frames,b3-transformer,clip-linear"


def main() -> None:
    """Export, encode, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", default=_RECIPES)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    names = chosen.recipes.split(",")
    runtimes, crops, sizes = {}, {}, {}
    for name in names:
        recipe = load_recipe(name)
        pixels = recipe.preprocess.crop_pixels
        parts = export_parts(Detector(recipe.train.detector), crop_pixels=pixels)
        runtimes[name] = OpenVINORuntime(parts.encoder, parts.head, num_threads=1)
        shape = (runtimes[name].batch_size, pixels, pixels, 3)
        crops[name] = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        sizes[name] = len(parts.encoder) + len(parts.head)
        runtimes[name].encode(crops[name])
    spent: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(chosen.rounds):
        for name in names:
            started = time.process_time()
            runtimes[name].encode(crops[name])
            spent[name].append((time.process_time() - started) / len(crops[name]) * 1000)
    for name in names:
        pixels = crops[name].shape[1]
        print(
            f"{name:20} {pixels} px {statistics.median(spent[name]):8.1f} ms "
            f"({min(spent[name]):.1f}-{max(spent[name]):.1f}) {sizes[name] / 1e6:8.1f} MB"
        )


if __name__ == "__main__":
    main()
