"""A model's answers on a part of a store: every video one row, judged once."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.special import expit

from models.data.batching import collate
from models.data.dataset import CropDataset
from models.network.detector import Detector
from reelcheck.errors import StoreError
from storage.checkpoints import read_card, save_checkpoint
from storage.layout import ModelLayout, StoreLayout
from storage.outputs import EvaluationLayout
from storage.schemas import EVALUATED, MANIFEST, SPLIT, VIDEOS
from storage.tables import Row, read_metadata, read_rows, write_table
from tasks.evaluation.predictions import (
    choose_evaluation_layout,
    load_or_predict_rows,
    make_score_table,
)
from tasks.evaluation.unseen import read_unseen_videos

ModelOf = Callable[[Path, StoreLayout], ModelLayout]
TESTED = ("score", "logit", "verdict", "num_frames_used", "face_pixels")


@pytest.fixture
def videos(tiny: Any) -> list[Any]:
    """Fakes by two generators in the test split, and faces of which there are up to three."""
    test = [
        tiny.Clip(
            path=f"test/{place}.mp4",
            label=place % 2,
            part="test",
            num_tracks=1 + place % 3,
            generator=("swap", "mouth")[place % 4 // 2] if place % 2 else None,
        )
        for place in range(8)
    ]
    return [*(clip for clip in tiny.three_parts() if clip.part != "test"), *test]


@pytest.fixture
def layout(tmp_path: Path, tiny: Any, videos: list[Any]) -> StoreLayout:
    layout: StoreLayout = tiny.write_store(tmp_path / "store", videos)
    return layout


@pytest.fixture
def model(tmp_path: Path, model_of: ModelOf, layout: StoreLayout) -> ModelLayout:
    return model_of(tmp_path / "model", layout)


Answer = Callable[..., list[Row]]


@pytest.fixture
def answer(tmp_path: Path, layout: StoreLayout, model: ModelLayout) -> Answer:
    """The rows, in one place whatever the split is."""

    def rows(layout: StoreLayout = layout, model: ModelLayout = model) -> list[Row]:
        known = read_unseen_videos(layout, model, split="test")
        return load_or_predict_rows(layout, model, known, EvaluationLayout(tmp_path / "out"))

    return rows


def add_failed(layout: StoreLayout, **statuses: str) -> None:
    """Labelled fakes without crops in the test split, by name, as the store would hold them."""
    metadata = read_metadata(layout.split_path)
    files = read_rows(layout.videos_path, VIDEOS)
    split_rows = read_rows(layout.split_path, SPLIT)
    for name, status in statuses.items():
        video: Row = {"root": "/videos", "path": f"test/{name}.mp4", "video_id": f"f{name}"}
        files.append(
            {**dict.fromkeys(VIDEOS.names), **video, "status": status, "reason": "x", "label": 1}
        )
        dealt = {"component": f"f{name}", "label": 1, "split": "test", "has_crops": False}
        split_rows.append({"video_id": f"f{name}", **dealt})
    write_table(layout.videos_path, files, VIDEOS)
    write_table(layout.split_path, split_rows, SPLIT, metadata=metadata)


def torch_scores(layout: StoreLayout, tiny: Any, tested: Sequence[Any]) -> dict[str, float]:
    """Score of each video by the plain rule: sequence after sequence, by the network itself."""
    torch.manual_seed(0)
    detector = Detector(tiny.detector).eval()
    dataset = CropDataset(layout, read_rows(layout.manifest_path, MANIFEST))
    logits: dict[str, list[float]] = {}
    for index, row in enumerate(dataset.rows):
        with torch.no_grad():
            logit = detector(collate([dataset[index]])).logits_B.item()
        logits.setdefault(row["video_id"], []).append(logit)
    temperature = tiny.calibration.temperature
    return {
        clip.video_id: float(expit(max(logits[clip.video_id]) / temperature)) for clip in tested
    }


def test_each_video_of_the_part_has_one_row_with_the_score_of_the_network(
    layout: StoreLayout, answer: Answer, tiny: Any, videos: list[Any]
) -> None:
    tested = [clip for clip in videos if clip.part == "test"]
    rows = answer()
    assert [row["video_id"] for row in rows] == sorted(clip.video_id for clip in tested)
    expected = torch_scores(layout, tiny, tested)
    assert {row["video_id"]: row["score"] for row in rows} == pytest.approx(expected, abs=1e-5)
    # Random weights as they are, a model that says the same of everything would be no proof.
    assert len({round(score, 4) for score in expected.values()}) > 4
    known = {clip.video_id: clip for clip in tested}
    for row in rows:
        clip = known[row["video_id"]]
        assert (row["label"], row["generator"], row["path"]) == (
            clip.label,
            clip.generator,
            clip.path,
        )
        assert (len(row["tracks"]), len(row["frames"])) == (
            clip.num_tracks,
            clip.num_tracks * clip.num_frames,
        )
        assert (row["component"], row["split"], row["face_pixels"]) == (
            clip.video_id,
            "test",
            40.0,
        )


def test_table_holds_the_rows(tmp_path: Path, answer: Answer, model: ModelLayout) -> None:
    rows = answer()
    path = EvaluationLayout(tmp_path / "out").videos_path
    assert read_rows(path, EVALUATED) == rows
    assert read_metadata(path)["model_id"] == read_card(model).model_id


def test_videos_that_failed_are_rows_with_their_status_and_no_score(
    layout: StoreLayout, answer: Answer
) -> None:
    statuses = {"ramp": "no_face", "cut": "decode_error", "far": "face_too_small"}
    add_failed(layout, **statuses)
    rows = answer()
    failed = {row["video_id"]: row for row in rows if row["status"] != "ok"}
    assert len(rows) == 8 + len(failed)
    assert {name: row["status"] for name, row in failed.items()} == {
        f"f{name}": status for name, status in statuses.items()
    }
    for row in failed.values():
        assert [row[name] for name in TESTED] == [None] * len(TESTED)
        assert (row["tracks"], row["frames"], row["label"], row["reason"]) == ([], [], 1, "x")


def test_videos_of_one_name_under_two_roots_stay_two(layout: StoreLayout, answer: Answer) -> None:
    files = read_rows(layout.videos_path, VIDEOS)
    roots = {"test/1.mp4": "/swap", "test/3.mp4": "/mouth"}
    write_table(
        layout.videos_path,
        [
            {**file, "root": roots[file["path"]], "path": "000_003.mp4"}
            if file["path"] in roots
            else file
            for file in files
        ],
        VIDEOS,
    )
    rows = [row for row in answer() if row["path"] == "000_003.mp4"]
    assert {(row["root"], row["generator"]) for row in rows} == {
        ("/swap", "swap"),
        ("/mouth", "mouth"),
    }
    assert len({row["score"] for row in rows}) == 2


def test_copies_of_one_video_are_one_row_that_knows_what_each_of_them_knows(
    layout: StoreLayout, answer: Answer
) -> None:
    files = read_rows(layout.videos_path, VIDEOS)
    [place] = [place for place, file in enumerate(files) if file["path"] == "test/1.mp4"]
    copy = {**files[place], "path": "test/copy.mp4", "dataset": "known to the copy alone"}
    write_table(layout.videos_path, [*files, copy], VIDEOS)
    # The manifest has what copies say together.
    manifest = [
        {**row, "dataset": copy["dataset"]} if row["video_id"] == copy["video_id"] else row
        for row in read_rows(layout.manifest_path, MANIFEST)
    ]
    write_table(layout.manifest_path, manifest, MANIFEST)
    rows = [row for row in answer() if row["video_id"] == copy["video_id"]]
    assert [(row["path"], row["dataset"]) for row in rows] == [("test/1.mp4", copy["dataset"])]


def lose_crops(layout: StoreLayout) -> None:
    """Whoever judges a video now fails."""
    for shard in layout.done_shards():
        layout.crops_path(shard, 0).unlink()


def test_second_call_predicts_nothing(layout: StoreLayout, answer: Answer) -> None:
    rows = answer()
    lose_crops(layout)
    assert answer() == rows


@pytest.mark.parametrize(
    "changes",
    [{"label": 0}, {"generator": "another"}, {"status": "no_face"}],
    ids=["label", "generator", "status"],
)
def test_labels_of_a_video_have_changed_and_all_are_predicted_again(
    layout: StoreLayout, answer: Answer, tiny: Any, videos: list[Any], changes: dict[str, Any]
) -> None:
    answer()
    [clip] = [clip for clip in videos if clip.path == "test/1.mp4"]
    if "status" in changes:
        files = read_rows(layout.videos_path, VIDEOS)
        changed = [
            {**file, **changes, "reason": "x"} if file["path"] == clip.path else file
            for file in files
        ]
        write_table(layout.videos_path, changed, VIDEOS)
    else:
        tiny.write_tables(
            layout, [replace(video, **changes) if video is clip else video for video in videos]
        )
    [row] = [row for row in answer() if row["video_id"] == clip.video_id]
    assert {name: row[name] for name in changes} == changes
    assert (row["score"] is None) == ("status" in changes)


@pytest.mark.parametrize("changes", [{"temperature": 5.0}, {"threshold": 0.6}])
def test_another_calibration_of_the_same_weights_predicts_again(
    model: ModelLayout, answer: Answer, changes: dict[str, float]
) -> None:
    before = answer()
    card = read_card(model)
    calibration = card.calibration.model_copy(update=changes)
    save_checkpoint(
        model,
        model.weights_path.read_bytes(),
        card.model_copy(update={"calibration": calibration}),
    )
    after = answer()
    assert [row["logit"] for row in after] == [row["logit"] for row in before]
    for row in after:
        assert row["threshold"] == calibration.threshold
        assert row["score"] == pytest.approx(expit(row["logit"] / calibration.temperature))


def test_other_weights_predict_again(
    answer: Answer, other_random_model: Path, tmp_path: Path
) -> None:
    before = answer()
    other = ModelLayout(shutil.copytree(other_random_model, tmp_path / "other"))
    imported = read_card(other).model_copy(update={"split_hash": None})
    save_checkpoint(other, other.weights_path.read_bytes(), imported)
    after = answer(model=other)
    assert all(one["logit"] != two["logit"] for one, two in zip(before, after, strict=True))


@pytest.mark.parametrize("is_gone", [False, True], ids=["other label", "gone"])
def test_store_that_no_longer_fits_its_split_is_refused_and_the_file_named(
    layout: StoreLayout, answer: Answer, videos: list[Any], is_gone: bool
) -> None:
    files = read_rows(layout.videos_path, VIDEOS)
    [clip] = [clip for clip in videos if clip.path == "test/1.mp4"]
    changed = [{**f, "label": 0} if f["path"] == clip.path else f for f in files]
    if is_gone:
        changed = [file for file in files if file["path"] != clip.path]
    write_table(layout.videos_path, changed, VIDEOS)
    name = clip.video_id if is_gone else "test/1.mp4"
    with pytest.raises(StoreError, match=rf"{name} is gone or has another label.*reelcheck split"):
        answer()


def test_score_table_has_what_figures_are_made_of(layout: StoreLayout, answer: Answer) -> None:
    add_failed(layout, ramp="no_face")
    rows = answer()
    table = make_score_table(rows)
    assert table["video_id"].tolist() == [row["video_id"] for row in rows]
    assert table["group"].tolist() == [row["component"] for row in rows]
    for row, scores in zip(rows, table["frame_scores"], strict=True):
        assert scores == [frame["score"] for frame in row["frames"]]
    assert table["score"].isna().tolist() == [row["status"] != "ok" for row in rows]


def test_place_of_an_evaluation_names_part_and_split(
    layout: StoreLayout, model: ModelLayout, tmp_path: Path
) -> None:
    split_hash = read_metadata(layout.split_path)["split_hash"]
    found = choose_evaluation_layout(layout, model, split="test", out=None)
    assert found == EvaluationLayout(model.path / "evaluations" / f"test-{split_hash}")
    asked = choose_evaluation_layout(layout, model, split="test", out=tmp_path / "there")
    assert asked.path == tmp_path / "there"
