"""An evaluation in sections of text and tables, for the report and for the model card."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from models.metrics.evaluation import Evaluation
from reelcheck.card import ModelCard
from tasks.evaluation.robustness import find_worst_case
from tasks.plotting.markdown import format_number, format_table

_FEW_VIDEOS, _FEW_GROUPS = 100, 20
_CHANCE = 0.5
"""AUC of scores that know nothing."""
_METRIC_WORDS = {
    "auc": "AUC",
    "average_precision": "average precision",
    "eer": "equal error rate",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "tpr_at_fpr_0.1": "fakes found at 0.1 % false alarms",
    "tpr_at_fpr_1": "fakes found at 1 % false alarms",
    "tpr_at_fpr_5": "fakes found at 5 % false alarms",
    "brier": "Brier score",
    "log_loss": "log loss",
    "ece": "expected calibration error",
    "decided_share": "share with a verdict that is not inconclusive",
    "decided_error": "error among these",
}
_SLICE_WORDS = {
    "generator": "by generator (its fakes against all reals)",
    "dataset": "by data set",
    "codec": "by codec",
    "face_pixels": "by size of the face in pixels",
}


@dataclass(frozen=True)
class Picture:
    """A picture of the report."""

    path: Path
    caption: str


@dataclass(frozen=True)
class Section:
    """A section of the report."""

    title: str
    paragraphs: Sequence[str] = ()
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    pictures: Sequence[Picture] = field(default=())


def describe_evaluation(evaluation: Evaluation) -> list[Section]:
    """Describe figures, baselines, coverage, kinds of videos, perturbations and limits."""
    return [
        _describe_figures(evaluation),
        _describe_baselines(evaluation),
        _describe_coverage(evaluation),
        *_describe_slices(evaluation),
        *_describe_robustness(evaluation),
        _describe_limits(evaluation),
    ]


def describe_card(card: ModelCard) -> Section:
    """Describe the model."""
    return Section("Model", header=("", ""), rows=list(_list_card_facts(card)))


def format_model_card(card: ModelCard, evaluation: Evaluation) -> str:
    """Format the model card: model, training videos, figures and limits."""
    trained_on = Section(
        "Trained on",
        header=("split", "real", "fake"),
        rows=[
            (split, f"{counts['real']:,}", f"{counts['fake']:,}")
            for split, counts in card.num_videos.items()
        ],
    )
    return "\n\n".join(
        [
            f"# Model card: {card.model_id}",
            *(f"> **{' '.join(note.split())}**" for note in card.notes),
            format_sections([describe_card(card), trained_on, *describe_evaluation(evaluation)]),
        ]
    )


def describe_auc(evaluation: Evaluation, *, are_people_named: bool) -> str:
    """Describe in one sentence what the AUC of held-out videos means.

    Args:
        evaluation: the figures.
        are_people_named: the labels of all videos say who is to stay together; where they do not,
            a person may be on both sides unnoticed.
    """
    num_videos = evaluation["num_scored"]
    auc = evaluation["metrics"]["auc"]
    if auc is None:
        reason = evaluation["undefined"]["auc"]
        return f"No AUC can be given on {num_videos:,} videos of the test part: {reason}."
    whom = (
        "of people the detector had not seen"
        if are_people_named
        else "the detector had not seen, though perhaps their people, whom the labels do not name"
    )
    low, high = evaluation["intervals"].get("auc", (None, None))
    interval = "too few people for an interval"
    if low is not None:
        interval = f"95 % interval {low:.2f} to {high:.2f}"
        if (num_groups := evaluation["num_groups"]) < _FEW_GROUPS:
            interval += f", too narrow for only {num_groups} unconnected groups"
    chance = ", which is not ruled out"
    if low is not None and not low <= _CHANCE <= high:
        chance = "" if low > _CHANCE else ", so the detector is worse than chance"
    return (
        f"AUC {auc:.2f} ({interval}) on {num_videos:,} videos {whom}: of 100 pairs of a fake and a "
        f"real one, the fake got the higher score in {100 * auc:.0f} (by chance: "
        f"{100 * _CHANCE:.0f}{chance}); this says nothing about other cameras or generators."
    )


def format_sections(sections: Iterable[Section]) -> str:
    """Format sections as Markdown, without their pictures."""
    blocks = []
    for section in sections:
        blocks += [f"## {section.title}", *section.paragraphs]
        if section.rows:
            blocks.append(format_table(section.header, section.rows))
    return "\n\n".join(blocks) + "\n"


def _describe_figures(evaluation: Evaluation) -> Section:
    metrics, intervals = evaluation["metrics"], evaluation["intervals"]
    rows = [
        (
            words,
            format_number(metrics[name]),
            _format_interval(*intervals[name]) if name in intervals else "",
            evaluation["undefined"].get(name, ""),
        )
        for name, words in _METRIC_WORDS.items()
    ]
    alarms = evaluation["false_alarms"]
    rows.append(
        (
            "real videos called fake",
            format_number(alarms["share"]),
            _format_interval(alarms["low"], alarms["high"]),
            "",
        )
    )
    rows.append(
        (
            "expected calibration error without temperature",
            format_number(evaluation["raw_ece"]),
            "",
            "",
        )
    )
    frames = evaluation["frames"]
    name = f"AUC of {frames['num_frames']:,} single frames"
    rows.append((name, format_number(frames["auc"]), "", ""))
    return Section(
        "Figures",
        [
            f"{metrics['num_videos']:,} scored videos, {metrics['num_fake']:,} of them fake, of "
            f"the {evaluation['split']} split ({evaluation['split_hash']}). Intervals: 95 %, by a "
            "bootstrap over groups of videos that have something in common."
        ],
        ("", "", "95 % interval", ""),
        rows,
    )


def _describe_baselines(evaluation: Evaluation) -> Section:
    return Section(
        "Compared with",
        [
            "The same videos, scored with less information: by each frame alone, by how the file "
            "was made (codec, size, bit rate, length), and by chance."
        ],
        (
            "",
            "AUC",
            "95 % interval",
            "average precision",
            "equal error rate",
            "found at 5 % false alarms",
        ),
        [
            (
                row["name"],
                format_number(row["auc"]),
                _format_interval(row["low"], row["high"]),
                *(
                    format_number(row[name])
                    for name in ("average_precision", "eer", "tpr_at_fpr_5")
                ),
            )
            for row in evaluation["baselines"]
        ],
    )


def _describe_coverage(evaluation: Evaluation) -> Section:
    worst = evaluation["failed_as_wrong"]
    text = (
        f"{evaluation['num_scored']:,} of {evaluation['num_videos']:,} videos have a score "
        f"({evaluation['coverage']:.1%})."
    )
    if evaluation["coverage"] < 1:
        text += (
            f" If all others had got the worst possible score, AUC would be "
            f"{format_number(worst['auc'])} and accuracy {format_number(worst['accuracy'])}."
        )
    rows = [(status, f"{count:,}") for status, count in evaluation["statuses"].items()]
    return Section("Coverage", [text], ("status", "videos"), rows)


def _describe_slices(evaluation: Evaluation) -> Iterable[Section]:
    for kind, words in _SLICE_WORDS.items():
        rows = [
            (
                row["name"],
                f"{row['num_real']:,}",
                f"{row['num_fake']:,}",
                format_number(row["auc"]),
                _format_interval(row["low"], row["high"]),
                format_number(row["tpr"]),
                format_number(row["fpr"]),
            )
            for row in evaluation["by"][kind]
        ]
        header = ("", "real", "fake", "AUC", "95 % interval", "fakes found", "false alarms")
        if rows:
            yield Section(f"Figures {words}", (), header, rows)


def _describe_robustness(evaluation: Evaluation) -> Iterable[Section]:
    rows = evaluation["robustness"]
    if not rows:
        return
    worst = find_worst_case(rows)
    yield Section(
        "Robustness",
        [
            "Each video was changed before faces were searched. The change of AUC is measured on "
            "the videos that have a score both times; remux only moves the packets into another "
            "container, and must change nothing.",
            *([f"Worst: {worst['name']}, AUC {format_number(worst['auc'])}."] if worst else []),
        ],
        (
            "perturbation",
            "coverage",
            "AUC",
            "change of AUC",
            "95 % interval",
            "fakes found",
            "false alarms",
            "mean shift of reals (logit)",
        ),
        [
            (
                row["name"],
                f"{row['coverage']:.1%}",
                format_number(row["auc"]),
                _format_signed(row["auc_change"]),
                _format_interval(row["auc_change_low"], row["auc_change_high"]),
                format_number(row["hit_share"]),
                format_number(row["false_alarm_share"]),
                _format_signed(row["real_logit_shift"]),
            )
            for row in rows
        ],
    )


def _describe_limits(evaluation: Evaluation) -> Section:
    num_real = evaluation["false_alarms"]["num_real"]
    texts = [
        "The figures hold for videos like these. Another source, another generator or another way "
        "of compression can be far worse; see the figures by kind of video.",
        "A score is a probability on data with as many fakes as the validation videos had. Where "
        "fakes are rare, most alarms are false ones.",
        "The model looks at faces only, not at the rest of the picture and not at sound.",
    ]
    if evaluation["num_scored"] < _FEW_VIDEOS:
        texts.append(
            f"{evaluation['num_scored']} videos are few: each one moves the figures visibly."
        )
    if evaluation["num_groups"] < _FEW_GROUPS:
        texts.append(
            f"The videos come from only {evaluation['num_groups']} groups that have nothing in "
            "common: the intervals are narrower than they should be."
        )
    for percent in (5, 1, 0.1):
        if num_real < 100 / percent:
            texts.append(
                f"With {num_real:,} real videos a false alarm rate of {percent} % cannot be "
                "measured: the figure given for it is that without any false alarm."
            )
            break
    return Section("Limits", texts)


def _list_card_facts(card: ModelCard) -> Iterable[tuple[str, str]]:
    yield "backbone", card.detector.backbone
    yield "frames are judged", "alone" if card.detector.transformer is None else "together"
    yield "detectors", str(card.num_members)
    if card.training is not None:
        yield "recipe", card.training.recipe or "none"
        yield "seed", str(card.training.seed)
    if card.source is not None:
        yield "weights", f"{card.source.format}, {card.source.file_name} ({card.source.licence})"
    settings = card.preprocessing
    yield "frames", f"{settings.sampling}, {settings.num_frames}"
    yield "crops", f"{settings.crop_pixels} pixels, margin {settings.margin:g}"
    yield "preprocessing", card.preprocessing_hash
    yield "split it was trained with", card.split_hash or "none"
    calibration = card.calibration
    yield "temperature", f"{calibration.temperature:.3f}"
    yield "threshold", f"{calibration.threshold:.3f} ({calibration.threshold_rule} on validation)"
    yield "inconclusive", f"from {calibration.real_below:.3f} to {calibration.fake_from:.3f}"
    yield "tracks and sequences are joined by", card.aggregation.replace("_", " ")
    yield "versions", ", ".join(f"{name} {version}" for name, version in card.versions.items())


def _format_interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _format_signed(value: float | None) -> str:
    return "undefined" if value is None else f"{value:+.3f}"
