"""Turn a rendered face into a fake by pasting another inner face over it, frame by frame."""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import cv2
import numpy as np

from tasks.synthetic.identity import Identity
from tasks.synthetic.render import Light, Pose, RenderedFace, Window, render_face
from tasks.synthetic.shapes import FloatArray, as_float32, blur, mix, sigmoid

FakeKind: TypeAlias = Literal["swap", "mouth", "selfblend"]


@dataclass(frozen=True, kw_only=True)
class _FakeStyle:
    """How a fake is made; lengths are shares of the head's scale.

    The inner resolution (the generator's, relative to the frame's), the colour cast and the
    frame-wise misalignment are the traces that a detector can find.
    """

    cast_rgb: FloatArray
    inner_resolution: float
    opacity: float
    mask_blur: float
    mouth_follow: float


class Faker:
    """Replaces the inner face; holds the random draws that only a fake makes."""

    def __init__(self, *, kind: FakeKind, donor: Identity, rng: np.random.Generator) -> None:
        self._kind = kind
        self._donor = donor
        self._rng = rng
        self._style = _FakeStyle(
            cast_rgb=self._rng.normal(0, 15, 3).astype(np.float32),
            inner_resolution=self._rng.uniform(0.3, 0.5),
            opacity=self._rng.uniform(0.85, 1),
            mask_blur=self._rng.uniform(0.02, 0.045),
            mouth_follow=self._rng.uniform(0.8, 1),
        )

    def apply(self, face: RenderedFace, pose: Pose, light: Light, window: Window) -> FloatArray:
        """Return `face.rgb` (h, w, 3) with the fake inner face blended in."""
        patch, mask = self._patch(face, pose, light, window), face.inner
        if self._kind == "mouth":
            mask = mask * _lower_half(pose, window)
        patch, mask = self._misalign(patch, mask, pose, window)
        patch = _lower_resolution(patch, self._style.inner_resolution)
        mask = blur(mask, self._style.mask_blur * pose.scale_px)
        mask *= self._style.opacity * min(1.0, self._rng.normal(1, 0.05))
        if self._kind != "selfblend":
            patch = _match_color(patch, face.rgb, mask, share=0.6)
        return mix(face.rgb, patch, mask)

    def _patch(self, face: RenderedFace, pose: Pose, light: Light, window: Window) -> FloatArray:
        if self._kind == "selfblend":
            return face.rgb + self._style.cast_rgb
        # A generator follows the driving mouth imperfectly.
        follow = self._style.mouth_follow * self._rng.uniform(0.9, 1)
        driven = replace(pose, mouth_open=pose.mouth_open * follow)
        return render_face(self._donor, driven, light, window).rgb + 0.6 * self._style.cast_rgb

    def _misalign(
        self, patch: FloatArray, mask: FloatArray, pose: Pose, window: Window
    ) -> tuple[FloatArray, FloatArray]:
        """Shift and scale differently in every frame: the flicker of frame-by-frame generators."""
        shift_x, shift_y = self._rng.normal(0, 0.018 * pose.scale_px, 2)
        zoom = self._rng.normal(1, 0.012)
        center_x = pose.center_x_px - window.columns.start
        center_y = pose.center_y_px - window.rows.start
        matrix = np.array(
            [
                [zoom, 0, shift_x + (1 - zoom) * center_x],
                [0, zoom, shift_y + (1 - zoom) * center_y],
            ]
        )
        size = window.shape[::-1]
        moved_patch = cv2.warpAffine(patch, matrix, size, borderMode=cv2.BORDER_REPLICATE)
        moved_mask = cv2.warpAffine(mask, matrix, size)
        return as_float32(moved_patch), as_float32(moved_mask)


def _lower_half(pose: Pose, window: Window) -> FloatArray:
    """Return a soft (h, 1) mask of the rows below the middle of the nose."""
    rows = np.arange(window.rows.start, window.rows.stop, dtype=np.float32)[:, None]
    return sigmoid((rows - pose.center_y_px - 0.12 * pose.scale_px) / (0.055 * pose.scale_px))


def _lower_resolution(image: FloatArray, resolution: float) -> FloatArray:
    """Return `image` (h, w, 3) as if it had been made at `resolution` times its size."""
    height, width = image.shape[:2]
    small = cv2.resize(image, None, fx=resolution, fy=resolution, interpolation=cv2.INTER_AREA)
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return as_float32(large)


def _match_color(
    patch: FloatArray, target: FloatArray, mask: FloatArray, *, share: float
) -> FloatArray:
    """Return `patch` with `share` of the way to the mean colour of `target` under `mask`."""
    gap = np.einsum("hwc,hw->c", target - patch, mask) / (mask.sum() + 1)
    return as_float32(patch + share * gap)
