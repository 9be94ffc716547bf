"""Deal components to train, val and test: by chance, balanced by label, or by date.

A component is a set of videos that stay together; where it goes is decided once for all of it.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence, Set

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


def deal_by_date(
    newest: Mapping[str, str],
    before: Mapping[str, str],
    sizes: Mapping[str, int],
    settings: SplitSettings,
) -> dict[str, str]:
    """Parts of all components by their newest video: the last are test, those before them val.

    A component is as new as its newest video, so that nothing in train is from after a date on
    which val or test begins. These two dates are set once: later videos are dealt by them.

    Args:
        newest: component -> date of its newest video, as YYYY-MM-DD.
        before: component -> part, of an earlier run.
        sizes: component -> number of videos.
        settings: fractions.
    """
    by_date: Counter[str] = Counter()
    for component, date in newest.items():
        by_date[date] += sizes[component]
    earlier: dict[str, list[str]] = {"val": [], "test": []}
    for component, part in before.items():
        if part in earlier and component in newest:
            earlier[part].append(newest[component])
    test_share, val_share = settings.test_fraction, settings.val_fraction
    test_from = min(earlier["test"], default=_date_of_share(by_date, test_share))
    val_from = min(earlier["val"], default=_date_of_share(by_date, test_share + val_share))
    return {
        component: "test" if date >= test_from else "val" if date >= val_from else "train"
        for component, date in newest.items()
    }


def _date_of_share(by_date: Mapping[str, int], share: float) -> str:
    """The latest date from which on there is at least such a share of the videos."""
    wanted = share * sum(by_date.values())
    num_after = 0
    for date in sorted(by_date, reverse=True):
        num_after += by_date[date]
        if num_after >= wanted:
            return date
    return ""  # there are no videos


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
