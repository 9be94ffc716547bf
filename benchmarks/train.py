"""Cost of a training step, by setting, and of the data that it needs.

    python benchmarks/train.py [--backbone NAME ...] [--batch-size 8] [--steps 4] [--rounds 5]
        [--device cpu|cuda] [--store STORE] [--recipe b3-transformer] [--compile | --no-compile]

The kinds of step take turns, round by round, over the same batches, and medians over the rounds
count, so that a busy machine disturbs all alike. A ratio is the median of the ratios of each round.
Seconds are CPU seconds of one thread on a CPU, wall seconds on a GPU. Images are frames of
sequences; padding is none. Peak memory is that of one step in a process of its own.

- reference: frames packed, channels_last, bf16 on a GPU and fp32 on a CPU, not compiled.
- padded, contiguous, fp32 or bf16, compiled: the reference with this one difference.
- roofline: the time that arithmetic or memory traffic alone would take at this machine's own rates,
  as a share of the time that the reference takes; see ``train_child.measure_limits``.
- loader: what one process prepares per CPU second, with the recipe's changes and with none.
- waiting: share of wall time that the loop waits for its next batch, for the first backbone and by
  the number of loader processes; once each, as these take long to start.

Without --store, crops are made up. Needs neither Prefect nor MediaPipe nor decord nor Lightning;
where the project is not installed, run it with PYTHONPATH=. in the project's folder. Tables are
printed as they are ready, everything as JSON last.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import train_child
from train_child import Numbers, Plan, Variant

from storage.layout import find_preprocessed

Run = Callable[..., Numbers]
NUM_VIDEOS, NUM_FRAMES, SIDE = 64, 30, 112
IMPORTED = [
    "models.data.dataset",
    "models.network.detector",
    "models.training.optimiser",
    "models.data.sampling",
]


def main() -> None:
    """Measure and print."""
    options = parse_arguments()
    report: dict[str, Any] = {"machine": describe_machine(options), "backbones": {}}
    # One process imports everything, and all others are its copies.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        if options.store is None:
            train_child.write_random_store(
                store, num_videos=NUM_VIDEOS, num_frames=NUM_FRAMES, side=SIDE
            )
        else:
            store = find_preprocessed(options.store).path
        for number, backbone in enumerate(options.backbone):
            plan = Plan(
                recipe=options.recipe,
                backbone=backbone,
                store=store,
                batch_size=options.batch_size,
                num_steps=options.steps,
                device=options.device,
                num_threads=options.threads,
            )
            kinds = list_variants(options)
            # One after the other, in processes that end: they keep what they free.
            memory = {
                name: run_in_process(context, train_child.measure_memory, plan, variant)
                for name, variant in kinds.items()
            }
            with open_process(context) as process:
                steps = compare(process, plan, kinds, options.rounds)
                steps = {name: {**steps[name], **memory[name]} for name in kinds}
                show(f"{backbone}: steps", steps)
                limits = compare_with_limits(process, plan, kinds["reference"], steps["reference"])
                show(f"{backbone}: limits", {"reference": limits})
                report["backbones"][backbone] = {"steps": steps, "limits": limits}
                if number == 0:
                    report["loader"] = measure_loader(process, plan, options.rounds)
                    show("loader", report["loader"])
                    report["waiting"] = {
                        f"{workers} workers": process(
                            train_child.measure_waiting, plan, kinds["reference"], workers
                        )
                        for workers in options.loader_workers
                    }
                    show(f"{backbone}: waiting", report["waiting"])
    print(json.dumps(report, indent=2))


def parse_arguments() -> argparse.Namespace:
    """Options; what is not given depends on the device."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"))
    parser.add_argument("--backbone", nargs="+", help="names of timm")
    parser.add_argument("--batch-size", type=int, help="sequences")
    parser.add_argument("--steps", type=int, help="per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of torch, on a CPU")
    parser.add_argument("--loader-workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--store", type=Path, help="preprocessed and labelled; else made-up crops")
    parser.add_argument("--recipe", default="b3-transformer", help="settings of all but backbones")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction)
    options = parser.parse_args()
    options.device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    is_cuda = options.device == "cuda"
    small = ["test_resnet", "efficientnet_b0", "efficientnet_b3"]
    options.backbone = options.backbone or (["efficientnet_b3"] if is_cuda else small)
    options.batch_size = options.batch_size or (8 if is_cuda else 4)
    options.steps = options.steps or (20 if is_cuda else 1)
    # On a CPU the compiler alone takes longer than all the rest.
    options.compile = is_cuda if options.compile is None else options.compile
    return options


def list_variants(options: argparse.Namespace) -> dict[str, Variant]:
    """The reference, and what differs from it in one thing."""
    first, second = ("bf16", "fp32") if options.device == "cuda" else ("fp32", "bf16")
    reference = Variant(precision=first)
    found = {
        "reference": reference,
        "padded": replace(reference, is_padded=True),
        "contiguous": replace(reference, is_contiguous=True),
        second: replace(reference, precision=second),
    }
    if options.compile:
        found["compiled"] = replace(reference, is_compiled=True)
    return found


@contextmanager
def open_process(context: Any) -> Iterator[Run]:
    """Gives a function that runs functions of ``train_child`` in one other process."""
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as executor:

        def run(function: Run, *arguments: object, **named: object) -> Numbers:
            try:
                return executor.submit(function, *arguments, **named).result()
            except BrokenProcessPool:
                sys.exit("killed, probably for its memory; give a smaller --batch-size")

        yield run


def run_in_process(context: Any, function: Run, *arguments: object) -> Numbers:
    """The result of a process that does nothing else."""
    with open_process(context) as process:
        return process(function, *arguments)


def compare(process: Run, plan: Plan, kinds: dict[str, Variant], rounds: int) -> dict[str, Numbers]:
    """Steps of each kind in turn: medians, and how much slower than the reference."""
    taken: dict[str, list[Numbers]] = {name: [] for name in kinds}
    for number in range(rounds):
        names = list(kinds)
        shift = number % len(names)  # nobody is always first
        for name in names[shift:] + names[:shift]:
            taken[name].append(process(train_child.measure_steps, plan, kinds[name], number))
    return {name: summarise(numbers, taken["reference"]) for name, numbers in taken.items()}


def summarise(numbers: Sequence[Numbers], reference: Sequence[Numbers]) -> Numbers:
    """Medians of all rounds; the ratio with its lowest and highest value."""
    ratios = [
        own["seconds"] / other["seconds"] for own, other in zip(numbers, reference, strict=True)
    ]
    return {
        **take_medians(numbers),
        "seconds_over_reference": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
    }


def compare_with_limits(process: Run, plan: Plan, reference: Variant, steps: Numbers) -> Numbers:
    """How close the reference comes to what this machine could do at best."""
    limits = process(train_child.measure_limits, plan, reference)
    arithmetic = limits["flop_per_image"] / limits["matmul_flop_per_second"]
    traffic = 2 * limits["saved_bytes_per_image"] / limits["copied_bytes_per_second"]
    return {
        **limits,
        "arithmetic_limit_images_per_second": 1 / arithmetic,
        "traffic_limit_images_per_second": 1 / traffic,
        "roofline_share": steps["images_per_second"] * max(arithmetic, traffic),
    }


def measure_loader(process: Run, plan: Plan, rounds: int) -> dict[str, Numbers]:
    """One process that only prepares batches, with and without the recipe's changes, in turn."""
    taken: dict[str, list[Numbers]] = {"recipe": [], "no changes": []}
    for number in range(rounds):
        for name, numbers in taken.items():
            changes = name == "recipe"
            numbers.append(
                process(train_child.measure_loader, plan, with_changes=changes, number=number)
            )
    return {name: take_medians(numbers) for name, numbers in taken.items()}


def take_medians(numbers: Sequence[Numbers]) -> Numbers:
    """Of each figure over the rounds."""
    return {key: statistics.median(n[key] for n in numbers) for key in numbers[0]}


def show(title: str, rows: dict[str, Numbers]) -> None:
    """A table as soon as it is there."""
    columns = list(next(iter(rows.values())))
    print(f"\n{title}\n{'':<11}", *columns)
    for name, numbers in rows.items():
        cells = (f"{numbers[column]:>{len(column)}.4g}" for column in columns)
        print(f"{name:<11}", *cells)
    sys.stdout.flush()


def describe_machine(options: argparse.Namespace) -> dict[str, Any]:
    """Machine and versions that the figures belong to."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    is_cuda = options.device == "cuda"
    return {
        "device": torch.cuda.get_device_name() if is_cuda else "cpu",
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "timm")},
        **{name: getattr(options, name) for name in ("recipe", "batch_size", "steps", "rounds")},
        "threads": options.threads,
        "crops": "made up" if options.store is None else "of a store",
    }


if __name__ == "__main__":
    main()
