"""Draw one face in one pose: eyes and mouth, light, and a small turn in three dimensions."""

from dataclasses import dataclass
from typing import Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.synthetic.identity import FaceStills, Identity, Rgb, build_stills
from tasks.synthetic.shapes import (
    GRID_EXTENT,
    GRID_PX_PER_UNIT,
    GRID_X,
    GRID_Y,
    FloatArray,
    as_float32,
    bump,
    mix,
    sigmoid,
    slice_grid,
)

_EYE_WHITE: Final = as_float32([232, 228, 224])
_PUPIL: Final = as_float32([12, 12, 12])
_GLINT: Final = 200.0
_MOUTH_INSIDE: Final = as_float32([60, 25, 25])
_TEETH: Final = 140.0
_SPECULAR: Final = 34.0
# The farthest that any opaque part of a turned head reaches from its centre.
_HEAD_REACH: Final = 1.45
# Two fixed-point steps bring the parallax of the head's relief well below one pixel.
_PARALLAX_STEPS: Final = 2

_Maps: TypeAlias = tuple[FloatArray, FloatArray]


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Where a head is in the frame and what its face does.

    Attributes:
        yaw_rad: Turn to the side.
        pitch_rad: Nod.
        roll_rad: Tilt in the image plane.
        center_x_px: Column of the head's centre.
        center_y_px: Row of the head's centre.
        scale_px: Pixels per canonical unit (head centre to chin).
        blink: 0 for open eyes, 1 for closed ones.
        mouth_open: 0 to 1.
        gaze: -1 (left) to 1 (right).
        smile: 0 to 1.
    """

    yaw_rad: float
    pitch_rad: float
    roll_rad: float
    center_x_px: float
    center_y_px: float
    scale_px: float
    blink: float
    mouth_open: float
    gaze: float
    smile: float


@dataclass(frozen=True, kw_only=True)
class Light:
    """One distant lamp and a share of light from everywhere; `direction` points to the lamp."""

    direction: tuple[float, float, float]
    ambient: float
    diffuse: float
    tint_rgb: Rgb


@dataclass(frozen=True, kw_only=True)
class Window:
    """The part of a frame that a head can touch, in pixels; only this part is rendered."""

    rows: slice
    columns: slice

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


@dataclass(frozen=True, kw_only=True)
class RenderedFace:
    """A lit face inside a `Window` of h x w pixels.

    Attributes:
        rgb: (h, w, 3) colours, about 0 to 255, not clipped.
        matte: (h, w) opacity of the head, 0 to 1.
        inner: (h, w) the part of the face that a fake replaces, 0 to 1.
    """

    rgb: FloatArray
    matte: FloatArray
    inner: FloatArray


def locate_head(pose: Pose, *, height_px: int, width_px: int) -> Window:
    """Return the part of a `height_px` x `width_px` frame that the head in `pose` may cover."""
    reach_px = _HEAD_REACH * pose.scale_px

    def span(center_px: float, limit_px: int) -> slice:
        start = int(np.clip(np.floor(center_px - reach_px), 0, limit_px - 1))
        return slice(start, int(np.clip(np.ceil(center_px + reach_px), start + 1, limit_px)))

    return Window(rows=span(pose.center_y_px, height_px), columns=span(pose.center_x_px, width_px))


def render_face(identity: Identity, pose: Pose, light: Light, window: Window) -> RenderedFace:
    """Render the face of `identity` into `window`; pure, so equal arguments give equal pixels."""
    stills = build_stills(identity)
    albedo, height = stills.albedo.copy(), stills.height.copy()
    for side in (-1.0, 1.0):
        _draw_eye(identity, pose, side * identity.eye_x, albedo)
    _draw_mouth(identity, pose, albedo, height)
    lit = _shade(albedo, height, stills, light)
    maps = _canonical_maps(height, pose, window)
    masks = _sample(stills.masks, maps)
    return RenderedFace(rgb=_sample(lit, maps), matte=masks[..., 0], inner=masks[..., 1])


def _draw_eye(identity: Identity, pose: Pose, eye_x: float, albedo: FloatArray) -> None:
    """Draw one eye into `albedo`, in place and in its own small rectangle."""
    eye_y, half_width = identity.eye_y, identity.eye_half_width
    area = slice_grid(eye_x - 0.22, eye_x + 0.22, eye_y - 0.16, eye_y + 0.14)
    x, y = GRID_X[area] - eye_x, GRID_Y[area] - eye_y
    half_opening = max(identity.eye_half_opening * (1 - pose.blink), 0.006)

    gaze_radius = np.hypot(x - pose.gaze * 0.04, y)
    eye = mix(_EYE_WHITE, as_float32(identity.iris_rgb), sigmoid((1 - gaze_radius / 0.062) * 14))
    eye = mix(eye, _PUPIL, sigmoid((1 - gaze_radius / 0.026) * 9))
    eye += _GLINT * bump(x - 0.02, y + 0.022, width=0.014, height=0.014)[..., None]

    between_lids = sigmoid((1 - np.hypot(x / half_width, y / half_opening)) * 9)
    lid_y = -half_opening * np.sqrt(np.clip(1 - (x / half_width) ** 2, 0, 1))
    lashes = np.exp(-(((y - lid_y) / 0.018) ** 2)) * (np.abs(x) < half_width * 1.05)
    albedo[area] = mix(albedo[area], eye, between_lids) * (1 - 0.75 * lashes[..., None])


def _draw_mouth(identity: Identity, pose: Pose, albedo: FloatArray, height: FloatArray) -> None:
    """Draw lips, teeth and the mouth's opening into `albedo` and `height`, in place."""
    mouth_y = identity.mouth_y
    area = slice_grid(-0.5, 0.5, mouth_y - 0.3, mouth_y + 0.3)
    x = GRID_X[area]
    y = GRID_Y[area] - mouth_y + pose.smile * 0.5 * x**2
    half_width = identity.mouth_half_width * (1 + 0.2 * pose.smile)
    half_gap = 0.012 + 0.1 * pose.mouth_open
    profile = np.sqrt(np.clip(1 - (x / half_width) ** 2, 0, 1))

    lip_reach = (identity.lip_thickness + half_gap * 0.6) * profile + 1e-3
    lips = np.exp(-((np.abs(y) / lip_reach) ** 4)) * (np.abs(x) < half_width)
    gap = sigmoid((half_gap * profile - np.abs(y)) * 120) * (np.abs(x) < half_width * 0.95)
    teeth = np.exp(-(((y + half_gap * 0.5) / 0.025) ** 2))
    inside = _MOUTH_INSIDE + _TEETH * pose.mouth_open * teeth[..., None]

    with_lips = mix(albedo[area], as_float32(identity.lip_rgb), 0.9 * lips)
    albedo[area] = mix(with_lips, as_float32(inside), gap)
    height[area] += 0.04 * lips - 0.05 * gap


def _shade(albedo: FloatArray, height: FloatArray, stills: FaceStills, light: Light) -> FloatArray:
    """Return the lit colours (Lambert plus a specular highlight) on the canonical grid."""
    # A Sobel kernel sums to 8 grid steps, hence the factor that gives slopes per canonical unit.
    slope_x = as_float32(cv2.Sobel(height, -1, 1, 0, scale=GRID_PX_PER_UNIT / 8))
    slope_y = as_float32(cv2.Sobel(height, -1, 0, 1, scale=GRID_PX_PER_UNIT / 8))
    norm = np.sqrt(slope_x * slope_x + slope_y * slope_y + 1)

    def facing(direction: NDArray[np.float64]) -> FloatArray:
        x, y, z = (float(value) for value in direction / np.linalg.norm(direction))
        return as_float32(np.maximum((z - slope_x * x - slope_y * y) / norm, 0))

    to_lamp = np.array(light.direction)
    to_lamp /= np.linalg.norm(to_lamp)
    brightness = light.ambient + light.diffuse * facing(to_lamp)
    # Repeated products: a general power is several times slower.
    gloss = facing(to_lamp + np.array([0.0, 0.0, 1.0]))
    gloss = gloss * gloss * gloss
    gloss = gloss * gloss
    gloss = gloss * gloss
    gloss = gloss * gloss * (_SPECULAR * stills.masks[..., 0])
    lit = albedo * as_float32(light.tint_rgb) * brightness[..., None] + gloss[..., None]
    return as_float32(lit)


def _canonical_maps(height: FloatArray, pose: Pose, window: Window) -> _Maps:
    """Return for every pixel of `window` the grid column and row that it shows."""
    columns = np.arange(window.columns.start, window.columns.stop, dtype=np.float32)[None, :]
    rows = np.arange(window.rows.start, window.rows.stop, dtype=np.float32)[:, None]
    x_image = (columns - pose.center_x_px) / pose.scale_px
    y_image = (rows - pose.center_y_px) / pose.scale_px
    cos_roll, sin_roll = float(np.cos(pose.roll_rad)), float(np.sin(pose.roll_rad))
    cos_yaw, cos_pitch = float(np.cos(pose.yaw_rad)), float(np.cos(pose.pitch_rad))
    # Straight to grid samples: the same affine map for a point of height 0, then its parallax.
    to_columns, to_rows = GRID_PX_PER_UNIT / cos_yaw, GRID_PX_PER_UNIT / cos_pitch
    origin = GRID_EXTENT * GRID_PX_PER_UNIT
    flat_columns = (cos_roll * x_image + sin_roll * y_image) * to_columns + origin
    flat_rows = (cos_roll * y_image - sin_roll * x_image) * to_rows + origin
    column_parallax = float(np.sin(pose.yaw_rad)) * to_columns
    row_parallax = float(np.sin(pose.pitch_rad)) * to_rows

    maps = as_float32(flat_columns), as_float32(flat_rows)
    for _ in range(_PARALLAX_STEPS):
        elevation = _sample(height, maps)
        shifted_columns = flat_columns - elevation * column_parallax
        maps = as_float32(shifted_columns), as_float32(flat_rows - elevation * row_parallax)
    return maps


def _sample(field: FloatArray, maps: _Maps) -> FloatArray:
    """Return `field` looked up at fractional (columns, rows); 0 outside the grid."""
    sampled = cv2.remap(field, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return as_float32(sampled)
