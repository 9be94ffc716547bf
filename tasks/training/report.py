"""The report at the end of training: pictures, tables, and their limits."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import classification_report, confusion_matrix

from models.metrics.metrics import compute_metrics
from reelcheck.card import ModelCard
from storage.atomic import write_text
from storage.checked.documents import write_document
from storage.layout import ModelLayout
from storage.rows import LogRow
from tasks.plotting.classification import draw_confusion, draw_precision_recall, draw_roc
from tasks.plotting.markdown import format_number, format_table
from tasks.training.curves import draw_curves

_LABELS = ("real", "fake")
_PICTURES = {
    "curves": "Training, by epoch; counted in crop sequences, all else here in videos",
    "confusion": "What the threshold calls validation videos",
    "roc": "ROC curve",
    "precision_recall": "Precision and recall",
}
"""Name of each picture -> what it shows."""
_FOLD_METRICS = {
    "num_videos": "videos",
    "num_fake": "fake",
    "auc": "AUC",
    "average_precision": "average precision",
    "f1": "F1",
    "balanced_accuracy": "balanced accuracy",
}
"""Name of a metric -> head of its column."""
_INLINE_WIDTH = 720
"""With 32 colours the worst curves, of 50 folds, take 39 kB as text; all four pictures 101 kB."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingResult:
    """The result of a training run."""

    card: ModelCard
    log_rows_by_fold: Mapping[int, Sequence[LogRow]]
    """Rows in the order of epochs, by fold; one fold, 0, without cross-validation."""
    scores: NDArray[np.float64]
    """One calibrated score per validation video; of the fold that had not seen the video."""
    labels: NDArray[np.int64]
    """1 fake, 0 real."""
    folds: NDArray[np.int64]
    """Fold that scored the video; 0 without cross-validation."""


def write_report(model: ModelLayout, result: TrainingResult) -> None:
    """Write ``report.md``, ``classification.json`` and the pictures into a model's folder."""
    threshold = result.card.calibration.threshold
    draw_curves(model.plot_path("curves"), result.log_rows_by_fold)
    draw_confusion(model.plot_path("confusion"), result.scores, result.labels, threshold=threshold)
    for name, draw in (("roc", draw_roc), ("precision_recall", draw_precision_recall)):
        draw(
            model.plot_path(name),
            result.scores,
            result.labels,
            threshold=threshold,
            folds=result.folds,
        )
    write_document(model.classification_path, summarise_classification(result))
    write_text(model.report_path, format_report(model, result))


def summarise_classification(result: TrainingResult) -> dict[str, Any]:
    """Find precision, recall, F1 and confusion counts at the threshold, by scikit-learn.

    Returns:
        ``threshold``, ``pooled`` (all videos) and ``folds`` (by fold). Pool and folds hold
        ``report``, scikit-learn's dictionary, and ``confusion``: videos by label, then by call.
    """
    called = (result.scores >= result.card.calibration.threshold).astype(int)
    return {
        "threshold": result.card.calibration.threshold,
        "pooled": _classify(result.labels, called),
        "folds": {
            str(fold): _classify(result.labels[chosen], called[chosen])
            for fold, chosen in _mask_folds(result)
        },
    }


def embed_pictures(model: ModelLayout) -> str:
    """Read a written report and put small copies of its pictures into the text: below 200 kB.

    The text is for a page that cannot reach the folder.
    """
    text = model.report_path.read_text(encoding="utf-8")
    for name in _PICTURES:
        text = text.replace(
            f"]({_make_link(model, name)})", f"]({_encode_small_copy(model.plot_path(name))})"
        )
    return text


def format_report(model: ModelLayout, result: TrainingResult) -> str:
    """Format the report as Markdown; it links to the pictures that ``write_report`` writes."""
    card = result.card
    sections = [
        f"# Model {card.model_id}",
        *(f"> **{_join_lines(note)}**" for note in card.notes),
        "## What was trained",
        format_table(("", ""), _list_settings(result)),
        "## Videos",
        format_table(
            ("split", "real", "fake"),
            [(name, counts["real"], counts["fake"]) for name, counts in card.num_videos.items()],
        ),
        "## Phases",
        _format_phases(card),
        "## Validation",
        *_format_folds(result),
        format_table(("metric", ""), [(k, format_number(v)) for k, v in card.validation.items()]),
        _format_classification(result),
        "## Score and verdict",
        format_table(("", ""), _list_calibration(card)),
        "## Pictures",
        *(
            f"{caption}:\n\n![{caption}]({_make_link(model, name)})"
            for name, caption in _PICTURES.items()
        ),
        "## Limits",
        "\n".join(f"- {limit}" for limit in _list_limits(result)),
    ]
    return "\n\n".join(sections) + "\n"


def _classify(labels: NDArray[np.int64], called: NDArray[np.int64]) -> dict[str, Any] | None:
    """Count right and wrong calls; None without videos."""
    if not len(labels):
        return None
    counts = confusion_matrix(labels, called, labels=[0, 1])
    return {
        "report": classification_report(
            labels,
            called,
            labels=[0, 1],
            target_names=_LABELS,
            output_dict=True,
            zero_division=0.0,
        ),
        "confusion": {
            label: dict(zip(_LABELS, map(int, row), strict=True))
            for label, row in zip(_LABELS, counts, strict=True)
        },
    }


def _format_classification(result: TrainingResult) -> str:
    pooled = summarise_classification(result)["pooled"]
    if pooled is None:
        return "No validation video was scored."
    rows = [
        (
            name,
            *(
                format_number(pooled["report"][name][key])
                for key in ("precision", "recall", "f1-score")
            ),
            *pooled["confusion"].get(name, {"real": "", "fake": ""}).values(),
        )
        for name in (*_LABELS, "macro avg", "weighted avg")
    ]
    header = ("at the threshold", "precision", "recall", "F1", "called real", "called fake")
    return format_table(header, rows)


def _mask_folds(result: TrainingResult) -> list[tuple[int, NDArray[np.bool_]]]:
    return [(int(fold), result.folds == fold) for fold in np.unique(result.folds)]


def _list_settings(result: TrainingResult) -> Iterable[tuple[str, Any]]:
    card = result.card
    if card.training is not None:
        yield "recipe", card.training.recipe or "none: settings given one by one"
    yield "backbone", card.detector.backbone
    transformer = card.detector.transformer
    yield (
        "frames are judged",
        "alone; their mean logit counts"
        if transformer is None
        else f"together, by {transformer.depth} Transformer blocks of width "
        f"{transformer.feature_dim}",
    )
    if card.training is not None:
        yield "began with", card.began_with
        yield "best epoch by", f"validation {card.training.select_by}"
        yield "seed", card.training.seed
    yield "detectors", card.num_members
    yield "preprocessing", card.preprocessing_hash
    yield "split", card.split_hash or "none"


def _format_phases(card: ModelCard) -> str:
    columns = ("phase", "learning rate", "trainable parameters", "share", "epochs", "best epoch")
    rows = [
        (
            phase.phase,
            f"{phase.learning_rate:.2g}",
            f"{phase.num_trainable:,} of {phase.num_parameters:,}",
            f"{100 * phase.num_trainable / phase.num_parameters:.3g} %",
            phase.num_epochs,
            phase.best_epoch,
        )
        for phase in card.phases
    ]
    folds = [phase.fold for phase in card.phases]
    if all(fold is None for fold in folds):
        return format_table(columns, rows)
    return format_table(
        ("fold", *columns), [(fold, *row) for fold, row in zip(folds, rows, strict=True)]
    )


def _format_folds(result: TrainingResult) -> list[str]:
    """Format figures by fold; no table without cross-validation."""
    masks = _mask_folds(result)
    if len(masks) < 2:
        return []
    rows = [
        (
            fold,
            *_format_fold_metrics(result, chosen),
            _find_best_epoch(result.log_rows_by_fold[fold]),
        )
        for fold, chosen in masks
    ]
    everything = np.ones(len(result.labels), dtype=bool)
    rows.append(("all", *_format_fold_metrics(result, everything), ""))
    return [format_table(("fold", *_FOLD_METRICS.values(), "best epoch"), rows)]


def _format_fold_metrics(result: TrainingResult, chosen: NDArray[np.bool_]) -> list[str]:
    metrics = compute_metrics(result.scores[chosen], result.labels[chosen], result.card.calibration)
    return [format_number(metrics[name]) for name in _FOLD_METRICS]


def _find_best_epoch(rows: Sequence[LogRow]) -> Any:
    best = [row["epoch"] for row in rows if row["is_best"]]
    return best[-1] if best else "none"


def _list_calibration(card: ModelCard) -> Iterable[tuple[str, str]]:
    calibration = card.calibration
    yield "temperature: score = sigmoid(logit / temperature)", f"{calibration.temperature:.3f}"
    yield f"threshold: {calibration.threshold_rule}", f"{calibration.threshold:.3f}"
    yield "real: scores below", f"{calibration.real_below:.3f}"
    yield "fake: scores from", f"{calibration.fake_from:.3f}"
    yield "inconclusive", "between these two"


def _list_limits(result: TrainingResult) -> Iterable[str]:
    yield (
        "Measured on validation videos, which chose epoch, temperature, threshold and band: the "
        "figures flatter the model. `reelcheck evaluate` measures on held-out videos."
    )
    if result.card.num_members > 1:
        yield (
            f"The model is the mean of {result.card.num_members} detectors; the figures are of "
            "single detectors, each on the videos that it had not seen."
        )
    yield (
        "They hold for videos like these: another source, another generator or another way of "
        "compression can be far worse."
    )
    if len(result.labels) < 100:
        yield f"{len(result.labels)} videos are few: each one moves the figures visibly."


def _join_lines(text: str) -> str:
    return " ".join(text.split())


def _make_link(model: ModelLayout, name: str) -> str:
    return model.plot_path(name).relative_to(model.path).as_posix()


def _encode_small_copy(path: Path) -> str:
    with Image.open(path) as opened:
        size = (_INLINE_WIDTH, round(opened.height * _INLINE_WIDTH / opened.width))
        small = opened.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    # Pillow's default method gives up thin lines of a rare colour; dithering blows the file up.
    few_colours = small.quantize(32, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    few_colours.save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
