"""Who a synthetic face is: its parameters, and the parts of it that never move."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tasks.synthetic.shapes import (
    GRID_PX,
    GRID_X,
    GRID_Y,
    FloatArray,
    as_float32,
    bump,
    draw_smooth_noise,
    grid_bump,
    make_generator,
    mix,
    sigmoid,
)

Rgb: TypeAlias = tuple[float, float, float]

_SKIN_TONES: Final[tuple[Rgb, ...]] = (
    (255, 224, 196),
    (240, 200, 168),
    (224, 172, 128),
    (198, 134, 92),
    (141, 90, 58),
    (92, 58, 40),
)
_HAIR_TONES: Final[tuple[Rgb, ...]] = ((25, 20, 18), (70, 45, 25), (120, 85, 45), (150, 140, 130))
_IRIS_TONES: Final[tuple[Rgb, ...]] = ((60, 40, 25), (70, 95, 120), (80, 95, 60))
_HAIR_ENDS_Y: Final = (-0.15, 0.35, 0.75)
_SIDES: Final = (-1.0, 1.0)

_PARAMETER_STREAM: Final = 0
_TEXTURE_STREAM: Final = 1


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A person's facial parameters.

    Lengths and positions are in canonical units (head centre to chin is about 1, y down), colours
    are RGB from 0 to 255.
    """

    seed: int
    head_half_width: float
    jaw_taper: float
    eye_x: float
    eye_y: float
    eye_half_width: float
    eye_half_opening: float
    brow_thickness: float
    brow_lift: float
    brow_slope: float
    nose_half_width: float
    nose_length: float
    nose_y: float
    mouth_y: float
    mouth_half_width: float
    lip_thickness: float
    hairline_y: float
    hair_end_y: float
    beard: float
    skin_rgb: Rgb
    lip_rgb: Rgb
    hair_rgb: Rgb
    iris_rgb: Rgb


@dataclass(frozen=True, kw_only=True)
class FaceStills:
    """The parts of a face that do not move, on the canonical grid.

    Attributes:
        albedo: (GRID_PX, GRID_PX, 3) unlit RGB colours, 0 to 255.
        height: (GRID_PX, GRID_PX) elevation towards the viewer in canonical units.
        masks: (GRID_PX, GRID_PX, 2) opacity of the whole head, and of the inner face that a fake
            replaces; both 0 to 1.
    """

    albedo: FloatArray
    height: FloatArray
    masks: FloatArray


def draw_identity(seed: int) -> Identity:
    """Return the person that belongs to `seed`; different seeds give different faces."""
    rng = make_generator(seed, _PARAMETER_STREAM)
    uniform = rng.uniform
    skin = np.array(_SKIN_TONES[rng.integers(len(_SKIN_TONES))]) * uniform(0.92, 1.05)
    skin += rng.normal(0, 4, 3)
    has_beard = uniform() < 0.4
    return Identity(
        seed=seed,
        head_half_width=uniform(0.72, 0.86),
        jaw_taper=uniform(0.02, 0.2),
        eye_x=uniform(0.29, 0.36),
        eye_y=uniform(-0.22, -0.14),
        eye_half_width=uniform(0.115, 0.15),
        eye_half_opening=uniform(0.055, 0.075),
        brow_thickness=uniform(0.03, 0.055),
        brow_lift=uniform(0.16, 0.21),
        brow_slope=uniform(-0.25, 0.12),
        nose_half_width=uniform(0.1, 0.16),
        nose_length=uniform(0.3, 0.4),
        nose_y=uniform(0.2, 0.27),
        mouth_y=uniform(0.52, 0.6),
        mouth_half_width=uniform(0.22, 0.31),
        lip_thickness=uniform(0.045, 0.08),
        hairline_y=uniform(-0.85, -0.62),
        hair_end_y=_HAIR_ENDS_Y[rng.integers(len(_HAIR_ENDS_Y))],
        beard=uniform(0.1, 0.35) if has_beard else 0.0,
        skin_rgb=_convert_to_rgb(skin),
        lip_rgb=_convert_to_rgb(skin * (0.86, 0.55, 0.55) + uniform(-8, 8)),
        hair_rgb=_HAIR_TONES[rng.integers(len(_HAIR_TONES))],
        iris_rgb=_IRIS_TONES[rng.integers(len(_IRIS_TONES))],
    )


@lru_cache(maxsize=16)
def build_stills(identity: Identity) -> FaceStills:
    """Return what does not move of a face, drawn once per process."""
    rng = make_generator(identity.seed, _TEXTURE_STREAM)
    half_width = identity.head_half_width * (1 - identity.jaw_taper * np.clip(GRID_Y, 0, 1.2))
    radius = np.hypot(GRID_X / half_width, GRID_Y / 1.08)
    head = sigmoid((1 - radius) * 28)
    cap, volume, volume_radius = _hair_masks(identity, half_width)
    ears = _ears(identity, half_width)

    height = _height(identity, radius)
    # The hair's own dome behind the head: without it hair is lit like a flat cardboard ring.
    height = np.maximum(height, 0.5 * _dome(volume_radius / 1.06) * volume) + 0.05 * cap
    height += draw_smooth_noise(rng, shape=(GRID_PX, GRID_PX, 1), cells=(40, 90))[..., 0] * 0.003

    skin_texture = draw_smooth_noise(rng, shape=(GRID_PX, GRID_PX, 3), cells=(9, 22, 60, 120))
    skin = as_float32(identity.skin_rgb) + skin_texture * as_float32([5, 4, 4])
    albedo = _paint_features(identity, _paint_complexion(identity, skin))
    hair = as_float32(identity.hair_rgb) * _strands(rng)[..., None]
    albedo = mix(albedo, hair, np.maximum(cap, np.clip(volume - head, 0, 1)))
    albedo = mix(albedo, as_float32(identity.skin_rgb) * 0.85, np.clip(ears - head, 0, 1))

    inner_width = identity.head_half_width * 0.8
    inner = sigmoid((1 - np.hypot(GRID_X / inner_width, (GRID_Y - 0.2) / 0.72)) * 14)
    whole = np.maximum(np.maximum(head, volume), ears)
    return FaceStills(albedo=albedo, height=height, masks=np.stack([whole, inner], axis=-1))


def _convert_to_rgb(values: NDArray[np.float64]) -> Rgb:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _dome(radius: FloatArray) -> FloatArray:
    """Return the height of half a unit sphere over its disc, 0 outside."""
    return as_float32(np.sqrt(np.clip(1 - radius**2, 0, 1)))


def _height(identity: Identity, radius: FloatArray) -> FloatArray:
    """Return skull, nose, brow ridge, cheeks, chin and eye sockets as one elevation."""
    nose_y, nose_half_width = identity.nose_y, identity.nose_half_width
    height = 0.75 * _dome(radius / 1.02)
    height += 0.2 * grid_bump((0, nose_y - 0.12), 0.1, identity.nose_length * 0.6)
    height += 0.1 * grid_bump((0, nose_y), nose_half_width, 0.085)
    height += 0.05 * grid_bump((0, identity.eye_y - identity.brow_lift), 0.6, 0.09)
    height += 0.05 * grid_bump((0, 0.9), 0.2, 0.12)
    for side in _SIDES:
        nostril = (side * nose_half_width * 0.9, nose_y + 0.02)
        height += 0.045 * grid_bump(nostril, 0.05, 0.05)
        height += 0.04 * grid_bump((side * 0.42, 0.22), 0.2, 0.2)
        height -= 0.07 * grid_bump((side * identity.eye_x, identity.eye_y), 0.17, 0.11)
    return height


def _paint_complexion(identity: Identity, albedo: FloatArray) -> FloatArray:
    """Return the skin with a darker (bearded) jaw and redder cheeks."""
    jaw = grid_bump((0, 1.0), 0.8, 0.35)
    albedo = albedo * as_float32(1 - 0.1 * (1 + 3 * identity.beard) * jaw)[..., None]
    cheeks = grid_bump((-0.42, 0.26), 0.2, 0.17) + grid_bump((0.42, 0.26), 0.2, 0.17)
    return albedo + cheeks[..., None] * as_float32([10, -5, -5])


def _paint_features(identity: Identity, albedo: FloatArray) -> FloatArray:
    """Return the skin with dark eye sockets, brows and nostrils."""
    hair = as_float32(identity.hair_rgb)
    for side in _SIDES:
        eye_x = side * identity.eye_x
        socket = grid_bump((eye_x, identity.eye_y - 0.01), 0.2, 0.12)
        albedo = albedo * (1 - 0.3 * socket)[..., None]
        slope = identity.brow_slope * 0.25 * (np.abs(GRID_X) - identity.eye_x)
        arch = 0.35 * (GRID_X - eye_x) ** 2
        brow_y = identity.eye_y - identity.brow_lift + slope + arch
        brow = np.exp(-(((GRID_Y - brow_y) / identity.brow_thickness) ** 2))
        brow = brow * sigmoid((0.2 - np.abs(GRID_X - eye_x)) * 40)
        albedo = mix(albedo, hair, 0.85 * brow)
        nostril = (side * identity.nose_half_width * 0.55, identity.nose_y + 0.075)
        albedo = albedo * (1 - 0.7 * grid_bump(nostril, 0.04, 0.022))[..., None]
    return albedo


def _hair_masks(
    identity: Identity, half_width: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the hair on the head, the hair around it, and the latter's elliptic radius."""
    fringe = sigmoid((identity.hairline_y - GRID_Y + 0.12 * np.cos(GRID_X * 5)) * 22)
    temples = sigmoid((np.abs(GRID_X) - half_width * 0.9) * 30)
    temples *= sigmoid((min(identity.hair_end_y, 0.4) - GRID_Y) * 8)
    cap = np.clip(fringe + temples, 0, 1)
    # Small enough to fade out before the edge of the grid, which would cut it off straight.
    radius = np.hypot(GRID_X / (identity.head_half_width + 0.1), (GRID_Y + 0.05) / 1.14)
    volume = sigmoid((1.04 - radius) * 30) * sigmoid((identity.hair_end_y - GRID_Y) * 10)
    return cap, volume, radius


def _ears(identity: Identity, half_width: FloatArray) -> FloatArray:
    """Return the opacity of both ears: nothing where long hair covers them."""
    if identity.hair_end_y > 0.5:
        return np.zeros_like(GRID_X)
    offset = np.abs(GRID_X) - half_width * 1.03
    return bump(offset, GRID_Y, width=0.07, height=0.2, power=4)


def _strands(rng: np.random.Generator) -> FloatArray:
    """Return a brightness factor that varies across the hair but little along it."""
    noise = draw_smooth_noise(rng, shape=(GRID_PX, 12, 1), cells=(GRID_PX,))[..., 0].T
    rows = np.linspace(0, len(noise) - 1, GRID_PX)
    lower = np.minimum(rows.astype(np.intp), len(noise) - 2)
    share = (rows - lower).astype(np.float32)[:, None]
    return as_float32(1 + 0.18 * (noise[lower] * (1 - share) + noise[lower + 1] * share))
