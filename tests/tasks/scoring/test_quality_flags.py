"""What a row says of the pictures that a verdict rests on."""

from dataclasses import replace
from typing import Any

import pytest
from judged_faces import judged, result_of, row_of, sequence_of

from reelcheck.card import ModelCard
from tasks.scoring.predict import (
    find_quality_flags,
)

FULL_CROP = 80.0
"""Side of a box that fills a crop of 104 pixels with a margin of 1.3."""


@pytest.mark.parametrize(
    ("of_sequence", "of_result", "flags"),
    [
        ({}, {}, []),
        ({"side": FULL_CROP}, {}, []),
        ({"side": FULL_CROP - 1}, {}, ["small_face"]),
        ({"sharpness": 20.0}, {}, []),
        ({"sharpness": 19.9}, {}, ["blurred"]),
        ({"brightness": 40.0}, {}, []),
        ({"brightness": 39.9}, {}, ["dark"]),
        ({"brightness": 214.9}, {}, []),
        ({"brightness": 215.0}, {}, ["bright"]),
        ({}, {"reason": "damaged: 30 of 30 sampled frames are beyond doubt"}, ["damaged"]),
        ({}, {"num_frames_sampled": None, "num_frames_decoded": None}, []),
        ({"num_frames": 15}, {}, []),
        ({"num_frames": 14}, {}, ["face_seldom_seen"]),
        ({"num_frames": 14}, {"num_frames_decoded": 28}, []),
        ({"side": 9.0, "brightness": 1.0}, {}, ["small_face", "dark"]),
    ],
)
def test_flags_name_what_is_wrong_and_nothing_else(
    card: ModelCard, of_sequence: dict[str, Any], of_result: dict[str, Any], flags: list[str]
) -> None:
    sequence = sequence_of(**({"num_frames": 30} | of_sequence))
    row = row_of([sequence], [0.0] * sequence.num_frames, card, **of_result)
    assert row["quality_flags"] == flags


def test_flags_are_those_of_the_track_that_decides(card: ModelCard) -> None:
    sequences = [sequence_of(30, track_id=0, brightness=1.0), sequence_of(30, track_id=1)]
    assert row_of(sequences, [0.0] * 30 + [1.0] * 30, card)["quality_flags"] == []
    assert row_of(sequences, [1.0] * 30 + [0.0] * 30, card)["quality_flags"] == ["dark"]


def test_flags_go_by_the_median_frame() -> None:
    sequence = replace(sequence_of(5), sharpness=(1.0, 1.0, 50.0, 50.0, 50.0))
    [track] = judged([sequence], [0.0] * 5)
    result = result_of(num_frames_sampled=5, num_frames_decoded=5)
    assert find_quality_flags(result, track, crop_pixels=1.0) == []


@pytest.mark.parametrize(
    ("still_crop", "container", "flags"),
    [
        ("whole", "image", ["small_face"]),
        ("face", "image", []),
        ("whole", "mov,mp4", []),
    ],
)
def test_picture_taken_whole_is_enlarged_below_the_crops_own_size(
    card: ModelCard, still_crop: str, container: str, flags: list[str]
) -> None:
    # 90 pixels fill a crop of 104 only with the margin around a face.
    preprocessing = card.preprocessing.model_copy(update={"still_crop": still_crop})
    changed = card.model_copy(update={"preprocessing": preprocessing})
    row = row_of([sequence_of(30, side=90.0)], [0.0] * 30, changed, container=container)
    assert row["quality_flags"] == flags


def test_stretch_that_alone_looks_fake_is_flagged_where_the_whole_does_not(card: ModelCard) -> None:
    sequences = [sequence_of(30, track_id=0)]
    for logit, verdict, flags in (
        (0.0, "inconclusive", []),
        (6.0, "inconclusive", ["part_looks_fake"]),
        (60.0, "fake", []),
    ):
        row = row_of(sequences, [0.0] * 10 + [logit] * 10 + [-1.0] * 10, card)
        assert (row["verdict"], row["quality_flags"]) == (verdict, flags)
