"""What models cost and whether their exported files answer as they do, measured side by side."""

import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from models.runtime import Judgement, Runtime, encode_all
from reelcheck.errors import ExportError
from reelcheck.records import CropSequence
from storage.checkpoints import read_card
from storage.layout import ModelLayout
from tasks.runtimes import open_runtime


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What one model costs."""

    seconds_per_frame: float
    """Median over sequences, of encoding and judging one after the other."""
    num_bytes: int
    """Of the weights."""
    export_difference: float | None
    """Largest one between a logit of the ONNX files and of the network; None: it has no such files
    and is scored by torch."""


def footprints(models: Sequence[ModelLayout], sequences: Iterable[CropSequence]) -> list[Footprint]:
    """Measure models on the same sequences, each of which goes through all models in turn.

    So whatever else the machine does slows all of them alike.

    Args:
        models: checkpoint folders.
        sequences: at least one.

    Raises:
        StoreError: a folder holds no complete model.
        MismatchError: its weights or ONNX files are not those that its card describes.
    """
    measured = [_Measured(model) for model in models]
    for sequence in sequences:
        for each in measured:
            each.add(sequence)
    return [each.footprint() for each in measured]


class _Measured:
    """A model, and what was seen of it so far."""

    def __init__(self, model: ModelLayout) -> None:
        # Here, as looking at a registry needs no torch.
        from models.torch_runtime import TorchRuntime  # noqa: PLC0415
        from tasks.networks import load_detector  # noqa: PLC0415

        self._num_bytes = model.weights_path.stat().st_size
        self._network = TorchRuntime(load_detector(model.path, read_card(model).model_id))
        self._exported = _exported(model)
        self._seconds: list[float] = []
        self._differences: list[float] = []

    def add(self, sequence: CropSequence) -> None:
        runtime = self._exported or self._network
        if not self._seconds:
            _judge(runtime, sequence)  # The first run of a shape is slower than all others.
        started = time.perf_counter()
        answer = _judge(runtime, sequence)
        self._seconds.append((time.perf_counter() - started) / sequence.num_frames)
        if self._exported is not None:
            self._differences.append(abs(answer.logit - _judge(self._network, sequence).logit))

    def footprint(self) -> Footprint:
        return Footprint(
            seconds_per_frame=statistics.median(self._seconds),
            num_bytes=self._num_bytes,
            # NumPy's, as Python's own passes over what is no number.
            export_difference=float(np.max(self._differences)) if self._differences else None,
        )


def _exported(model: ModelLayout) -> Runtime | None:
    """What scores on a CPU; None: ONNX cannot express this model."""
    try:
        return open_runtime(model, engine="openvino")
    except ExportError:
        return None


def _judge(runtime: Runtime, sequence: CropSequence) -> Judgement:
    [(_, features_TD)] = encode_all(runtime, [(None, sequence.crops_THWC)])
    seconds = np.asarray(sequence.pts_seconds)
    return runtime.judge(features_TD, (seconds - seconds[0]).astype(np.float32))
