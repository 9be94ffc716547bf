"""Frame features -> logits: what a head may look at, and what it computes."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from models.network.heads import (
    Detection,
    FrameHead,
    Standardiser,
    TransformerHead,
    average_detections,
)
from models.network.temporal import TimeEncoding
from reelcheck.train_config import HeadLayer, TransformerSettings

DIM = 12
TOLERANCE = 1e-5
Head = TransformerHead | FrameHead
LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=5)


def transformer(pooling: Literal["attention", "mean"]) -> TransformerHead:
    settings = TransformerSettings(
        feature_dim=16, depth=2, num_heads=2, dropout=0.5, pooling=pooling
    )
    return TransformerHead(DIM, settings)


MAKERS: dict[str, Callable[[], Head]] = {
    "attention": lambda: transformer("attention"),
    "mean": lambda: transformer("mean"),
    "frames": lambda: FrameHead(DIM, (), dropout=0.5),
    "standardised": lambda: FrameHead(DIM, (), dropout=0.5, standardises=True),
    "hidden": lambda: FrameHead(DIM, (HeadLayer(width=7, dropout=0.5),), dropout=0.5),
}
HEADS = pytest.mark.parametrize("name", MAKERS)


def make(name: str) -> Head:
    torch.manual_seed(3)
    head = MAKERS[name]()
    for parameter in head.parameters():
        # A linear layer on standardised features begins with zeros, which would pass every test.
        if not parameter.any():
            nn.init.normal_(parameter)
    return head.eval()


def test_linear_layer_says_nothing_of_directions_in_which_it_saw_no_frame() -> None:
    head = FrameHead(DIM, (), dropout=0.0, standardises=True).train()
    features_BTD = torch.zeros(4, 1, DIM)
    features_BTD[:, 0, 0] = torch.tensor([-1.0, -0.5, 0.5, 1.0])
    mask_BT = torch.ones(4, 1, dtype=torch.bool)
    optimiser = torch.optim.AdamW(head.parameters(), lr=0.1)
    for _ in range(20):
        logits_B = head(features_BTD, torch.zeros(4, 1), mask_BT).logits_B
        nn.functional.softplus(-logits_B * features_BTD[:, 0, 0]).mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    unseen_BTD = features_BTD.clone()
    unseen_BTD[..., 1:] = 0.01
    before, after = (
        head.eval()(x_BTD, torch.zeros(4, 1), mask_BT).logits_B
        for x_BTD in (features_BTD, unseen_BTD)
    )
    assert before[3] > before[0] + 1
    torch.testing.assert_close(after, before)


def features(lengths: list[int], *, garbage: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Features, times and mask; ``garbage`` stands in the padding, of which there is some more."""
    generator = torch.Generator().manual_seed(1)
    longest = max(lengths) + (3 if garbage else 0)
    mask_BT = torch.arange(longest)[None] < torch.tensor(lengths)[:, None]
    features_BTD = torch.full((len(lengths), longest, DIM), garbage)
    seconds_BT = torch.full(mask_BT.shape, garbage)
    for row, length in enumerate(lengths):
        features_BTD[row, :length] = torch.randn(length, DIM, generator=generator) * (1 + row)
        seconds_BT[row, :length] = torch.arange(length) / 16
    return features_BTD, seconds_BT, mask_BT


def classify(head: Head, given_features: tuple[Tensor, Tensor, Tensor]) -> Detection:
    with torch.inference_mode():
        detection: Detection = head(*given_features)
    return detection


@HEADS
@given(lengths=LENGTHS)
def test_answers_are_those_of_each_sequence_alone(name: str, lengths: list[int]) -> None:
    head = make(name)
    together, dirty = (
        classify(head, features(lengths)),
        classify(head, features(lengths, garbage=99.0)),
    )
    whole = features(lengths)
    alone = [
        classify(head, tuple(x[row : row + 1, :length] for x in whole))
        for row, length in enumerate(lengths)
    ]
    for padded in (together, dirty):
        assert padded.logits_B.dtype == torch.float32
        for row, (length, single) in enumerate(zip(lengths, alone, strict=True)):
            for left, right in (
                (padded.logits_B[row], single.logits_B[0]),
                (padded.frame_logits_BT[row, :length], single.frame_logits_BT[0]),
                (padded.frame_weights_BT[row, :length], single.frame_weights_BT[0]),
            ):
                torch.testing.assert_close(left, right, atol=TOLERANCE, rtol=0)


@HEADS
def test_answers_follow_the_input(name: str) -> None:
    # A head that ignores its input would pass the test above.
    given_features = features([8])
    other = (
        given_features[0] + 10 * torch.randn(1, 1, DIM, generator=torch.Generator().manual_seed(2)),
    )
    before, after = (
        classify(make(name), inputs).logits_B
        for inputs in (given_features, other + given_features[1:])
    )
    assert (before - after).abs() > 1000 * TOLERANCE


@HEADS
@given(lengths=LENGTHS)
def test_frame_weights_sum_to_one_on_real_frames_and_vanish_on_padding(
    name: str, lengths: list[int]
) -> None:
    inputs = features(lengths, garbage=99.0)
    weights_BT, mask_BT = classify(make(name), inputs).frame_weights_BT, inputs[2]
    torch.testing.assert_close(weights_BT.sum(1), torch.ones(len(lengths)))
    assert (weights_BT[~mask_BT] == 0).all()
    assert (weights_BT[mask_BT] > 0).all()
    if name != "attention":
        expected = mask_BT / torch.tensor(lengths)[:, None]
        torch.testing.assert_close(weights_BT, expected)


def test_attention_pooling_weighs_frames_differently() -> None:
    weights_BT = classify(make("attention"), features([9])).frame_weights_BT
    assert weights_BT.max() > 1.05 * weights_BT.min()


@pytest.mark.parametrize("name", ["frames", "hidden"])
@given(lengths=LENGTHS, garbage=st.sampled_from([float("nan"), float("inf"), 1e30]))
def test_head_of_frames_gives_a_sequence_their_mean_whatever_the_padding(
    name: str, lengths: list[int], garbage: float
) -> None:
    detection = classify(make(name), features(lengths, garbage=garbage))
    for row, length in enumerate(lengths):
        mean = detection.frame_logits_BT[row, :length].double().mean()
        assert float(detection.logits_B[row]) == pytest.approx(float(mean), abs=1e-6)


@HEADS
@pytest.mark.parametrize("garbage", [99.0, -7.0])
def test_what_stands_in_the_padding_gets_no_gradient(name: str, garbage: float) -> None:
    features_BTD, seconds_BT, mask_BT = features([2, 5], garbage=garbage)
    features_BTD.requires_grad_()
    make(name)(features_BTD, seconds_BT, mask_BT).logits_B.sum().backward()
    assert features_BTD.grad is not None
    assert (features_BTD.grad[~mask_BT] == 0).all()
    assert (features_BTD.grad[mask_BT].abs().amax(1) > 0).all()


@given(
    widths=st.lists(st.integers(1, 9), max_size=3),
    length=st.integers(1, 6),
    seed=st.integers(0, 2**31),
)
def test_hidden_layers_are_linear_maps_with_relu_between(
    widths: list[int], length: int, seed: int
) -> None:
    torch.manual_seed(seed)
    head = FrameHead(DIM, tuple(HeadLayer(width=w) for w in widths), dropout=0.0)
    inputs = features([length])
    x = inputs[0][0].double().numpy()
    layers = [m for m in head.modules() if isinstance(m, nn.Linear)]
    assert [layer.out_features for layer in layers] == [*widths, 1]
    for place, layer in enumerate(layers):
        x = x @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()
        if place < len(widths):
            x = np.maximum(x, 0)
    found = classify(head, inputs).frame_logits_BT[0].numpy()
    np.testing.assert_allclose(found, x[:, 0], atol=1e-4)


def test_dropout_stands_where_the_settings_say() -> None:
    layers = (HeadLayer(width=5, dropout=0.1), HeadLayer(width=4))
    head = FrameHead(DIM, layers, dropout=0.3)
    assert [m.p for m in head.modules() if isinstance(m, nn.Dropout)] == [0.1, 0.0, 0.3]


def test_mean_of_detections_is_the_mean_of_each_field() -> None:
    parts = [classify(make(name), features([3, 5])) for name in MAKERS]
    mean = average_detections(parts)
    for field in ("logits_B", "frame_logits_BT", "frame_weights_BT"):
        expected = np.mean([getattr(part, field).numpy() for part in parts], axis=0)
        np.testing.assert_allclose(getattr(mean, field).numpy(), expected, atol=1e-6)


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


@given(
    lengths=st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=5),
    seed=st.integers(0, 2**16),
)
def test_standardiser_knows_the_statistics_of_all_frames_and_of_no_padding(
    lengths: list[list[int]], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    standardiser = Standardiser(3).train()
    seen: list[Tensor] = []
    for batch in lengths:
        mask_BT = torch.arange(max(batch))[None] < torch.tensor(batch)[:, None]
        features_BTD = torch.randn(*mask_BT.shape, 3, generator=generator) * 5 + 2
        features_BTD[~mask_BT] = torch.nan
        standardiser(features_BTD, mask_BT)
        seen.append(features_BTD[mask_BT])
    frames_ND = torch.cat(seen).double().numpy()
    scaler = StandardScaler().fit(frames_ND)
    x_1ND = torch.randn(1, 7, 3, generator=generator)
    found = standardiser.eval()(x_1ND, torch.ones(1, 7, dtype=torch.bool))[0]
    if (frames_ND.std(0) > 0.1).all():
        np.testing.assert_allclose(found, scaler.transform(x_1ND[0].numpy()), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(standardiser.mean_D, scaler.mean_, rtol=1e-4, atol=1e-4)
    # What was seen in training stays.
    before = standardiser.mean_D.clone()
    standardiser(x_1ND, torch.ones(1, 7, dtype=torch.bool))
    assert torch.equal(before, standardiser.mean_D)
