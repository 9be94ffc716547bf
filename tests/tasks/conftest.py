"""What tests of pictures and of evaluations share."""

import shutil
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image

from storage.checkpoints import read_card, save_checkpoint
from storage.layout import ModelLayout, StoreLayout
from storage.schemas import LEARNED, SPLIT
from storage.tables import read_metadata, read_rows, write_table
from tasks.runtimes import open_runtime

ModelOf = Callable[[Path, StoreLayout], ModelLayout]


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> Path:
    """Folder of a model with random weights, to be copied; its ONNX files take seconds to make."""
    model: ModelLayout = tiny.save_model(tmp_path_factory.mktemp("random") / "model")
    open_runtime(model)
    return model.path


@pytest.fixture(scope="session")
def model_of(random_model: Path) -> ModelOf:
    """Gives a new folder the random model, as if it had been trained with a store's split."""

    def make(folder: Path, layout: StoreLayout) -> ModelLayout:
        model = ModelLayout(shutil.copytree(random_model, folder))
        shutil.copy(layout.split_path, model.split_path)
        learned = [
            {
                "video_id": row["video_id"],
                "component": row["component"],
                "frames": [],
                "faces": [],
            }
            for row in read_rows(layout.split_path, SPLIT)
            if row["split"] in {"train", "val"}
        ]
        write_table(model.learned_path, learned, LEARNED)
        split_hash = read_metadata(layout.split_path)["split_hash"]
        card = read_card(model).model_copy(update={"split_hash": split_hash})
        save_checkpoint(model, model.weights_path.read_bytes(), card)
        return model

    return make


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures behind the pictures that a test draws."""
    drawn: list[Figure] = []
    savefig = Figure.savefig

    def record(figure: Figure, *args: Any, **kwargs: Any) -> None:
        savefig(figure, *args, **kwargs)
        drawn.append(figure)

    monkeypatch.setattr(Figure, "savefig", record)
    return drawn


@pytest.fixture
def require_readable(
    tmp_path: Path, figures: list[Figure]
) -> Callable[[Callable[[Path], None]], None]:
    """Draws, and refuses cut or overlapping text and a legend that lies on data."""

    def require(draw: Callable[[Path], None]) -> None:
        path = tmp_path / "plots" / "picture.png"
        draw(path)
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert picture.width == 1200
            assert len(set(picture.convert("RGB").get_flattened_data())) > 2
        assert [each.name for each in path.parent.iterdir()] == ["picture.png"]
        [figure] = figures
        drawn, canvas = figure.get_tightbbox(), figure.bbox_inches
        assert (drawn.min >= canvas.min).all()
        assert (drawn.max <= canvas.max).all()
        data = [ax for ax in figure.axes if ax.has_data()]
        legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
        for legend in legends:
            box = legend.get_window_extent()
            assert not [ax for ax in data if box.overlaps(ax.get_window_extent())]
        for ax in data:
            _require_apart(ax.get_xticklabels())
            _require_apart(ax.get_yticklabels())
            _require_apart(ax.texts)

    return require


def _require_apart(texts: Any) -> None:
    shown = [text for text in texts if text.get_visible() and text.get_text()]
    # The box around turned text is larger than its letters.
    level = [text for text in shown if text.get_rotation() % 90 == 0]
    for one, other in combinations(level, 2):
        assert not one.get_window_extent().overlaps(other.get_window_extent()), (one, other)
