"""A fake made of a real sequence alone: the face blended with a slightly changed copy of itself.

The idea is that of self-blended images (Shiohara and Yamasaki, CVPR 2022, arXiv 2204.08376): what
face swaps of all kinds have in common is the seam. Here it is carried over to video: what a swap
would keep over a clip (colours, resolution, place, outline of the seam) is drawn once per sequence,
and what it would lose from frame to frame (shift, scale, brightness) wanders.

It says nothing about fakes without a seam, such as wholly generated ones.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from models.data.face_geometry import FaceAxes
from reelcheck.records import RGB

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class SelfBlend:
    """A fake sequence, and what training needs to learn from it."""

    fake_THWC: RGB
    twin_THWC: RGB
    """The real sequence with the look of the fake: else the look would tell the label."""
    mask_THW: Floats
    """Share of the changed copy in each pixel of the fake, 0 to 1; where it is 0 fake and twin are
    equal."""


class _Region(NamedTuple):
    """An ellipse in coordinates of the face, and how often it is chosen."""

    share: float
    middle_down: float
    half_across: float
    half_down: float


_REGIONS = (
    # The inner face from brows to chin: face swaps.
    _Region(share=0.7, middle_down=0.4, half_across=1.0, half_down=1.1),
    # Below the nose: lip synchronisation.
    _Region(share=0.2, middle_down=1.0, half_across=0.75, half_down=0.6),
    # Brows and eyes: partial swaps, changed gaze.
    _Region(share=0.1, middle_down=0.0, half_across=0.9, half_down=0.45),
)
_NUM_CORNERS = 64
_STRENGTHS = (0.5, 0.75, 1.0, 1.0, 1.0)
"""Shares of the changed copy inside the mask, as in the method for images."""
_LEAST_SHARE = 1 / 255
"""A smaller share would change no pixel by a whole level; the tails of the soft edge end here."""
_WANDER_SHIFT, _WANDER_SCALE, _WANDER_LEVELS = 0.006, 0.006, 2.0
"""Largest standard deviations: in sides, as a share, in grey levels."""
_MAX_RHO = 0.99


def make_self_blend(
    crops_THWC: RGB, keypoints_T62: NDArray[np.float32], generator: np.random.Generator
) -> SelfBlend:
    """Make a fake and its real twin from one real sequence.

    Args:
        crops_THWC: (T, S, S, 3) crops of one face; left as they are.
        keypoints_T62: BlazeFace's key points as fractions of the side. Points that make no face
            are replaced by those of a typical crop.
        generator: source of every random number.
    """
    side = crops_THWC.shape[1]
    assert crops_THWC.shape[1:] == (side, side, 3), crops_THWC.shape
    assert len(keypoints_T62) == len(crops_THWC), (keypoints_T62.shape, crops_THWC.shape)
    looked_THWC = _change_look(crops_THWC, generator)
    if generator.random() < 0.5:
        inner_THWC, outer_THWC = looked_THWC, crops_THWC.copy()
    else:
        inner_THWC, outer_THWC = crops_THWC, looked_THWC
    axes = FaceAxes.locate(keypoints_T62)
    mask_THW = _draw_masks(axes, side, generator)
    moved_THWC = _move(inner_THWC, axes, generator)
    mixed = outer_THWC + mask_THW[..., None] * (moved_THWC - outer_THWC)
    return SelfBlend(
        fake_THWC=np.clip(mixed.round(), 0, 255).astype(np.uint8),
        twin_THWC=outer_THWC,
        mask_THW=mask_THW,
    )


def _change_look(crops_THWC: RGB, generator: np.random.Generator) -> RGB:
    """The same change of colours and of detail on every frame: (T, S, S, 3)."""
    side = crops_THWC.shape[1]
    # Light may differ much, hue little: larger casts look painted, not swapped.
    gain_3 = generator.uniform(0.92, 1.08) * generator.uniform(0.96, 1.04, 3)
    bias_3 = generator.uniform(-10, 10) + generator.uniform(-6, 6, 3)
    gamma = generator.uniform(0.85, 1.18)
    detail = generator.choice(["fewer pixels", "blurred", "sharpened", "kept"])
    amount = generator.uniform()
    levels = np.clip((np.arange(256)[:, None] * gain_3 + bias_3) / 255, 0, 1) ** gamma
    table = (255 * levels).round().astype(np.uint8)
    changed_THWC = np.stack([table[:, c][crops_THWC[..., c]] for c in range(3)], axis=-1)
    for frame_HWC in changed_THWC:
        if detail == "fewer pixels":
            small = max(8, round((0.75 - 0.4 * amount) * side))
            shrunk = cv2.resize(frame_HWC, (small, small), interpolation=cv2.INTER_AREA)
            cv2.resize(shrunk, (side, side), dst=frame_HWC, interpolation=cv2.INTER_LINEAR)
        elif detail == "blurred":
            cv2.GaussianBlur(frame_HWC, (0, 0), (0.005 + 0.007 * amount) * side, dst=frame_HWC)
        elif detail == "sharpened":
            soft = cv2.GaussianBlur(frame_HWC, (0, 0), 0.01 * side)
            weight = 0.3 + 0.5 * amount
            cv2.addWeighted(frame_HWC, 1 + weight, soft, -weight, 0, dst=frame_HWC)
    return changed_THWC


def _draw_masks(axes: FaceAxes, side: int, generator: np.random.Generator) -> Floats:
    """(T, S, S): one outline for the sequence, that follows the face, with a soft edge."""
    shares = [region.share for region in _REGIONS]
    region = _REGIONS[generator.choice(len(_REGIONS), p=shares)]
    shape_P2 = _draw_outline(region, generator)
    softness = np.exp(generator.uniform(np.log(0.03), np.log(0.25)))
    strength = generator.choice(_STRENGTHS)
    radii = (
        region.half_across * np.linalg.norm(axes.across_T2, axis=1),
        region.half_down * np.linalg.norm(axes.down_T2, axis=1),
    )
    sigma_pixels = softness * float(np.median(np.minimum(*radii))) * side
    masks_THW = axes.draw_masks(shape_P2, side=side)
    for mask_HW in masks_THW:
        cv2.GaussianBlur(mask_HW, (0, 0), sigma_pixels, dst=mask_HW)
    share_THW = np.clip(strength * masks_THW, 0, 1)
    return np.where(share_THW < _LEAST_SHARE, 0, share_THW).astype(np.float32)


def _draw_outline(region: _Region, generator: np.random.Generator) -> Floats:
    """(P, 2) in coordinates of the face: from ellipse to rounded box, dented, larger or smaller."""
    angle_P = np.linspace(0, 2 * np.pi, _NUM_CORNERS, endpoint=False)
    power = generator.uniform(2, 4)
    growth = generator.uniform(0.8, 1.08)
    order_K = np.arange(2, 6)
    height_K = generator.normal(0, 0.03, len(order_K))
    phase_K = generator.uniform(0, 2 * np.pi, len(order_K))
    dents_P = (height_K * np.cos(angle_P[:, None] * order_K + phase_K)).sum(1)
    circle_P2 = np.stack([np.cos(angle_P), np.sin(angle_P)], axis=1)
    rounded_P2 = np.sign(circle_P2) * np.abs(circle_P2) ** (2 / power)
    radius_P = growth * (1 + dents_P)
    radii_2 = np.array([region.half_across, region.half_down])
    middle_2 = np.array([0, region.middle_down])
    return np.asarray(middle_2 + radius_P[:, None] * rounded_P2 * radii_2, np.float32)


def _move(crops_THWC: RGB, axes: FaceAxes, generator: np.random.Generator) -> Floats:
    """(T, S, S, 3) float: the face out of place, out of shape and wandering a little."""
    num_frames, side = crops_THWC.shape[:2]
    shift_2 = generator.uniform((-0.03, -0.02), (0.03, 0.02))
    scale, degrees = generator.uniform(0.95, 1.05), generator.uniform(-2, 2)
    bend_552 = generator.normal(0, generator.uniform(0, 0.012) * side, (5, 5, 2)).astype(np.float32)
    bend_HW2 = cv2.resize(bend_552, (side, side), interpolation=cv2.INTER_CUBIC)
    wander_T4 = _wander(num_frames, generator)
    grid_HW2 = np.stack(np.meshgrid(*[np.arange(side, dtype=np.float32)] * 2), axis=-1)
    middle_T2 = (axes.eyes_T2 + 0.4 * axes.down_T2) * side - 0.5
    moved_THWC = np.empty(crops_THWC.shape, np.float32)
    for t, wander_4 in enumerate(wander_T4):
        x, y = middle_T2[t].tolist()
        forward_23 = cv2.getRotationMatrix2D((x, y), degrees, scale + wander_4[2])
        forward_23[:, 2] += (shift_2 + wander_4[:2]) * side
        back_23 = np.asarray(cv2.invertAffineTransform(forward_23), np.float32)
        where_HW2 = grid_HW2 @ back_23[:, :2].T + back_23[:, 2] + bend_HW2
        moved_THWC[t] = wander_4[3] + cv2.remap(
            crops_THWC[t].astype(np.float32),
            where_HW2[..., 0],
            where_HW2[..., 1],
            cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REFLECT_101,
        )
    return np.clip(moved_THWC, 0, 255)


def _wander(num_frames: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """(T, 4): shift in x and y, scale and brightness that come and go.

    First-order autoregression, stationary from the first frame: with rho 0 it flickers, near 1 it
    hardly moves.
    """
    rho, amount = generator.uniform(0, _MAX_RHO), generator.uniform()
    most_4 = np.array([_WANDER_SHIFT, _WANDER_SHIFT, _WANDER_SCALE, _WANDER_LEVELS])
    wander_T4: NDArray[np.float64] = generator.normal(0, 1, (num_frames, 4)) * amount * most_4
    for t in range(1, num_frames):
        wander_T4[t] = rho * wander_T4[t - 1] + np.sqrt(1 - rho**2) * wander_T4[t]
    return wander_T4
