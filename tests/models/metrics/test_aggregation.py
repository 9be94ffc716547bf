"""Sequence logits to video logits, against pandas."""

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.metrics.aggregation import AGGREGATIONS, aggregate_videos
from reelcheck.card import Aggregation
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


def by_pandas(sequences: list[ScoredSequence], rule: str) -> dict[str, float]:
    table = pd.DataFrame([vars(sequence) for sequence in sequences])
    if table.empty:
        return {}
    tracks = table.groupby(["video_id", "track_id"])["logit"]
    per_video = {
        "worst_track_of_mean_sequence_logits": tracks.mean().groupby("video_id").max(),
        "worst_sequence_logit": table.groupby("video_id")["logit"].max(),
        "mean_sequence_logit": table.groupby("video_id")["logit"].mean(),
    }
    return per_video[rule].to_dict()


@pytest.mark.parametrize("rule", AGGREGATIONS)
@given(sequences=scored())
def test_video_logit_is_what_the_rule_says(
    rule: Aggregation, sequences: list[ScoredSequence]
) -> None:
    found = aggregate_videos(sequences, rule)
    assert found == pytest.approx(by_pandas(sequences, rule), abs=1e-9)


@pytest.mark.parametrize("rule", AGGREGATIONS)
@given(sequences=scored(), data=st.data())
def test_order_of_sequences_changes_nothing(
    rule: Aggregation, sequences: list[ScoredSequence], data: st.DataObject
) -> None:
    mixed = data.draw(st.permutations(sequences))
    found = aggregate_videos(iter(mixed), rule)
    assert found == pytest.approx(aggregate_videos(sequences, rule), abs=1e-9)


@pytest.mark.parametrize("rule", AGGREGATIONS)
@given(sequences=scored().filter(bool), data=st.data())
def test_one_nan_spoils_its_video_and_no_other_wherever_it_stands(
    rule: Aggregation, sequences: list[ScoredSequence], data: st.DataObject
) -> None:
    spoiled = data.draw(st.integers(0, len(sequences) - 1))
    video_id = sequences[spoiled].video_id
    with_nan = [
        ScoredSequence(**{**vars(sequence), "logit": math.nan}) if place == spoiled else sequence
        for place, sequence in enumerate(sequences)
    ]
    logits, clean = aggregate_videos(with_nan, rule), aggregate_videos(sequences, rule)
    assert math.isnan(logits.pop(video_id))
    del clean[video_id]
    assert logits == clean
