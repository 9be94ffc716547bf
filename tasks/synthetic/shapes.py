"""The canonical face grid and the soft shapes that faces are drawn with.

A face is drawn on a square grid of `GRID_PX` x `GRID_PX` samples in canonical coordinates: x to the
right, y down, both from -`GRID_EXTENT` to `GRID_EXTENT`. The head is about one unit from its centre
to the chin. All fields are float32: float64 would double the cost of every frame.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray: TypeAlias = NDArray[np.float32]

GRID_PX: Final = 176
GRID_EXTENT: Final = 1.35
GRID_PX_PER_UNIT: Final = (GRID_PX - 1) / (2 * GRID_EXTENT)

_AXIS: Final[FloatArray] = np.linspace(-GRID_EXTENT, GRID_EXTENT, GRID_PX, dtype=np.float32)
GRID_X: Final[FloatArray] = np.ascontiguousarray(np.broadcast_to(_AXIS[None, :], (GRID_PX,) * 2))
GRID_Y: Final[FloatArray] = np.ascontiguousarray(np.broadcast_to(_AXIS[:, None], (GRID_PX,) * 2))


def make_generator(seed: int, stream: int) -> np.random.Generator:
    """Return one of several independent generators of a seed.

    Separate streams keep the draws of one concern (say, the fake's blending) from shifting those of
    another (say, the sensor noise), which is what makes real and fake twins comparable.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream,)))


def as_float32(values: ArrayLike) -> FloatArray:
    """Return `values` as a float32 array, without a copy where they are one already."""
    return np.asarray(values, dtype=np.float32)


def sigmoid(x: ArrayLike) -> FloatArray:
    """Return the logistic function of `x`, element by element: the profile of every soft edge."""
    return as_float32(1.0 / (1.0 + np.exp(-np.clip(as_float32(x), -30.0, 30.0))))


def bump(
    x: FloatArray, y: FloatArray, *, width: float, height: float, power: int = 2
) -> FloatArray:
    """Return a hill of height 1 around the origin, falling to 1/e at `width` and at `height`.

    A `power` above 2 gives it a flatter top and steeper sides.
    """
    falloff = np.abs(x / width) ** power + np.abs(y / height) ** power
    return as_float32(np.exp(-falloff))


def grid_bump(center: tuple[float, float], width: float, height: float) -> FloatArray:
    """Return `bump` on the whole canonical grid, around `center` (x, y): (GRID_PX, GRID_PX)."""
    return bump(GRID_X - center[0], GRID_Y - center[1], width=width, height=height)


def slice_grid(left: float, right: float, top: float, bottom: float) -> tuple[slice, slice]:
    """Return the (rows, columns) of the grid that cover a rectangle in canonical coordinates."""

    def sample(value: float) -> int:
        return int(np.clip(round((value + GRID_EXTENT) * GRID_PX_PER_UNIT), 0, GRID_PX))

    return slice(sample(top), sample(bottom)), slice(sample(left), sample(right))


def draw_smooth_noise(
    rng: np.random.Generator, *, shape: tuple[int, int, int], cells: Sequence[int]
) -> FloatArray:
    """Return noise of several octaves.

    Args:
        rng: Source of the random draws.
        shape: (height, width, channels) of the result.
        cells: Number of noise cells along each side, one entry per octave; the k-th octave (from 1)
            has a standard deviation of about 1 / k.

    Returns:
        Float32 of the given shape, mean about 0.
    """
    height, width, channels = shape
    total = np.zeros(shape, np.float32)
    for octave, count in enumerate(cells, start=1):
        coarse = rng.standard_normal((count, count, channels), dtype=np.float32)
        fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        total += as_float32(fine).reshape(shape) / octave
    return total


def mix(base: FloatArray, top: FloatArray, weight: FloatArray) -> FloatArray:
    """Lay colours `top` over `base` (..., 3) with an opacity `weight` (...) between 0 and 1."""
    opacity = weight[..., None]
    return as_float32(base + (top - base) * opacity)


def blur(image: FloatArray, sigma_px: float) -> FloatArray:
    """Return `image`, of one or three channels, blurred by a Gaussian of `sigma_px` pixels."""
    return as_float32(cv2.GaussianBlur(image, (0, 0), sigma_px))
