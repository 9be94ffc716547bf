"""Are the videos that come in like those that came before? Numbers that inform and decide nothing.

- What is continuous or a kind: the population stability index, the sum over bins of (new - old)
  ln(new / old) in shares. By the usual rule of thumb (Siddiqi 2006, *Credit Risk Scorecards*) below
  .1 nothing has changed, from .25 on much has.
- That rule knows no sample size. Of equal populations the index is about chi-squared with
  (bins - 1) degrees of freedom times (1 / old + 1 / new) (Yurdakul 2018, *Statistical Properties of
  Population Stability Index*): what chance reaches in one of twenty cases is no change either.
- Shares of videos without an answer: with their intervals; a change where these are apart.
- Videos of one component are alike: it counts as one in what chance does, and with fewer than
  ``MIN_GROUPS`` of them on either side nothing is claimed.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from models.metrics import Interval, group_bootstrap_share
from reelcheck.status import Status
from storage.tables import Row

SOME_FROM, MUCH_FROM = 0.1, 0.25
"""Population stability index."""
MIN_GROUPS = 30
_MAX_BINS = 10
_GROUPS_PER_BIN = 5
_OTHER = "other"
_UNKNOWN = "unknown"

Verdict = Literal["like before", "some change", "changed", "too few videos"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """How many videos and components are compared."""

    videos: int
    components: int


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Values that count as one, and the share of the videos that have them."""

    name: str
    old: float
    new: float


@dataclass(frozen=True, kw_only=True)
class Shift:
    """How the distribution of a quantity or a kind has moved."""

    name: str
    old: Sample
    new: Sample
    psi: float | None
    """Population stability index; None: nothing to compare."""
    by_chance: float | None
    """What chance alone stays below in 95 % of cases."""
    verdict: Verdict
    bins: tuple[Bin, ...]


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How a share of the videos has moved."""

    name: str
    old: Interval | None
    new: Interval | None
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class Drift:
    """What was found."""

    old: Sample
    new: Sample
    shifts: tuple[Shift, ...]
    rates: tuple[Rate, ...]

    @property
    def summary(self) -> str:
        """One line."""
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


def drift(old: Sequence[Row], new: Sequence[Row]) -> Drift:
    """Compare two sets of videos.

    Args:
        old: rows of ``storage.schemas.EVALUATED``: what a model says of videos, and what is known.
        new: the same, of the same model.
    """
    return Drift(
        old=_sample(old),
        new=_sample(new),
        shifts=(
            _shift("score", *(_values(rows, "score") for rows in (old, new))),
            _shift("score of real videos", *(_values(rows, "score", 0) for rows in (old, new))),
            _shift("score of fakes", *(_values(rows, "score", 1) for rows in (old, new))),
            _shift("face size", *(_values(rows, "face_pixels") for rows in (old, new))),
            _shift("resolution", *(_short_sides(rows) for rows in (old, new))),
            _mix("codec", old, new),
            _mix("container", old, new),
        ),
        rates=tuple(_rate(status, old, new) for status in _failures([*old, *new])),
    )


def population_stability(old: NDArray[np.int64], new: NDArray[np.int64]) -> float:
    """The index of two vectors of counts per bin.

    Half a video is added to each bin: one that is empty on one side only is no infinite change.
    """
    before, after = ((counts + 0.5) / (counts + 0.5).sum() for counts in (old, new))
    return float(np.sum((after - before) * np.log(after / before)))


def stability_by_chance(num_old: int, num_new: int, num_bins: int) -> float:
    """What the index of two samples of one population stays below in 95 % of cases."""
    return float(chi2.ppf(0.95, num_bins - 1)) * (1 / num_old + 1 / num_new)


_Values = list[tuple[float, str]]
"""A value and its component."""


def _values(rows: Sequence[Row], column: str, label: int | None = None) -> _Values:
    return [
        (row[column], row["component"])
        for row in rows
        if row[column] is not None and label in {None, row["label"]}
    ]


def _short_sides(rows: Sequence[Row]) -> _Values:
    return [
        (min(row["width"], row["height"]), row["component"])
        for row in rows
        if row["width"] and row["height"]
    ]


def _shift(name: str, old: _Values, new: _Values) -> Shift:
    """In bins that hold the same number of videos each, old and new together."""
    samples = _counted(old), _counted(new)
    num_bins = min(_MAX_BINS, min(each.components for each in samples) // _GROUPS_PER_BIN)
    if num_bins < 2:
        nothing = np.zeros(0, np.int64)
        return _compared(name, samples, [], nothing, nothing)
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
    return _compared(name, samples, names, *counts)


def _mix(column: str, old: Sequence[Row], new: Sequence[Row]) -> Shift:
    """Of the most frequent kinds; all others are one."""
    kinds = [Counter(str(row[column] or _UNKNOWN) for row in rows) for rows in (old, new)]
    names = [name for name, _ in (kinds[0] + kinds[1]).most_common()]
    kept, rest = names[: _MAX_BINS - 1], names[_MAX_BINS - 1 :]
    counts = [
        [*(kind[name] for name in kept), *([sum(kind[n] for n in rest)] if rest else [])]
        for kind in kinds
    ]
    named = [*kept, *([_OTHER] if rest else [])]
    before, after = (np.array(each, dtype=np.int64) for each in counts)
    return _compared(column, (_sample(old), _sample(new)), named, before, after)


def _compared(
    name: str,
    samples: tuple[Sample, Sample],
    names: Sequence[str],
    old: NDArray[np.int64],
    new: NDArray[np.int64],
) -> Shift:
    psi = by_chance = None
    if old.sum() and new.sum():
        psi = population_stability(old, new)
        num_old, num_new = (each.components for each in samples)
        by_chance = stability_by_chance(num_old, num_new, len(names)) if len(names) > 1 else 0.0
    return Shift(
        name=name,
        old=samples[0],
        new=samples[1],
        psi=psi,
        by_chance=by_chance,
        verdict=_verdict(psi, by_chance, samples),
        bins=tuple(
            Bin(name=each, old=int(a) / max(1, int(old.sum())), new=int(b) / max(1, int(new.sum())))
            for each, a, b in zip(names, old, new, strict=True)
        ),
    )


def _verdict(psi: float | None, by_chance: float | None, samples: tuple[Sample, Sample]) -> Verdict:
    if psi is None or by_chance is None or _is_small(samples):
        return "too few videos"
    if psi < SOME_FROM or psi <= by_chance:
        return "like before"
    return "changed" if psi >= MUCH_FROM else "some change"


def _rate(status: str, old: Sequence[Row], new: Sequence[Row]) -> Rate:
    before, after = (
        group_bootstrap_share(
            np.array([row["status"] == status for row in rows], dtype=np.bool_),
            np.array([row["component"] for row in rows], dtype=str),
            seed=0,
        )
        for rows in (old, new)
    )
    verdict: Verdict = "too few videos"
    if before is not None and after is not None and not _is_small((_sample(old), _sample(new))):
        is_apart = before.high < after.low or after.high < before.low
        verdict = "changed" if is_apart else "like before"
    return Rate(name=status, old=before, new=after, verdict=verdict)


def _failures(rows: Sequence[Row]) -> list[str]:
    """Statuses that occur; that of no face always."""
    found = {str(row["status"]) for row in rows} - {str(Status.OK), str(Status.NO_FACE)}
    return [str(Status.NO_FACE), *sorted(found)]


def _is_small(samples: tuple[Sample, Sample]) -> bool:
    return min(each.components for each in samples) < MIN_GROUPS


def _sample(rows: Sequence[Row]) -> Sample:
    return Sample(videos=len(rows), components=len({row["component"] for row in rows}))


def _counted(values: _Values) -> Sample:
    return Sample(videos=len(values), components=len({component for _, component in values}))
