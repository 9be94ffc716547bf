"""Crops -> features -> logits, by the ONNX files beside a checkpoint; needs no torch.

Every frame goes through the encoder once, in batches of a fixed size that may hold frames of
several videos; the judge then takes one sequence at a time. So an answer depends neither on what
else is scored nor on its order.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from reelcheck.cores import available_cores
from reelcheck.records import RGB

Floats = NDArray[np.float32]
Engine = Literal["openvino", "onnxruntime", "torch"]
Key = TypeVar("Key")

ENCODER_INPUTS, ENCODER_OUTPUTS = ("frames_NHWC",), ("features_ND",)
JUDGE_INPUTS = ("features_BTD", "seconds_BT", "mask_BT")
JUDGE_OUTPUTS = ("logits_B", "frame_logits_BT", "frame_weights_BT")


@dataclass(frozen=True, eq=False)
class Judgement:
    """What a model says of one sequence of T frames."""

    logit: float
    frame_logits_T: Floats
    frame_weights_T: Floats
    """Share of each frame in the answer; they sum to 1."""


class Runtime(Protocol):
    """A loaded model."""

    name: Engine
    batch_size: int
    """Frames that are encoded at a time."""

    def encode(self, frames_NHWC: RGB) -> Floats:
        """Features (N, D) of uint8 RGB crops, N at most ``batch_size``."""

    def judge(self, features_TD: Floats, seconds_T: Floats) -> Judgement:
        """The answer for one sequence; only differences of times count."""


@cache
def _openvino_core() -> Any:
    """One for the whole process, never given back.

    Its CPU plug-in gives the thread that makes it another stack for signals, and takes it away at
    its end: of two that end in the order in which they were made, the second one puts the first
    one's stack back, which is gone, and the next signal ends the process (seen with 2026.4).
    """
    import openvino  # noqa: PLC0415 - half a second, and other runtimes do without

    return openvino.Core()


class OpenVINORuntime:
    """OpenVINO in fp32 on the CPU: the fastest that was measured there (docs/performance.md).

    Args:
        encoder: ONNX file, or its content.
        judge: the same.
        num_threads: None: half of the cores, as decode processes run beside it.
    """

    name: Engine = "openvino"
    batch_size = 8

    def __init__(
        self, encoder: Path | bytes, judge: Path | bytes, *, num_threads: int | None = None
    ) -> None:
        # bf16 would be OpenVINO's own choice on processors that have it: other scores.
        options = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": num_threads or half_the_cores(),
            "NUM_STREAMS": 1,
        }
        core = _openvino_core()
        network = core.read_model(encoder)
        _, height, width, channels = network.input(0).partial_shape
        network.reshape([self.batch_size, height, width, channels])
        self._encoder = core.compile_model(network, "CPU", options)
        self._judge = core.compile_model(core.read_model(judge), "CPU", options)
        # A judge of single frames looks at no times, and OpenVINO drops what nothing looks at.
        self._judge_inputs = {name for port in self._judge.inputs for name in port.names}

    def encode(self, frames_NHWC: RGB) -> Floats:
        """See ``Runtime``."""
        padded = np.zeros((self.batch_size, *frames_NHWC.shape[1:]), np.uint8)
        padded[: len(frames_NHWC)] = frames_NHWC
        # A copy: the runtime writes the next batch's features to the same place.
        return np.array(self._encoder([padded])[0][: len(frames_NHWC)])

    def judge(self, features_TD: Floats, seconds_T: Floats) -> Judgement:
        """See ``Runtime``."""
        inputs = _one_sequence(features_TD, seconds_T)
        answers = self._judge({name: inputs[name] for name in self._judge_inputs})
        return _judgement([answers[n] for n in range(len(JUDGE_OUTPUTS))])


class OnnxRuntime:
    """onnxruntime on the CPU, for processors that OpenVINO does not know; arguments as there."""

    name: Engine = "onnxruntime"
    batch_size = 8

    def __init__(
        self, encoder: Path | bytes, judge: Path | bytes, *, num_threads: int | None = None
    ) -> None:
        import onnxruntime  # noqa: PLC0415 - half a second, and other runtimes do without

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads or half_the_cores()
        self._encoder, self._judge = (
            onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            for model in (encoder, judge)
        )

    def encode(self, frames_NHWC: RGB) -> Floats:
        """See ``Runtime``."""
        features_ND: Floats
        (features_ND,) = self._encoder.run(ENCODER_OUTPUTS, {ENCODER_INPUTS[0]: frames_NHWC})
        return features_ND

    def judge(self, features_TD: Floats, seconds_T: Floats) -> Judgement:
        """See ``Runtime``."""
        return _judgement(self._judge.run(JUDGE_OUTPUTS, _one_sequence(features_TD, seconds_T)))


def encode_all(runtime: Runtime, crops: Iterable[tuple[Key, RGB]]) -> Iterator[tuple[Key, Floats]]:
    """Features of every item, in order; batches reach across items.

    Args:
        runtime: the model.
        crops: any key and its frames (N, H, W, 3). No more is taken from it than fills a batch, so
            that what makes the crops is held back by what encodes them.
    """
    size = runtime.batch_size
    waiting: list[tuple[Key, int]] = []
    frames: list[RGB] = []
    done: list[Floats] = []

    def finished() -> Iterator[tuple[Key, Floats]]:
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
        yield from finished()
    if any(map(len, frames)):
        done.append(runtime.encode(np.concatenate(frames)))
    yield from finished()


def half_the_cores() -> int:
    """Half of the cores that this process may use: more threads wait for one another."""
    return max(1, available_cores() // 2)


def _one_sequence(features_TD: Floats, seconds_T: Floats) -> dict[str, NDArray[np.generic]]:
    inputs = (
        features_TD[None],
        np.asarray(seconds_T, np.float32)[None],
        np.ones((1, len(seconds_T)), np.bool_),
    )
    return dict(zip(JUDGE_INPUTS, inputs, strict=True))


def _judgement(outputs: list[NDArray[np.float32]]) -> Judgement:
    logits_B, frame_logits_BT, frame_weights_BT = outputs
    return Judgement(
        float(logits_B[0]), np.array(frame_logits_BT[0]), np.array(frame_weights_BT[0])
    )
