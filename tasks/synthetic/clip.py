"""A clip of one talking face, real or faked, frame by frame.

A real clip and its fake twin have the same clip seed and so the same motion, light, background and
noise. What sets them apart is then the blending alone, and a detector cannot learn a shortcut.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tasks.synthetic.fake import FakeKind, Faker
from tasks.synthetic.identity import Identity, draw_identity
from tasks.synthetic.render import Light, Pose, locate_head, render_face
from tasks.synthetic.shapes import (
    FloatArray,
    as_float32,
    blur,
    draw_smooth_noise,
    make_generator,
    mix,
    sigmoid,
)

Kind: TypeAlias = Literal["real"] | FakeKind

# Faces move at this rate whatever rate a file is later played at.
_MOTION_FPS: Final = 25.0
_MOTION_STREAM, _SCENE_STREAM, _NOISE_STREAM, _FAKE_STREAM = range(4)
_LENS_BLUR_PX: Final = 0.6


@dataclass(frozen=True, kw_only=True)
class _Scene:
    """What surrounds the face: `background` is (height, width, 3), `gains` one per frame."""

    background: FloatArray
    shirt_rgb: FloatArray
    light: Light
    noise_sigma: float
    gains: FloatArray


def compute_frame_width(height_px: int) -> int:
    """Return the width of a 4:3 frame, rounded to the even number that 4:2:0 video needs."""
    return 2 * round(height_px * 2 / 3)


def render_frames(
    *,
    identity_seed: int,
    clip_seed: int,
    kind: Kind,
    donor_seed: int | None = None,
    num_frames: int,
    height: int,
) -> Iterator[NDArray[np.uint8]]:
    """Render a clip of one talking face.

    Args:
        identity_seed: Who speaks.
        clip_seed: Motion, light, background and noise; a real and its fake twin share it.
        kind: `real`; `swap` (the donor's inner face), `mouth` (the donor's lower face) or
            `selfblend` (the speaker's own face, degraded and pasted back).
        donor_seed: Whose face is pasted in; needed for `swap` and `mouth` only.
        num_frames: Number of frames.
        height: Frame height in pixels, even; the width is 4/3 of it.

    Returns:
        An iterator of `num_frames` uint8 RGB frames of (height, width, 3).

    Raises:
        ValueError: A `swap` or `mouth` has no donor, or `height` is odd or below 64 pixels.
    """
    if kind in {"swap", "mouth"} and donor_seed is None:
        raise ValueError(f"a {kind!r} fake needs a donor_seed")
    if height < 64 or height % 2:
        raise ValueError(f"height must be an even number of at least 64 pixels, got {height}")
    identity = draw_identity(identity_seed)
    donor = identity if donor_seed is None else draw_identity(donor_seed)
    poses = _draw_motion(clip_seed, num_frames=num_frames, height_px=height)
    scene = _draw_scene(clip_seed, num_frames=num_frames, height_px=height)
    faker = (
        None
        if kind == "real"
        else Faker(kind=kind, donor=donor, rng=make_generator(clip_seed, _FAKE_STREAM))
    )
    # Checks run on the call, not on the first frame: the generator proper is a separate function.
    noise_rng = make_generator(clip_seed, _NOISE_STREAM)
    return _compose_frames(identity, poses, scene, faker, noise_rng)


def _draw_motion(clip_seed: int, *, num_frames: int, height_px: int) -> list[Pose]:
    """Return one pose per frame: slow head movement, a blink every two seconds, speech."""
    rng = make_generator(clip_seed, _MOTION_STREAM)
    time_s = np.arange(num_frames) / _MOTION_FPS

    def swing(amplitude: float, frequency_hz: float) -> NDArray[np.float64]:
        frequency_hz *= rng.uniform(0.5, 1.5)
        return amplitude * np.sin(2 * np.pi * (frequency_hz * time_s + rng.uniform()))

    width_px = compute_frame_width(height_px)
    scale_px = rng.uniform(0.24, 0.33) * height_px
    center_x = width_px * rng.uniform(0.42, 0.58) + swing(0.015 * height_px, 0.4)
    center_y = height_px * rng.uniform(0.44, 0.5) + swing(0.015 * height_px, 0.5)
    yaw = rng.uniform(-0.25, 0.25) + swing(0.18, 0.3)
    pitch, roll = swing(0.1, 0.35), swing(0.08, 0.25)
    talk = np.clip(swing(0.6, 2.2) + swing(0.4, 3.7), 0, 1)
    since_blink_s = (time_s - rng.uniform(0, 2)) % 2
    blink = np.exp(-(((since_blink_s - 0.2) / 0.07) ** 2))
    smile = rng.uniform(0, 0.8)
    return [
        Pose(
            yaw_rad=float(yaw[i]),
            pitch_rad=float(pitch[i]),
            roll_rad=float(roll[i]),
            center_x_px=float(center_x[i]),
            center_y_px=float(center_y[i]),
            scale_px=scale_px * (1 + 0.04 * float(np.sin(time_s[i]))),
            blink=float(blink[i]),
            mouth_open=float(talk[i]),
            gaze=float(np.sin(time_s[i] * 1.7)),
            smile=smile,
        )
        for i in range(num_frames)
    ]


def _draw_scene(clip_seed: int, *, num_frames: int, height_px: int) -> _Scene:
    """Return background, clothes, light, noise level and the slow drift of the exposure."""
    rng = make_generator(clip_seed, _SCENE_STREAM)
    direction = rng.normal([0.0, -0.35, 1.0], [0.55, 0.25, 0.05])
    tint = rng.normal(1, 0.05, 3)
    light = Light(
        direction=(float(direction[0]), float(direction[1]), float(direction[2])),
        ambient=rng.uniform(0.35, 0.55),
        diffuse=rng.uniform(0.5, 0.75),
        tint_rgb=(float(tint[0]), float(tint[1]), float(tint[2])),
    )
    shape = (height_px, compute_frame_width(height_px), 3)
    clutter = draw_smooth_noise(rng, shape=shape, cells=(3, 7, 16))
    # Mostly brightness, little hue: fully independent channels look like an oil film.
    clutter = 0.3 * clutter + 0.7 * clutter[..., :1]
    wall = as_float32(rng.uniform(60, 180) + rng.uniform(-30, 30, 3))
    return _Scene(
        background=np.clip(wall + clutter * rng.uniform(15, 40), 0, 255),
        shirt_rgb=rng.uniform(20, 230, 3).astype(np.float32),
        light=light,
        noise_sigma=rng.uniform(0.6, 2.2),
        gains=as_float32(1 + 0.006 * rng.normal(size=num_frames).cumsum()),
    )


def _compose_frames(
    identity: Identity,
    poses: Sequence[Pose],
    scene: _Scene,
    faker: Faker | None,
    noise_rng: np.random.Generator,
) -> Iterator[NDArray[np.uint8]]:
    height_px, width_px = scene.background.shape[:2]
    for pose, gain in zip(poses, scene.gains, strict=True):
        frame = _paint_body(identity, pose, scene)
        window = locate_head(pose, height_px=height_px, width_px=width_px)
        face = render_face(identity, pose, scene.light, window)
        rgb = face.rgb if faker is None else faker.apply(face, pose, scene.light, window)
        area = window.rows, window.columns
        frame[area] = mix(frame[area], rgb, face.matte)
        noise = noise_rng.standard_normal(frame.shape, dtype=np.float32)
        noise *= scene.noise_sigma
        noise += blur(frame * gain, _LENS_BLUR_PX)
        yield np.clip(noise, 0, 255).astype(np.uint8)


def _paint_body(identity: Identity, pose: Pose, scene: _Scene) -> FloatArray:
    """Return a copy of the background with neck and shoulders under the head of `pose`."""
    frame = scene.background.copy()
    height_px, width_px = frame.shape[:2]
    columns = np.arange(width_px, dtype=np.float32)[None, :] - pose.center_x_px
    rows = np.arange(height_px, dtype=np.float32)[:, None]

    top = int(np.clip(pose.center_y_px, 0, height_px - 1))
    across = sigmoid((1 - np.abs(columns) / (pose.scale_px * 0.45)) * 14)
    down = sigmoid((rows[top:] - pose.center_y_px - pose.scale_px * 0.6) / (0.02 * height_px))
    neck_light = scene.light.ambient + scene.light.diffuse * 0.35
    neck_rgb = as_float32(identity.skin_rgb) * as_float32(scene.light.tint_rgb) * neck_light
    frame[top:] = mix(frame[top:], neck_rgb, across * down)

    top = int(0.7 * height_px)
    radius_sq = (columns / (pose.scale_px * 2)) ** 2
    radius_sq = radius_sq + ((rows[top:] - height_px * 1.22) / (height_px * 0.42)) ** 2
    frame[top:] = mix(frame[top:], scene.shirt_rgb, sigmoid((1 - radius_sq) * 14))
    return frame
