"""The detector: what may and what may not change a logit."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from models.batching import Batch, Item, collate
from models.detector import Detection, Detector
from models.temporal import TimeEncoding
from reelcheck.config import DetectorSettings
from reelcheck.errors import SettingsError

LENGTHS = (10, 13, 17)
TOLERANCE = 1e-5
Pooling = Literal["attention", "mean"]
MakeDetector = Callable[..., Detector]
POOLINGS = pytest.mark.parametrize("pooling", ["attention", "mean"])


def items(lengths: tuple[int, ...] = LENGTHS, *, side: int = 32) -> list[Item]:
    """Random frames; times that float32 holds exactly, so that shifting them loses nothing."""
    generator = torch.Generator().manual_seed(1)
    return [
        Item(
            frames_TCHW=torch.randn(length, 3, side, side, generator=generator) * (1 + index),
            seconds_T=torch.arange(length) / (16 << index),
            label=1.0,
            index=index,
        )
        for index, length in enumerate(lengths)
    ]


def make_detector(settings: DetectorSettings) -> Detector:
    torch.manual_seed(3)
    return Detector(settings).eval()


@pytest.fixture(scope="module")
def small(tiny: Any) -> MakeDetector:
    """A function that makes a small detector of either pooling."""

    def make(pooling: Pooling = "attention") -> Detector:
        changes = {"pooling": pooling, "depth": 2, "dropout": 0.5}
        return make_detector(tiny.detector.model_copy(update=changes))

    return make


def detect(detector: Detector, batch: Batch) -> Detection:
    with torch.inference_mode():
        return detector(batch)


def with_garbage(batch: Batch) -> Batch:
    """Meaningless times where there is no frame, and more padding than is needed."""
    mask_BT = torch.nn.functional.pad(batch.mask_BT, (0, 3), value=False)
    seconds_BT = torch.nn.functional.pad(batch.seconds_BT, (0, 3))
    return replace(batch, mask_BT=mask_BT, seconds_BT=seconds_BT.masked_fill(~mask_BT, 1e3))


def largest_padding_effect(detector: Detector, sequences: list[Item]) -> float:
    together = detect(detector, collate(sequences)).logits_B
    dirty = detect(detector, with_garbage(collate(sequences))).logits_B
    alone = torch.cat([detect(detector, collate([item])).logits_B for item in sequences])
    # A detector that ignores its input would pass as well: the sequences must differ.
    assert torch.pdist(alone[:, None]).min() > 100 * TOLERANCE
    return float(torch.stack([together - alone, dirty - alone]).abs().max())


@POOLINGS
def test_logit_is_the_same_whatever_the_padding(small: MakeDetector, pooling: Pooling) -> None:
    assert largest_padding_effect(small(pooling), items()) <= TOLERANCE


def test_logit_is_the_same_whatever_the_padding_with_the_default_detector() -> None:
    settings = DetectorSettings()
    wanted = ("efficientnet_b3", 512, 4, 8)
    assert (
        settings.backbone,
        settings.feature_dim,
        settings.depth,
        settings.num_heads,
    ) == wanted
    detector = make_detector(settings)
    assert detector.project[1].in_features == 1536
    assert len(detector.blocks) == 4
    assert detector.norm.normalized_shape == (512,)
    assert largest_padding_effect(detector, items(side=64)) <= TOLERANCE


@POOLINGS
def test_frame_weights_sum_to_one_on_real_frames_and_vanish_on_padding(
    small: MakeDetector, pooling: Pooling
) -> None:
    batch = with_garbage(collate(items()))
    weights_BT = detect(small(pooling), batch).frame_weights_BT
    torch.testing.assert_close(weights_BT.sum(1), torch.ones(len(LENGTHS)))
    assert (weights_BT[~batch.mask_BT] == 0).all()
    assert (weights_BT[batch.mask_BT] > 0).all()
    is_uniform = torch.allclose(weights_BT[0, :10], torch.full((10,), 0.1))
    assert is_uniform == (pooling == "mean")


@given(shift=st.integers(-1000, 1000))
def test_shifting_all_times_changes_nothing(small: MakeDetector, shift: int) -> None:
    detector, batch = small(), collate(items())
    later = replace(batch, seconds_BT=batch.seconds_BT + shift)
    before, after = detect(detector, batch), detect(detector, later)
    torch.testing.assert_close(before.logits_B, after.logits_B, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        before.frame_logits_BT[batch.mask_BT],
        after.frame_logits_BT[batch.mask_BT],
        atol=1e-6,
        rtol=0,
    )


def test_stretching_time_changes_the_logits(small: MakeDetector) -> None:
    detector, batch = small(), collate(items())
    slower = replace(batch, seconds_BT=batch.seconds_BT * 2)
    moved = detect(detector, batch).logits_B - detect(detector, slower).logits_B
    assert moved.abs().min() > 10 * TOLERANCE


@given(order=st.permutations(range(5)))
def test_order_of_items_in_a_batch_changes_nothing(small: MakeDetector, order: list[int]) -> None:
    detector, sequences = small(), items((3, 7, 5, 1, 7))
    logits = detect(detector, collate(sequences)).logits_B
    mixed = detect(detector, collate([sequences[place] for place in order])).logits_B
    torch.testing.assert_close(mixed, logits[list(order)], atol=TOLERANCE, rtol=0)


def test_no_frame_influences_another_sequence(small: MakeDetector) -> None:
    detector, sequences = small(), items()
    before = detect(detector, collate(sequences)).logits_B
    changed = replace(sequences[1], frames_TCHW=sequences[1].frames_TCHW * -3)
    after = detect(detector, collate([sequences[0], changed, sequences[2]])).logits_B
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]], atol=TOLERANCE, rtol=0)
    assert abs(float(after[1] - before[1])) > 10 * TOLERANCE


def test_each_frame_of_a_sequence_influences_its_logit(small: MakeDetector) -> None:
    detector, [item] = small(), items((6,))
    frames = item.frames_TCHW.clone().requires_grad_()
    detector(collate([replace(item, frames_TCHW=frames)])).logits_B.sum().backward()
    assert frames.grad is not None
    assert (frames.grad.flatten(1).abs().amax(1) > 0).all()


def running_statistics(detector: Detector) -> list[Tensor]:
    norms = [m for m in detector.backbone.modules() if isinstance(m, _BatchNorm)]
    assert norms
    return [norm.running_mean.clone() for norm in norms]


@pytest.mark.parametrize("is_frozen", [True, False])
def test_batch_norm_statistics_stay_in_training_mode_only_if_frozen(
    tiny: Any, is_frozen: bool
) -> None:
    detector = Detector(tiny.detector, freeze_batch_norm=is_frozen).train()
    before = running_statistics(detector)
    detector(collate(items()))
    after = running_statistics(detector)
    same = [torch.equal(old, new) for old, new in zip(before, after, strict=True)]
    assert all(same) if is_frozen else not any(same)
    assert detector.blocks.training


def test_frozen_batch_norm_stays_frozen_after_a_round_through_evaluation(tiny: Any) -> None:
    detector = Detector(tiny.detector, freeze_batch_norm=True)
    detector.eval()
    detector.train()
    before = running_statistics(detector)
    detector(collate(items()))
    for old, new in zip(before, running_statistics(detector), strict=True):
        assert torch.equal(old, new)


@given(first=st.integers(0, 30), step=st.sampled_from([2, 3, 5]), fps=st.sampled_from([16, 32, 64]))
def test_time_code_depends_on_seconds_when_the_frame_rate_changes(
    first: int, step: int, fps: int
) -> None:
    encode = TimeEncoding(32)
    all_frames = (torch.arange(61) / fps)[None]
    some_frames = all_frames[:, first::step]
    torch.testing.assert_close(
        encode(some_frames), encode(all_frames)[:, first::step], atol=0, rtol=0
    )


def test_time_code_equals_numpy_in_double_precision() -> None:
    seconds = np.linspace(0, 2, 50)
    wavelengths = np.geomspace(1 / 60, 60, 8)
    angles = 2 * np.pi * seconds[:, None] / wavelengths
    expected = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    codes = TimeEncoding(16)(torch.from_numpy(seconds)[None])[0].numpy()
    # 2 s are 754 rad at the shortest wavelength, where float32 is good for 6e-5.
    np.testing.assert_allclose(codes, expected, atol=5e-4)


def test_time_code_stays_float32_under_bfloat16_autocast() -> None:
    encode, seconds = TimeEncoding(32), torch.linspace(0, 5, 40)[None]
    exact = encode(seconds)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = encode(seconds)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, exact)


@POOLINGS
def test_detection_is_close_to_full_precision_under_bfloat16_autocast(
    small: MakeDetector, pooling: Pooling
) -> None:
    detector, batch = small(pooling), collate(items())
    exact = detect(detector, batch)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = detect(detector, batch)
    assert mixed.logits_B.dtype == mixed.frame_logits_BT.dtype == torch.float32
    torch.testing.assert_close(mixed.logits_B, exact.logits_B, atol=0.05, rtol=0)


@pytest.mark.parametrize("name", ["efficientnet_b33", "resnet_1000000", "test_resnot"])
def test_unknown_backbone_is_refused_with_similar_names(tiny: Any, name: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(repr(name))) as caught:
        Detector(tiny.detector.model_copy(update={"backbone": name}))
    similar = str(caught.value).partition("similar: ")[2].split(", ")
    assert similar
    assert all(timm.is_model(model) for model in similar)


def test_pretrained_without_the_hub_names_both_remedies(tmp_path: Path) -> None:
    # A process of its own: huggingface_hub reads its environment when it is imported.
    script = """
from models.detector import Detector
from reelcheck.config import DetectorSettings
from reelcheck.errors import WeightsError
try:
    Detector(DetectorSettings(backbone="test_resnet", feature_dim=16, num_heads=2), pretrained=True)
except WeightsError as error:
    print(error)
"""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HUB_CACHE": str(tmp_path),
        "HF_HOME": str(tmp_path),
    }
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert "test_resnet" in result.stdout
    assert "--init-from" in result.stdout
    assert "hub" in result.stdout
    assert "leave --pretrained out" in result.stdout
