"""May a challenger replace the champion? Rules over the same held-out videos, each with its number.

- Suites: *frozen* videos were held out when the champion was trained, *recent* videos came since,
  *later* videos are dated after all that the champion learned from. A challenger must not be worse
  on any suite, beyond chance.
- The difference of AUC has the interval of a paired bootstrap over groups: a hard video is hard for
  both models.
- False alarms come first: a model that finds more and calls more real videos fake is no better.
- Equal models are not exchanged.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.metrics.evaluation import evaluate_table
from models.metrics.metrics import Interval, bootstrap_auc_difference
from reelcheck.card import Calibration
from reelcheck.config import GateSettings
from storage.rows import EvaluatedRow
from tasks.evaluation.predictions import make_score_table, take_score_columns
from tasks.registry.footprint import Footprint

FROZEN = "frozen"
"""Name of the suite that must be measured."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One condition, and whether it is met."""

    name: str
    value: float | None
    """The measured value; None: it could not be measured."""
    limit: str
    """The condition in words, such as ``at least 0``."""
    passed: bool


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether the challenger is promoted, and why."""

    promoted: bool
    reason: str
    rules: tuple[Rule, ...] = ()
    needs_a_person: bool = False
    """Another run would decide the same until a person acts; the reason says how."""
    decided_by: str = "the gate"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model and its measurements."""

    name: str
    rows: Sequence[EvaluatedRow]
    """Videos of the test split, sorted by video id."""
    calibration: Calibration
    perturbed: Mapping[str, Sequence[EvaluatedRow]] = field(default_factory=dict)
    """Name of a perturbation -> rows of some test videos after it."""
    footprint: Footprint | None = None
    """None: not measured."""


def decide(
    challenger: Candidate,
    champion: Candidate | None,
    *,
    suites: Mapping[str, Collection[str]],
    settings: GateSettings,
) -> Decision:
    """Decide whether a challenger replaces the champion.

    Args:
        challenger: the new model.
        champion: the model in use, with predictions for the same videos; None: there is none.
        suites: name -> ids of videos; each suite is measured by itself.
        settings: the limits.
    """
    rules = _check_export(challenger, settings)
    if champion is None:
        rules += _check_first(challenger, settings)
    else:
        rules += _check_suites(challenger, champion, suites, settings)
        rules += _check_kinds(challenger, champion, settings)
        rules += _check_robustness(challenger, champion, settings)
        rules += _check_cost(challenger, champion, settings)
    failed = [rule for rule in rules if not rule.passed]
    if not failed:
        better = "the first model" if champion is None else f"better than {champion.name}"
        return Decision(promoted=True, reason=f"{challenger.name} is {better}", rules=tuple(rules))
    reason = "; ".join(map(_describe_failure, failed))
    return Decision(promoted=False, reason=reason, rules=tuple(rules))


def _describe_failure(rule: Rule) -> str:
    verb = "" if rule.value is None else "is "
    return f"{rule.name} {verb}{format_value(rule.value)}, must be {rule.limit}"


def _check_first(challenger: Candidate, settings: GateSettings) -> list[Rule]:
    auc = evaluate_table(make_score_table(challenger.rows), challenger.calibration)["metrics"][
        "auc"
    ]
    return [_require_at_least("AUC of the first model", auc, settings.min_first_auc)]


def _check_suites(
    challenger: Candidate,
    champion: Candidate,
    suites: Mapping[str, Collection[str]],
    settings: GateSettings,
) -> list[Rule]:
    """Require that the challenger is not worse on any suite, and better on their mean.

    A suite of one label or of one component says nothing and is left out. Only the frozen suite
    must be measured: without it nobody would know what is lost.
    """
    measured = {
        name: _measure_auc_change(challenger.rows, champion.rows, videos)
        for name, videos in suites.items()
    }
    changes = {
        name: change for name, change in measured.items() if change is not None or name == FROZEN
    }
    means = [change.value for change in changes.values() if change is not None]
    return [
        *(
            _require_at_least(
                f"lower end of the AUC's change on {name} videos",
                None if change is None else change.low,
                settings.min_auc_change,
            )
            for name, change in changes.items()
        ),
        _require_more_than("mean change of AUC", float(np.mean(means)) if means else None, 0.0),
    ]


def _check_kinds(challenger: Candidate, champion: Candidate, settings: GateSettings) -> list[Rule]:
    """Check what the AUC over all videos could hide."""
    new, old = (
        evaluate_table(make_score_table(model.rows), model.calibration)
        for model in (challenger, champion)
    )
    rules = []
    drops = _measure_changes(new, old, kind="generator", figure="auc")
    if drops:
        rules.append(
            _require_at_least(
                "change of AUC on the worst generator", min(drops), -settings.max_generator_drop
            )
        )
    alarms = _subtract(new["false_alarms"]["share"], old["false_alarms"]["share"])
    rules.append(_require_at_most("change of false alarms", alarms, settings.max_false_alarm_rise))
    rises = _measure_changes(new, old, kind="dataset", figure="fpr", reals_only=True)
    if rises:
        rules.append(
            _require_at_most(
                "change of false alarms on the worst data set of reals only",
                max(rises),
                settings.max_false_alarm_rise,
            )
        )
    ece, old_ece = new["metrics"]["ece"], old["metrics"]["ece"]
    rules.append(
        _require_at_most("expected calibration error", ece, max(settings.max_ece, old_ece or 0.0))
    )
    coverage = _subtract(new["coverage"], old["coverage"])
    return [*rules, _require_at_least("change of coverage", coverage, 0.0)]


def _check_robustness(
    challenger: Candidate, champion: Candidate, settings: GateSettings
) -> list[Rule]:
    """Check the mean change of AUC over all perturbations, each with the same weight."""
    if not settings.perturbations:
        return []
    measured = [
        _measure_auc_change(challenger.perturbed[name], champion.perturbed[name])
        for name in settings.perturbations
    ]
    changes = [change.value for change in measured if change is not None]
    mean = float(np.mean(changes)) if changes else None
    return [
        _require_at_least("change of AUC after perturbations", mean, -settings.max_robustness_drop)
    ]


def _check_export(challenger: Candidate, settings: GateSettings) -> list[Rule]:
    footprint = challenger.footprint
    if footprint is None or footprint.export_difference is None:
        return []
    return [
        _require_at_most(
            "largest change of a logit by the export",
            footprint.export_difference,
            settings.max_export_difference,
        )
    ]


def _check_cost(challenger: Candidate, champion: Candidate, settings: GateSettings) -> list[Rule]:
    new, old = challenger.footprint, champion.footprint
    if new is None or old is None:
        return []
    return [
        _require_at_most(
            "time per frame, as a multiple of the champion's",
            new.seconds_per_frame / old.seconds_per_frame,
            settings.max_slowdown,
        ),
        _require_at_most(
            "size of the weights, as a multiple of the champion's",
            new.num_bytes / old.num_bytes,
            settings.max_growth,
        ),
    ]


def _measure_auc_change(
    challenger: Sequence[EvaluatedRow],
    champion: Sequence[EvaluatedRow],
    videos: Collection[str] | None = None,
) -> Interval | None:
    """Measure the change with its interval, on videos that both models have a score for."""
    pairs = [
        (old, new)
        for old, new in zip(champion, challenger, strict=True)
        if (videos is None or old["video_id"] in videos)
        and old["score"] is not None
        and new["score"] is not None
    ]
    before, labels, groups = take_score_columns([old for old, _ in pairs])
    after, _, _ = take_score_columns([new for _, new in pairs])
    return bootstrap_auc_difference(before, after, labels, groups, seed=0)


def _measure_changes(
    new: Mapping[str, Any],
    old: Mapping[str, Any],
    *,
    kind: str,
    figure: str,
    reals_only: bool = False,
) -> list[float]:
    """Measure the change of a figure on each slice where both models have it."""
    before = {row["name"]: row[figure] for row in old["by"][kind]}
    changes = (
        _subtract(row[figure], before.get(row["name"]))
        for row in new["by"][kind]
        if not (reals_only and row["num_fake"])
    )
    return [change for change in changes if change is not None]


def _subtract(new: float | None, old: float | None) -> float | None:
    return None if new is None or old is None else new - old


def _make_rule(name: str, value: float | None, limit: str, holds: Callable[[float], bool]) -> Rule:
    # A number that is none could not be measured.
    known = value if value is not None and math.isfinite(value) else None
    return Rule(name=name, value=known, limit=limit, passed=known is not None and holds(known))


def _require_at_least(name: str, value: float | None, limit: float) -> Rule:
    return _make_rule(name, value, f"at least {limit:g}", lambda measured: measured >= limit)


def _require_at_most(name: str, value: float | None, limit: float) -> Rule:
    return _make_rule(name, value, f"at most {limit:g}", lambda measured: measured <= limit)


def _require_more_than(name: str, value: float | None, limit: float) -> Rule:
    return _make_rule(name, value, f"more than {limit:g}", lambda measured: measured > limit)


def format_value(value: float | None) -> str:
    """Format the value of a rule for people."""
    return "could not be measured" if value is None else f"{value:.4g}"
