"""The order in which training sees the data."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from models.data.dataset import Draw, Look
from models.data.sampling import EpochSampler, find_blendable, list_blend_draws, take_process_share
from reelcheck.train_config import TrainSettings
from storage.tables import Row

POINTS = [0.5] * 12


def row(name: str, label: int, *, source: str | None = None, **changes: Any) -> Row:
    return {
        "path": f"{name}.mp4",
        "video_id": name,
        "label": label,
        "source": source,
        "track_id": 0,
        "sequence_id": f"{name}-00-00",
        "keypoints_xy": POINTS,
        **changes,
    }


def rows_of(num_reals: int, sources: Sequence[int]) -> list[Row]:
    """Real videos, and for each source a fake made from the real video of that number."""
    reals = [row(f"r{i}", 0) for i in range(num_reals)]
    return reals + [
        row(f"f{place}", 1, source=f"r{origin % max(num_reals, 1)}.mp4")
        for place, origin in enumerate(sources)
    ]


def sampler_of(rows: list[Row], *, first_epoch: int = 0, **changes: Any) -> EpochSampler:
    values = {"balance": "none", "seed": 1, **changes}
    return EpochSampler(rows, TrainSettings(**values), first_epoch=first_epoch)


def label_of(rows: list[Row], draw: Draw) -> int:
    return 1 if draw.look is Look.BLEND else int(rows[draw.row]["label"])


NUM_REALS = st.integers(0, 12)
SOURCES = st.lists(st.integers(0, 11), max_size=20)
BALANCES = st.sampled_from(["repeat", "weigh", "none"])


@example(num_reals=4, sources=[0, 0, 0], epoch=0, balance="repeat", share=0.5)
@given(
    num_reals=NUM_REALS,
    sources=SOURCES,
    epoch=st.integers(0, 50),
    balance=BALANCES,
    share=st.floats(0, 0.8),
)
def test_every_sequence_comes_once_per_epoch_beside_its_twins(
    num_reals: int, sources: list[int], epoch: int, balance: str, share: float
) -> None:
    rows = rows_of(num_reals, sources)
    draws = sampler_of(rows, balance=balance, self_blend=share).draws(epoch)
    first = [d for d in draws if d.look is Look.PLAIN and d.repeat == 0]
    assert sorted(draw.row for draw in first) == list(range(len(rows)))
    assert {draw.number for draw in draws} <= {epoch}
    assert len(set(draws)) == len(draws)
    paths = {one["path"] for one in rows}
    # Where the real video is absent, its fakes are no twins of anything.
    origins = [
        rows[draw.row]["source"] if rows[draw.row]["source"] in paths else rows[draw.row]["path"]
        for draw in first
    ]
    places = [draws.index(draw) for draw in first]
    jumps = [
        not (left == right and after - before == 1)
        for (left, right), (before, after) in zip(
            itertools.pairwise(origins), itertools.pairwise(places), strict=True
        )
    ]
    assert sum(jumps) == max(len(set(origins)) - 1, 0)


def test_twins_are_drawn_apart_where_they_are_not_asked_for() -> None:
    rows = rows_of(30, list(range(30)))
    draws = sampler_of(rows, twins=False).draws(0)
    assert sorted(draw.row for draw in draws) == list(range(60))
    adjacent = [abs(left.row - right.row) == 30 for left, right in itertools.pairwise(draws)]
    assert sum(adjacent) < 10


@settings(max_examples=20)
@given(num_reals=st.integers(8, 30), balance=BALANCES, share=st.sampled_from([0.0, 0.5, 1.0]))
def test_order_is_a_function_of_seed_and_epoch(num_reals: int, balance: str, share: float) -> None:
    rows = rows_of(num_reals, [] if share == 1 else [1])

    def order(seed: int, epoch: int) -> tuple[tuple[int, Look], ...]:
        sampler = sampler_of(rows, balance=balance, self_blend=share, seed=seed)
        sampler.set_epoch(epoch)
        drawn = list(sampler)
        assert list(sampler) == drawn
        assert sampler.draws(epoch) == drawn
        return tuple((draw.row, draw.look) for draw in drawn)

    # Of eight orders of at least 8! possible ones, two the same would be no accident.
    assert len({order(seed, epoch) for seed in range(2) for epoch in range(4)}) == 8
    assert order(1, 2) == order(1, 2)


def test_a_later_phase_goes_on_counting_epochs() -> None:
    rows = rows_of(9, [1, 2])
    whole, later = sampler_of(rows), sampler_of(rows, first_epoch=5)
    assert later.epoch == 5
    assert list(later) == whole.draws(5)
    later.set_epoch(2)
    assert later.epoch == 7
    assert list(later) == whole.draws(7)


@given(
    num_reals=NUM_REALS,
    sources=SOURCES,
    epochs=st.lists(st.integers(0, 99), min_size=2, max_size=4),
    balance=BALANCES,
    share=st.floats(0, 0.9) | st.just(1.0),
    twins=st.booleans(),
    passes=st.integers(1, 3),
)
def test_every_epoch_has_as_many_draws(
    num_reals: int,
    sources: list[int],
    epochs: list[int],
    balance: str,
    share: float,
    twins: bool,
    passes: int,
) -> None:
    sampler = sampler_of(
        rows_of(num_reals, sources),
        balance=balance,
        self_blend=share,
        twins=twins,
        passes_per_epoch=passes,
    )
    assert {len(sampler.draws(epoch)) for epoch in epochs} == {len(sampler)}


def test_an_epoch_of_several_passes_is_that_many_epochs_of_one() -> None:
    rows = rows_of(6, [0, 3, 3])
    single, triple = sampler_of(rows), sampler_of(rows, passes_per_epoch=3)
    assert triple.draws(2) == [draw for n in (6, 7, 8) for draw in single.draws(n)]


@given(num_reals=st.integers(1, 15), num_fakes=st.integers(1, 15), epoch=st.integers(0, 9))
def test_repeating_makes_labels_equally_frequent_and_takes_people_in_turn(
    num_reals: int, num_fakes: int, epoch: int
) -> None:
    # Person 0 has the most sequences by far.
    def group(number: int) -> str:
        return f"person{max(0, number - 4)}"

    rows = [row(f"r{n}", 0, group=group(n)) for n in range(num_reals)]
    rows += [row(f"f{n}", 1, group=group(n)) for n in range(num_fakes)]
    draws = sampler_of(rows, balance="repeat").draws(epoch)
    labels = Counter(label_of(rows, draw) for draw in draws)
    assert labels[0] == labels[1] == max(num_reals, num_fakes)
    again = [draw for draw in draws if draw.repeat > 0]
    assert len(again) == abs(num_reals - num_fakes)
    rarer = 0 if num_reals < num_fakes else 1
    assert all(rows[draw.row]["label"] == rarer for draw in again)
    owned = Counter(one["group"] for one in rows if one["label"] == rarer)
    taken = Counter(rows[draw.row]["group"] for draw in again)
    # One of each person before a second of anyone who has not been gone through.
    for left, right in itertools.permutations(owned, 2):
        if taken[left] < owned[left]:
            assert taken[right] <= taken[left] + 1
    times = Counter(draw.row for draw in again)
    for index, count in times.items():
        assert sorted(d.repeat for d in again if d.row == index) == list(range(1, count + 1))
    per_row = [times[n] for n, one in enumerate(rows) if one["label"] == rarer]
    assert max(per_row) - min(per_row) <= 1


@pytest.mark.parametrize("balance", ["weigh", "none"])
def test_no_sequence_is_repeated_otherwise(balance: str) -> None:
    rows = rows_of(2, range(9))
    assert len(sampler_of(rows, balance=balance)) == len(rows)


@given(
    num_reals=st.integers(1, 12),
    sources=st.lists(st.integers(0, 11), min_size=1, max_size=20),
    share=st.floats(0, 0.9),
    balance=BALANCES,
)
def test_blends_are_the_share_of_the_fakes_that_was_asked_for(
    num_reals: int, sources: list[int], share: float, balance: str
) -> None:
    rows = rows_of(num_reals, sources)
    draws = sampler_of(rows, balance=balance, self_blend=share).draws(3)
    looks = Counter(draw.look for draw in draws)
    assert looks[Look.BLEND] == looks[Look.TWIN]
    num_fakes = sum(label_of(rows, draw) for draw in draws)
    assert abs(looks[Look.BLEND] - share * num_fakes) <= 1
    if balance == "repeat":
        assert num_fakes * 2 == len(draws)


@given(num_reals=st.integers(1, 12), num_more=st.integers(0, 30))
def test_a_blend_stands_beside_its_twin_and_reals_are_taken_in_turn(
    num_reals: int, num_more: int
) -> None:
    rows = rows_of(num_reals, range(num_reals + num_more))
    draws = sampler_of(rows, self_blend=0.5).draws(1)
    for place, draw in enumerate(draws):
        if draw.look is Look.TWIN:
            assert draws[place + 1] == draw._replace(look=Look.BLEND)
    counts = Counter(draw.row for draw in draws if draw.look is Look.BLEND)
    per_real = [counts[n] for n in range(num_reals)]
    assert sum(per_real) == len(rows) - num_reals
    assert max(per_real) - min(per_real) <= 1
    assert sum(counts.values()) == sum(per_real)


@given(num_reals=st.integers(1, 12), balance=BALANCES, twins=st.booleans())
def test_blends_alone_are_pairs_of_every_real_sequence(
    num_reals: int, balance: str, twins: bool
) -> None:
    rows = rows_of(num_reals, [])
    draws = sampler_of(rows, balance=balance, self_blend=1.0, twins=twins).draws(4)
    wanted = [Draw(n, 4, 0, look) for n in range(num_reals) for look in (Look.TWIN, Look.BLEND)]
    assert sorted(draws) == sorted(wanted)
    if twins:
        assert [draw.row for draw in draws[::2]] == [draw.row for draw in draws[1::2]]


def test_only_real_sequences_with_key_points_are_blended() -> None:
    rows = [
        row("r0", 0, keypoints_xy=[]),
        row("r1", 0),
        row("f0", 1, source="r0.mp4"),
        row("r2", 0, keypoints_xy=None),
    ]
    assert find_blendable(rows) == [1]
    assert list_blend_draws(rows) == [Draw(1, look=Look.TWIN), Draw(1, look=Look.BLEND)]
    blends = {d.row for d in sampler_of(rows, self_blend=0.9).draws(0) if d.look is not Look.PLAIN}
    assert blends == {1}


@given(
    num_draws=st.integers(1, 60),
    num_processes=st.integers(1, 8),
    per_process=st.integers(1, 5),
)
def test_processes_share_every_batch_of_the_epoch(
    num_draws: int, num_processes: int, per_process: int
) -> None:
    assume(num_draws >= num_processes)
    draws = [Draw(n) for n in range(num_draws)]
    size = per_process * num_processes
    shares = [
        take_process_share(draws, batch_size=size, num_processes=num_processes, rank=rank)
        for rank in range(num_processes)
    ]
    assert {len(share) for share in shares} == {math.ceil(num_draws / num_processes)}
    counts = Counter(itertools.chain.from_iterable(shares))
    missing = -num_draws % num_processes
    assert counts == Counter(draws) + Counter(draws[:missing])
    # Step by step the processes together see what one process would.
    for step in range(math.ceil(num_draws / size)):
        together = {d for s in shares for d in s[step * per_process : (step + 1) * per_process]}
        assert together >= set(draws[step * size : (step + 1) * size])
