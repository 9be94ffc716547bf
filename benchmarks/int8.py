"""What int8 saves in an encoder, and what it changes: quantised after training, beside fp32.

    python benchmarks/int8.py STORE [--backbones efficientnet_b3,...] [--pixels 112,224]
    python benchmarks/int8.py STORE --model MODEL

Needs NNCF, which reelcheck does not: ``pip install nncf==3.4.0``, in an environment of its own.

NNCF quantises an encoder by crops of the validation videos; the head stays fp32. Prints
milliseconds of CPU per crop in OpenVINO on one thread, median and range over the rounds, in which
fp32 and int8 take turns; the gain is the median of the rounds' ratios, so that a busy machine is
busy for both.

- Without --model: encoders of random weights, whose cost does not depend on them; crops of another
  size are resized.
- With --model, whose own split says which videos are validation: also the largest movement of a
  video's logit and the AUC. The rule accepts int8 if no logit moves by more than .05 and the 95 %
  interval of the paired difference of the AUC holds 0.

The ways are NNCF's own settings, and weights of 7 bits, whose sums fit into the 16 bits in which a
processor without VNNI adds. ``exact sums`` is the first way with its sums in floats: what rounding
alone moves, as on a processor with VNNI; no way to save time.
"""

import argparse
import logging
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("NNCF_CI", "1")  # or NNCF reports its use over the network

import cv2
import numpy as np
from encoders import time_encoders

from models.interop.export import export_parts
from models.interop.runtime import OpenVINORuntime, encode_all, get_openvino_core
from models.metrics.aggregation import aggregate_videos
from models.metrics.metrics import bootstrap_auc, bootstrap_auc_difference
from models.network.detector import Detector
from reelcheck.card import Aggregation
from reelcheck.records import RGB, CropSequence, ScoredSequence
from reelcheck.train_config import DetectorSettings
from storage.checkpoints import read_card
from storage.crops import read_sequence
from storage.layout import ModelLayout, StoreLayout, find_preprocessed
from storage.rows import SplitRow
from storage.schemas import MANIFEST, SPLIT
from storage.tables import read_rows
from tasks.checkpoints.torch_model import load_detector
from tasks.evaluation.unseen import require_same_preprocessing

_BACKBONES = "tf_efficientnet_lite0,tf_efficientnet_lite1,tf_efficientnet_lite2,efficientnet_b3"
_BATCH = OpenVINORuntime.batch_size
_NUM_CALIBRATED, _NUM_TIMED = 40 * _BATCH, 4 * _BATCH
_MAX_MOVEMENT = 0.05


def main() -> None:
    """Quantise, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--backbones", default=_BACKBONES)
    parser.add_argument("--pixels", default="112,224")
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    if find_spec("nncf") is None:
        sys.exit("this needs NNCF: pip install nncf==3.4.0, in an environment of its own")
    layout = find_preprocessed(chosen.store)
    with tempfile.TemporaryDirectory() as folder:
        if chosen.model is None:
            sizes = [int(pixels) for pixels in chosen.pixels.split(",")]
            measure_speed(layout, chosen.backbones.split(","), sizes, chosen.rounds, Path(folder))
        else:
            measure_model(layout, ModelLayout(chosen.model), chosen.rounds, Path(folder))


def measure_speed(
    layout: StoreLayout, backbones: list[str], sizes: list[int], rounds: int, folder: Path
) -> None:
    """Print a line per encoder and crop size."""
    sequences = [sequence for sequence, _ in read_validation(layout, layout.split_path)]
    print("| backbone | crop | fp32 | int8 | gain |\n| --- | --- | --- | --- | --- |")
    for backbone in backbones:
        detector = Detector(DetectorSettings(backbone=backbone, transformer=None))
        for pixels in sizes:
            crops = draw_crops(sequences, pixels)
            parts = export_parts(detector, crop_pixels=pixels)
            quantised = quantise(parts.encoder, crops, folder / f"{backbone}-{pixels}.xml")
            timed = [
                (OpenVINORuntime(encoder, parts.head, num_threads=1), crops[:_NUM_TIMED])
                for encoder in (parts.encoder, quantised)
            ]
            fp32, int8 = time_encoders(timed, rounds)
            print(
                f"| `{backbone}` | {pixels} px | {describe(fp32)} | {describe(int8)} "
                f"| {find_gain(fp32, int8):.2f} |",
                flush=True,
            )


def measure_model(layout: StoreLayout, model: ModelLayout, rounds: int, folder: Path) -> None:
    """Print a line per way of computing a trained model."""
    card = read_card(model)
    require_same_preprocessing(card, layout)
    pixels = card.preprocessing.crop_pixels
    validation = read_validation(layout, model.split_path)
    sequences = [sequence for sequence, _ in validation]
    row_of = {row["video_id"]: row for _, row in validation}
    crops = draw_crops(sequences, pixels)
    parts = export_parts(load_detector(model.path, card.model_id), crop_pixels=pixels)
    int8 = quantise(parts.encoder, crops, folder / "int8.xml")
    seven = quantise(parts.encoder, crops, folder / "seven.xml", seven_bits=True)
    runtimes = {
        "fp32": OpenVINORuntime(parts.encoder, parts.head, num_threads=1),
        "int8": OpenVINORuntime(int8, parts.head, num_threads=1),
        "int8, 7-bit weights": OpenVINORuntime(seven, parts.head, num_threads=1),
    }
    with floating_sums():
        runtimes["int8, exact sums"] = OpenVINORuntime(int8, parts.head, num_threads=1)
    timed = [(runtime, crops[:_NUM_TIMED]) for runtime in runtimes.values()]
    times = time_encoders(timed, rounds)
    logits = [score_videos(runtime, sequences, card.aggregation) for runtime in runtimes.values()]
    labels = np.array([row["label"] for row in row_of.values()])
    groups = np.array([row["component"] for row in row_of.values()])
    tables = [np.array([found[video] for video in row_of]) for found in logits]
    print(f"{len(labels)} validation videos, {labels.sum()} fake; {pixels} px\n")
    print("| | CPU per crop | gain | largest movement | AUC | difference | accepted |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, spent, scores in zip(runtimes, times, tables, strict=True):
        auc = bootstrap_auc(scores, labels, groups, seed=0)
        difference = bootstrap_auc_difference(tables[0], scores, labels, groups, seed=0)
        if auc is None or difference is None:
            sys.exit("validation has one label only; give a model with both in its split")
        moved = float(np.abs(scores - tables[0]).max())
        accepted = moved <= _MAX_MOVEMENT and difference.low <= 0 <= difference.high
        print(
            f"| {name} | {describe(spent)} | {find_gain(times[0], spent):.2f} | {moved:.3f} "
            f"| {auc.value:.3f} ({auc.low:.2f} to {auc.high:.2f}) | {difference.value:+.3f} "
            f"({difference.low:+.3f} to {difference.high:+.3f}) | {'yes' if accepted else 'no'} |"
        )


def read_validation(layout: StoreLayout, split_path: Path) -> list[tuple[CropSequence, SplitRow]]:
    """Read the crop sequences of the validation videos, each with its video's row."""
    row_of = {row["video_id"]: row for row in read_rows(split_path, SPLIT) if row["split"] == "val"}
    found = [
        (read_sequence(layout, row), row_of[row["video_id"]])
        for row in read_rows(layout.manifest_path, MANIFEST)
        if row["video_id"] in row_of
    ]
    return found or sys.exit(f"{split_path} names no validation video of {layout.path}")


def draw_crops(sequences: list[CropSequence], pixels: int) -> RGB:
    """Draw crops (N, H, W, 3) of that side, in random order; every batch is full."""
    crops_NHWC = np.concatenate([sequence.crops_THWC for sequence in sequences])
    order = np.random.default_rng(0).permutation(len(crops_NHWC))[:_NUM_CALIBRATED]
    drawn = crops_NHWC[order[: len(order) // _BATCH * _BATCH]]
    if drawn.shape[1] == pixels:
        return drawn
    size = (pixels, pixels)
    return np.stack([cv2.resize(crop, size, interpolation=cv2.INTER_AREA) for crop in drawn])


def quantise(encoder: bytes, crops_NHWC: RGB, path: Path, *, seven_bits: bool = False) -> Path:
    """Write the encoder in int8, as OpenVINO reads it."""
    import nncf  # noqa: PLC0415 - no dependency of reelcheck
    import openvino  # noqa: PLC0415 - as in the runtime

    nncf.set_log_level(logging.ERROR)
    network = get_openvino_core().read_model(encoder)
    network.reshape([_BATCH, *crops_NHWC.shape[1:]])
    parameters = nncf.AdvancedQuantizationParameters(
        overflow_fix=nncf.OverflowFix.ENABLE if seven_bits else None
    )
    batches = list(crops_NHWC.reshape(-1, _BATCH, *crops_NHWC.shape[1:]))
    with redirect_stdout(sys.stderr):  # progress
        quantised = nncf.quantize(
            network,
            nncf.Dataset(batches),
            subset_size=len(batches),
            advanced_parameters=parameters,
        )
    openvino.save_model(quantised, path, compress_to_fp16=False)
    return path


@contextmanager
def floating_sums() -> Iterator[None]:
    """Let models that are loaded meanwhile round as in int8, and multiply and add in floats."""
    core = get_openvino_core()
    core.set_property("CPU", {"LP_TRANSFORMS_MODE": "NO"})
    try:
        yield
    finally:
        core.set_property("CPU", {"LP_TRANSFORMS_MODE": "YES"})


def score_videos(
    runtime: OpenVINORuntime, sequences: list[CropSequence], rule: Aggregation
) -> dict[str, float]:
    """Find the logit of each video."""
    scored = []
    crops = ((sequence, sequence.crops_THWC) for sequence in sequences)
    for sequence, features_TD in encode_all(runtime, crops):
        seconds = np.asarray(sequence.pts_seconds)
        found = runtime.classify(features_TD, (seconds - seconds[0]).astype(np.float32))
        scored.append(
            ScoredSequence(
                sequence_id=sequence.sequence_id,
                video_id=sequence.video_id,
                track_id=sequence.track_id,
                num_frames=sequence.num_frames,
                logit=found.logit,
            )
        )
    return aggregate_videos(scored, rule)


def find_gain(before: list[float], after: list[float]) -> float:
    """Find how many times as long the first took: the median of the rounds."""
    return statistics.median(a / b for a, b in zip(before, after, strict=True))


def describe(spent: list[float]) -> str:
    """Describe milliseconds by median and range."""
    return f"{statistics.median(spent):.1f} ms ({min(spent):.1f} to {max(spent):.1f})"


if __name__ == "__main__":
    main()
