"""CPU time by stage: each second counted once, for the innermost stage."""

import itertools

import pytest

from tasks.faces.stopwatch import Stopwatch


@pytest.fixture(autouse=True)
def _one_second_per_look(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr("time.process_time", lambda: float(next(ticks)))


def test_stopwatch_inner_stage_stops_the_outer_one() -> None:
    watch = Stopwatch()
    with watch.stage("outer"), watch.stage("inner"):
        pass
    # A look on entering and leaving each: outer - inner - outer.
    assert watch.seconds == {"outer": 2, "inner": 1}


def test_stopwatch_time_outside_of_stages_counts_for_none() -> None:
    watch = Stopwatch()
    for _ in range(3):
        with watch.stage("only"):
            pass
    assert watch.seconds == {"only": 3}


def test_stopwatch_stage_that_fails_is_left() -> None:
    watch = Stopwatch()
    with pytest.raises(ValueError, match="bad"), watch.stage("first"):
        raise ValueError("bad")
    with watch.stage("second"):
        pass
    assert watch.seconds == {"first": 1, "second": 1}


def test_stopwatch_within_counts_what_it_takes_to_get_each_item() -> None:
    watch = Stopwatch()
    pulled = []
    for item in watch.within("detect", watch.within("decode", "abc")):
        pulled.append(item)
        with watch.stage("crop"):
            pass
    assert pulled == ["a", "b", "c"]
    # Three items and the end: each takes one second of decoding, with one before and one after.
    assert watch.seconds == {"decode": 4, "detect": 8, "crop": 3}
