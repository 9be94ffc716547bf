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
    labels: Sequence[int], components: Sequence[str], splits: Set[str], settings: SplitSettings
) -> dict[str, str]:
    """Deal components to splits: test first, then val from what is left, the rest to train.

    Args:
        labels: one per video.
        components: one per video.
        splits: which of val and test are to be filled.
        settings: fractions and seed.

    Raises:
        StoreError: too few components of one label; each part needs one with a real and one with a
            fake video.
    """
    dealt = dict.fromkeys(components, "train")
    for split, fraction in (
        ("test", settings.test_fraction),
        ("val", settings.val_fraction / (1 - settings.test_fraction)),
    ):
        if split in splits and dealt:
            rest = [n for n, component in enumerate(components) if dealt[component] == "train"]
            taken = _take(labels, components, rest, fraction, settings.seed)
            if not taken:
                raise StoreError(_describe_lack(labels, components, num_parts=1 + len(splits)))
            dealt |= {components[position]: split for position in taken}
    return dealt


def deal_by_name(
    components: Collection[str], splits: Set[str], settings: SplitSettings
) -> dict[str, str]:
    """Deal components one by one, by a hash of the name: none depends on the others."""
    dealt = {}
    for component in components:
        digest = hashlib.sha256(f"{settings.seed} {component}".encode()).digest()
        position = int.from_bytes(digest[:8]) / 2**64
        if "test" not in splits:
            position = settings.test_fraction + position * (1 - settings.test_fraction)
        if position < settings.test_fraction:
            dealt[component] = "test"
        elif "val" in splits and position < settings.test_fraction + settings.val_fraction:
            dealt[component] = "val"
        else:
            dealt[component] = "train"
    return dealt


def choose_dates(settings: SplitSettings, newest: Mapping[str, str]) -> SplitSettings:
    """Choose the days on which val and test begin, unless the settings give them.

    Args:
        settings: settings with by_date = true.
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


def split_of_date(day: str, settings: SplitSettings) -> str:
    """The split to which a video of this day, YYYY-MM-DD, belongs."""
    if settings.test_from is not None and day >= settings.test_from.isoformat():
        return "test"
    if settings.val_from is not None and day >= settings.val_from.isoformat():
        return "val"
    return "train"


def _date_of_share(newest: Mapping[str, str], share: float) -> str:
    """The latest date from which on there is at least this share of the components.

    Raises:
        StoreError: there are no components.
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
    positions: Sequence[int],
    fraction: float,
    seed: int,
) -> set[int]:
    """Positions of the fold of about this fraction that is most like all videos in its labels.

    There is no fold where one label, or the number of components, is too small to be divided.
    """
    labels_P = np.array([labels[position] for position in positions])
    groups_P = np.array([components[position] for position in positions])
    num_groups = len(set(groups_P.tolist()))
    num_folds = min(round(1 / fraction), num_groups, int(np.bincount(labels_P, minlength=2).min()))
    if num_folds < 2:
        return set()
    folds = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    held_out = [fold for _, fold in folds.split(labels_P, labels_P, groups_P)]
    best = min(held_out, key=lambda fold: _measure_deviation(labels_P, fold, fraction))
    return {positions[n] for n in best}


def _measure_deviation(
    labels_P: NDArray[np.int64], fold: NDArray[np.int64], fraction: float
) -> float:
    wanted = np.bincount(labels_P, minlength=2) * fraction
    return float(np.abs(np.bincount(labels_P[fold], minlength=2) - wanted).sum())


def _describe_lack(labels: Sequence[int], components: Sequence[str], *, num_parts: int) -> str:
    """Describe what was found, what a division needs, and what to do."""
    pairs = set(zip(labels, components, strict=True))
    num_real, num_fake = (sum(label == wanted for label, _ in pairs) for wanted in (0, 1))
    return (
        f"cannot split {len(labels)} videos ({len(labels) - sum(labels)} real, {sum(labels)} fake) "
        f"in {len(set(components))} unconnected groups ({num_real} with real videos, {num_fake} "
        f"with fake ones): both labels are needed, in {num_parts} groups each or more, one for "
        "each part. Add videos of more people, or correct the group column of the labels; videos "
        "that look alike count as one group"
    )
