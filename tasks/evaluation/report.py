"""An evaluation for people: one HTML file with all its pictures, and the model card as Markdown.

Both are made from the same sections, so that they cannot contradict each other.
"""

import base64
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from models.metrics.evaluation import Evaluation
from models.metrics.metrics import compute_risk_coverage
from reelcheck.card import ModelCard
from reelcheck.visible import spell_invisible
from storage.atomic import write_bytes, write_text
from storage.checked.sums import write_sums
from storage.crops import read_sequence
from storage.layout import StoreLayout
from storage.outputs import EvaluationLayout
from storage.rows import EvaluatedRow, SequenceRow
from storage.schemas import MANIFEST
from storage.tables import keep_videos, read_table
from tasks.evaluation.plots import (
    RobustnessRow,
    draw_reliability,
    draw_risk_coverage,
    draw_robustness,
    draw_scores,
    draw_slices,
)
from tasks.evaluation.predictions import take_score_columns
from tasks.evaluation.sections import (
    Picture,
    Section,
    describe_card,
    describe_evaluation,
    format_model_card,
)
from tasks.plotting.classification import draw_confusion, draw_precision_recall, draw_roc
from tasks.scoring.evidence import make_evidence_picture
from tasks.scoring.words import format_score

NUM_MISTAKES = 12
_NUM_FACES = 6
_PICTURES = {
    "roc": "ROC curve",
    "precision_recall": "Precision and recall",
    "confusion": "What the threshold calls the videos",
    "reliability": "Are scores shares of fakes? On the dotted line they are",
    "risk_coverage": "Error if only the most certain videos are called",
    "scores": "Scores by label",
    "slices": "AUC by kind of video",
}
"""Name of each picture -> its caption."""


def write_evaluation_report(
    output: EvaluationLayout,
    layout: StoreLayout,
    card: ModelCard,
    evaluation: Evaluation,
    rows: Sequence[EvaluatedRow],
) -> None:
    """Write the pictures, the model card and, last, ``report.html``.

    Args:
        output: folder of the evaluation.
        layout: the store, for the faces of mistakes.
        card: card of the model.
        evaluation: the figures.
        rows: the videos.
    """
    pictures = [*_draw(output, card, evaluation, rows), *_draw_robustness(output, evaluation)]
    write_text(output.model_card_path, format_model_card(card, evaluation))
    figures, baselines, *others, limits = describe_evaluation(evaluation)
    sections = [
        figures,
        baselines,
        Section("Pictures", pictures=pictures),
        *others,
        _show_mistakes(output, layout, card, rows),
        limits,
        describe_card(card),
    ]
    environment = Environment(
        loader=PackageLoader("tasks.evaluation"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["visible"] = spell_invisible
    page = environment.get_template("evaluation.html.j2").render(
        title=f"Model {card.model_id} on the {evaluation['split']} split",
        notes=card.notes,
        sections=sections,
        data_url=_encode_data_url,
    )
    write_text(output.report_path, page)
    shown = (path for name in ("plots", "faces") for path in (output.path / name).glob("*.*"))
    write_sums(output.path, (output.report_path, output.model_card_path, *shown))


def _draw(
    output: EvaluationLayout, card: ModelCard, evaluation: Evaluation, rows: Sequence[EvaluatedRow]
) -> list[Picture]:
    scored = [row for row in rows if row["score"] is not None]
    scores, labels, groups = take_score_columns(scored)
    threshold = card.calibration.threshold
    draw_roc(output.plot_path("roc"), scores, labels, threshold=threshold)
    draw_precision_recall(output.plot_path("precision_recall"), scores, labels, threshold=threshold)
    draw_confusion(output.plot_path("confusion"), scores, labels, threshold=threshold)
    draw_reliability(output.plot_path("reliability"), scores, labels)
    draw_risk_coverage(
        output.plot_path("risk_coverage"),
        compute_risk_coverage(scores, labels, groups, card.calibration, seed=0),
        decided_share=evaluation["metrics"]["decided_share"],
        decided_error=evaluation["metrics"]["decided_error"],
    )
    draw_scores(output.plot_path("scores"), scores, labels, card.calibration)
    draw_slices(output.plot_path("slices"), evaluation["by"])
    return [Picture(output.plot_path(name), text) for name, text in _PICTURES.items()]


def _draw_robustness(output: EvaluationLayout, evaluation: Evaluation) -> list[Picture]:
    """Draw the robustness; no picture where no perturbation was tried."""
    rows = [
        RobustnessRow(
            family=row["family"],
            strength=row["strength"] or 0.0,
            label=row["name"].removeprefix(row["family"]).strip(),
            **{name: row[name] for name in ("auc", "low", "high", "coverage")},
        )
        for row in evaluation["robustness"]
    ]
    if not rows:
        return []
    path = output.plot_path("robustness")
    draw_robustness(path, rows, undisturbed_auc=evaluation["metrics"]["auc"])
    return [Picture(path, "AUC and coverage after each perturbation")]


def _show_mistakes(
    output: EvaluationLayout, layout: StoreLayout, card: ModelCard, rows: Sequence[EvaluatedRow]
) -> Section:
    """Show the videos on the wrong side of the threshold, the farthest from it first."""
    threshold = card.calibration.threshold
    wrong = [
        (row["score"], row)
        for row in rows
        if row["score"] is not None and (row["score"] >= threshold) != bool(row["label"])
    ]
    wrong.sort(key=lambda scored: -abs(scored[0] - threshold))
    pictures = []
    worst = wrong[:NUM_MISTAKES]
    sequences = _read_sequences(layout, [row["video_id"] or "" for _, row in worst])
    for score, row in worst:
        video_id = row["video_id"] or ""
        track_id = row["tracks"][0]["track_id"]
        sequence = next(s for s in sequences[video_id] if s["track_id"] == track_id)
        crops = read_sequence(layout, sequence).crops_THWC
        indices = np.linspace(0, len(crops) - 1, min(_NUM_FACES, len(crops))).round().astype(int)
        path = output.faces_path(video_id)
        write_bytes(path, make_evidence_picture([[crops[index] for index in indices]], None))
        label = "fake" if row["label"] else "real"
        kind = f" ({row['generator']})" if row["generator"] else ""
        flags = f"; {', '.join(row['quality_flags'])}" if row["quality_flags"] else ""
        pictures.append(
            Picture(path, f"{row['path']}: {label}{kind}, score {format_score(score)}{flags}")
        )
    text = f"{len(wrong):,} videos are on the wrong side of the threshold {threshold:.3f}."
    return Section("Hardest mistakes", [text], pictures=pictures)


def _read_sequences(layout: StoreLayout, video_ids: Sequence[str]) -> dict[str, list[SequenceRow]]:
    sequences: dict[str, list[SequenceRow]] = {video_id: [] for video_id in video_ids}
    for row in keep_videos(read_table(layout.manifest_path, MANIFEST), video_ids).to_pylist():
        sequences[row["video_id"]].append(row)
    return sequences


def _encode_data_url(path: Path) -> str:
    kind = "jpeg" if path.suffix == ".jpg" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
