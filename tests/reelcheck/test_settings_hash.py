"""The hash of settings: it names folders on disk and ties models to their data."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelcheck.config import PreprocessSettings
from reelcheck.settings import settings_hash

# A second valid value for every setting that is hashed and can have one.
OTHER_VALUES: dict[str, Any] = {
    "sampling": "uniform",
    "num_frames": 31,
    "num_clips": 7,
    "clip_frames": 13,
    "max_snap_seconds": 4.5,
    "still_crop": "whole",
    "align_eyes": True,
    "min_sequence_frames": 9,
    "max_sequence_frames": 29,
    "crop_pixels": 113,
    "margin": 1.31,
    "min_face_pixels": 33,
    "min_confidence": 0.51,
    "min_track_confidence": 0.61,
    "face_model_sha256": "0" * 64,
}


SIXTY_FOUR_HEX = st.text("0123456789abcdef", min_size=64, max_size=64)


@st.composite
def preprocess_settings(draw: st.DrawFn) -> PreprocessSettings:
    """Any valid preprocessing settings."""
    shortest = draw(st.integers(1, 40))
    return PreprocessSettings(
        sampling=draw(st.sampled_from(["spread", "clips", "uniform", "all"])),
        num_frames=draw(st.integers(shortest, 1000)),
        num_clips=draw(st.integers(1, 100)),
        clip_frames=draw(st.integers(shortest, 1000)),
        max_snap_seconds=draw(st.floats(0, 60)),
        still_crop=draw(st.sampled_from(["face", "whole"])),
        align_eyes=draw(st.booleans()),
        min_sequence_frames=shortest,
        max_sequence_frames=draw(st.integers(shortest, 1000)),
        crop_pixels=draw(st.integers(32, 1024)),
        margin=draw(st.floats(1, 3)),
        min_face_pixels=draw(st.integers(1, 500)),
        min_confidence=draw(st.floats(0.01, 0.99)),
        min_track_confidence=draw(st.floats(0.01, 0.99)),
        face_model_sha256=draw(SIXTY_FOUR_HEX),
    )


def test_hash_of_defaults_is_what_json_and_sha256_say() -> None:
    values = PreprocessSettings().model_dump()
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    assert settings_hash(PreprocessSettings()) == hashlib.sha256(text.encode()).hexdigest()[:12]


def test_hash_of_defaults_is_frozen() -> None:
    # It names folders on disk: a change here orphans every store there is.
    assert settings_hash(PreprocessSettings()) == "f3e3e68c227e"


def test_hash_other_values_cover_every_preprocess_setting() -> None:
    assert set(OTHER_VALUES) | {"algorithm"} == set(PreprocessSettings.model_fields)


@pytest.mark.parametrize("name", sorted(OTHER_VALUES))
def test_hash_changes_with_field(name: str) -> None:
    changed = PreprocessSettings.model_validate({name: OTHER_VALUES[name]})
    assert getattr(changed, name) != getattr(PreprocessSettings(), name)
    assert settings_hash(changed) != settings_hash(PreprocessSettings())


@settings(deadline=None)
@given(first=preprocess_settings(), second=preprocess_settings())
def test_hash_equal_exactly_when_settings_equal(
    first: PreprocessSettings, second: PreprocessSettings
) -> None:
    assert (settings_hash(first) == settings_hash(second)) == (first == second)
    assert settings_hash(first) == settings_hash(first.model_copy())


@settings(deadline=None)
@given(value=preprocess_settings(), data=st.data())
def test_hash_does_not_depend_on_order_of_keys(
    value: PreprocessSettings, data: st.DataObject
) -> None:
    items = data.draw(st.permutations(list(value.model_dump().items())))
    assert settings_hash(PreprocessSettings.model_validate(dict(items))) == settings_hash(value)


@settings(deadline=None)
@given(value=preprocess_settings())
def test_settings_as_json_come_back_equal_with_same_hash(value: PreprocessSettings) -> None:
    again = PreprocessSettings.model_validate_json(value.model_dump_json())
    assert again == value
    assert settings_hash(again) == settings_hash(value)
