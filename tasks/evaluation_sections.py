"""What an evaluation says, in sections of words and tables: for the page and for the model card."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from models.evaluation import Evaluation
from reelcheck.card import ModelCard
from tasks.markdown import markdown_table, number
from tasks.robustness import worst_case

_FEW_VIDEOS, _FEW_GROUPS = 100, 20
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
    """A part of the report."""

    title: str
    paragraphs: Sequence[str] = ()
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    pictures: Sequence[Picture] = field(default=())


def evaluation_sections(found: Evaluation) -> list[Section]:
    """Figures, baselines, coverage, kinds of videos, perturbations, limits."""
    return [
        _figures(found),
        _baselines(found),
        _coverage(found),
        *_slices(found),
        *_robustness(found),
        _limits(found),
    ]


def card_section(card: ModelCard) -> Section:
    """What the model is."""
    return Section("Model", header=("", ""), rows=list(_card_rows(card)))


def card_markdown(card: ModelCard, found: Evaluation) -> str:
    """The model card: what the model is, what it was trained on, what was measured, its limits."""
    trained_on = Section(
        "Trained on",
        header=("part", "real", "fake"),
        rows=[
            (part, f"{counts['real']:,}", f"{counts['fake']:,}")
            for part, counts in card.num_videos.items()
        ],
    )
    return "\n\n".join(
        [
            f"# Model card: {card.model_id}",
            *(f"> **{' '.join(note.split())}**" for note in card.notes),
            sections_markdown([card_section(card), trained_on, *evaluation_sections(found)]),
        ]
    )


def sections_markdown(sections: Iterable[Section]) -> str:
    """Sections without their pictures."""
    parts = []
    for section in sections:
        parts += [f"## {section.title}", *section.paragraphs]
        if section.rows:
            parts.append(markdown_table(section.header, section.rows))
    return "\n\n".join(parts) + "\n"


def _figures(found: Evaluation) -> Section:
    metrics, intervals = found["metrics"], found["intervals"]
    rows = [
        (
            words,
            number(metrics[name]),
            _interval(*intervals[name]) if name in intervals else "",
            found["undefined"].get(name, ""),
        )
        for name, words in _METRIC_WORDS.items()
    ]
    alarms = found["false_alarms"]
    rows.append(
        (
            "real videos called fake",
            number(alarms["share"]),
            _interval(alarms["low"], alarms["high"]),
            "",
        )
    )
    rows.append(
        ("expected calibration error without temperature", number(found["raw_ece"]), "", "")
    )
    frames = found["frames"]
    rows.append((f"AUC of {frames['num_frames']:,} single frames", number(frames["auc"]), "", ""))
    return Section(
        "Figures",
        [
            f"{metrics['num_videos']:,} scored videos, {metrics['num_fake']:,} of them fake, of "
            f"the {found['part']} part of split {found['split_hash']}. Intervals: 95 %, by a "
            "bootstrap over groups of videos that have something in common."
        ],
        ("", "", "95 % interval", ""),
        rows,
    )


def _baselines(found: Evaluation) -> Section:
    return Section(
        "Compared with",
        [
            "The same videos, judged by less: by what each frame of the model says alone, by how "
            "the file was made (codec, size, bit rate, length), and by chance."
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
                number(row["auc"]),
                _interval(row["low"], row["high"]),
                *(number(row[name]) for name in ("average_precision", "eer", "tpr_at_fpr_5")),
            )
            for row in found["baselines"]
        ],
    )


def _coverage(found: Evaluation) -> Section:
    worst = found["failed_as_wrong"]
    text = (
        f"{found['num_scored']:,} of {found['num_videos']:,} videos have a score "
        f"({found['coverage']:.1%})."
    )
    if found["coverage"] < 1:
        text += (
            f" If all others had been judged as wrongly as can be, AUC would be "
            f"{number(worst['auc'])} and accuracy {number(worst['accuracy'])}."
        )
    rows = [(status, f"{count:,}") for status, count in found["statuses"].items()]
    return Section("Coverage", [text], ("status", "videos"), rows)


def _slices(found: Evaluation) -> Iterable[Section]:
    for kind, words in _SLICE_WORDS.items():
        rows = [
            (
                row["name"],
                f"{row['num_real']:,}",
                f"{row['num_fake']:,}",
                number(row["auc"]),
                _interval(row["low"], row["high"]),
                number(row["tpr"]),
                number(row["fpr"]),
            )
            for row in found["by"][kind]
        ]
        header = ("", "real", "fake", "AUC", "95 % interval", "fakes found", "false alarms")
        if rows:
            yield Section(f"Figures {words}", (), header, rows)


def _robustness(found: Evaluation) -> Iterable[Section]:
    rows = found["robustness"]
    if not rows:
        return
    worst = worst_case(rows)
    yield Section(
        "Robustness",
        [
            "Each video was changed before faces were searched. A change of AUC is of the videos "
            "that have a score both times; remux only moves the packets into another container, "
            "and must change nothing.",
            *([f"Worst: {worst['name']}, AUC {number(worst['auc'])}."] if worst else []),
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
                number(row["auc"]),
                _signed(row["auc_change"]),
                _interval(row["auc_change_low"], row["auc_change_high"]),
                number(row["hit_share"]),
                number(row["false_alarm_share"]),
                _signed(row["real_logit_shift"]),
            )
            for row in rows
        ],
    )


def _limits(found: Evaluation) -> Section:
    num_real = found["false_alarms"]["num_real"]
    texts = [
        "The figures hold for videos like these. Another source, another generator or another way "
        "of compression can be far worse; see the figures by kind of video.",
        "A score is a probability on data with as many fakes as the validation videos had. Where "
        "fakes are rare, most alarms are false ones.",
        "It is a model of faces: what is not a face, and sound, is not looked at.",
    ]
    if found["num_scored"] < _FEW_VIDEOS:
        texts.append(f"{found['num_scored']} videos are few: each one moves the figures visibly.")
    if found["num_groups"] < _FEW_GROUPS:
        texts.append(
            f"They are of only {found['num_groups']} groups that have nothing in common: the "
            "intervals are narrower than they should be."
        )
    for percent in (5, 1, 0.1):
        if num_real < 100 / percent:
            texts.append(
                f"With {num_real:,} real videos a false alarm rate of {percent} % cannot be told "
                "from none: the figure at it is that without any false alarm."
            )
            break
    return Section("Limits", texts)


def _card_rows(card: ModelCard) -> Iterable[tuple[str, str]]:
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


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _signed(value: float | None) -> str:
    return "undefined" if value is None else f"{value:+.3f}"
