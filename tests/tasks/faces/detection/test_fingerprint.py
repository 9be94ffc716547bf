"""Fingerprints: the same for what looks the same, and for the mirrored picture known without it."""

import cv2
import numpy as np
import pytest

from tasks.faces.detection.fingerprint import compute_fingerprint, mirror_fingerprints
from tasks.synthetic.clip import render_frames


def face(seed: int) -> np.ndarray:
    frames = render_frames(
        identity_seed=seed, clip_seed=seed, kind="real", num_frames=1, height=192
    )
    return next(iter(frames))


def bits(*pictures: np.ndarray) -> np.ndarray:
    hashes = [compute_fingerprint(np.ascontiguousarray(picture)) for picture in pictures]
    return np.stack([np.frombuffer(found or b"", np.uint8) for found in hashes])


def apart(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.bitwise_count(one ^ other).sum())


@pytest.mark.parametrize("height", [96, 192, 700])
def test_copies_are_near_and_strangers_far(height: int) -> None:
    picture = face(1)
    width = round(picture.shape[1] * height / picture.shape[0])
    sized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC)
    _, jpeg = cv2.imencode(".jpg", sized, [cv2.IMWRITE_JPEG_QUALITY, 20])
    again = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
    original, copied, stranger = bits(picture, again, face(2))
    assert apart(original, copied) <= 24
    assert apart(original, stranger) > 64


@pytest.mark.parametrize("seed", range(5))
def test_hash_of_the_mirrored_picture_is_known(seed: int) -> None:
    picture = face(seed)
    side = min(picture.shape[:2])
    square = picture[:side, :side]
    original, flipped = bits(square, square[:, ::-1])
    assert apart(mirror_fingerprints(original[None])[0], flipped) <= 4
    assert apart(original, flipped) > 32
    assert (mirror_fingerprints(mirror_fingerprints(original[None])) == original).all()


@pytest.mark.parametrize("value", [0, 128, 255])
def test_picture_that_shows_nothing_has_none(value: int) -> None:
    noise = np.random.default_rng(0).normal(value, 3, (120, 160, 3)).clip(0, 255)
    assert compute_fingerprint(noise.astype(np.uint8)) is None


def test_tiny_picture_has_one() -> None:
    rng = np.random.default_rng(0)
    assert (
        compute_fingerprint(rng.integers(0, 255, (3, 2, 3), dtype=np.uint8).repeat(2, axis=1))
        is not None
    )
