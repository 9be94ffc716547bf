"""Tables of comparisons hold the numbers that they were given."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from models.metrics.metrics import Interval
from storage.outputs import StudyLayout
from tasks.evaluation.studies import (
    AblationRow,
    LearningPoint,
    format_ablation,
    write_ablation,
    write_learning_curve,
)

ROWS = [
    AblationRow(
        name="all",
        change="nothing",
        val_auc=0.91234,
        val_f1=0.8,
        test_auc=Interval(0.87654, 0.8, 0.9),
    ),
    AblationRow(
        name="one", change="no | twins,\nno blend", val_auc=None, val_f1=0.25, test_auc=None
    ),
]


def test_learning_curve_is_written_from_few_to_many_videos(tmp_path: Path) -> None:
    points = [
        LearningPoint(share=1.0, num_videos=80, val_auc=0.9, val_f1=None),
        LearningPoint(share=0.25, num_videos=20, val_auc=0.1 + 0.2, val_f1=0.5),
    ]
    study = StudyLayout(tmp_path / "study")
    write_learning_curve(study, points)
    table = pd.read_csv(study.learning_curve_path)
    assert table.replace({np.nan: None}).to_dict("records") == [
        vars(points[1]),
        vars(points[0]),
    ]
    with Image.open(study.learning_curve_plot_path) as picture:
        picture.verify()


def test_ablation_table_and_text_agree(tmp_path: Path) -> None:
    study = StudyLayout(tmp_path / "study")
    write_ablation(study, ROWS)
    table = pd.read_csv(study.ablation_path).replace({np.nan: None})
    assert table.to_dict("records") == [
        {
            "name": "all",
            "change": "nothing",
            "val_auc": 0.91234,
            "val_f1": 0.8,
            "test_auc": 0.87654,
            "test_auc_low": 0.8,
            "test_auc_high": 0.9,
        },
        {
            "name": "one",
            "change": "no | twins,\nno blend",
            "val_auc": None,
            "val_f1": 0.25,
            "test_auc": None,
            "test_auc_low": None,
            "test_auc_high": None,
        },
    ]
    text = study.ablation_markdown_path.read_text(encoding="utf-8")
    assert text == format_ablation(ROWS)
    assert text.splitlines()[2:] == [
        "| all | nothing | 0.912 | 0.800 | 0.877 (0.800 to 0.900) |",
        "| one | no \\| twins, no blend | undefined | 0.250 | undefined |",
    ]
    with Image.open(study.ablation_plot_path) as picture:
        picture.verify()


def test_tables_of_no_model_have_a_head_and_no_row(tmp_path: Path) -> None:
    study = StudyLayout(tmp_path)
    write_learning_curve(study, [])
    write_ablation(study, [])
    assert len(pd.read_csv(study.learning_curve_path)) == len(pd.read_csv(study.ablation_path)) == 0
    assert len(list(tmp_path.iterdir())) == 5
