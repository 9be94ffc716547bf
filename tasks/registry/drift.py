"""Drift: how new videos differ from those before. The numbers inform and decide nothing.

- Numbers and kinds are compared by the population stability index, the sum over bins of (new - old)
  ln(new / old) in shares. By the usual rule of thumb (Siddiqi 2006, *Credit Risk Scorecards*) below
  .1 nothing has changed, from .25 on much has.
- That rule ignores sample sizes. For equal populations the index is about chi-squared with
  (bins - 1) degrees of freedom times (1 / old + 1 / new) (Yurdakul 2018, *Statistical Properties of
  Population Stability Index*): an index that chance reaches in one of twenty cases is no change.
- Shares of videos without a prediction have intervals: a change is claimed where the intervals
  do not overlap.
- Videos of one component are alike: a component counts once, and with fewer than ``MIN_GROUPS``
  components on either side no change is claimed.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from models.metrics.metrics import Interval, bootstrap_share
from reelcheck.status import Status
from storage.rows import EvaluatedRow

SOME_FROM, MUCH_FROM = 0.1, 0.25
"""Values of the population stability index."""
MIN_GROUPS = 30
_MAX_BINS = 10
_GROUPS_PER_BIN = 5
_OTHER = "other"
_UNKNOWN = "unknown"

Verdict = Literal["like before", "some change", "changed", "too few videos"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Number of videos and components that are compared."""

    videos: int
    components: int


@dataclass(frozen=True, kw_only=True)
class Bin:
    """A range of values or a kind, and its share of the videos."""

    name: str
    old: float
    new: float


@dataclass(frozen=True, kw_only=True)
class Shift:
    """The change of the distribution of a number or a kind."""

    name: str
    old: Sample
    new: Sample
    psi: float | None
    """Population stability index; None: nothing to compare."""
    by_chance: float | None
    """Chance alone stays below this index in 95 % of cases."""
    verdict: Verdict
    bins: tuple[Bin, ...]


@dataclass(frozen=True, kw_only=True)
class Rate:
    """The change of a share of the videos."""

    name: str
    old: Interval | None
    new: Interval | None
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class Drift:
    """The comparison of new videos with those before."""

    old: Sample
    new: Sample
    shifts: tuple[Shift, ...]
    rates: tuple[Rate, ...]

    @property
    def summary(self) -> str:
        """The result in one line."""
        compared: list[Shift | Rate] = [*self.shifts, *self.rates]
        changed = [
            f"{each.name} ({each.verdict})"
            for each in compared
            if each.verdict in {"some change", "changed"}
        ]
        if changed:
            return f"new videos differ in {', '.join(changed)}"
        if min(self.old.components, self.new.components) < MIN_GROUPS:
            return (
                f"too few videos to tell: {self.old.components} components before, "
                f"{self.new.components} new, {MIN_GROUPS} needed of each"
            )
        return "new videos are like those before"


def measure_drift(old: Sequence[EvaluatedRow], new: Sequence[EvaluatedRow]) -> Drift:
    """Compare two sets of videos.

    Args:
        old: predictions for the videos before.
        new: predictions of the same model for the new videos.
    """
    return Drift(
        old=_count_rows(old),
        new=_count_rows(new),
        shifts=(
            _compare_values("score", *(_take_values(rows, "score") for rows in (old, new))),
            _compare_values(
                "score of real videos", *(_take_values(rows, "score", 0) for rows in (old, new))
            ),
            _compare_values(
                "score of fakes", *(_take_values(rows, "score", 1) for rows in (old, new))
            ),
            _compare_values(
                "face size", *(_take_values(rows, "face_pixels") for rows in (old, new))
            ),
            _compare_values("resolution", *(_take_short_sides(rows) for rows in (old, new))),
            _compare_kinds("codec", old, new),
            _compare_kinds("container", old, new),
        ),
        rates=tuple(_compare_rate(status, old, new) for status in _list_failures([*old, *new])),
    )


def measure_stability(old: NDArray[np.int64], new: NDArray[np.int64]) -> float:
    """Measure the stability index of two vectors of counts per bin.

    Half a video is added to each bin: a bin that is empty on one side is no infinite change.
    """
    before, after = ((counts + 0.5) / (counts + 0.5).sum() for counts in (old, new))
    return float(np.sum((after - before) * np.log(after / before)))


def bound_chance_stability(num_old: int, num_new: int, num_bins: int) -> float:
    """Compute the bound that two samples of one population stay below in 95 % of cases."""
    return float(chi2.ppf(0.95, num_bins - 1)) * (1 / num_old + 1 / num_new)


_Values = list[tuple[float, str]]
"""A value and its component."""


def _take_values(
    rows: Sequence[EvaluatedRow],
    column: Literal["score", "face_pixels"],
    label: int | None = None,
) -> _Values:
    return [
        (value, row["component"])
        for row in rows
        if (value := row[column]) is not None and label in {None, row["label"]}
    ]


def _take_short_sides(rows: Sequence[EvaluatedRow]) -> _Values:
    return [
        (min(row["width"], row["height"]), row["component"])
        for row in rows
        if row["width"] and row["height"]
    ]


def _compare_values(name: str, old: _Values, new: _Values) -> Shift:
    """Compare values in bins that hold equal numbers of videos, old and new together."""
    samples = _count_values(old), _count_values(new)
    num_bins = min(_MAX_BINS, min(each.components for each in samples) // _GROUPS_PER_BIN)
    if num_bins < 2:
        nothing = np.zeros(0, np.int64)
        return _make_shift(name, samples, [], nothing, nothing)
    before, after = (np.array([value for value, _ in side], np.float64) for side in (old, new))
    together = np.concatenate([before, after])
    edges = np.unique(np.quantile(together, np.arange(1, num_bins) / num_bins))
    # Where a value is frequent it is an edge; below the lowest value there is no bin.
    edges = edges[edges > together.min()]
    counts = (
        np.bincount(np.searchsorted(edges, side, side="right"), minlength=len(edges) + 1)
        for side in (before, after)
    )
    texts = [f"{edge:.3g}" for edge in edges]
    between = [f"{low} to {high}" for low, high in itertools.pairwise(texts)]
    names = [f"< {texts[0]}", *between, f">= {texts[-1]}"] if texts else ["all"]
    return _make_shift(name, samples, names, *counts)


def _compare_kinds(
    column: Literal["codec", "container"], old: Sequence[EvaluatedRow], new: Sequence[EvaluatedRow]
) -> Shift:
    """Compare the most frequent kinds; all others count as one kind."""
    kinds = [Counter(str(row[column] or _UNKNOWN) for row in rows) for rows in (old, new)]
    names = [name for name, _ in (kinds[0] + kinds[1]).most_common()]
    kept, rest = names[: _MAX_BINS - 1], names[_MAX_BINS - 1 :]
    counts = [
        [*(kind[name] for name in kept), *([sum(kind[n] for n in rest)] if rest else [])]
        for kind in kinds
    ]
    named = [*kept, *([_OTHER] if rest else [])]
    before, after = (np.array(each, dtype=np.int64) for each in counts)
    return _make_shift(column, (_count_rows(old), _count_rows(new)), named, before, after)


def _make_shift(
    name: str,
    samples: tuple[Sample, Sample],
    names: Sequence[str],
    old: NDArray[np.int64],
    new: NDArray[np.int64],
) -> Shift:
    psi = by_chance = None
    if old.sum() and new.sum():
        psi = measure_stability(old, new)
        num_old, num_new = (each.components for each in samples)
        by_chance = bound_chance_stability(num_old, num_new, len(names)) if len(names) > 1 else 0.0
    return Shift(
        name=name,
        old=samples[0],
        new=samples[1],
        psi=psi,
        by_chance=by_chance,
        verdict=_decide_verdict(psi, by_chance, samples),
        bins=tuple(
            Bin(name=each, old=int(a) / max(1, int(old.sum())), new=int(b) / max(1, int(new.sum())))
            for each, a, b in zip(names, old, new, strict=True)
        ),
    )


def _decide_verdict(
    psi: float | None, by_chance: float | None, samples: tuple[Sample, Sample]
) -> Verdict:
    if psi is None or by_chance is None or _is_small(samples):
        return "too few videos"
    if psi < SOME_FROM or psi <= by_chance:
        return "like before"
    return "changed" if psi >= MUCH_FROM else "some change"


def _compare_rate(status: str, old: Sequence[EvaluatedRow], new: Sequence[EvaluatedRow]) -> Rate:
    before, after = (
        bootstrap_share(
            np.array([row["status"] == status for row in rows], dtype=np.bool_),
            np.array([row["component"] for row in rows], dtype=str),
            seed=0,
        )
        for rows in (old, new)
    )
    verdict: Verdict = "too few videos"
    if (
        before is not None
        and after is not None
        and not _is_small((_count_rows(old), _count_rows(new)))
    ):
        is_apart = before.high < after.low or after.high < before.low
        verdict = "changed" if is_apart else "like before"
    return Rate(name=status, old=before, new=after, verdict=verdict)


def _list_failures(rows: Sequence[EvaluatedRow]) -> list[str]:
    """List the statuses that occur, and always that of no face."""
    occurring = {str(row["status"]) for row in rows} - {str(Status.OK), str(Status.NO_FACE)}
    return [str(Status.NO_FACE), *sorted(occurring)]


def _is_small(samples: tuple[Sample, Sample]) -> bool:
    return min(each.components for each in samples) < MIN_GROUPS


def _count_rows(rows: Sequence[EvaluatedRow]) -> Sample:
    return Sample(videos=len(rows), components=len({row["component"] for row in rows}))


def _count_values(values: _Values) -> Sample:
    return Sample(videos=len(values), components=len({component for _, component in values}))
