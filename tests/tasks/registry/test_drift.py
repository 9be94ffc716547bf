"""Drift: found where it is, not where chance is, and never claimed of a handful of videos."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import entropy

from storage.checkpoints import set_champion
from storage.layout import RegistryLayout, StoreLayout
from storage.schemas import EVALUATED
from storage.tables import Row
from tasks.registry.drift import (
    MIN_GROUPS,
    Drift,
    Rate,
    Shift,
    bound_chance_stability,
    measure_drift,
    measure_stability,
)
from tasks.registry.drift_plot import draw_drift
from tasks.registry.drift_report import format_drift, report_drift

COUNTS = hnp.arrays(np.int64, st.integers(2, 12), elements=st.integers(0, 10_000))


@given(COUNTS, st.randoms(use_true_random=False))
def test_index_is_the_sum_of_both_divergences(old: Any, random: Any) -> None:
    new = np.array([random.randint(0, 1000) for _ in old])
    found = measure_stability(old, new)
    before, after = old + 0.5, new + 0.5
    # SciPy normalises both, and gives the divergence of Kullback and Leibler.
    assert found == pytest.approx(entropy(before, after) + entropy(after, before), abs=1e-9)
    assert found >= 0
    assert measure_stability(new, old) == pytest.approx(found, abs=1e-12)
    order = np.argsort(old, kind="stable")
    assert measure_stability(old[order], new[order]) == pytest.approx(found)


@given(COUNTS)
def test_index_of_the_same_counts_is_nothing(counts: Any) -> None:
    assert measure_stability(counts, counts) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("num_old", "num_new", "num_bins"), [(60, 60, 5), (300, 80, 10)])
def test_equal_populations_stay_below_chance_in_95_of_100_cases(
    num_old: int, num_new: int, num_bins: int
) -> None:
    rng = np.random.default_rng(0)
    shares = np.full(num_bins, 1 / num_bins)
    limit = bound_chance_stability(num_old, num_new, num_bins)
    found = [
        measure_stability(rng.multinomial(num_old, shares), rng.multinomial(num_new, shares))
        for _ in range(4000)
    ]
    assert np.mean([each > limit for each in found]) == pytest.approx(0.05, abs=0.02)


def videos(
    count: int, *, seed: int, mean: float = 0.0, per_component: int = 1, **columns: Any
) -> list[Row]:
    """Rows with normal logits and sizes; a column may be a value or a function of the number."""
    rng = np.random.default_rng(seed)
    return [
        {
            **dict.fromkeys(EVALUATED.names),
            "video_id": f"{seed}-{n}",
            "component": f"{seed}-{n // per_component}",
            "label": n % 2,
            "status": "ok",
            "score": float(1 / (1 + np.exp(-rng.normal(mean)))),
            "face_pixels": float(rng.uniform(60, 200)),
            "width": 640,
            "height": 360,
            "codec": "h264",
            "container": "mov",
            **{key: value(n) if callable(value) else value for key, value in columns.items()},
        }
        for n in range(count)
    ]


def shift(found: Drift, name: str) -> Shift:
    [one] = [each for each in found.shifts if each.name == name]
    return one


def rate(found: Drift, name: str) -> Rate:
    [one] = [each for each in found.rates if each.name == name]
    return one


def test_videos_of_one_kind_do_not_differ() -> None:
    found = measure_drift(videos(300, seed=1), videos(200, seed=2))
    assert found.summary == "new videos are like those before"
    assert {each.verdict for each in found.shifts} == {"like before"}


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        ({"mean": 2.0}, "score"),
        ({"face_pixels": lambda n: 30.0 + n % 50}, "face size"),
        ({"codec": "hevc"}, "codec"),
        ({"container": lambda n: "webm" if n % 2 else "mov"}, "container"),
        # All videos before had the same one: there is no spread to measure by.
        ({"height": 1080, "width": 1920}, "resolution"),
        ({"codec": None}, "codec"),
    ],
)
def test_what_has_moved_is_named(columns: dict[str, Any], name: str) -> None:
    found = measure_drift(videos(200, seed=1), videos(200, seed=2, **columns))
    moved = shift(found, name)
    assert moved.verdict == "changed"
    assert moved.psi is not None
    assert moved.psi >= 0.25
    assert f"{name} (changed)" in found.summary
    assert sum(each.new for each in moved.bins) == pytest.approx(1)
    others = {each.verdict for each in found.shifts if not each.name.startswith(name)}
    assert others == {"like before"}


def test_scores_of_reals_are_told_from_those_of_fakes() -> None:
    """More fakes among the new ones move all scores; nothing looks any different."""

    def scored(seed: int, share: float) -> list[Row]:
        rows = videos(400, seed=seed, label=lambda n: int(n % 10 < 10 * share))
        rng = np.random.default_rng(seed)
        return [
            {**row, "score": rng.beta(8, 2) if row["label"] else rng.beta(2, 8)} for row in rows
        ]

    found = measure_drift(scored(1, 0.2), scored(2, 0.8))
    assert shift(found, "score").verdict == "changed"
    assert shift(found, "score of real videos").verdict == "like before"
    assert shift(found, "score of fakes").verdict == "like before"


def test_share_of_videos_without_a_face_has_moved() -> None:
    def status(every: int) -> Callable[[int], str]:
        return lambda n: "no_face" if n % every == 0 else "ok"

    found = measure_drift(
        videos(200, seed=1, status=status(50)), videos(200, seed=2, status=status(4))
    )
    moved = rate(found, "no_face")
    assert moved.verdict == "changed"
    assert moved.old is not None
    assert moved.new is not None
    assert (moved.old.value, moved.new.value) == (0.02, 0.25)
    assert "no_face (changed)" in found.summary


@pytest.mark.parametrize(("count", "per_component"), [(MIN_GROUPS - 1, 1), (400, 20), (0, 1)])
def test_nothing_is_claimed_of_a_few_videos_or_of_a_few_people(
    count: int, per_component: int
) -> None:
    new = videos(count, seed=2, mean=5.0, codec="hevc", per_component=per_component)
    found = measure_drift(videos(200, seed=1), new)
    compared: list[Shift | Rate] = [*found.shifts, *found.rates]
    assert {each.verdict for each in compared} == {"too few videos"}
    assert found.summary.startswith("too few videos to tell: 200 components before")


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 0.25]), min_size=MIN_GROUPS, max_size=80),
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 0.75]), min_size=MIN_GROUPS, max_size=80),
)
def test_tied_values_are_binned_whole(old: list[float], new: list[float]) -> None:
    found = measure_drift(
        videos(len(old), seed=1, score=lambda n: old[n]),
        videos(len(new), seed=2, score=lambda n: new[n]),
    )
    moved = shift(found, "score")
    assert sum(each.old for each in moved.bins) == pytest.approx(1)
    assert sum(each.new for each in moved.bins) == pytest.approx(1)
    # What is constant on either side and not the same must be seen.
    if len(set(old)) == len(set(new)) == 1 and old[0] != new[0]:
        assert moved.verdict == "changed"


def test_order_of_the_videos_changes_nothing() -> None:
    old, new = videos(100, seed=1), videos(80, seed=2, mean=1.0)
    assert measure_drift(old[::-1], new[::-1]).shifts == measure_drift(old, new).shifts


@pytest.mark.parametrize("count", [0, 10, 120])
def test_picture_is_readable(
    require_readable: Callable[[Callable[[Path], None]], None], count: int
) -> None:
    new = videos(count, seed=2, mean=1.5, status=lambda n: "ok" if n % 3 else "decode_error")
    found = measure_drift(videos(150, seed=1), new)
    require_readable(lambda path: draw_drift(path, found))


@pytest.fixture
def registry(tmp_path: Path, tiny: Any, model_of: Any) -> RegistryLayout:
    """A champion of a store of 14 videos."""
    before = tiny.write_store(tmp_path / "before", tiny.three_parts())
    registry = RegistryLayout(tmp_path / "registry")
    model_of(registry.version("one").path, before)
    set_champion(registry, "one")
    return registry


def test_report_compares_new_videos_with_those_held_out(
    tmp_path: Path, tiny: Any, registry: RegistryLayout
) -> None:
    clips = [*tiny.three_parts(), *tiny.clips(2, part="later")]
    layout: StoreLayout = tiny.write_store(tmp_path / "store", clips)
    found = report_drift(layout, registry)
    assert found is not None
    assert (found.old.videos, found.new.videos) == (6, 4)
    record = json.loads(registry.drift_path.read_text(encoding="utf-8"))
    assert (record["champion"], record["summary"]) == ("one", found.summary)
    assert record["rates"][0]["old"].keys() == {"value", "low", "high"}
    assert registry.drift_plot_path.read_bytes().startswith(b"\x89PNG")
    text = format_drift(found)
    assert all(each.name in text for each in found.shifts)


def test_without_a_champion_there_is_nothing_to_compare_with(tmp_path: Path, tiny: Any) -> None:
    layout = tiny.write_store(tmp_path / "store", tiny.three_parts())
    registry = RegistryLayout(tmp_path / "registry")
    assert report_drift(layout, registry) is None
    assert not registry.drift_path.exists()


def test_champion_of_other_preprocessing_is_not_asked(
    tmp_path: Path, tiny: Any, registry: RegistryLayout
) -> None:
    other = tiny.preprocessing.model_copy(update={"margin": 2.0})
    layout = tiny.write_store(tmp_path / "store", tiny.three_parts(), settings=other)
    assert report_drift(layout, registry) is None
    assert not registry.drift_path.exists()
