"""What tests of pictures, of evaluations and of splits share."""

import shutil
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from storage.checkpoints import read_card, save_checkpoint
from storage.layout import ModelLayout, StoreLayout
from storage.schemas import LABEL_COLUMNS, LEARNED, MANIFEST, SPLIT, VIDEOS
from storage.tables import read_metadata, read_rows, write_table

Video = dict[str, Any]
FEW = st.integers(0, 9).map(str)
LINKS = ("group", "identity", "donor", "pair")
COLUMNS = [name for name in LABEL_COLUMNS if name != "label"]

ModelOf = Callable[[Path, StoreLayout], ModelLayout]


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


class SplitCases:
    """Videos with links between them, as rows, and what connects them."""

    @staticmethod
    def video(name: str, label: int, **links: str | None) -> Video:
        path = f"videos/{name}.mp4"
        known = {"video_id": name, "root": "r", "path": path, "label": label, "has_crops": True}
        return {**known, **dict.fromkeys(COLUMNS), **links}

    @staticmethod
    def singles(prefix: str, number: int) -> list[Video]:
        """Unconnected videos, every other one fake."""
        return [SplitCases.video(f"{prefix}{place:03}", place % 2) for place in range(number)]

    @staticmethod
    @st.composite
    def linked_videos(draw: st.DrawFn, prefix: str = "l", max_size: int = 30) -> list[Video]:
        """Videos with random links, among them to sources that are there and that are not."""
        number = draw(st.integers(0, max_size))
        names = [f"{prefix}{place:03}" for place in range(number)]
        sources = st.sampled_from(
            ["absent1.mp4", "absent2.mp4", *(f"videos/{n}.mp4" for n in names)]
        )
        rarely = st.integers(0, 3)
        return [
            SplitCases.video(
                name,
                draw(st.integers(0, 1)),
                **{column: draw(FEW) if draw(rarely) == 0 else None for column in LINKS},
                source=draw(sources) if draw(rarely) == 0 else None,
            )
            for name in names
        ]

    @staticmethod
    def components_of(videos: Sequence[Video]) -> list[set[str]]:
        """The truth, by networkx: videos are joined through nodes for what they share."""
        graph = nx.Graph()
        by_path = {item["path"]: item["video_id"] for item in videos}
        for item in videos:
            node = ("video", item["video_id"])
            graph.add_node(node)
            for column in LINKS:
                if item[column] is not None:
                    graph.add_edge(
                        node, ("identity" if column == "donor" else column, item[column])
                    )
            source = item["source"]
            if source in by_path:
                graph.add_edge(node, ("video", by_path[source]))
            elif source is not None:
                graph.add_edge(node, ("absent", source))
        parts = nx.connected_components(graph)
        return [{name for kind, name in part if kind == "video"} for part in parts]

    @staticmethod
    def parts_of(rows: Sequence[Video]) -> dict[str, str]:
        return {row["video_id"]: row["split"] for row in rows}

    @staticmethod
    def write_manifest(layout: StoreLayout, videos: Sequence[Video]) -> None:
        """One file and two crop sequences for each video."""
        files = [{"status": "ok", **item} for item in videos]
        write_table(layout.videos_path, files, VIDEOS)
        rows = [
            {
                **item,
                "sequence_id": f"{item['video_id']}-{track}",
                "track_id": track,
                "shard": "s",
                "crop_file": 0,
                "crop_row": 0,
                "num_frames": 0,
                "frame_indices": [],
                "pts_seconds": [],
                "boxes_xyxy": [],
                "confidences": [],
                "sharpness": [],
                "brightness": [],
                "keypoints_xy": [],
                "fingerprints": [],
                "face_pixels": 50.0,
            }
            for item in videos
            for track in range(2)
        ]
        write_table(layout.manifest_path, rows, MANIFEST)


@pytest.fixture(scope="session")
def cases() -> SplitCases:
    """The class above."""
    return SplitCases()
