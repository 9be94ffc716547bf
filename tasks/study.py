"""Write what a comparison of models found, as tables and pictures."""

from collections.abc import Sequence

import pandas as pd

from models.metrics import Interval
from storage.atomic import atomic_path, write_text
from storage.layout import StudyLayout
from tasks.markdown import markdown_table, number
from tasks.plots import AblationRow, LearningPoint, draw_ablation, draw_learning_curve


def write_learning_curve(study: StudyLayout, points: Sequence[LearningPoint]) -> None:
    """Write ``learning_curve.csv`` and its picture, the smallest number of videos first."""
    columns = list(LearningPoint.__dataclass_fields__)
    rows = [vars(point) for point in sorted(points, key=lambda point: point.num_videos)]
    with atomic_path(study.learning_curve_path) as temporary:
        pd.DataFrame(rows, columns=columns).to_csv(temporary, index=False)
    draw_learning_curve(study.learning_curve_plot_path, points)


def write_ablation(study: StudyLayout, rows: Sequence[AblationRow]) -> None:
    """Write ``ablation.csv``, ``ablation.md`` and its picture, in the order given."""
    columns = ("name", "change", "val_auc", "val_f1", "test_auc", "test_auc_low", "test_auc_high")
    values = [
        (row.name, row.change, row.val_auc, row.val_f1, *(row.test_auc or (None,) * 3))
        for row in rows
    ]
    with atomic_path(study.ablation_path) as temporary:
        pd.DataFrame(values, columns=columns).to_csv(temporary, index=False)
    write_text(study.ablation_markdown_path, ablation_markdown(rows))
    draw_ablation(study.ablation_plot_path, rows)


def ablation_markdown(rows: Sequence[AblationRow]) -> str:
    """The table for people; intervals that overlap widely prove no difference."""
    header = ("name", "what was changed", "validation AUC", "validation F1", "held-out AUC (95 %)")
    table = markdown_table(
        header,
        [
            (
                row.name,
                row.change,
                number(row.val_auc),
                number(row.val_f1),
                _held_out(row.test_auc),
            )
            for row in rows
        ],
    )
    return f"{table}\n"


def _held_out(found: Interval | None) -> str:
    return (
        "undefined" if found is None else f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
    )
