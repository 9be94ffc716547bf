"""The detector: what may and what may not change a logit, and what of it learns."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models import group_parameters
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.transforms import v2

from models.data.batching import Batch, Item, collate
from models.network.detector import Detector, Ensemble, create_ensemble, join_members
from models.network.heads import Detection, FrameHead, TransformerHead
from reelcheck.train_config import DetectorSettings, TransformerSettings

LENGTHS = (10, 13, 17)
TOLERANCE = 1e-5
Kind = Literal["attention", "mean", "frames"]
MakeDetector = Callable[..., Detector]
HEADS = pytest.mark.parametrize("kind", ["attention", "mean", "frames"])


def items(lengths: tuple[int, ...] = LENGTHS, *, side: int = 32) -> list[Item]:
    """Noise of different contrast; times that float32 holds exactly, so they can be shifted."""
    generator = torch.Generator().manual_seed(1)
    return [
        Item(
            frames_TCHW=torch.randint(
                256 // (1 + index % 6), (length, 3, side, side), generator=generator
            ).to(torch.uint8),
            seconds_T=torch.arange(length) / (16 << index % 4),
            label=1.0,
            index=index,
        )
        for index, length in enumerate(lengths)
    ]


def make_detector(settings: DetectorSettings) -> Detector:
    """Random, but for batch norms that know the frames: else the activations fade to nothing."""
    torch.manual_seed(3)
    detector = Detector(settings).train()
    for module in detector.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = None
            torch.nn.init.ones_(module.weight)
    with torch.no_grad():
        detector(collate(items((8, 8, 8, 8, 8, 8))))
    return detector.eval()


@pytest.fixture(scope="module")
def small() -> MakeDetector:
    """A function that makes a small detector with either head."""

    def make(kind: Kind = "attention", **changes: Any) -> Detector:
        transformer = None
        if kind != "frames":
            transformer = TransformerSettings(
                feature_dim=16, depth=2, num_heads=2, dropout=0.5, pooling=kind
            )
        values = {"backbone": "test_resnet", "transformer": transformer}
        return make_detector(DetectorSettings(**{**values, **changes}))

    return make


def detect(detector: Detector | Ensemble, batch: Batch) -> Detection:
    with torch.inference_mode():
        return detector(batch)


def with_garbage(batch: Batch) -> Batch:
    """Meaningless times where there is no frame, and more padding than is needed."""
    mask_BT = F.pad(batch.mask_BT, (0, 3), value=False)
    seconds_BT = F.pad(batch.seconds_BT, (0, 3))
    return replace(batch, mask_BT=mask_BT, seconds_BT=seconds_BT.masked_fill(~mask_BT, 1e3))


def largest_padding_effect(detector: Detector, sequences: list[Item]) -> float:
    """Between the logits of a batch, of a batch with more padding, and of single sequences."""
    together = detect(detector, collate(sequences)).logits_B
    dirty = detect(detector, with_garbage(collate(sequences))).logits_B
    alone = torch.cat([detect(detector, collate([item])).logits_B for item in sequences])
    # A detector that ignores its input would pass as well: the sequences must differ.
    assert len(alone) == 1 or alone.std() > 100 * TOLERANCE
    return float(torch.stack([together - alone, dirty - alone]).abs().max())


@pytest.fixture(scope="module")
def of_each_head(small: MakeDetector) -> dict[str, Detector]:
    return {kind: small(kind) for kind in ("attention", "mean", "frames")}


@HEADS
@settings(max_examples=15)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=4))
def test_logit_is_the_same_whatever_the_padding(
    of_each_head: dict[str, Detector], kind: Kind, lengths: list[int]
) -> None:
    assert largest_padding_effect(of_each_head[kind], items(tuple(lengths))) <= TOLERANCE


def test_logit_is_the_same_whatever_the_padding_with_the_default_detector() -> None:
    # Deep random weights blow rounding up; in double precision it stays what it is.
    detector = make_detector(DetectorSettings()).double()
    assert isinstance(detector.head, TransformerHead)
    assert detector.head.project[1].in_features == 1536
    assert len(detector.head.blocks) == 4
    assert detector.head.norm.normalized_shape == (512,)
    assert largest_padding_effect(detector, items(side=64)) <= TOLERANCE


def test_frames_are_classified_alone_without_a_transformer(small: MakeDetector) -> None:
    detector, batch = small("frames"), collate(items())
    assert isinstance(detector.head, FrameHead)
    singly = collate(
        [
            replace(item, frames_TCHW=frame[None], seconds_T=torch.zeros(1))
            for item in items()
            for frame in item.frames_TCHW
        ]
    )
    frame_logits_N = detect(detector, singly).logits_B
    detection = detect(detector, batch)
    torch.testing.assert_close(
        detection.frame_logits_BT[batch.mask_BT], frame_logits_N, atol=TOLERANCE, rtol=0
    )
    means = torch.stack([part.mean() for part in frame_logits_N.split(LENGTHS)])
    torch.testing.assert_close(detection.logits_B, means, atol=TOLERANCE, rtol=0)


@given(
    mean=st.tuples(*[st.floats(0, 1)] * 3),
    std=st.tuples(*[st.floats(0.1, 1)] * 3),
    seed=st.integers(0, 2**31),
)
def test_pixels_are_normalised_as_torchvision_does(
    mean: tuple[float, ...], std: tuple[float, ...], seed: int
) -> None:
    detector = Detector(
        DetectorSettings(backbone="test_resnet", transformer=None, pixel_mean=mean, pixel_std=std)
    )
    generator = torch.Generator().manual_seed(seed)
    frames_NCHW = torch.randint(256, (2, 3, 5, 4), generator=generator, dtype=torch.uint8)
    scaled = v2.functional.to_dtype(frames_NCHW, torch.float32, scale=True)
    expected = v2.functional.normalize(scaled, list(mean), list(std))
    torch.testing.assert_close(detector.to_input(frames_NCHW), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("side", [20, 32, 47, 64])
def test_crops_are_resized_as_torchvision_does(small: MakeDetector, side: int) -> None:
    detector = small("frames", input_pixels=32)
    frames_NCHW = items((2,), side=side)[0].frames_TCHW
    resized = v2.functional.resize(frames_NCHW.float(), [32, 32], antialias=True)
    exact = small("frames")
    torch.testing.assert_close(
        detector.to_input(frames_NCHW), exact.to_input(resized), atol=1e-4, rtol=0
    )


def test_crops_are_taken_as_stored_without_a_size(small: MakeDetector) -> None:
    frames_NCHW = items((2,), side=47)[0].frames_TCHW
    assert small("frames").to_input(frames_NCHW).shape == (2, 3, 47, 47)


def test_what_settings_say_of_pixels_is_no_weight(small: MakeDetector) -> None:
    assert not [n for n in small().state_dict() if "mean_C11" in n or "std_C11" in n]


@HEADS
def test_an_ensemble_answers_with_the_mean_of_its_members(small: MakeDetector, kind: Kind) -> None:
    transformer = TransformerSettings(feature_dim=16, depth=1, num_heads=2)
    torch.manual_seed(0)
    ensemble = Ensemble(
        DetectorSettings(
            backbone="test_resnet", transformer=None if kind == "frames" else transformer
        ),
        num_members=3,
    ).eval()
    batch = collate(items())
    found, parts = detect(ensemble, batch), [detect(m, batch) for m in ensemble.members]
    assert float(torch.stack([p.logits_B for p in parts]).std(0).min()) > 100 * TOLERANCE
    for name in ("logits_B", "frame_logits_BT", "frame_weights_BT"):
        mean = np.mean([getattr(part, name).numpy() for part in parts], axis=0)
        np.testing.assert_allclose(getattr(found, name).numpy(), mean, atol=TOLERANCE)


@HEADS
def test_heads_on_one_backbone_answer_as_their_detectors_do(kind: Kind) -> None:
    transformer = TransformerSettings(feature_dim=16, depth=1, num_heads=2)
    settings = DetectorSettings(
        backbone="test_resnet", transformer=None if kind == "frames" else transformer
    )
    torch.manual_seed(0)
    members = [Detector(settings).eval() for _ in range(3)]
    for member in members[1:]:
        member.backbone.load_state_dict(members[0].backbone.state_dict())
    weights = join_members([m.state_dict() for m in members], shares_backbone=True)
    shared = create_ensemble(settings, num_members=3, shares_backbone=True).eval()
    shared.load_state_dict(weights)
    backbone = [name for name in weights if ".backbone." in name]
    assert len(backbone) == len(members[0].backbone.state_dict())
    apart = create_ensemble(settings, num_members=3, shares_backbone=False).eval()
    apart.load_state_dict(join_members([m.state_dict() for m in members], shares_backbone=False))
    batch = collate(items())
    found, expected = detect(shared, batch), detect(apart, batch)
    for name in ("logits_B", "frame_logits_BT", "frame_weights_BT"):
        ours, theirs = getattr(found, name).numpy(), getattr(expected, name).numpy()
        np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)
    assert shared.encode(batch.frames_NCHW).shape[1] * 3 == apart.encode(batch.frames_NCHW).shape[1]


@given(shift=st.integers(-1000, 1000))
def test_shifting_all_times_changes_nothing(of_each_head: dict[str, Detector], shift: int) -> None:
    detector, batch = of_each_head["attention"], collate(items())
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
def test_order_of_items_in_a_batch_changes_nothing(
    of_each_head: dict[str, Detector], order: list[int]
) -> None:
    detector, sequences = of_each_head["attention"], items((3, 7, 5, 1, 7))
    logits = detect(detector, collate(sequences)).logits_B
    mixed = detect(detector, collate([sequences[place] for place in order])).logits_B
    torch.testing.assert_close(mixed, logits[list(order)], atol=TOLERANCE, rtol=0)


def test_no_frame_influences_another_sequence(small: MakeDetector) -> None:
    detector, sequences = small(), items()
    before = detect(detector, collate(sequences)).logits_B
    changed = replace(sequences[1], frames_TCHW=255 - sequences[1].frames_TCHW)
    after = detect(detector, collate([sequences[0], changed, sequences[2]])).logits_B
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]], atol=TOLERANCE, rtol=0)
    assert abs(float(after[1] - before[1])) > 10 * TOLERANCE


@HEADS
def test_each_frame_of_a_sequence_influences_its_logit(small: MakeDetector, kind: Kind) -> None:
    detector, [item] = small(kind), items((6,))
    frames = item.frames_TCHW.float().requires_grad_()
    detector(collate([replace(item, frames_TCHW=frames)])).logits_B.sum().backward()
    assert frames.grad is not None
    assert (frames.grad.flatten(1).abs().amax(1) > 0).all()


def norms(detector: Detector) -> list[_BatchNorm]:
    found = [m for m in detector.backbone.modules() if isinstance(m, _BatchNorm)]
    assert found
    return found


def buffers(detector: Detector) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in detector.named_buffers()}


def step(detector: Detector) -> None:
    """One step of gradient descent, large enough to move every weight that learns."""
    learning = [p for p in detector.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(learning, lr=10.0)
    detection = detector(collate(items()))
    (detection.logits_B.sum() + detection.frame_logits_BT.sum()).backward()
    optimiser.step()


def same(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, bool]:
    return {name: torch.equal(before[name], after[name]) for name in before}


@pytest.mark.parametrize("is_frozen", [True, False])
def test_batch_norm_statistics_move_in_a_training_step_only_if_not_frozen(
    tiny: Any, is_frozen: bool
) -> None:
    detector = Detector(tiny.detector, freeze_batch_norm=is_frozen)
    # Through evaluation and back, as every epoch does.
    detector.eval()
    detector.train()
    before, weights = buffers(detector), dict(detector.named_parameters())
    weights = {name: parameter.detach().clone() for name, parameter in weights.items()}
    step(detector)
    unmoved = same(before, buffers(detector))
    statistics = [name for name in before if name.endswith(("running_mean", "running_var"))]
    assert len(statistics) == 2 * len(norms(detector))
    assert {unmoved[name] for name in statistics} == {is_frozen}
    # Only the statistics are frozen: the norms' own weights learn.
    moved = dict(detector.named_parameters())
    assert not torch.equal(weights["backbone.bn1.weight"], moved["backbone.bn1.weight"])
    assert detector.head.training


def layers_by_timm(backbone: Any) -> list[list[str]]:
    groups = group_parameters(backbone, backbone.group_matcher(coarse=False))
    return [groups[key] for key in sorted(groups)]


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet", "test_vit"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.5, 1.0])
def test_exactly_the_share_of_layers_at_the_output_learns(
    tiny: Any, backbone: str, share: float
) -> None:
    detector = Detector(tiny.detector.model_copy(update={"backbone": backbone}))
    layers = layers_by_timm(detector.backbone)
    assert len(layers) > 3
    detector.train_backbone_share(share)
    num_learning = math.ceil(share * len(layers))
    wanted = {name for layer in layers[len(layers) - num_learning :] for name in layer}
    sizes = {name: p.numel() for name, p in detector.backbone.named_parameters()}
    learning = {n for n, p in detector.backbone.named_parameters() if p.requires_grad}
    assert learning == wanted & sizes.keys()
    count = sum(sizes[name] for name in learning)
    assert (count == 0) == (share == 0)
    assert (count == sum(sizes.values())) == (share == 1)
    assert all(p.requires_grad for p in detector.head.parameters())
    detector.train_backbone_share(1.0)
    assert all(p.requires_grad for p in detector.parameters())


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_what_is_frozen_stays_as_it_is_in_a_training_step(tiny: Any, share: float) -> None:
    torch.manual_seed(0)
    detector = Detector(tiny.detector, freeze_batch_norm=False)
    detector.train_backbone_share(share)
    detector.train()
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    learning = {name for name, p in detector.named_parameters() if p.requires_grad}
    learning_norms = {
        name
        for name, module in detector.named_modules()
        if isinstance(module, _BatchNorm) and f"{name}.weight" in learning
    }
    step(detector)
    for name, is_same in same(before, dict(detector.state_dict())).items():
        owner, _, field = name.rpartition(".")
        if field in ("running_mean", "running_var"):
            # The statistics of a frozen norm are frozen with it.
            assert is_same == (owner not in learning_norms), name
        elif field != "num_batches_tracked" and name not in learning:
            assert is_same, name
    moved = [n for n, is_same in same(before, dict(detector.state_dict())).items() if not is_same]
    assert any(name.startswith("backbone.") for name in moved) == (share > 0)
    assert any(name.startswith("head.") for name in moved)


def gradients(detector: Detector) -> Iterator[tuple[str, Tensor]]:
    detector.train()
    detector(collate(items((3, 5)))).logits_B.sum().backward()
    for name, parameter in detector.named_parameters():
        if parameter.grad is not None:
            yield name, parameter.grad


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet"])
def test_gradient_checkpointing_gives_the_same_gradients(
    small: MakeDetector, backbone: str
) -> None:
    plain = small("frames", backbone=backbone)
    saving = small("frames", backbone=backbone)
    saving.backbone.set_grad_checkpointing(True)
    wanted, found = dict(gradients(plain)), dict(gradients(saving))
    assert wanted.keys() == found.keys()
    assert len([n for n in wanted if n.startswith("backbone.") and wanted[n].any()]) > 10
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-4)


@HEADS
def test_detection_is_close_to_full_precision_under_bfloat16_autocast(
    small: MakeDetector, kind: Kind
) -> None:
    detector, batch = small(kind), collate(items())
    exact = detect(detector, batch)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = detect(detector, batch)
    assert mixed.logits_B.dtype == mixed.frame_logits_BT.dtype == torch.float32
    torch.testing.assert_close(mixed.logits_B, exact.logits_B, atol=0.05, rtol=0)
