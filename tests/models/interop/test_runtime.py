"""Every runtime answers as the detector does, whatever else goes through it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.batching import Item, collate
from models.interop.export import ExportedParts, export_parts
from models.interop.runtime import (
    Engine,
    Floats,
    OnnxRuntime,
    OpenVINORuntime,
    Runtime,
    SequencePrediction,
    encode_all,
)
from models.interop.torch_runtime import TorchRuntime
from models.network.detector import Detector, Ensemble
from models.network.heads import Detection, TransformerHead
from reelcheck.records import RGB
from reelcheck.train_config import DetectorSettings

SIDE = 32
TOLERANCE = 1e-5
KINDS = ("two folds", "frames alone")
Model = tuple[Detector | Ensemble, ExportedParts]


def random_crops(num_frames: int, *, seed: int = 0) -> RGB:
    """Noise over blocks of noise: neither disappears in the network."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 200, (num_frames, SIDE // 8, SIDE // 8, 3))
    return (
        blocks.repeat(8, 1).repeat(8, 2) + rng.integers(0, 56, (num_frames, SIDE, SIDE, 3))
    ).astype(np.uint8)


def random_seconds(num_frames: int, *, seed: int = 0) -> Floats:
    """Ascending multiples of 1/64 s, which float32 holds exactly for the first three days."""
    steps = np.random.default_rng(seed).integers(1, 200, num_frames)
    return (np.cumsum(steps) / 64).astype(np.float32)


def as_numbers(answer: SequencePrediction) -> Floats:
    return np.concatenate([[answer.logit], answer.frame_logits_T, answer.frame_weights_T])


@pytest.fixture(scope="module", params=KINDS)
def model(
    request: pytest.FixtureRequest, tiny: Any, random_network: Callable[[Any, Any], Any]
) -> Model:
    """A detector whose answers depend on its pictures, and its ONNX files."""
    torch.manual_seed(0)
    with_attention = tiny.detector.transformer.model_copy(update={"pooling": "attention"})
    detector: Detector | Ensemble = {
        "two folds": lambda: Ensemble(
            tiny.detector.model_copy(update={"transformer": with_attention}), num_members=2
        ),
        "frames alone": lambda: Detector(
            DetectorSettings(backbone=tiny.detector.backbone, transformer=None)
        ),
    }[request.param]()
    frames_NCHW = torch.from_numpy(random_crops(12)).permute(0, 3, 1, 2)
    for member in getattr(detector, "members", [detector]):
        random_network(member.backbone, member.to_input(frames_NCHW))
    detector = detector.float().eval()
    parts = export_parts(detector, crop_pixels=SIDE)
    assert parts.max_difference <= TOLERANCE
    return detector, parts


@pytest.fixture(scope="module")
def runtimes(model: Model) -> dict[Engine, Runtime]:
    detector, parts = model
    made: list[Runtime] = [
        OpenVINORuntime(parts.encoder, parts.head, num_threads=1),
        OnnxRuntime(parts.encoder, parts.head, num_threads=1),
        TorchRuntime(detector),
    ]
    return {runtime.name: runtime for runtime in made}


@pytest.fixture(scope="module")
def openvino_runtime(runtimes: dict[Engine, Runtime]) -> Runtime:
    return runtimes["openvino"]


def test_every_engine_was_made(runtimes: dict[Engine, Runtime]) -> None:
    assert list(runtimes) == ["openvino", "onnxruntime", "torch"]


@settings(max_examples=15)
@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
)
def test_every_engine_gives_the_answers_of_the_detector(
    model: Model, runtimes: dict[Engine, Runtime], lengths: list[int], seed: int
) -> None:
    sequences = [
        (random_crops(length, seed=seed + row), random_seconds(length, seed=seed + row))
        for row, length in enumerate(lengths)
    ]
    batch = collate(
        [
            Item(
                frames_TCHW=torch.from_numpy(crops).permute(0, 3, 1, 2),
                seconds_T=torch.from_numpy(seconds),
                label=0.0,
                index=row,
            )
            for row, (crops, seconds) in enumerate(sequences)
        ]
    )
    with torch.inference_mode():
        expected: Detection = model[0](batch)
    for runtime in runtimes.values():
        encoded = dict(encode_all(runtime, ((row, s[0]) for row, s in enumerate(sequences))))
        for row, (_, seconds_T) in enumerate(sequences):
            answer = runtime.classify(encoded[row], seconds_T)
            length = len(seconds_T)
            for found, wanted in (
                (answer.logit, expected.logits_B[row]),
                (answer.frame_logits_T, expected.frame_logits_BT[row, :length]),
                (answer.frame_weights_T, expected.frame_weights_BT[row, :length]),
            ):
                np.testing.assert_allclose(found, wanted.numpy(), atol=TOLERANCE, rtol=0)


def test_the_answer_depends_on_every_frame(runtimes: dict[Engine, Runtime]) -> None:
    # Otherwise equal answers would say nothing.
    crops_THWC, seconds_T = random_crops(3), random_seconds(3)
    for runtime in runtimes.values():
        before = runtime.classify(runtime.encode(crops_THWC), seconds_T).logit
        for frame in range(3):
            changed_THWC = crops_THWC.copy()
            changed_THWC[frame] = 255 - changed_THWC[frame]
            after = runtime.classify(runtime.encode(changed_THWC), seconds_T).logit
            assert abs(after - before) > 100 * TOLERANCE


@pytest.mark.parametrize("first_second", [1.0, 4096.0, 86_400.0])
def test_only_differences_of_times_count(
    runtimes: dict[Engine, Runtime], first_second: float
) -> None:
    crops_THWC, seconds_T = random_crops(7), random_seconds(7)
    for runtime in runtimes.values():
        features_TD = runtime.encode(crops_THWC)
        early, late = (
            as_numbers(runtime.classify(features_TD, seconds_T + np.float32(offset)))
            for offset in (0.0, first_second)
        )
        np.testing.assert_array_equal(late, early)


def test_differences_of_times_count_exactly_where_there_is_a_transformer(
    model: Model, runtimes: dict[Engine, Runtime]
) -> None:
    crops_THWC, seconds_T = random_crops(7), random_seconds(7)
    [first, *_] = getattr(model[0], "members", [model[0]])
    looks_at_times = isinstance(first.head, TransformerHead)
    for runtime in runtimes.values():
        features_TD = runtime.encode(crops_THWC)
        change = abs(
            runtime.classify(features_TD, seconds_T).logit
            - runtime.classify(features_TD, seconds_T / 2).logit
        )
        assert (change > TOLERANCE) == looks_at_times


@settings(max_examples=20)
@given(data=st.data())
def test_openvino_features_have_the_same_bits_whatever_the_place_and_the_neighbours(
    openvino_runtime: Runtime, data: st.DataObject
) -> None:
    crops_NHWC = random_crops(12)
    alone = [openvino_runtime.encode(crops_NHWC[n : n + 1])[0] for n in range(12)]
    order = data.draw(
        st.lists(st.integers(0, 11), min_size=1, max_size=openvino_runtime.batch_size)
    )
    together = openvino_runtime.encode(crops_NHWC[order])
    np.testing.assert_array_equal(together, np.stack([alone[n] for n in order]))


def test_a_batch_is_not_overwritten_by_the_next(runtimes: dict[Engine, Runtime]) -> None:
    for runtime in runtimes.values():
        crops_NHWC, seconds_T = random_crops(16), random_seconds(8)
        first = runtime.encode(crops_NHWC[:8])
        answer = runtime.classify(first, seconds_T)
        before, said = first.copy(), as_numbers(answer)
        second = runtime.encode(crops_NHWC[8:])
        runtime.classify(second, seconds_T)
        assert not np.array_equal(second, before)
        np.testing.assert_array_equal(first, before)
        np.testing.assert_array_equal(as_numbers(answer), said)


class Counting:
    """Gives each frame its mean per colour, and remembers what it was given."""

    name: Engine = "torch"

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.given: list[int] = []

    def encode(self, frames_NHWC: RGB) -> Floats:
        assert 0 < len(frames_NHWC) <= self.batch_size
        self.given.append(len(frames_NHWC))
        features: Floats = frames_NHWC.mean(axis=(1, 2), dtype=np.float32)
        return features

    def classify(self, features_TD: Floats, seconds_T: Floats) -> SequencePrediction:
        raise NotImplementedError


LENGTHS = st.lists(st.integers(0, 23), max_size=12)


@given(lengths=LENGTHS, batch_size=st.integers(1, 9))
def test_encode_all_gives_each_item_its_own_features_in_order(
    lengths: list[int], batch_size: int
) -> None:
    rng = np.random.default_rng(0)
    items = [rng.integers(0, 256, (length, 2, 2, 3), dtype=np.uint8) for length in lengths]
    runtime = Counting(batch_size)
    answers = list(encode_all(runtime, enumerate(items)))
    assert [key for key, _ in answers] == list(range(len(items)))
    for (_, features_ND), crops_NHWC in zip(answers, items, strict=True):
        assert len(features_ND) == len(crops_NHWC)
        for feature_D, crop_HWC in zip(features_ND, crops_NHWC, strict=True):
            np.testing.assert_array_equal(feature_D, crop_HWC.mean(axis=(0, 1), dtype=np.float32))
    full, rest = divmod(sum(lengths), batch_size)
    assert runtime.given == [batch_size] * full + [rest] * bool(rest)


@given(lengths=LENGTHS, batch_size=st.integers(1, 9))
def test_encode_all_takes_no_more_than_fills_a_batch_and_keeps_nothing_back(
    lengths: list[int], batch_size: int
) -> None:
    runtime = Counting(batch_size)
    finished: list[int] = []
    taken = 0

    def source() -> Iterator[tuple[int, RGB]]:
        nonlocal taken
        for key, length in enumerate(lengths):
            # When the next is asked for, what fills batches is encoded and answered.
            assert taken - sum(runtime.given) < batch_size
            ends = np.cumsum(lengths[:key])
            assert finished == [k for k, end in enumerate(ends) if end <= sum(runtime.given)]
            taken += length
            yield key, np.zeros((length, 2, 2, 3), np.uint8)

    for key, _ in encode_all(runtime, source()):
        finished.append(key)
    assert finished == list(range(len(lengths)))


MODELS_COME_AND_GO = """
import faulthandler
import signal
import subprocess
import sys
from pathlib import Path

from models.interop.runtime import OpenVINORuntime

faulthandler.enable()  # gives the thread a stack for signals, which OpenVINO replaces
signal.signal(signal.SIGCHLD, lambda *_: None)
loaded = [OpenVINORuntime(*map(Path, sys.argv[1:])) for _ in range(2)]
while loaded:
    del loaded[0]
subprocess.run(["true"], check=True)
print("alive")
"""


def test_process_survives_a_signal_after_its_models_are_gone(model: Model, tmp_path: Path) -> None:
    paths = [tmp_path / "encoder.onnx", tmp_path / "head.onnx"]
    for path, content in zip(paths, (model[1].encoder, model[1].head), strict=True):
        path.write_bytes(content)
    result = subprocess.run(
        [sys.executable, "-c", MODELS_COME_AND_GO, *paths],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, "alive\n"), result.stderr
