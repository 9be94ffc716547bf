"""Normalisation and augmentation of crops."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import v2

from models.transforms import augment, normalise

SEEDS = st.integers(0, 2**31)


def pixels(num_frames: int, side: int = 24) -> Tensor:
    generator = torch.Generator().manual_seed(num_frames)
    return torch.randint(0, 256, (num_frames, 3, side, side), generator=generator).to(torch.uint8)


def augmented(crops_TCHW: Tensor, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return augment(crops_TCHW)


@given(seed=SEEDS, num_frames=st.integers(2, 5))
def test_identical_frames_stay_identical_after_augmentation(seed: int, num_frames: int) -> None:
    still = pixels(1).expand(num_frames, -1, -1, -1)
    changed = augmented(still, seed)
    assert torch.equal(changed, changed[:1].expand_as(changed))


@given(seed=SEEDS, num_frames=st.integers(1, 4), side=st.integers(8, 40))
def test_augmentation_keeps_type_shape_and_its_input(seed: int, num_frames: int, side: int) -> None:
    crops = pixels(num_frames, side)
    before = crops.clone()
    changed = augmented(crops, seed)
    assert (type(changed), changed.dtype, changed.shape) == (Tensor, torch.uint8, crops.shape)
    assert torch.equal(crops, before)


def test_augmentation_varies_with_the_random_numbers_and_with_nothing_else() -> None:
    crops = pixels(2)
    results = [augmented(crops, seed) for seed in range(20)]
    assert all(torch.equal(augmented(crops, seed), results[seed]) for seed in range(20))
    assert len({result.numpy().tobytes() for result in results}) == 20


@given(num_frames=st.integers(1, 4), side=st.integers(1, 20))
def test_normalise_equals_torchvision(num_frames: int, side: int) -> None:
    crops = pixels(num_frames, side)
    reference = v2.Compose(
        [
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        ]
    )
    torch.testing.assert_close(normalise(crops), reference(crops), atol=1e-6, rtol=0)


@pytest.mark.parametrize("value", [0, 255])
def test_normalise_uses_the_whole_range_of_a_byte(value: int) -> None:
    flat = torch.full((1, 3, 2, 2), value, dtype=torch.uint8)
    extremes = {0: (0 - 0.485) / 0.229, 255: (1 - 0.485) / 0.229}
    assert normalise(flat)[0, 0, 0, 0].item() == pytest.approx(extremes[value], abs=1e-6)
