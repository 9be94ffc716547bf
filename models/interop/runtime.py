"""Crops -> features -> logits, by ONNX files; needs no torch.

Every frame goes through the encoder once, in batches of a fixed size that may hold frames of
several videos; the head then takes one sequence at a time. So a prediction depends neither on what
else is scored nor on its order.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from reelcheck.processes import count_cores
from reelcheck.records import RGB

Floats = NDArray[np.float32]
Engine = Literal["openvino", "onnxruntime", "torch"]
Key = TypeVar("Key")

ENCODER_INPUTS, ENCODER_OUTPUTS = ("frames_NHWC",), ("features_ND",)
HEAD_INPUTS = ("features_BTD", "seconds_BT", "mask_BT")
HEAD_OUTPUTS = ("logits_B", "frame_logits_BT", "frame_weights_BT")


@dataclass(frozen=True, eq=False)
class SequencePrediction:
    """The prediction of a model for one sequence of T frames."""

    logit: float
    frame_logits_T: Floats
    frame_weights_T: Floats
    """Share of each frame in the logit; the shares sum to 1."""


class Runtime(Protocol):
    """A loaded model."""

    name: Engine
    batch_size: int
    """Number of frames that are encoded at a time."""

    def encode(self, frames_NHWC: RGB) -> Floats:
        """Compute the features (N, D) of uint8 RGB crops, N at most ``batch_size``."""

    def classify(self, features_TD: Floats, seconds_T: Floats) -> SequencePrediction:
        """Classify one sequence by its features; only differences of times count."""


@cache
def get_openvino_core() -> Any:
    """Make one core for the whole process; it is never released.

    The CPU plug-in gives the thread that makes a core another stack for signals, and removes this
    stack at the core's end. Of two cores that end in the order in which they were made, the second
    one restores the stack of the first one, which is gone: the next signal ends the process (seen
    with 2026.4).
    """
    import openvino  # noqa: PLC0415 - half a second, and other runtimes do without

    return openvino.Core()


class OpenVINORuntime:
    """OpenVINO in fp32 on the CPU: the fastest that was measured there (docs/performance.md).

    Args:
        encoder: ONNX file, or its content.
        head: ONNX file, or its content.
        num_threads: None: half of the cores, as decode processes run beside it.
    """

    name: Engine = "openvino"
    batch_size = 8

    def __init__(
        self, encoder: Path | bytes, head: Path | bytes, *, num_threads: int | None = None
    ) -> None:
        # bf16 would be OpenVINO's own choice on processors that have it: other scores.
        options = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": num_threads or half_the_cores(),
            "NUM_STREAMS": 1,
        }
        core = get_openvino_core()
        network = core.read_model(encoder)
        _, height, width, channels = network.input(0).partial_shape
        network.reshape([self.batch_size, height, width, channels])
        self._encoder = core.compile_model(network, "CPU", options)
        self._head = core.compile_model(core.read_model(head), "CPU", options)
        # A head for single frames uses no times, and OpenVINO drops inputs that are not used.
        self._head_inputs = {name for port in self._head.inputs for name in port.names}

    def encode(self, frames_NHWC: RGB) -> Floats:
        """See ``Runtime``."""
        padded = np.zeros((self.batch_size, *frames_NHWC.shape[1:]), np.uint8)
        padded[: len(frames_NHWC)] = frames_NHWC
        # A copy: the runtime writes the next batch's features to the same place.
        return np.array(self._encoder([padded])[0][: len(frames_NHWC)])

    def classify(self, features_TD: Floats, seconds_T: Floats) -> SequencePrediction:
        """See ``Runtime``."""
        inputs = _make_inputs(features_TD, seconds_T)
        outputs = self._head({name: inputs[name] for name in self._head_inputs})
        return _make_prediction([outputs[n] for n in range(len(HEAD_OUTPUTS))])


class OnnxRuntime:
    """onnxruntime on the CPU, for processors that OpenVINO does not know; arguments as there."""

    name: Engine = "onnxruntime"
    batch_size = 8

    def __init__(
        self, encoder: Path | bytes, head: Path | bytes, *, num_threads: int | None = None
    ) -> None:
        import onnxruntime  # noqa: PLC0415 - half a second, and other runtimes do without

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads or half_the_cores()
        self._encoder, self._head = (
            onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            for model in (encoder, head)
        )

    def encode(self, frames_NHWC: RGB) -> Floats:
        """See ``Runtime``."""
        features_ND: Floats
        (features_ND,) = self._encoder.run(ENCODER_OUTPUTS, {ENCODER_INPUTS[0]: frames_NHWC})
        return features_ND

    def classify(self, features_TD: Floats, seconds_T: Floats) -> SequencePrediction:
        """See ``Runtime``."""
        return _make_prediction(self._head.run(HEAD_OUTPUTS, _make_inputs(features_TD, seconds_T)))


def encode_all(runtime: Runtime, crops: Iterable[tuple[Key, RGB]]) -> Iterator[tuple[Key, Floats]]:
    """Compute the features of every item, in order; a batch may hold frames of several items.

    Args:
        runtime: the model.
        crops: any key and its frames (N, H, W, 3). No more items are taken than fill a batch, so
            that crops are made no faster than they are encoded.
    """
    size = runtime.batch_size
    waiting: list[tuple[Key, int]] = []
    frames: list[RGB] = []
    done: list[Floats] = []

    def take_finished() -> Iterator[tuple[Key, Floats]]:
        while waiting and sum(map(len, done)) >= waiting[0][1]:
            key, num_frames = waiting.pop(0)
            features_ND = np.concatenate(done) if done else np.zeros((0, 0), np.float32)
            rest_ND = features_ND[num_frames:]
            done[:] = [rest_ND] if len(rest_ND) else []
            yield key, features_ND[:num_frames]

    for key, crops_NHWC in crops:
        waiting.append((key, len(crops_NHWC)))
        frames.append(crops_NHWC)
        if sum(map(len, frames)) >= size:
            together = np.concatenate(frames)
            full = len(together) // size * size
            done += [runtime.encode(together[n : n + size]) for n in range(0, full, size)]
            frames = [together[full:]]
        yield from take_finished()
    if any(map(len, frames)):
        done.append(runtime.encode(np.concatenate(frames)))
    yield from take_finished()


def half_the_cores() -> int:
    """Half of the cores that this process may use: more threads wait for one another."""
    return max(1, count_cores() // 2)


def _make_inputs(features_TD: Floats, seconds_T: Floats) -> dict[str, NDArray[np.generic]]:
    inputs = (
        features_TD[None],
        np.asarray(seconds_T, np.float32)[None],
        np.ones((1, len(seconds_T)), np.bool_),
    )
    return dict(zip(HEAD_INPUTS, inputs, strict=True))


def _make_prediction(outputs: list[NDArray[np.float32]]) -> SequencePrediction:
    logits_B, frame_logits_BT, frame_weights_BT = outputs
    return SequencePrediction(
        float(logits_B[0]), np.array(frame_logits_BT[0]), np.array(frame_weights_BT[0])
    )
