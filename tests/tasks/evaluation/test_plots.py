"""Pictures of an evaluation show the numbers that they were given, and stay readable."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from models.metrics.metrics import (
    CoveragePoint,
    bin_by_score,
    compute_metrics,
    compute_risk_coverage,
)
from reelcheck.card import Calibration
from tasks.evaluation.plots import (
    RobustnessRow,
    draw_reliability,
    draw_risk_coverage,
    draw_robustness,
    draw_scores,
    draw_slices,
)
from tasks.plotting.classification import draw_precision_recall, draw_roc

CALIBRATION = Calibration(temperature=1.0, threshold=0.46, real_below=0.3, fake_from=0.6)
NO_BAND = CALIBRATION.model_copy(update={"real_below": 0.46, "fake_from": 0.46})
ALL_BAND = CALIBRATION.model_copy(
    update={"real_below": 0.0, "fake_from": float(np.nextafter(1.0, 2))}
)


def videos(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    labels = np.arange(count) % 2
    return 1 / (1 + np.exp(-rng.normal(2.0 * labels - 1, 1.2))), labels


def risks(count: int, *, num_groups: int = 5) -> Callable[[Path], None]:
    scores, labels = videos(count)
    groups = np.arange(count) % num_groups
    points = compute_risk_coverage(scores, labels, groups, CALIBRATION, num_draws=20, seed=0)
    metrics: dict[str, Any] = compute_metrics(scores, labels, CALIBRATION)
    names = ("decided_share", "decided_error")
    return partial(draw_risk_coverage, points=points, **{name: metrics[name] for name in names})


def slice_row(name: str, auc: float | None = 0.8, *, width: float | None = 0.1) -> dict[str, Any]:
    ends = (None, None) if auc is None or width is None else (auc - width, auc + width)
    low, high = ends
    return {"name": name, "auc": auc, "low": low, "high": high, "num_real": 7, "num_fake": 1234}


def slices(**by: Sequence[dict[str, Any]]) -> Callable[[Path], None]:
    kinds = ("generator", "dataset", "codec", "face_pixels")
    return partial(draw_slices, by=dict.fromkeys(kinds, ()) | by)


def levels(family: str, *labels: str, auc: float | None = 0.9) -> list[RobustnessRow]:
    ends = (None, None) if auc is None else (auc - 0.05, auc + 0.04)
    return [
        RobustnessRow(
            family=family,
            strength=float(n),
            label=label,
            auc=auc,
            low=ends[0],
            high=ends[1],
            coverage=1 - 0.1 * n,
        )
        for n, label in enumerate(labels)
    ]


def robustness(*rows: Sequence[RobustnessRow], auc: float | None = 0.95) -> Callable[[Path], None]:
    return partial(
        draw_robustness, rows=[row for each in rows for row in each], undisturbed_auc=auc
    )


MATRIX = (
    levels("h264", *(f"CRF {n}" for n in (23, 28, 35, 40, 45, 51))),
    levels("jpeg", "quality 90", "quality 70", "quality 50", "quality 30"),
    levels("scale", "x0.75", "x0.5", "x0.25"),
    levels("blur", "1 px", "2 px", "4 px"),
    levels("noise", "2 %", "5 %"),
    levels("gamma", "0.5", "2"),
    levels("dropped frames", "10 %", "50 %"),
    levels("remux", "mkv"),
    levels("mirrored", "$x$"),
)
PICTURES = {
    "reliability of one": partial(draw_reliability, scores=np.ones(1), labels=np.ones(1, int)),
    "reliability of many": partial(
        draw_reliability, **dict(zip(("scores", "labels"), videos(200_000), strict=True))
    ),
    "risk of one": risks(1),
    "risk of one group": risks(30, num_groups=1),
    "risk of many": risks(3000),
    "scores of one": partial(
        draw_scores, scores=np.ones(1), labels=np.ones(1, int), calibration=CALIBRATION
    ),
    **{
        f"scores, {name}": partial(
            draw_scores,
            **dict(zip(("scores", "labels"), videos(500), strict=True)),
            calibration=calibration,
        )
        for name, calibration in (
            ("a band", CALIBRATION),
            ("no band", NO_BAND),
            ("all in the band", ALL_BAND),
        )
    },
    "one slice": slices(codec=[slice_row("h264")]),
    "slice without interval": slices(codec=[slice_row("h264", width=None)]),
    "forty slices": slices(
        generator=[slice_row(f"a generator with a long name, {n}") for n in range(40)],
        dataset=[slice_row("costs $5_a and $6"), slice_row("one label", None)],
        codec=[slice_row("none defined", None)],
        face_pixels=[slice_row("<48", 0.2), slice_row(">=192")],
    ),
    "one disturbance": robustness(levels("remux", "mkv")),
    "one family": robustness(MATRIX[0], auc=None),
    "all families": robustness(*MATRIX),
    "single ones": robustness(*(each[:1] for each in MATRIX)),
    "families without an AUC": robustness(MATRIX[0], levels("gone", "1", "2", auc=None)),
    "ROC without folds": partial(
        draw_roc, **dict(zip(("scores", "labels"), videos(90), strict=True)), threshold=0.4
    ),
    "precision without folds": partial(
        draw_precision_recall,
        **dict(zip(("scores", "labels"), videos(90), strict=True)),
        threshold=0.4,
    ),
}
EMPTY = {
    "No video was scored.": (
        partial(draw_reliability, scores=np.empty(0), labels=np.empty(0, int)),
        risks(0),
        partial(draw_scores, scores=np.empty(0), labels=np.empty(0, int), calibration=CALIBRATION),
    ),
    "No AUC of any kind of videos is defined.": (
        slices(),
        slices(dataset=[slice_row("x", None)]),
    ),
    "No AUC was measured.": (robustness(), robustness(levels("x", "1", "2", auc=None))),
}


@pytest.mark.parametrize("name", PICTURES)
def test_picture_is_readable(name: str, require_readable: Callable[..., None]) -> None:
    require_readable(PICTURES[name])


@pytest.mark.parametrize("text", EMPTY)
def test_picture_of_nothing_says_so(text: str, tmp_path: Path, figures: list[Figure]) -> None:
    for draw in EMPTY[text]:
        draw(tmp_path / "picture.png")
    assert [each.get_text() for figure in figures for each in figure.texts] == [text] * len(
        EMPTY[text]
    )


def test_import_leaves_the_global_state_of_matplotlib_alone() -> None:
    script = "import sys, tasks.evaluation.plots; print('matplotlib.pyplot' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


def lines_of(figure: Figure, label: str) -> list[tuple[float, float]]:
    """Points of the line of this label in the first axes."""
    [line] = [line for line in figure.axes[0].get_lines() if line.get_label() == label]
    x, y = np.array(line.get_data(), dtype=float)
    return list(zip(x.tolist(), y.tolist(), strict=True))


def test_reliability_shows_each_bin_and_its_count(tmp_path: Path, figures: list[Figure]) -> None:
    scores, labels = videos(300)
    draw_reliability(tmp_path / "a.png", scores, labels)
    bins = bin_by_score(scores, labels)
    assert lines_of(figures[0], "videos of a bin\n(mean score)") == [each[:2] for each in bins]
    below = figures[0].axes[1]
    assert [bar.get_height() for bar in below.patches] == [each.num_videos for each in bins]
    assert [text.get_text() for text in below.texts] == [str(each.num_videos) for each in bins]
    error = compute_metrics(scores, labels, CALIBRATION)["ece"]
    assert figures[0].axes[0].get_title().endswith(f"error {error:.3f}")


def test_risk_shows_the_points_their_interval_and_the_verdicts(
    tmp_path: Path, figures: list[Figure]
) -> None:
    points = [CoveragePoint(0.5, 0.1, 0.05, 0.2), CoveragePoint(1.0, 0.3, 0.2, 0.4)]
    path = tmp_path / "a.png"
    draw_risk_coverage(path, points, decided_share=0.7, decided_error=0.6)
    draw_risk_coverage(path, points, decided_share=0.0, decided_error=None)
    name = "the model's verdicts\nthat are not inconclusive"
    assert lines_of(figures[0], "the most certain videos") == [(0.5, 0.1), (1.0, 0.3)]
    assert lines_of(figures[0], name) == [(0.7, 0.6)]
    assert figures[0].axes[0].get_ylim()[1] > 0.6
    area = figures[0].axes[0].collections[0].get_paths()[0].vertices
    assert {(0.5, 0.05), (0.5, 0.2), (1.0, 0.2), (1.0, 0.4)} <= set(map(tuple, area))
    assert name not in {line.get_label() for line in figures[1].axes[0].get_lines()}


def test_scores_show_the_share_of_each_label(tmp_path: Path, figures: list[Figure]) -> None:
    scores = np.array([0.01, 0.01, 0.5, 0.99, 1.0])
    draw_scores(tmp_path / "a.png", scores, np.array([0, 0, 0, 1, 1]), CALIBRATION)
    steps = {each.get_label(): each.get_data() for each in figures[0].axes[0].patches[1::2][:2]}
    assert set(steps) == {"3 real", "2 fake"}
    real, fake = steps["3 real"].values, steps["2 fake"].values
    assert (real[0], real[12], real.sum()) == pytest.approx((2 / 3, 1 / 3, 1))
    assert (fake[-1], fake.sum()) == (1, 1)
    assert lines_of(figures[0], "threshold 0.460") == [(0.46, 0.0), (0.46, 1.0)]


def test_slices_show_auc_interval_and_counts(tmp_path: Path, figures: list[Figure]) -> None:
    rows = [slice_row("vp9", 0.7), slice_row("none", None)]
    slices(codec=rows, face_pixels=[slice_row("<48", 0.6)])(tmp_path / "a.png")
    codec, faces = figures[0].axes
    assert [ax.get_title(loc="left") for ax in (codec, faces)] == ["codec", "face size (px)"]
    assert codec.get_lines()[0].get_xdata()[0] == 0.7
    [drawn] = [segment for segment in codec.collections[0].get_segments() if len(segment)]
    assert drawn[:, 0].tolist() == pytest.approx([0.6, 0.8])
    assert [text.get_text() for text in codec.texts] == ["undefined"]
    names = [text.get_text() for text in codec.get_yticklabels()]
    assert names == ["vp9 (7, 1,234)", "none (7, 1,234)"]


def test_robustness_shows_families_by_strength_and_single_ones_together(
    tmp_path: Path, figures: list[Figure]
) -> None:
    rows = [*levels("jpeg", "90", "50"), *levels("remux", "mkv"), *levels("flip", "on")]
    robustness(rows[::-1])(tmp_path / "a.png")
    jpeg, others = (ax for ax in figures[0].axes if ax.has_data())
    assert (jpeg.get_title(), others.get_title()) == ("jpeg", "others")
    assert [text.get_text() for text in jpeg.get_xticklabels()] == ["90", "50"]
    assert [text.get_text() for text in others.get_xticklabels()] == ["flip on", "remux mkv"]
    undisturbed, coverage, auc = jpeg.get_lines()
    assert set(undisturbed.get_ydata()) == {0.95}
    assert coverage.get_ydata() == pytest.approx([1.0, 0.9])
    assert auc.get_ydata() == pytest.approx([0.9, 0.9])
    ends = [segment[:, 1].tolist() for segment in jpeg.collections[0].get_segments()]
    assert ends == [pytest.approx([0.85, 0.94])] * 2
