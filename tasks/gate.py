"""May a challenger replace the champion? Rules over the same held-out videos, each with its number.

- Suites: the *frozen* videos, which were held out when the champion was trained, the *recent* ones
  that came since, and the *later* ones, dated after all that it learned from. A challenger must not
  be worse than chance explains on any of them.
- The difference of AUC has the interval of a paired bootstrap over groups: what makes videos hard
  is hard for both models.
- False alarms come first: a model that finds more and calls more real videos fake is no better.
- Equal models are not exchanged.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.evaluation import evaluate_table
from models.metrics import Interval, paired_difference
from reelcheck.card import Calibration
from reelcheck.config import GateSettings
from storage.tables import Row
from tasks.answers import score_columns, score_table
from tasks.footprint import Footprint

FROZEN = "frozen"
"""Name of the suite that must be measured."""


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
    needs_a_person: bool = False
    """Another run would decide the same until somebody has acted; the reason says how."""
    decided_by: str = "the gate"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model and what is known of it."""

    name: str
    rows: Sequence[Row]
    """Of the test part (``storage.schemas.EVALUATED``), sorted by video id."""
    calibration: Calibration
    perturbed: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    """The same for some of these videos after a perturbation, by its name."""
    footprint: Footprint | None = None
    """None: not measured."""


def decide(
    challenger: Candidate,
    champion: Candidate | None,
    *,
    suites: Mapping[str, Collection[str]],
    settings: GateSettings,
) -> Decision:
    """Judge a challenger.

    Args:
        challenger: the new model.
        champion: the model in use, with answers on the same videos; None: there is none.
        suites: name -> ids of videos; each is looked at by itself.
        settings: the limits.
    """
    rules = _export_rule(challenger, settings)
    if champion is None:
        rules += _first_rules(challenger, settings)
    else:
        rules += _suite_rules(challenger, champion, suites, settings)
        rules += _kind_rules(challenger, champion, settings)
        rules += _robustness_rule(challenger, champion, settings)
        rules += _cost_rules(challenger, champion, settings)
    failed = [rule for rule in rules if not rule.passed]
    if not failed:
        better = "the first model" if champion is None else f"better than {champion.name}"
        return Decision(promoted=True, reason=f"{challenger.name} is {better}", rules=tuple(rules))
    words = (f"{rule.name} is {shown(rule.value)}, must be {rule.limit}" for rule in failed)
    return Decision(promoted=False, reason="; ".join(words), rules=tuple(rules))


def _first_rules(challenger: Candidate, settings: GateSettings) -> list[Rule]:
    auc = evaluate_table(score_table(challenger.rows), challenger.calibration)["metrics"]["auc"]
    return [_at_least("AUC of the first model", auc, settings.min_first_auc)]


def _suite_rules(
    challenger: Candidate,
    champion: Candidate,
    suites: Mapping[str, Collection[str]],
    settings: GateSettings,
) -> list[Rule]:
    """Not worse on any suite, better on their mean.

    A suite of one label or of one component says nothing and is left out. Without the frozen one
    nobody would know what is lost, so that it must be measured.
    """
    found = {
        name: _auc_change(challenger.rows, champion.rows, videos) for name, videos in suites.items()
    }
    changes = {
        name: change for name, change in found.items() if change is not None or name == FROZEN
    }
    means = [change.value for change in changes.values() if change is not None]
    return [
        *(
            _at_least(
                f"lower end of the AUC's change on {name} videos",
                None if change is None else change.low,
                settings.min_auc_change,
            )
            for name, change in changes.items()
        ),
        _more_than("mean change of AUC", float(np.mean(means)) if means else None, 0.0),
    ]


def _kind_rules(challenger: Candidate, champion: Candidate, settings: GateSettings) -> list[Rule]:
    """What the AUC over all videos could hide."""
    new, old = (
        evaluate_table(score_table(model.rows), model.calibration)
        for model in (challenger, champion)
    )
    rules = []
    drops = _changes(new, old, kind="generator", figure="auc")
    if drops:
        rules.append(
            _at_least(
                "change of AUC on the worst generator", min(drops), -settings.max_generator_drop
            )
        )
    alarms = _difference(new["false_alarms"]["share"], old["false_alarms"]["share"])
    rules.append(_at_most("change of false alarms", alarms, settings.max_false_alarm_rise))
    rises = _changes(new, old, kind="dataset", figure="fpr", reals_only=True)
    if rises:
        rules.append(
            _at_most(
                "change of false alarms on the worst data set of reals only",
                max(rises),
                settings.max_false_alarm_rise,
            )
        )
    ece, old_ece = new["metrics"]["ece"], old["metrics"]["ece"]
    rules.append(_at_most("expected calibration error", ece, max(settings.max_ece, old_ece or 0.0)))
    coverage = _difference(new["coverage"], old["coverage"])
    return [*rules, _at_least("change of coverage", coverage, 0.0)]


def _robustness_rule(
    challenger: Candidate, champion: Candidate, settings: GateSettings
) -> list[Rule]:
    """The mean over perturbations: the area under the curve of AUC, each counting alike."""
    if not settings.perturbations:
        return []
    found = [
        _auc_change(challenger.perturbed[name], champion.perturbed[name])
        for name in settings.perturbations
    ]
    changes = [change.value for change in found if change is not None]
    mean = float(np.mean(changes)) if changes else None
    return [_at_least("change of AUC after perturbations", mean, -settings.max_robustness_drop)]


def _export_rule(challenger: Candidate, settings: GateSettings) -> list[Rule]:
    footprint = challenger.footprint
    if footprint is None or footprint.export_difference is None:
        return []
    return [
        _at_most(
            "largest change of a logit by the export",
            footprint.export_difference,
            settings.max_export_difference,
        )
    ]


def _cost_rules(challenger: Candidate, champion: Candidate, settings: GateSettings) -> list[Rule]:
    new, old = challenger.footprint, champion.footprint
    if new is None or old is None:
        return []
    return [
        _at_most(
            "time per frame, as a multiple of the champion's",
            new.seconds_per_frame / old.seconds_per_frame,
            settings.max_slowdown,
        ),
        _at_most(
            "size of the weights, as a multiple of the champion's",
            new.num_bytes / old.num_bytes,
            settings.max_growth,
        ),
    ]


def _auc_change(
    challenger: Sequence[Row], champion: Sequence[Row], videos: Collection[str] | None = None
) -> Interval | None:
    """With its interval, on videos that both have a score for; None where it is undefined."""
    pairs = [
        (old, new)
        for old, new in zip(champion, challenger, strict=True)
        if (videos is None or old["video_id"] in videos)
        and old["score"] is not None
        and new["score"] is not None
    ]
    before, labels, groups = score_columns([old for old, _ in pairs])
    after, _, _ = score_columns([new for _, new in pairs])
    return paired_difference(before, after, labels, groups, seed=0)


def _changes(
    new: Mapping[str, Any],
    old: Mapping[str, Any],
    *,
    kind: str,
    figure: str,
    reals_only: bool = False,
) -> list[float]:
    """Of a figure, on each slice that has it both times."""
    before = {row["name"]: row[figure] for row in old["by"][kind]}
    changes = (
        _difference(row[figure], before.get(row["name"]))
        for row in new["by"][kind]
        if not (reals_only and row["num_fake"])
    )
    return [change for change in changes if change is not None]


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


def shown(value: float | None) -> str:
    """A rule's value, for people."""
    return "not to be measured" if value is None else f"{value:.4g}"
