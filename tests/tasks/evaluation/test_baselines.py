"""What a model is compared with: the same videos, and less to go by."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.metrics import average_precision_score, roc_auc_score

from reelcheck.card import ModelCard
from storage.checkpoints import read_card
from storage.layout import ModelLayout, StoreLayout
from storage.schemas import VIDEOS
from storage.tables import Row, read_rows, write_table
from tasks.evaluation.baselines import CHANCE, FRAMES, METADATA, MODEL, measure_baselines


@pytest.fixture(scope="module")
def card(random_model: Path) -> ModelCard:
    return read_card(ModelLayout(random_model))


@pytest.fixture(scope="module")
def videos(tiny: Any) -> list[Any]:
    return [*tiny.clips(8), *tiny.clips(3, part="val"), *tiny.clips(5, part="test")]


@pytest.fixture
def layout(tmp_path: Path, tiny: Any, videos: list[Any]) -> StoreLayout:
    """Fakes are in another codec than reals."""
    layout: StoreLayout = tiny.write_store(tmp_path / "store", videos)
    rows = read_rows(layout.videos_path, VIDEOS)
    told = [{**row, "codec": ("h264", "hevc")[row["label"]]} for row in rows]
    write_table(layout.videos_path, told, VIDEOS)
    return layout


def answers(videos: Sequence[Any], *, seed: int = 0) -> list[Row]:
    """Rows of the test split with scores by chance; of two tracks the second says more."""
    rng = np.random.default_rng(seed)
    rows = []
    for clip in videos:
        if clip.part != "test":
            continue
        frames = [
            {"track_id": track, "score": float(expit(rng.normal(track)))}
            for track in (0, 1)
            for _ in range(3)
        ]
        scored = {"score": float(rng.uniform()), "frames": frames}
        rows.append(
            {"video_id": clip.video_id, "component": clip.path, "label": clip.label, **scored}
        )
    return rows


def by_name(rows: Sequence[Row], layout: StoreLayout, card: ModelCard) -> dict[str, Row]:
    found = measure_baselines(rows, layout, card)
    assert len({row["name"] for row in found}) == len(found)
    return {row["name"]: row for row in found}


def test_model_and_its_frames_have_the_figures_of_scikit_learn(
    layout: StoreLayout, card: ModelCard, videos: list[Any]
) -> None:
    rows = answers(videos)
    found = by_name(rows, layout, card)
    labels = [row["label"] for row in rows]

    def frames_alone(row: Row) -> float:
        means = [
            np.mean([logit(f["score"]) for f in row["frames"] if f["track_id"] == track])
            for track in (0, 1)
        ]
        return float(max(means))

    for name, scores in (
        (MODEL, [row["score"] for row in rows]),
        (FRAMES, [frames_alone(row) for row in rows]),
    ):
        assert found[name]["auc"] == pytest.approx(roc_auc_score(labels, scores))
        expected = average_precision_score(labels, scores)
        assert found[name]["average_precision"] == pytest.approx(expected)
        assert found[name]["low"] <= found[name]["auc"] <= found[name]["high"]


def test_frame_that_is_sure_beyond_rounding_counts_as_finite(
    layout: StoreLayout, card: ModelCard, videos: list[Any]
) -> None:
    rows = answers(videos)
    for row in rows:
        row["frames"] = [{"track_id": 0, "score": float(row["label"])}]
    assert by_name(rows, layout, card)[FRAMES]["auc"] == 1.0


def test_codec_that_tells_the_label_tells_it_to_metadata(
    layout: StoreLayout, card: ModelCard, videos: list[Any]
) -> None:
    found = by_name(answers(videos), layout, card)
    assert (found[METADATA]["auc"], found[METADATA]["eer"]) == (1.0, 0.0)


def test_metadata_that_tell_nothing_are_chance(
    tmp_path: Path, tiny: Any, card: ModelCard, videos: list[Any]
) -> None:
    """No codec, no rate, no size: as of a folder of pictures, of which no such thing is known."""
    layout = tiny.write_store(tmp_path / "store", videos)
    assert by_name(answers(videos), layout, card)[METADATA]["auc"] == 0.5


@pytest.mark.parametrize("num_reals", [5, 3, 1])
def test_chance_finds_as_many_fakes_as_there_are(
    layout: StoreLayout, card: ModelCard, videos: list[Any], num_reals: int
) -> None:
    rows = answers(videos)
    reals = [row for row in rows if row["label"] == 0][:num_reals]
    rows = [*reals, *(row for row in rows if row["label"] == 1)]
    chance = by_name(rows, layout, card)[CHANCE]
    assert (chance["auc"], chance["eer"]) == (0.5, 0.5)
    assert chance["average_precision"] == pytest.approx(5 / (5 + num_reals))


def test_all_are_measured_on_the_videos_that_have_a_score(
    layout: StoreLayout, card: ModelCard, videos: list[Any]
) -> None:
    rows = answers(videos)
    failed = {"score": None, "frames": []}
    # Of a video without crops, nothing is known but its label.
    added = {"video_id": "ramp", "component": "ramp", "label": 1, **failed}
    rows[0] |= failed
    assert by_name([*rows, added], layout, card) == by_name(rows[1:], layout, card)


def test_detector_of_frames_alone_is_not_compared_with_itself(
    layout: StoreLayout, card: ModelCard, videos: list[Any]
) -> None:
    detector = card.detector.model_copy(update={"transformer": None})
    alone = card.model_copy(update={"detector": detector})
    names = [row["name"] for row in measure_baselines(answers(videos), layout, alone)]
    assert names == [MODEL, METADATA, CHANCE]
    assert [row["name"] for row in measure_baselines(answers(videos), layout, card)] == [
        MODEL,
        FRAMES,
        METADATA,
        CHANCE,
    ]


def test_store_with_one_label_to_learn_from_has_no_metadata_to_compare_with(
    tmp_path: Path, tiny: Any, card: ModelCard, videos: list[Any]
) -> None:
    kept = [clip for clip in videos if clip.part == "test" or clip.label == 0]
    layout = tiny.write_store(tmp_path / "store", kept)
    assert METADATA not in by_name(answers(kept), layout, card)


def test_without_a_scored_video_every_figure_is_undefined(
    layout: StoreLayout, card: ModelCard, videos: list[Any]
) -> None:
    rows = [{**row, "score": None, "frames": []} for row in answers(videos)]
    found = by_name(rows, layout, card)
    assert found.keys() == {MODEL, FRAMES, CHANCE}
    assert {found[name]["auc"] for name in (MODEL, FRAMES)} == {None}
    assert found[CHANCE]["average_precision"] is None
