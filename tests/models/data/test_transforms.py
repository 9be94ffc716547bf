"""Random changes to training sequences."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from models.data.face_geometry import FaceAxes
from models.data.transforms import augment
from reelcheck.train_config import AugmentSettings

SEEDS = st.integers(0, 2**63 - 1)
NAMES = tuple(AugmentSettings.model_fields)
FACE = np.float32([(0.34, 0.36), (0.66, 0.36), (0.5, 0.55), (0.5, 0.7), (0.2, 0.43), (0.8, 0.43)])
EYES, NOSE, MOUTH = (0, 0), (0, 0.5), (0, 1)
NEVER = dict.fromkeys(NAMES, 0.0)


def noisy(num_frames: int, side: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(num_frames)
    return torch.randint(256, (num_frames, 3, side, side), generator=generator, dtype=torch.uint8)


def smooth(num_frames: int, side: int = 64) -> Tensor:
    """Frames of soft blobs, each unlike the others."""
    rng = np.random.default_rng(num_frames)
    blobs = rng.normal(128, 250, (num_frames, side, side, 3)).astype(np.float32)
    soft = np.stack([cv2.GaussianBlur(frame, (0, 0), 4) for frame in blobs])
    return torch.from_numpy(np.clip(soft, 0, 255).astype(np.uint8)).permute(0, 3, 1, 2)


def still(num_frames: int, side: int = 64) -> Tensor:
    return smooth(1, side).expand(num_frames, -1, -1, -1)


def changed(
    crops: Tensor, *names: str, seed: int = 0, face: NDArray[np.float32] | None = FACE
) -> Tensor:
    """The crops after these changes and no other."""
    keypoints = None if face is None else np.broadcast_to(face, (len(crops), 6, 2))
    settings = AugmentSettings(**{**NEVER, **dict.fromkeys(names, 1.0)})
    return augment(crops, settings, keypoints_T62=keypoints, seed=seed)


def means(crops: Tensor) -> Tensor:
    return crops.float().mean((0, 2, 3))


# Every change


@pytest.mark.parametrize("name", NAMES)
@given(seed=SEEDS, num_frames=st.integers(1, 3), side=st.integers(32, 47))
def test_type_and_shape_stay_and_the_input_is_left_alone(
    name: str, seed: int, num_frames: int, side: int
) -> None:
    crops = noisy(num_frames, side)
    before = crops.clone()
    result = changed(crops, name, seed=seed)
    assert (type(result), result.dtype, result.shape) == (Tensor, torch.uint8, crops.shape)
    assert torch.equal(crops, before)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in {"noise", "codec"}])
@given(seed=SEEDS)
def test_what_happens_to_a_frame_does_not_depend_on_its_neighbours(name: str, seed: int) -> None:
    # Equal means, because cutout may fill with the mean colour of the sequence.
    crops = torch.cat([smooth(1), smooth(1).flip(-2), smooth(1).transpose(-1, -2)])
    together = changed(crops, name, seed=seed)
    alone = torch.cat([changed(frame[None], name, seed=seed) for frame in crops])
    assert torch.equal(together, alone)


@given(seed=SEEDS)
def test_without_changes_the_crops_stay(seed: int) -> None:
    crops = noisy(2)
    assert torch.equal(changed(crops, seed=seed), noisy(2))


def test_everything_follows_from_the_seed_and_nothing_else() -> None:
    crops = noisy(2)
    results = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        state = torch.get_rng_state()
        results.append([changed(crops, *NAMES, seed=seed) for seed in range(20)])
        assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first, second) for first, second in zip(*results, strict=True))
    assert len({result.numpy().tobytes() for result in results[0]}) == 20


@given(seed=SEEDS)
def test_twin_without_key_points_is_changed_alike_beside_the_cutout(seed: int) -> None:
    crops = noisy(1, 128)
    with_cutout = changed(crops, "cutout", "brightness", seed=seed)
    without = changed(crops, "cutout", "brightness", seed=seed, face=None)
    shown = torch.from_numpy(~hidden(seed))
    assert torch.equal(with_cutout[:, :, shown], without[:, :, shown])


@pytest.mark.parametrize("name", NAMES)
def test_changes_are_as_frequent_as_set(name: str) -> None:
    crops = noisy(1, 112)
    settings = AugmentSettings(**{**NEVER, name: 0.3})
    num_changed = sum(
        not torch.equal(augment(crops, settings, keypoints_T62=FACE[None], seed=seed), crops)
        for seed in range(300)
    )
    assert 58 < num_changed < 122  # 90 is expected; 4 standard deviations of a binomial


# One by one


def test_flip_is_an_exact_mirror() -> None:
    crops = noisy(3, 33)
    assert torch.equal(changed(crops, "flip"), crops.flip(-1))


@given(seed=SEEDS)
def test_rotation_turns_about_the_middle_by_15_degrees_at_most(seed: int) -> None:
    y, x = torch.meshgrid(torch.arange(65) - 32.0, torch.arange(65) - 32.0, indexing="ij")
    spot = 255 * (torch.hypot(x - 20, y) < 4).to(torch.uint8).expand(1, 3, 65, 65)
    weight = changed(spot, "rotation", seed=seed)[0, 0].float()
    x_mean, y_mean = (weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()
    assert torch.hypot(x_mean, y_mean).item() == pytest.approx(20, abs=0.5)
    assert abs(torch.rad2deg(torch.atan2(y_mean, x_mean)).item()) < 16


@given(seed=SEEDS)
def test_crop_enlarges_a_part_of_at_least_four_fifths_of_the_side(seed: int) -> None:
    ramp = torch.arange(0, 256, 2, dtype=torch.uint8).repeat(128, 1)
    crops = torch.stack([ramp, ramp.T, torch.zeros_like(ramp)])[None]
    result = changed(crops, "crop", seed=seed)[0].int()
    across, down = result[0].float().mean(0), result[1].float().mean(1)
    for line in (across, down):
        assert (line.diff() >= -0.01).all()
        assert 0.77 < (line[-1] - line[0]).item() / 254 <= 1.001
    assert (across[-1] - across[0]).item() == pytest.approx((down[-1] - down[0]).item(), abs=8)


@pytest.mark.parametrize("name", ["brightness", "contrast"])
@given(seed=SEEDS)
def test_brightness_and_contrast_keep_the_order_of_levels(name: str, seed: int) -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(1, 3, -1, -1)
    result = changed(levels, name, seed=seed)
    assert (result.reshape(3, 256).int().diff() >= 0).all()
    middle = result[0, 0].flatten()[64:192].float()
    slope = ((middle[-1] - middle[0]) / 127).item()
    assert 0.78 < slope < 1.22
    fixed = {"brightness": 0, "contrast": 127}[name]
    assert abs(result.flatten()[fixed].item() - fixed) <= 1


@given(seed=SEEDS)
def test_noise_differs_between_frames_and_is_as_strong_on_all(seed: int) -> None:
    grey = torch.full((4, 3, 48, 48), 128, dtype=torch.uint8)
    grain = changed(grey, "noise", seed=seed).float() - 128
    strength = grain.std((1, 2, 3))
    assert strength.min() > 0.9
    assert strength.max() < 10.5
    assert (strength.max() / strength.min()).item() < 1.1
    assert grain.mean().abs() < 0.5
    assert torch.corrcoef(grain.flatten(1)).fill_diagonal_(0).abs().max() < 0.1


@given(seed=SEEDS)
def test_blur_takes_detail_and_leaves_colour(seed: int) -> None:
    crops = noisy(1, 112)
    result = changed(crops, "blur", seed=seed)
    assert result.float().std() < crops.float().std()
    torch.testing.assert_close(means(result), means(crops), atol=1.0, rtol=0)
    flat = torch.full_like(crops, 77)
    assert torch.equal(changed(flat, "blur", seed=seed), flat)


@pytest.mark.parametrize("name", ["jpeg", "codec"])
@pytest.mark.parametrize("side", [63, 64])
@given(seed=SEEDS)
def test_compression_keeps_the_picture_nearly(name: str, side: int, seed: int) -> None:
    crops = smooth(3, side)
    result = changed(crops, name, seed=seed)
    torch.testing.assert_close(means(result), means(crops), atol=2.5, rtol=0)
    error = (result.float() - crops.float()).abs().mean((1, 2, 3))
    other = (result.float() - crops.roll(1, 0).float()).abs().mean((1, 2, 3))
    assert (error < 12).all()
    assert (error < other).all()  # each frame came back in its own place


@given(seed=SEEDS)
def test_still_sequence_stays_nearly_still_through_the_codec(seed: int) -> None:
    result = changed(still(6), "codec", seed=seed).float()
    assert result.diff(dim=0).abs().mean() < 1.5


def test_codec_strength_varies() -> None:
    crops = smooth(2)
    errors = [
        (changed(crops, "codec", seed=seed).float() - crops.float()).abs().mean().item()
        for seed in range(30)
    ]
    assert max(errors) > 2 * min(errors)


# Cutout


def hidden(seed: int, face: NDArray[np.float32] = FACE) -> NDArray[np.bool_]:
    """(S, S): where a crop of noise is not as it was."""
    crops = noisy(1, 128)
    return (changed(crops, "cutout", seed=seed, face=face) != crops).any(1)[0].numpy()


def at(picture: NDArray[np.bool_], place: tuple[float, float]) -> bool:
    """The value at a place in coordinates of the face."""
    x, y = FaceAxes.locate(FACE[None]).move_to_crop(np.float32([place]))[0, 0] * len(picture)
    return bool(picture[int(y), int(x)])


def test_cutout_hides_eyes_nose_mouth_or_half_of_the_face() -> None:
    parts = {tuple(at(hidden(seed), place) for place in (EYES, NOSE, MOUTH)) for seed in range(60)}
    assert {(True, False, False), (False, True, False), (False, False, True)} <= parts
    sizes = [hidden(seed).mean() for seed in range(60)]
    assert min(sizes) > 0.02
    assert 0.2 < max(sizes) < 0.35


@given(seed=SEEDS)
def test_cutout_touches_nothing_but_the_face(seed: int) -> None:
    angle = np.linspace(0, 2 * np.pi, 60)
    whole = np.stack([1.15 * np.cos(angle), 0.4 + 1.3 * np.sin(angle)], axis=1).astype(np.float32)
    face = FaceAxes.locate(FACE[None]).draw_masks(whole, side=128)[0] > 0
    assert not (hidden(seed) & ~face).any()


@given(seed=SEEDS)
def test_nothing_of_what_is_hidden_can_be_told(seed: int) -> None:
    crops, where = noisy(1, 128), torch.from_numpy(hidden(seed))
    shuffled = crops.clone()
    # The mean colour stays.
    shuffled[:, :, where] = crops[:, :, where].flip(-1)
    assert not torch.equal(shuffled, crops)
    assert torch.equal(changed(shuffled, "cutout", seed=seed), changed(crops, "cutout", seed=seed))


@given(seed=SEEDS)
def test_cutout_follows_the_face_from_frame_to_frame(seed: int) -> None:
    small = np.round((0.5 + 0.5 * (FACE - 0.5)) * 128) / 128
    face = np.stack([small, small + np.array([16, -8]) / 128]).astype(np.float32)
    crops = noisy(1, 128).expand(2, -1, -1, -1)
    first, second = (changed(crops, "cutout", seed=seed, face=face) != crops).any(1)
    moved = first.roll((-8, 16), (0, 1))
    assert moved.any()
    # A hidden pixel may have the colour of its cover.
    assert (moved != second).float().mean() < 1e-3


def test_covers_are_black_the_mean_colour_or_noise() -> None:
    crops = smooth(1, 128)
    covers = set()
    for seed in range(30):
        where = torch.from_numpy(hidden(seed))
        cover = changed(crops, "cutout", seed=seed)[0][:, where].float()
        if cover.std(1).max() > 50:
            covers.add("noise")
        elif cover.max() == 0:
            covers.add("black")
        elif torch.allclose(cover, means(crops)[:, None], atol=0.6):
            covers.add("mean")
        else:
            covers.add("unknown")
    assert covers == {"noise", "black", "mean"}


def test_cutout_moves_with_a_flipped_face() -> None:
    crops = noisy(1, 64)
    for seed in range(20):
        both = changed(crops, "cutout", "flip", seed=seed)
        assert torch.equal(both, changed(crops, "cutout", seed=seed).flip(-1))
