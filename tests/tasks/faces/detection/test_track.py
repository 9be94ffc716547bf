"""One track, one person: across movement, gaps, cuts and neighbours."""

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from reelcheck.records import FaceBox
from tasks.faces.detection.track import (
    MAX_LOOKS_DISTANCE,
    Sighting,
    Track,
    _find_cheapest_pairs,
    compare_looks,
    describe_looks,
    link_sightings,
)

Colour = tuple[int, int, int]
RED, BLUE, GREEN = (200, 40, 40), (40, 40, 200), (40, 200, 40)
SIDE = 50.0


def sighting(
    sample: int, x: float, *, colour: Colour = RED, side: float = SIDE, confidence: float = 0.9
) -> Sighting:
    """A face of one colour with its left edge at x."""
    noise = np.random.default_rng(sample).integers(-10, 11, (32, 32, 3))
    crop = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    box = FaceBox(
        sample_index=sample, xyxy=(x, 100.0, x + side, 100.0 + side), confidence=confidence
    )
    return Sighting(box, crop)


def colours(track: Track) -> set[int]:
    """Which channel is brightest in each crop."""
    return {int(item.crop_HWC.mean(axis=(0, 1)).argmax()) for item in track}


def samples(track: Track) -> list[int]:
    return [item.box.sample_index for item in track]


@settings(deadline=None, max_examples=60)
@given(
    steps=st.lists(st.floats(-55, 55), min_size=1, max_size=15),
    distance=st.floats(60, 300),
    swapped=st.lists(st.booleans(), min_size=16, max_size=16),
)
def test_link_two_people_moving_side_by_side_are_never_swapped(
    steps: list[float], distance: float, swapped: list[bool]
) -> None:
    # The detector gives them in any order; they look different and do not overlap.
    places = np.concatenate([[500.0], 500.0 + np.cumsum(steps)])
    given_order = []
    for sample, x in enumerate(places):
        pair = [sighting(sample, x, colour=RED), sighting(sample, x + distance, colour=BLUE)]
        given_order.append(pair[::-1] if swapped[sample] else pair)
    tracks = link_sightings(given_order)
    assert len(tracks) == 2
    for track in tracks:
        assert samples(track) == list(range(len(places)))
        assert len(colours(track)) == 1


@settings(deadline=None, max_examples=60)
@given(steps=st.lists(st.floats(-40, 40), min_size=1, max_size=15), distance=st.floats(90, 300))
def test_link_two_people_who_look_alike_are_told_apart_by_place(
    steps: list[float], distance: float
) -> None:
    places = np.concatenate([[500.0], 500.0 + np.cumsum(steps)])
    pairs = [[sighting(n, x + distance), sighting(n, x)] for n, x in enumerate(places)]
    first, second = sorted(link_sightings(pairs), key=lambda track: track[0].box.centre)
    assert [item.box.xyxy[0] for item in first] == places.tolist()
    assert [item.box.xyxy[0] for item in second] == (places + distance).tolist()


@settings(deadline=None, max_examples=60)
@given(seen=st.lists(st.booleans(), min_size=1, max_size=25))
def test_link_gap_of_up_to_two_samples_is_bridged(seen: list[bool]) -> None:
    # A face that stays in place; wherever three in a row are missed, a new track begins.
    visible = [sample for sample, is_seen in enumerate(seen) if is_seen]
    expected: list[list[int]] = []
    for sample in visible:
        if expected and sample - expected[-1][-1] <= 3:
            expected[-1].append(sample)
        else:
            expected.append([sample])
    tracks = link_sightings(
        [[sighting(sample, 100)] if is_seen else [] for sample, is_seen in enumerate(seen)]
    )
    assert [samples(track) for track in tracks] == expected


def test_link_cut_to_another_face_in_the_same_place_starts_a_track() -> None:
    before = [[sighting(sample, 100, colour=RED)] for sample in range(5)]
    after = [[sighting(sample, 100, colour=GREEN)] for sample in range(5, 9)]
    tracks = link_sightings(before + after)
    assert [samples(track) for track in tracks] == [[0, 1, 2, 3, 4], [5, 6, 7, 8]]


def test_link_cut_back_within_the_gap_goes_on_with_the_first_face() -> None:
    order = [RED, RED, GREEN, GREEN, RED, RED]
    tracks = link_sightings([[sighting(n, 100, colour=c)] for n, c in enumerate(order)])
    assert [samples(track) for track in tracks] == [[0, 1, 4, 5], [2, 3]]


def test_link_jump_across_the_picture_starts_a_track() -> None:
    tracks = link_sightings([[sighting(0, 0)], [sighting(1, 61)], [sighting(2, 0)]])
    assert [samples(track) for track in tracks] == [[0, 2], [1]]
    assert len(link_sightings([[sighting(0, 0)], [sighting(1, 59)]])) == 1


def test_link_sudden_change_of_size_starts_a_track() -> None:
    far = [[sighting(0, 100)], [sighting(1, 100 - 20, side=1.8 * SIDE)]]
    near = [[sighting(0, 100)], [sighting(1, 100 - 15, side=1.6 * SIDE)]]
    assert len(link_sightings(far)) == 2
    assert len(link_sightings(near)) == 1


def test_link_box_without_size_is_no_error() -> None:
    tracks = link_sightings([[sighting(0, 100, side=0)], [sighting(1, 100, side=0)]])
    assert len(tracks) == 2


def test_link_nothing_seen_gives_no_track() -> None:
    assert link_sightings([]) == ()
    assert link_sightings([[], [], []]) == ()


def test_link_tracks_are_in_order_of_appearance_then_certainty() -> None:
    tracks = link_sightings(
        [
            [sighting(0, 0, confidence=0.7), sighting(0, 300, colour=BLUE, confidence=0.95)],
            [sighting(1, 600, colour=GREEN, confidence=0.99)],
        ]
    )
    assert [track[0].box.confidence for track in tracks] == [0.95, 0.7, 0.99]


@settings(deadline=None, max_examples=50)
@given(
    data=st.lists(
        st.lists(
            st.tuples(st.floats(0, 1000), st.floats(0, 200), st.sampled_from([RED, BLUE, GREEN])),
            max_size=4,
        ),
        max_size=10,
    )
)
@example(data=[[(0.0, 2.0, RED)], [(0.0, 5e-324, RED)]])
def test_link_any_sightings_each_end_in_exactly_one_track(
    data: list[list[tuple[float, float, Colour]]],
) -> None:
    everything = [
        [sighting(sample, x, side=side, colour=colour) for x, side, colour in found]
        for sample, found in enumerate(data)
    ]
    tracks = link_sightings(everything)
    linked = sorted(id(item) for track in tracks for item in track)
    assert linked == sorted(id(item) for found in everything for item in found)
    for track in tracks:
        order = samples(track)
        assert order == sorted(set(order))
        assert all(later - earlier <= 3 for earlier, later in itertools.pairwise(order))
        assert len(colours(track)) == 1


def test_looks_distance_is_small_for_one_colour_and_large_for_two() -> None:
    red, redder, blue = (sighting(n, 0, colour=c).looks for n, c in enumerate((RED, RED, BLUE)))
    assert compare_looks(red, red) == 0
    assert compare_looks(red, redder) < MAX_LOOKS_DISTANCE < compare_looks(red, blue) <= 1


def test_looks_do_not_depend_on_the_size_of_the_crop() -> None:
    crop = cv2.resize(sighting(0, 0).crop_HWC, (56, 56), interpolation=cv2.INTER_LINEAR)
    larger = cv2.resize(crop, (224, 224), interpolation=cv2.INTER_NEAREST)
    assert compare_looks(describe_looks(crop), describe_looks(larger)) == 0


@given(
    st.integers(1, 6).flatmap(
        lambda columns: st.lists(
            st.lists(st.floats(0, 10), min_size=columns, max_size=columns), min_size=1, max_size=6
        )
    )
)
def test_cheapest_pairs_cost_what_scipy_says(costs: list[list[float]]) -> None:
    table = np.array(costs)
    pairs = _find_cheapest_pairs(table)
    assert len(pairs) == min(table.shape)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    expected = table[linear_sum_assignment(table)].sum()
    assert sum(table[row, column] for row, column in pairs) == pytest.approx(expected)
