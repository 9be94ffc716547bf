"""Deal components to train, val and test: by chance, balanced by label, or by date.

A component is a set of videos that stay together; where it goes is decided once for all of it.
"""

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence, Set
from datetime import date

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from reelcheck.config import SplitSettings
from reelcheck.errors import StoreError


def deal_balanced(
    labels: Sequence[int], components: Sequence[str], parts: Set[str], settings: SplitSettings
) -> dict[str, str]:
    """Parts of some videos' components: test first, then val from what is left, the rest to train.

    Args:
        labels: one per video.
        components: one per video.
        parts: which of val and test there are to fill.
        settings: fractions and seed.

    Raises:
        StoreError: too few components of one label.
    """
    dealt = dict.fromkeys(components, "train")
    for part, fraction in (
        ("test", settings.test_fraction),
        ("val", settings.val_fraction / (1 - settings.test_fraction)),
    ):
        if part in parts and dealt:
            rest = [n for n, component in enumerate(components) if dealt[component] == "train"]
            taken = _take(labels, components, rest, fraction, settings.seed)
            dealt |= {components[place]: part for place in taken}
    return dealt


def deal_by_name(
    components: Collection[str], parts: Set[str], settings: SplitSettings
) -> dict[str, str]:
    """Parts of components one by one, by a hash of their name: independent of what came with."""
    dealt = {}
    for component in components:
        digest = hashlib.sha256(f"{settings.seed} {component}".encode()).digest()
        place = int.from_bytes(digest[:8]) / 2**64
        if "test" not in parts:
            place = settings.test_fraction + place * (1 - settings.test_fraction)
        if place < settings.test_fraction:
            dealt[component] = "test"
        elif "val" in parts and place < settings.test_fraction + settings.val_fraction:
            dealt[component] = "val"
        else:
            dealt[component] = "train"
    return dealt


def with_dates(settings: SplitSettings, newest: Mapping[str, str]) -> SplitSettings:
    """The settings with the days on which val and test begin, chosen where they are not given.

    Args:
        settings: by_date is true.
        newest: component -> date of its newest video, as YYYY-MM-DD.
    """
    if settings.test_from is not None:
        return settings
    test_share, val_share = settings.test_fraction, settings.val_fraction
    test_from = _date_of_share(newest, test_share)
    val_from = _date_of_share(
        {name: day for name, day in newest.items() if day < test_from}, val_share / (1 - test_share)
    )
    days = {"val_from": date.fromisoformat(val_from), "test_from": date.fromisoformat(test_from)}
    return settings.model_copy(update=days)


def part_of_date(day: str, settings: SplitSettings) -> str:
    """Where a video of this day belongs, as YYYY-MM-DD."""
    if settings.test_from is not None and day >= settings.test_from.isoformat():
        return "test"
    if settings.val_from is not None and day >= settings.val_from.isoformat():
        return "val"
    return "train"


def _date_of_share(newest: Mapping[str, str], share: float) -> str:
    """The latest date from which on there is at least such a share of the components.

    Raises:
        StoreError: there are none.
    """
    days = sorted(newest.values(), reverse=True)
    if not days:
        raise StoreError(
            "by_date = true, but the videos are of too few days to divide; give val_from and "
            "test_from, or divide by chance"
        )
    return days[min(len(days), math.ceil(share * len(days))) - 1]


def _take(
    labels: Sequence[int],
    components: Sequence[str],
    places: Sequence[int],
    fraction: float,
    seed: int,
) -> set[int]:
    """The fold of about this fraction whose size and balance come closest to the whole."""
    labels_P = np.array([labels[place] for place in places])
    groups_P = np.array([components[place] for place in places])
    num_groups = len(set(groups_P.tolist()))
    num_folds = min(round(1 / fraction), num_groups, int(np.bincount(labels_P, minlength=2).min()))
    if num_folds < 2:
        raise StoreError(
            f"cannot split {len(places)} videos in {num_groups} unconnected groups "
            f"({int((labels_P == 0).sum())} real, {int((labels_P == 1).sum())} fake): both labels "
            "are needed, in several groups each. Add videos, or correct the group column of the "
            "labels; videos that look alike count as one group"
        )
    folds = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    parts = [part for _, part in folds.split(labels_P, labels_P, groups_P)]
    best = min(parts, key=lambda part: _deviation(labels_P, part, fraction))
    return {places[place] for place in best}


def _deviation(labels_P: NDArray[np.int64], part: NDArray[np.int64], fraction: float) -> float:
    wanted = np.bincount(labels_P, minlength=2) * fraction
    return float(np.abs(np.bincount(labels_P[part], minlength=2) - wanted).sum())
