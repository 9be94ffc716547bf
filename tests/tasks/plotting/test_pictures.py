"""Pictures show the numbers that other libraries compute, and stay readable on odd input."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from sklearn import metrics as sk

from models.metrics.metrics import Interval
from tasks.evaluation.studies import AblationRow, LearningPoint, draw_ablation, draw_learning_curve
from tasks.plotting.classification import draw_confusion, draw_precision_recall, draw_roc
from tasks.training.curves import draw_curves

THRESHOLD = 0.43
AUC = Interval(0.8, 0.7, 0.9)


def log_rows(*num_epochs: int, seed: int = 0, **changes: Any) -> list[dict[str, Any]]:
    """A log with this many epochs in each phase; the best epoch is the last but one."""
    rng = np.random.default_rng(seed)
    names = ("loss", "accuracy", "f1")
    values = [f"{part}_{name}" for part in ("train", "val") for name in names] + ["val_auc"]
    phases = [phase for phase, count in enumerate(num_epochs, 1) for _ in range(count)]
    return [
        {"phase": phase, "epoch": epoch, "learning_rate": 10.0 ** (-2 - phase)}
        | dict(zip(values, rng.uniform(0.4, 0.9, len(values)).tolist(), strict=True))
        | {"is_best": epoch == max(0, len(phases) - 2)}
        | changes
        for epoch, phase in enumerate(phases)
    ]


def videos(count: int, *, num_folds: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    labels = np.arange(count) % 2
    scores = 1 / (1 + np.exp(-rng.normal(2.0 * labels - 1, 1.2)))
    return scores, labels, np.arange(count) // 2 % num_folds


def curves(*counts: tuple[int, ...], **changes: Any) -> Callable[[Path], None]:
    logs = {k: log_rows(*each, seed=k, **changes) for k, each in enumerate(counts)}
    return partial(draw_curves, log_rows_by_fold=logs)


def of_videos(
    draw: Callable[..., None], count: int, *, num_folds: int = 1, one_label: int = -1
) -> Callable[[Path], None]:
    scores, labels, folds = videos(count, num_folds=num_folds)
    if one_label >= 0:
        labels = np.full_like(labels, one_label)
    more = {} if draw is draw_confusion else {"folds": folds}
    return partial(draw, scores=scores, labels=labels, threshold=THRESHOLD, **more)


def learning(*sizes: int, val_f1: float | None = 0.7) -> Callable[[Path], None]:
    points = [
        LearningPoint(
            share=size / max(sizes), num_videos=size, val_auc=0.6 + size / 2000, val_f1=val_f1
        )
        for size in sizes
    ]
    return partial(draw_learning_curve, points=points)


def ablation(count: int, *, auc: Interval | None) -> Callable[[Path], None]:
    rows = [
        AblationRow(name=f"costs $5 {n}", change="x", val_auc=0.85, val_f1=0.7, test_auc=auc)
        for n in range(count)
    ]
    return partial(draw_ablation, rows=rows)


PICTURES = {
    "one epoch": curves((1,)),
    "three phases": curves((1, 5, 12)),
    "thirty epochs of five folds": curves(*((30 - k,) for k in range(5))),
    "three phases of five folds": curves(*((2, 9 - k, 12 + k) for k in range(5))),
    "many epochs of many folds": curves(*((60, 60) for _ in range(20))),
    "epochs without an AUC": curves((4,), val_auc=None),
    "epochs of which none is best": curves((4,), is_best=False),
    "a learning rate that ends at nought": curves((1, 1), learning_rate=0.0),
    "confusion of three": of_videos(draw_confusion, 3),
    "confusion of many": of_videos(draw_confusion, 10_000),
    "confusion of one label": of_videos(draw_confusion, 20, one_label=0),
    "ROC of three": of_videos(draw_roc, 3),
    "ROC of many": of_videos(draw_roc, 10_000, num_folds=5),
    "precision of three": of_videos(draw_precision_recall, 3),
    "precision of many": of_videos(draw_precision_recall, 10_000, num_folds=5),
    "one size": learning(80),
    "five sizes": learning(40, 80, 200, 200, 400, 800),
    "sizes without F1": learning(40, 80, val_f1=None),
    "one ablation": ablation(1, auc=AUC),
    "twenty ablations": ablation(20, auc=AUC),
    "ablation without held-out videos": ablation(2, auc=None),
}
EMPTY = {
    "No epoch was finished.": curves(),
    "No video was scored.": of_videos(draw_confusion, 0),
    "No ROC curve: no video was scored.": of_videos(draw_roc, 0),
    "No ROC curve: all 20 videos are fake.": of_videos(draw_roc, 20, one_label=1),
    "No precision-recall curve: all 2 videos are real.": of_videos(
        draw_precision_recall, 2, one_label=0
    ),
    "No model was trained.": partial(draw_learning_curve, points=[]),
    "No AUC was measured.": partial(draw_ablation, rows=[]),
}


@pytest.mark.parametrize("name", PICTURES)
def test_picture_is_readable(name: str, require_readable: Callable[..., None]) -> None:
    require_readable(PICTURES[name])


@pytest.mark.parametrize("text", EMPTY)
def test_picture_of_nothing_says_so(text: str, tmp_path: Path, figures: list[Figure]) -> None:
    EMPTY[text](tmp_path / "picture.png")
    [figure] = figures
    assert [each.get_text() for each in figure.texts] == [text]
    assert (tmp_path / "picture.png").exists()


def test_picture_is_the_same_each_time(tmp_path: Path) -> None:
    for name in ("first", "again"):
        PICTURES["three phases of five folds"](tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "again").read_bytes()


def test_import_leaves_the_global_state_of_matplotlib_alone() -> None:
    script = "import sys, tasks.training.curves; print('matplotlib.pyplot' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


def lines_of(figure: Figure, label: str) -> np.ndarray:
    """x and y of the line of this label in the first axes."""
    [line] = [line for line in figure.axes[0].get_lines() if line.get_label() == label]
    return np.array(line.get_data(), dtype=float)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    pairs=st.lists(
        st.tuples(st.integers(0, 20).map(lambda n: n / 20), st.integers(0, 1), st.integers(0, 2)),
        min_size=2,
        max_size=25,
    ).filter(lambda pairs: len({label for _, label, _ in pairs}) == 2),
    threshold=st.integers(0, 21).map(lambda n: n / 20),
)
def test_curves_and_their_points_equal_scikit_learn(
    pairs: list[tuple[float, int, int]],
    threshold: float,
    tmp_path: Path,
    figures: list[Figure],
) -> None:
    scores, labels, folds = (np.array(column) for column in zip(*pairs, strict=True))
    called = scores >= threshold
    recall = sk.recall_score(labels, called)
    point = f"threshold {threshold:.3f}"
    figures.clear()
    draw_roc(tmp_path / "a.png", scores, labels, threshold=threshold, folds=folds)
    draw_precision_recall(tmp_path / "b.png", scores, labels, threshold=threshold, folds=folds)
    draw_confusion(tmp_path / "c.png", scores, labels, threshold=threshold)
    roc, precision_recall, confusion = figures
    assert roc.axes[0].get_title().endswith(f"AUC {sk.roc_auc_score(labels, scores):.3f}")
    x, y = lines_of(roc, "all videos")
    assert sk.auc(x, y) == pytest.approx(sk.roc_auc_score(labels, scores))
    assert lines_of(roc, point).ravel().tolist() == pytest.approx(
        [1 - sk.recall_score(labels, called, pos_label=0), recall]
    )
    average = sk.average_precision_score(labels, scores)
    assert precision_recall.axes[0].get_title().endswith(f"average precision {average:.3f}")
    if called.any():
        expected = [recall, sk.precision_score(labels, called)]
        assert lines_of(precision_recall, point).ravel().tolist() == pytest.approx(expected)
    counts = [int(text.get_text().split("\n")[0]) for text in confusion.axes[0].texts]
    assert counts == sk.confusion_matrix(labels, called).ravel().tolist()


def test_curves_of_folds_start_each_phase_at_the_same_place(
    tmp_path: Path, figures: list[Figure]
) -> None:
    logs = {0: log_rows(2, 3, seed=0), 1: log_rows(4, 2, seed=1)}
    draw_curves(tmp_path / "a.png", logs)
    ax = figures[0].axes[0]
    starts = [line.get_xdata()[0] for line in ax.get_lines() if line.get_linestyle() == "--"]
    assert starts == [-0.5, 3.5]
    found = {
        tuple(np.array(line.get_data(), dtype=float)[:, ~np.isnan(line.get_ydata())].ravel())
        for line in ax.get_lines()
    }
    places = {0: [0, 1, 4, 5, 6], 1: [0, 1, 2, 3, 4, 5]}
    for column in ("train_loss", "val_loss"):
        values = {fold: [row[column] for row in rows] for fold, rows in logs.items()}
        for fold in logs:
            assert (*places[fold], *values[fold]) in found
        first, second = values.values()
        mean = np.mean([first[:4], [second[n] for n in (0, 1, 4, 5)]], axis=0)
        assert any(
            line[:4] == (0, 1, 4, 5) and line[4:] == pytest.approx(tuple(mean)) for line in found
        )


def test_curves_mark_the_best_epoch_of_each_fold(tmp_path: Path, figures: list[Figure]) -> None:
    logs = {0: log_rows(2, 4, seed=0), 1: log_rows(2, 7, seed=1)}
    for rows in logs.values():
        # The best of the phase before: from it the last one began.
        rows[0]["is_best"] = True
    draw_curves(tmp_path / "a.png", logs)
    for ax, column in zip(
        figures[0].axes, ("val_loss", "val_accuracy", "val_f1", "val_auc"), strict=False
    ):
        [marks] = [line for line in ax.get_lines() if line.get_marker() == "D"]
        assert marks.get_xdata().tolist() == [4, 7]
        assert marks.get_ydata().tolist() == [logs[0][4][column], logs[1][7][column]]


def test_learning_curve_draws_each_model_and_the_mean_of_a_size(
    tmp_path: Path, figures: list[Figure]
) -> None:
    points = [
        LearningPoint(share=share, num_videos=size, val_auc=auc, val_f1=0.5)
        for share, size, auc in ((0.5, 40, 0.6), (0.5, 40, 0.8), (1.0, 80, 0.9))
    ]
    draw_learning_curve(tmp_path / "a.png", points)
    ax = figures[0].axes[0]
    assert lines_of(figures[0], "AUC").T.tolist() == [[40, 0.6], [40, 0.8], [80, 0.9]]
    assert ax.get_lines()[0].get_ydata() == pytest.approx([0.7, 0.9])
    assert [text.get_text() for text in ax.get_xticklabels()] == ["40\n50 %", "80\n100 %"]


def test_ablation_bars_are_the_intervals(tmp_path: Path, figures: list[Figure]) -> None:
    intervals = [Interval(0.8, 0.7, 0.85), Interval(0.6, 0.5, 0.9)]
    rows = [
        AblationRow(name=f"{n}", change="", val_auc=0.7, val_f1=None, test_auc=interval)
        for n, interval in enumerate(intervals)
    ]
    draw_ablation(tmp_path / "a.png", rows)
    [bars] = figures[0].axes[0].collections
    ends = [segment[:, 0].tolist() for segment in bars.get_segments()]
    assert ends == [pytest.approx([each.low, each.high]) for each in intervals]
