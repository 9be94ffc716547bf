"""A checkpoint on labelled videos that it has never seen -> every figure, and the report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from prefect import task
from scipy.special import expit

from models.evaluation import Evaluation, evaluate_table
from models.metrics import video_metrics
from reelcheck.card import ModelCard
from reelcheck.config import RunSettings
from reelcheck.perturbations import Perturbation
from storage.atomic import write_text
from storage.checkpoints import read_card
from storage.layout import ModelLayout, StoreLayout
from storage.lock import run_lock
from storage.outputs import EvaluationLayout
from storage.tables import Row, read_metadata
from tasks.answers import (
    answer_key,
    evaluated_rows,
    evaluation_layout,
    score_table,
    unseen_videos,
)
from tasks.baselines import baselines
from tasks.evaluation_report import write_evaluation_report
from tasks.robustness import perturbed_rows, robustness_row, write_robustness
from tasks.runtimes import open_runtime


@task(name="evaluate")
def evaluate(
    layout: StoreLayout,
    model: ModelLayout,
    *,
    part: str = "test",
    out: Path | None = None,
    perturbations: Sequence[Perturbation] = (),
    run: RunSettings | None = None,
    with_report: bool = False,
) -> Evaluation:
    """Figures of a model on one part of a store's split; a second run does what is missing.

    Args:
        layout: the store.
        model: the checkpoint.
        part: train, val or test.
        out: where to write; None: into the model's folder.
        perturbations: what the videos go through as well, one after the other.
        run: how to use the machine for these.
        with_report: write pictures, page and model card, too.

    Returns:
        What ``evaluate_table`` gives, with ``model_id``, ``evaluated`` (a hash of what was judged),
        ``split_hash`` and ``part``; ``raw_ece``, the expected calibration error of the logits as
        they come; ``baselines`` on the same videos; and ``robustness``, a row per perturbation, of
        earlier runs on the same answers, too.

    Raises:
        MismatchError: other preprocessing, or the model has learned from some of these videos.
        StoreError: the part is empty, or another run writes to the same place.
    """
    card = read_card(model)
    output = evaluation_layout(layout, model, part=part, out=out)
    known = unseen_videos(layout, model, part=part)
    with run_lock(output):
        rows = evaluated_rows(layout, model, known, output)
        key = answer_key(card, known)
        robustness = _earlier_robustness(output, key)
        if perturbations:
            runtime = open_runtime(model)
            for perturbation in perturbations:
                after = perturbed_rows(
                    perturbation, known, card, runtime, output, run=run or RunSettings(), key=key
                )
                row = robustness_row(
                    perturbation, rows, after, threshold=card.calibration.threshold
                )
                robustness[perturbation.name] = row
            write_robustness(output.robustness_path, list(robustness.values()))
        found: Evaluation = {
            **key,
            "split_hash": read_metadata(layout.split_path)["split_hash"],
            "part": part,
            **evaluate_table(score_table(rows), card.calibration),
            "raw_ece": _raw_ece(rows, card),
            "baselines": baselines(rows, layout, card),
            "robustness": list(robustness.values()),
        }
        if with_report:
            write_evaluation_report(output, layout, card, found, rows)
        write_text(output.evaluation_path, json.dumps(found, indent=2) + "\n")
    return found


def _earlier_robustness(output: EvaluationLayout, key: Mapping[str, str]) -> dict[str, Row]:
    """Rows by name that an earlier evaluation of the same answers has found."""
    if not output.evaluation_path.exists():
        return {}
    earlier = json.loads(output.evaluation_path.read_text(encoding="utf-8"))
    if not key.items() <= earlier.items():
        return {}
    return {row["name"]: row for row in earlier["robustness"]}


def _raw_ece(rows: Sequence[Row], card: ModelCard) -> float | int | None:
    """Expected calibration error if the logits were taken as they come."""
    scored = [row for row in rows if row["logit"] is not None]
    logits = np.array([row["logit"] for row in scored], dtype=np.float64)
    labels = np.array([row["label"] for row in scored], dtype=np.int64)
    return video_metrics(expit(logits), labels, card.calibration)["ece"]
