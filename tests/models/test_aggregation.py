"""Sequence logits to video logits, against pandas."""

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.aggregation import video_logits
from reelcheck.records import ScoredSequence

FINITE = st.floats(-50, 50)


@st.composite
def scored(draw: st.DrawFn) -> list[ScoredSequence]:
    keys = draw(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3)), max_size=25))
    return [
        ScoredSequence(
            sequence_id=str(place),
            video_id=video_id,
            track_id=track_id,
            num_frames=10,
            logit=draw(FINITE),
        )
        for place, (video_id, track_id) in enumerate(keys)
    ]


def by_pandas(sequences: list[ScoredSequence]) -> dict[str, float]:
    table = pd.DataFrame([vars(sequence) for sequence in sequences])
    if table.empty:
        return {}
    means = table.groupby(["video_id", "track_id"])["logit"].mean()
    return means.groupby("video_id").max().to_dict()


@given(sequences=scored())
def test_video_logit_is_the_largest_mean_of_its_tracks(sequences: list[ScoredSequence]) -> None:
    assert video_logits(sequences) == pytest.approx(by_pandas(sequences), abs=1e-9)


@given(sequences=scored(), data=st.data())
def test_order_of_sequences_changes_nothing(
    sequences: list[ScoredSequence], data: st.DataObject
) -> None:
    mixed = data.draw(st.permutations(sequences))
    assert video_logits(iter(mixed)) == pytest.approx(video_logits(sequences), abs=1e-9)


@given(sequences=scored().filter(bool), data=st.data())
def test_one_nan_spoils_its_video_and_no_other_wherever_it_stands(
    sequences: list[ScoredSequence], data: st.DataObject
) -> None:
    spoiled = data.draw(st.integers(0, len(sequences) - 1))
    video_id = sequences[spoiled].video_id
    with_nan = [
        ScoredSequence(**{**vars(sequence), "logit": math.nan}) if place == spoiled else sequence
        for place, sequence in enumerate(sequences)
    ]
    logits, clean = video_logits(with_nan), video_logits(sequences)
    assert math.isnan(logits.pop(video_id))
    del clean[video_id]
    assert logits == clean
