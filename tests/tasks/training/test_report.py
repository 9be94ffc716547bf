"""The report says what scikit-learn says, in a form that a page without the folder can show."""

import base64
import io
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as sk

from models.metrics.metrics import compute_metrics
from reelcheck.card import Calibration, ModelCard, PhaseSummary
from reelcheck.config import PreprocessSettings
from reelcheck.train_config import DetectorSettings, TrainSettings
from storage.checked.documents import read_document
from storage.layout import ModelLayout
from tasks.training.report import (
    TrainingResult,
    embed_pictures,
    format_report,
    summarise_classification,
    write_report,
)

CALIBRATION = Calibration(temperature=1.3, threshold=0.43, real_below=0.3, fake_from=0.61)
PHASES = (
    PhaseSummary(
        phase=1,
        learning_rate=1e-3,
        num_trainable=1537,
        num_parameters=12_345_678,
        num_epochs=2,
        best_epoch=1,
    ),
    PhaseSummary(
        phase=2,
        learning_rate=1e-5,
        num_trainable=12_345_678,
        num_parameters=12_345_678,
        num_epochs=7,
        best_epoch=5,
    ),
)


def result_of(
    num_videos: int,
    *,
    num_folds: int = 1,
    num_epochs: int = 3,
    notes: tuple[str, ...] = (),
    recipe: str | None = "frames",
    one_label: bool = False,
) -> TrainingResult:
    rng = np.random.default_rng(num_videos)
    labels = np.zeros(num_videos, int) if one_label else np.arange(num_videos) % 2
    scores = 1 / (1 + np.exp(-rng.normal(2.0 * labels - 1, 1.2)))
    card = ModelCard(
        weights_sha256="0" * 64,
        detector=DetectorSettings(),
        num_members=num_folds,
        training=TrainSettings(recipe=recipe),
        preprocessing=PreprocessSettings(),
        split_hash="ba9876543210",
        calibration=CALIBRATION,
        aggregation="worst_track_of_mean_sequence_logits",
        phases=PHASES,
        num_videos={
            "train": {"real": 401, "fake": 423},
            "val": {"real": int((labels == 0).sum()), "fake": int(labels.sum())},
        },
        validation=compute_metrics(scores, labels, CALIBRATION),
        versions={},
        notes=notes,
    )
    columns = [f"{part}_{name}" for part in ("train", "val") for name in ("loss", "accuracy", "f1")]
    logs = {
        fold: [
            {"phase": 1, "epoch": epoch, "learning_rate": 1e-3, "is_best": epoch == fold % 3}
            | dict(zip([*columns, "val_auc"], rng.uniform(size=7).tolist(), strict=True))
            for epoch in range(num_epochs)
        ]
        for fold in range(num_folds)
    }
    folds = np.arange(num_videos) // 2 % num_folds
    return TrainingResult(
        card=card, log_rows_by_fold=logs, scores=scores, labels=labels, folds=folds
    )


def cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def row(text: str, first: str) -> list[str]:
    [found] = [cells(line) for line in text.splitlines() if line.startswith(f"| {first} |")]
    return found[1:]


def test_report_links_the_pictures_it_wrote(tmp_path: Path) -> None:
    model = ModelLayout(tmp_path / "model")
    write_report(model, result_of(40, num_folds=2))
    text = model.report_path.read_text(encoding="utf-8")
    linked = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert sorted(linked) == sorted(f"plots/{path.name}" for path in model.plots_dir.iterdir())
    assert len(linked) == 4
    for link in linked:
        with Image.open(model.path / link) as picture:
            picture.verify()


def test_report_tells_what_was_trained_and_how_well(tmp_path: Path) -> None:
    result = result_of(40)
    text = format_report(ModelLayout(tmp_path), result)
    assert row(text, "recipe") == ["frames"]
    assert row(text, "train") == ["401", "423"]
    assert row(text, "1") == ["0.001", "1,537 of 12,345,678", "0.0124 %", "2", "1"]
    assert row(text, "2") == ["1e-05", "12,345,678 of 12,345,678", "100 %", "7", "5"]
    assert row(text, "auc") == [f"{sk.roc_auc_score(result.labels, result.scores):.3f}"]
    assert row(text, "threshold: given") == ["0.430"]
    assert "Measured on validation videos, which chose epoch, temperature, threshold" in text
    assert "| fold |" not in text
    assert "single detectors" not in text


def test_report_shows_notes_before_all_else(tmp_path: Path) -> None:
    text = format_report(ModelLayout(tmp_path), result_of(8, notes=("SYNTHETIC\ndata", "odd")))
    assert text.split("\n\n")[1:3] == ["> **SYNTHETIC data**", "> **odd**"]


def test_report_of_folds_has_a_row_of_each_and_of_all(tmp_path: Path) -> None:
    result = result_of(60, num_folds=3)
    text = format_report(ModelLayout(tmp_path), result)
    head = row(text, "fold")
    everything = [("all", np.ones(60, bool))]
    for name, chosen in [*((str(k), result.folds == k) for k in range(3)), *everything]:
        labels, scores = result.labels[chosen], result.scores[chosen]
        expected = {
            "videos": f"{len(labels)}",
            "fake": f"{labels.sum()}",
            "AUC": f"{sk.roc_auc_score(labels, scores):.3f}",
            "F1": f"{sk.f1_score(labels, scores >= 0.43):.3f}",
            "best epoch": "" if name == "all" else name,
        }
        [found] = [
            dict(zip(head, cells(line)[1:], strict=True))
            for line in text.splitlines()
            if line.startswith(f"| {name} |") and len(cells(line)) == len(head) + 1
        ]
        assert {key: found[key] for key in expected} == expected
    assert "mean of 3 detectors" in text


@pytest.mark.parametrize("num_folds", [1, 4])
def test_classification_equals_scikit_learn_and_folds_add_up(
    tmp_path: Path, num_folds: int
) -> None:
    result = result_of(50, num_folds=num_folds)
    model = ModelLayout(tmp_path)
    write_report(model, result)
    found = read_document(model.classification_path)
    assert found == summarise_classification(result)
    called = result.scores >= found["threshold"]
    precision, recall, f1, support = sk.precision_recall_fscore_support(result.labels, called)
    for label, name in enumerate(("real", "fake")):
        measured = found["pooled"]["report"][name]
        assert measured == pytest.approx(
            {
                "precision": precision[label],
                "recall": recall[label],
                "f1-score": f1[label],
                "support": support[label],
            }
        )
    pooled = sk.confusion_matrix(result.labels, called)
    counts = [
        [
            [part["confusion"][label][call] for call in ("real", "fake")]
            for label in ("real", "fake")
        ]
        for part in (found["pooled"], *found["folds"].values())
    ]
    assert len(counts) == 1 + num_folds
    assert np.array_equal(counts[0], pooled)
    assert np.array_equal(np.sum(counts[1:], axis=0), pooled)


@pytest.mark.parametrize(
    "result",
    [result_of(6, num_epochs=1), result_of(300, num_folds=20, num_epochs=100)],
    ids=["small", "large"],
)
def test_inline_images_make_the_report_whole_and_small(
    tmp_path: Path, result: TrainingResult
) -> None:
    model = ModelLayout(tmp_path)
    write_report(model, result)
    text = embed_pictures(model)
    assert len(text.encode()) < 200_000
    linked = model.report_path.read_text(encoding="utf-8")
    images = re.findall(r"\(data:image/png;base64,([^)]+)\)", text)
    assert len(images) == 4
    for link, image in zip(re.findall(r"\((plots/[^)]+)\)", linked), images, strict=True):
        linked = linked.replace(link, f"data:image/png;base64,{image}")
        with Image.open(io.BytesIO(base64.b64decode(image))) as small:
            assert (small.format, small.width) == ("PNG", 720)
            shown = np.asarray(small.convert("RGB"), int)
        with Image.open(model.path / link) as large:
            wanted = np.asarray(large.convert("RGB").resize(small.size, Image.Resampling.LANCZOS))
        error = np.abs(shown - wanted)
        assert error.mean() < 4
        # Thin lines are lost first, and the background hides it.
        is_orange = (np.abs(wanted - np.array([0xD5, 0x5E, 0x00])) < 30).all(axis=-1)
        assert error[is_orange].max(initial=0) < 60
    assert text == linked


@pytest.mark.parametrize(
    "result",
    [result_of(0), result_of(5, one_label=True), result_of(1)],
    ids=["0", "one label", "1"],
)
def test_report_of_videos_that_prove_nothing_claims_nothing(
    tmp_path: Path, result: TrainingResult
) -> None:
    model = ModelLayout(tmp_path)
    write_report(model, result)
    text = model.report_path.read_text(encoding="utf-8")
    assert row(text, "auc") == ["undefined"]
    assert "nan" not in text
    assert len(list(model.plots_dir.iterdir())) == 4
    if not len(result.labels):
        assert "No validation video was scored." in text
        assert summarise_classification(result)["pooled"] is None


def test_text_of_others_cannot_break_a_table(tmp_path: Path) -> None:
    text = format_report(ModelLayout(tmp_path), result_of(8, recipe="a | b\n## c"))
    assert row(text, "recipe") == ["a | b ## c"]
    tables = [(a, b) for a, b in pairwise(text.splitlines()) if a[:1] == b[:1] == "|"]
    assert tables
    assert all(len(cells(a)) == len(cells(b)) for a, b in tables)
