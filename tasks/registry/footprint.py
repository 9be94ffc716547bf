"""What models cost, and whether their exports give the same logits; measured side by side."""

import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from models.interop.runtime import Runtime, SequencePrediction, encode_all
from reelcheck.errors import ExportError
from reelcheck.records import CropSequence
from storage.checkpoints import read_card
from storage.layout import ModelLayout
from tasks.checkpoints.runtimes import open_runtime


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """The cost of one model."""

    seconds_per_frame: float
    """Median over sequences of the time for encoder and head, one sequence after the other."""
    num_bytes: int
    """Size of the weights."""
    export_difference: float | None
    """Largest difference between a logit of the ONNX files and of the network; None: the model has
    no ONNX files and is scored by torch."""


def measure_footprints(
    models: Sequence[ModelLayout], sequences: Iterable[CropSequence]
) -> list[Footprint]:
    """Measure models on the same sequences; each sequence goes through all models in turn.

    Other work of the machine then slows all models alike.

    Args:
        models: checkpoint folders.
        sequences: at least one.

    Raises:
        StoreError: a folder holds no complete model.
        MismatchError: weights are not those that the card describes.
    """
    measured = [_Measurement(model) for model in models]
    for sequence in sequences:
        for each in measured:
            each.add(sequence)
    return [each.summarise() for each in measured]


class _Measurement:
    """A model and its measurements."""

    def __init__(self, model: ModelLayout) -> None:
        # Imported late: listing a registry needs no torch.
        from models.interop.torch_runtime import TorchRuntime  # noqa: PLC0415
        from tasks.checkpoints.torch_model import load_detector  # noqa: PLC0415

        self._num_bytes = model.weights_path.stat().st_size
        self._network = TorchRuntime(load_detector(model.path, read_card(model).model_id))
        self._exported = _open_exported(model)
        self._seconds: list[float] = []
        self._differences: list[float] = []

    def add(self, sequence: CropSequence) -> None:
        runtime = self._exported or self._network
        if not self._seconds:
            _predict(runtime, sequence)  # The first run of a shape is slower than all others.
        started = time.perf_counter()
        prediction = _predict(runtime, sequence)
        self._seconds.append((time.perf_counter() - started) / sequence.num_frames)
        if self._exported is not None:
            self._differences.append(
                abs(prediction.logit - _predict(self._network, sequence).logit)
            )

    def summarise(self) -> Footprint:
        return Footprint(
            seconds_per_frame=statistics.median(self._seconds),
            num_bytes=self._num_bytes,
            # NumPy's maximum, as Python's own skips values that are no number.
            export_difference=float(np.max(self._differences)) if self._differences else None,
        )


def _open_exported(model: ModelLayout) -> Runtime | None:
    """Open the exported model for a CPU; None: ONNX cannot express this model."""
    try:
        return open_runtime(model, engine="openvino")
    except ExportError:
        return None


def _predict(runtime: Runtime, sequence: CropSequence) -> SequencePrediction:
    [(_, features_TD)] = encode_all(runtime, [(None, sequence.crops_THWC)])
    seconds = np.asarray(sequence.pts_seconds)
    return runtime.classify(features_TD, (seconds - seconds[0]).astype(np.float32))
