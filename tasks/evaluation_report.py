"""An evaluation for people: one HTML file with all its pictures, and the model card as Markdown.

Both are made from the same sections, so they cannot say different things.
"""

import base64
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from models.evaluation import Evaluation
from models.metrics import risk_coverage
from reelcheck.card import ModelCard
from storage.atomic import write_bytes, write_text
from storage.crops import read_sequence
from storage.layout import StoreLayout
from storage.outputs import EvaluationLayout
from storage.schemas import MANIFEST
from storage.tables import Row, only_videos, read_table
from tasks.answers import score_columns
from tasks.evaluation_plots import (
    RobustnessRow,
    draw_reliability,
    draw_risk_coverage,
    draw_robustness,
    draw_scores,
    draw_slices,
)
from tasks.evaluation_sections import (
    Picture,
    Section,
    card_markdown,
    card_section,
    evaluation_sections,
)
from tasks.evidence import evidence_picture
from tasks.plots import draw_confusion, draw_precision_recall, draw_roc

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
"""Name of each picture -> what it shows."""


def write_evaluation_report(
    output: EvaluationLayout,
    layout: StoreLayout,
    card: ModelCard,
    found: Evaluation,
    rows: Sequence[Row],
) -> None:
    """Write the pictures, the model card and, last, ``report.html``.

    Args:
        output: of the evaluation.
        layout: the store, for the faces of mistakes.
        card: of the model.
        found: the figures.
        rows: the videos (``storage.schemas.EVALUATED``).
    """
    pictures = [*_draw(output, card, found, rows), *_draw_robustness(output, found)]
    write_text(output.model_card_path, card_markdown(card, found))
    figures, baselines, *others, limits = evaluation_sections(found)
    sections = [
        figures,
        baselines,
        Section("Pictures", pictures=pictures),
        *others,
        _mistakes(output, layout, card, rows),
        limits,
        card_section(card),
    ]
    environment = Environment(
        loader=PackageLoader("tasks"), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("evaluation.html.j2").render(
        title=f"Model {card.model_id} on the {found['part']} part",
        notes=card.notes,
        sections=sections,
        data_url=_data_url,
    )
    write_text(output.report_path, page)


def _draw(
    output: EvaluationLayout, card: ModelCard, found: Evaluation, rows: Sequence[Row]
) -> list[Picture]:
    scored = [row for row in rows if row["score"] is not None]
    scores, labels, groups = score_columns(scored)
    threshold = card.calibration.threshold
    draw_roc(output.plot_path("roc"), scores, labels, threshold=threshold)
    draw_precision_recall(output.plot_path("precision_recall"), scores, labels, threshold=threshold)
    draw_confusion(output.plot_path("confusion"), scores, labels, threshold=threshold)
    draw_reliability(output.plot_path("reliability"), scores, labels)
    draw_risk_coverage(
        output.plot_path("risk_coverage"),
        risk_coverage(scores, labels, groups, card.calibration, seed=0),
        decided_share=found["metrics"]["decided_share"],
        decided_error=found["metrics"]["decided_error"],
    )
    draw_scores(output.plot_path("scores"), scores, labels, card.calibration)
    draw_slices(output.plot_path("slices"), found["by"])
    return [Picture(output.plot_path(name), text) for name, text in _PICTURES.items()]


def _draw_robustness(output: EvaluationLayout, found: Evaluation) -> list[Picture]:
    """Nothing where no perturbation was tried."""
    rows = [
        RobustnessRow(
            family=row["family"],
            strength=row["strength"] or 0.0,
            label=row["name"].removeprefix(row["family"]).strip(),
            **{name: row[name] for name in ("auc", "low", "high", "coverage")},
        )
        for row in found["robustness"]
    ]
    if not rows:
        return []
    path = output.plot_path("robustness")
    draw_robustness(path, rows, undisturbed_auc=found["metrics"]["auc"])
    return [Picture(path, "AUC and coverage after each perturbation")]


def _mistakes(
    output: EvaluationLayout, layout: StoreLayout, card: ModelCard, rows: Sequence[Row]
) -> Section:
    """The videos that the threshold calls wrongly, the farthest from it first."""
    threshold = card.calibration.threshold
    wrong = [
        row
        for row in rows
        if row["score"] is not None and (row["score"] >= threshold) != bool(row["label"])
    ]
    wrong.sort(key=lambda row: -abs(row["score"] - threshold))
    pictures = []
    sequences = _sequences_of(layout, [row["video_id"] for row in wrong[:NUM_MISTAKES]])
    for row in wrong[:NUM_MISTAKES]:
        own = sequences[row["video_id"]]
        worst = row["tracks"][0]["track_id"]
        crops = read_sequence(layout, next(s for s in own if s["track_id"] == worst)).crops_THWC
        places = np.linspace(0, len(crops) - 1, min(_NUM_FACES, len(crops))).round().astype(int)
        path = output.faces_path(row["video_id"])
        write_bytes(path, evidence_picture([[crops[place] for place in places]], None))
        label = "fake" if row["label"] else "real"
        kind = f" ({row['generator']})" if row["generator"] else ""
        flags = f"; {', '.join(row['quality_flags'])}" if row["quality_flags"] else ""
        pictures.append(
            Picture(path, f"{row['path']}: {label}{kind}, score {row['score']:.3f}{flags}")
        )
    text = f"{len(wrong):,} videos are on the wrong side of the threshold {threshold:.3f}."
    return Section("Hardest mistakes", [text], pictures=pictures)


def _sequences_of(layout: StoreLayout, video_ids: Sequence[str]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {video_id: [] for video_id in video_ids}
    for row in only_videos(read_table(layout.manifest_path, MANIFEST), video_ids).to_pylist():
        found[row["video_id"]].append(row)
    return found


def _data_url(path: Path) -> str:
    kind = "jpeg" if path.suffix == ".jpg" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
