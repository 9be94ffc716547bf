"""May a challenger replace the champion? Rules over the same held-out videos, each with its number.

- Suites: the *frozen* videos, which were held out when the champion was trained, and the *recent*
  ones that came since. A challenger must not be worse than chance explains on any of them.
- The difference of AUC has the interval of a paired bootstrap over groups: what makes videos hard
  is hard for both models.
- False alarms come first: a model that finds more and calls more real videos fake is no better.
- Equal models are not exchanged.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.evaluation import evaluate_table
from models.metrics import Interval, paired_difference
from reelcheck.card import Calibration
from reelcheck.config import GateSettings
from storage.tables import Row
from tasks.answers import score_columns, score_table


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One condition, and whether it is met."""

    name: str
    value: float | None
    """What was measured; None: it could not be."""
    limit: str
    """What it must be."""
    passed: bool


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether the challenger is promoted, and why."""

    promoted: bool
    reason: str
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model and its answers."""

    name: str
    rows: Sequence[Row]
    """Of the test part (``storage.schemas.EVALUATED``), sorted by video id."""
    calibration: Calibration


def decide(
    challenger: Candidate,
    champion: Candidate | None,
    *,
    frozen: Iterable[str] = (),
    settings: GateSettings,
) -> Decision:
    """Judge a challenger.

    Args:
        challenger: the new model.
        champion: the model in use, with answers on the same videos; None: there is none.
        frozen: ids of the videos that were in the test part when the champion was trained.
        settings: the limits.
    """
    if champion is None:
        rules = _first_rules(challenger, settings)
    else:
        rules = _rules(challenger, champion, set(frozen), settings)
    failed = [rule for rule in rules if not rule.passed]
    if not failed:
        better = "the first model" if champion is None else f"better than {champion.name}"
        return Decision(promoted=True, reason=f"{challenger.name} is {better}", rules=rules)
    words = (f"{rule.name} is {_shown(rule.value)}, must be {rule.limit}" for rule in failed)
    return Decision(promoted=False, reason="; ".join(words), rules=rules)


def _first_rules(challenger: Candidate, settings: GateSettings) -> tuple[Rule, ...]:
    auc = evaluate_table(score_table(challenger.rows), challenger.calibration)["metrics"]["auc"]
    return (_at_least("AUC of the first model", auc, settings.min_first_auc),)


def _rules(
    challenger: Candidate, champion: Candidate, frozen: set[str], settings: GateSettings
) -> tuple[Rule, ...]:
    new, old = (
        evaluate_table(score_table(model.rows), model.calibration)
        for model in (challenger, champion)
    )
    suites = {
        "frozen videos": [n for n, row in enumerate(champion.rows) if row["video_id"] in frozen],
        "recent videos": [
            n for n, row in enumerate(champion.rows) if row["video_id"] not in frozen
        ],
    }
    changes = {
        name: change
        for name, places in suites.items()
        if (change := _auc_change(challenger.rows, champion.rows, places)) is not None
    }
    means = [change.value for change in changes.values()]
    rules = [
        _at_least(f"lower end of the AUC's change on {name}", change.low, settings.min_auc_change)
        for name, change in changes.items()
    ]
    rules.append(_more_than("mean change of AUC", float(np.mean(means)) if means else None, 0.0))
    drop = _generator_change(new, old)
    if drop is not None:
        rules.append(
            _at_least("change of AUC on the worst generator", drop, -settings.max_generator_drop)
        )
    alarms = _difference(new["false_alarms"]["share"], old["false_alarms"]["share"])
    rules.append(_at_most("change of false alarms", alarms, settings.max_false_alarm_rise))
    ece, old_ece = new["metrics"]["ece"], old["metrics"]["ece"]
    rules.append(_at_most("expected calibration error", ece, max(settings.max_ece, old_ece or 0.0)))
    rules.append(
        _at_least("change of coverage", _difference(new["coverage"], old["coverage"]), 0.0)
    )
    return tuple(rules)


def _auc_change(
    challenger: Sequence[Row], champion: Sequence[Row], places: Sequence[int]
) -> Interval | None:
    """With its interval, on videos that both have a score for; None where it is undefined."""
    pairs = [
        (champion[n], challenger[n])
        for n in places
        if champion[n]["score"] is not None and challenger[n]["score"] is not None
    ]
    before, labels, groups = score_columns([old for old, _ in pairs])
    after, _, _ = score_columns([new for _, new in pairs])
    return paired_difference(before, after, labels, groups, seed=0)


def _generator_change(new: Mapping[str, Any], old: Mapping[str, Any]) -> float | None:
    """The lowest, over generators with an AUC both times; None where there is none."""
    before = {row["name"]: row["auc"] for row in old["by"]["generator"]}
    changes = [
        row["auc"] - before[row["name"]]
        for row in new["by"]["generator"]
        if row["auc"] is not None and before.get(row["name"]) is not None
    ]
    return min(changes, default=None)


def _difference(new: float | None, old: float | None) -> float | None:
    return None if new is None or old is None else new - old


def _rule(name: str, value: float | None, limit: str, holds: Callable[[float], bool]) -> Rule:
    return Rule(name=name, value=value, limit=limit, passed=value is not None and holds(value))


def _at_least(name: str, value: float | None, limit: float) -> Rule:
    return _rule(name, value, f"at least {limit:g}", lambda found: found >= limit)


def _at_most(name: str, value: float | None, limit: float) -> Rule:
    return _rule(name, value, f"at most {limit:g}", lambda found: found <= limit)


def _more_than(name: str, value: float | None, limit: float) -> Rule:
    return _rule(name, value, f"more than {limit:g}", lambda found: found > limit)


def _shown(value: float | None) -> str:
    return "not to be measured" if value is None else f"{value:.4f}"
