"""A checkpoint on labelled videos that it has never seen -> every figure, and the report."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.special import expit

from models.metrics.evaluation import Evaluation, evaluate_table
from models.metrics.metrics import compute_metrics
from reelcheck.card import ModelCard
from reelcheck.config import RunSettings
from reelcheck.perturbations import Perturbation
from storage.checked.documents import read_document, write_document
from storage.checked.sums import write_sums
from storage.checkpoints import read_card
from storage.layout import ModelLayout, StoreLayout
from storage.lock import hold_run_lock
from storage.outputs import EvaluationLayout
from storage.rows import EvaluatedRow
from storage.tables import Row
from tasks.checkpoints.runtimes import open_runtime
from tasks.evaluation.baselines import measure_baselines
from tasks.evaluation.predictions import (
    choose_evaluation_layout,
    load_or_predict_rows,
    make_score_table,
    prediction_key,
)
from tasks.evaluation.report import write_evaluation_report
from tasks.evaluation.robustness import (
    load_or_predict_perturbed,
    measure_robustness,
    write_robustness,
)
from tasks.evaluation.unseen import read_unseen_videos
from tasks.splits.stored import read_split_hash


def evaluate(
    layout: StoreLayout,
    model: ModelLayout,
    *,
    split: str = "test",
    out: Path | None = None,
    perturbations: Sequence[Perturbation] = (),
    run: RunSettings | None = None,
    with_report: bool = False,
) -> Evaluation:
    """Measure a model on one split of a store; a second run does what is missing.

    Args:
        layout: the store.
        model: the checkpoint.
        split: train, val or test.
        out: folder to write to; None: a folder in the model's folder.
        perturbations: the videos are measured after each of these, too.
        run: how to use the machine for perturbations.
        with_report: write pictures, report and model card, too.

    Returns:
        The result of ``evaluate_table``, with ``model_id``, ``evaluated`` (a hash of the videos),
        ``split_hash`` and ``split``; ``raw_ece``, the expected calibration error of logits without
        temperature; ``baselines`` on the same videos; and ``robustness``, a row per perturbation,
        those of earlier runs on the same predictions too.

    Raises:
        MismatchError: other preprocessing, or the model has learned from some of these videos.
        StoreError: the split is empty, or another run writes to the same folder.
    """
    card = read_card(model)
    output = choose_evaluation_layout(layout, model, split=split, out=out)
    known = read_unseen_videos(layout, model, split=split)
    with hold_run_lock(output):
        rows = load_or_predict_rows(layout, model, known, output)
        key = prediction_key(card, known)
        robustness = _read_earlier_robustness(output, key)
        if perturbations:
            runtime = open_runtime(model)
            for perturbation in perturbations:
                after = load_or_predict_perturbed(
                    perturbation, known, card, runtime, output, run=run or RunSettings(), key=key
                )
                row = measure_robustness(
                    perturbation, rows, after, threshold=card.calibration.threshold
                )
                robustness[perturbation.name] = row
            write_robustness(output.robustness_path, list(robustness.values()))
            write_sums(output.path, (output.robustness_path,))
        evaluation: Evaluation = {
            **key,
            "split_hash": read_split_hash(layout),
            "split": split,
            **evaluate_table(make_score_table(rows), card.calibration),
            "raw_ece": _measure_raw_ece(rows, card),
            "baselines": measure_baselines(rows, layout, card),
            "robustness": list(robustness.values()),
        }
        if with_report:
            write_evaluation_report(output, layout, card, evaluation, rows)
        write_document(output.evaluation_path, evaluation)
    return evaluation


def _read_earlier_robustness(output: EvaluationLayout, key: Mapping[str, str]) -> dict[str, Row]:
    """Read the rows, by name, of an earlier evaluation of the same predictions."""
    if not output.evaluation_path.exists():
        return {}
    earlier = read_document(output.evaluation_path)
    if not key.items() <= earlier.items():
        return {}
    return {row["name"]: row for row in earlier["robustness"]}


def _measure_raw_ece(rows: Sequence[EvaluatedRow], card: ModelCard) -> float | int | None:
    """Measure the expected calibration error of logits without temperature."""
    scored = [row for row in rows if row["logit"] is not None]
    logits = np.array([row["logit"] for row in scored], dtype=np.float64)
    labels = np.array([row["label"] for row in scored], dtype=np.int64)
    return compute_metrics(expit(logits), labels, card.calibration)["ece"]
