"""Held-out figures: against scikit-learn, and only on what the model has not seen."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    f1_score,
    log_loss,
    roc_auc_score,
)

from models.data.batching import collate
from models.data.dataset import CropDataset
from models.network.detector import Detector
from reelcheck.config import PreprocessSettings
from reelcheck.errors import MismatchError, StoreError
from reelcheck.perturbations import Perturbation
from reelcheck.records import FINGERPRINT_BYTES
from storage.checked.documents import read_document
from storage.checkpoints import read_card, save_checkpoint
from storage.layout import ModelLayout, StoreLayout
from storage.lock import hold_run_lock
from storage.outputs import EvaluationLayout
from storage.schemas import EVALUATED, LEARNED, MANIFEST, SPLIT, VIDEOS
from storage.tables import Row, read_metadata, read_rows, write_table
from tasks.evaluation.evaluate import evaluate

ModelOf = Callable[[Path, StoreLayout], ModelLayout]


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
        for place in range(10)
    ]
    return [*(clip for clip in tiny.three_parts() if clip.part != "test"), *test]


def write_store(tiny: Any, folder: Path, videos: list[Any], **changes: Any) -> StoreLayout:
    """A store whose test labels are not what its pixels show: no figure is 0 or 1 by itself."""
    shown = [
        replace(clip, label=place // 2 % 2) if clip.part == "test" else clip
        for place, clip in enumerate(videos)
    ]
    layout: StoreLayout = tiny.write_store(folder, shown, **changes)
    tiny.write_tables(layout, videos)
    return layout


@pytest.fixture
def layout(tmp_path: Path, tiny: Any, videos: list[Any]) -> StoreLayout:
    return write_store(tiny, tmp_path / "store", videos)


@pytest.fixture
def model(tmp_path: Path, model_of: ModelOf, layout: StoreLayout) -> ModelLayout:
    return model_of(tmp_path / "model", layout)


def scores_one_by_one(layout: StoreLayout, tiny: Any, tested: Sequence[Any]) -> np.ndarray:
    """Score of each video by the plain rule, without any of the code under test."""
    torch.manual_seed(0)
    detector = Detector(tiny.detector).eval()
    dataset = CropDataset(layout, read_rows(layout.manifest_path, MANIFEST))
    logits: dict[str, list[float]] = {}
    for index, row in enumerate(dataset.rows):
        with torch.no_grad():
            logit = detector(collate([dataset[index]])).logits_B.item()
        logits.setdefault(row["video_id"], []).append(logit)
    worst = np.array([max(logits[clip.video_id]) for clip in tested])
    return expit(worst / tiny.calibration.temperature)


def figures(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    called = scores >= 0.5
    return {
        "auc": roc_auc_score(labels, scores),
        "average_precision": average_precision_score(labels, scores),
        "accuracy": accuracy_score(labels, called),
        "f1": f1_score(labels, called),
        "brier": brier_score_loss(labels, scores),
        "log_loss": log_loss(labels, scores),
    }


def add_failed_fake(layout: StoreLayout, *, split: str = "test", component: str = "ramp") -> None:
    """A labelled fake without a face, as preprocess and split leave it."""
    metadata = read_metadata(layout.split_path)
    files = read_rows(layout.videos_path, VIDEOS)
    video: Row = {"path": "ramp.mp4", "video_id": "ramp", "status": "no_face", "label": 1}
    empty: Row = dict.fromkeys(VIDEOS.names)
    write_table(layout.videos_path, [*files, {**empty, **video, "root": "/videos"}], VIDEOS)
    dealt = {"component": component, "label": 1, "split": split, "has_crops": False}
    rows = read_rows(layout.split_path, SPLIT)
    write_table(layout.split_path, [*rows, {"video_id": "ramp", **dealt}], SPLIT, metadata=metadata)


def test_figures_equal_those_of_the_network_by_scikit_learn(
    layout: StoreLayout, model: ModelLayout, tiny: Any, videos: list[Any]
) -> None:
    found = evaluate(layout, model)
    tested = [clip for clip in videos if clip.part == "test"]
    scores = scores_one_by_one(layout, tiny, tested)
    labels = np.array([clip.label for clip in tested])
    expected = figures(labels, scores)
    assert {name: found["metrics"][name] for name in expected} == pytest.approx(expected, abs=1e-5)
    assert 0 < expected["auc"] < 1
    assert (found["metrics"]["num_videos"], found["metrics"]["num_fake"]) == (10, 5)
    called_real = (scores >= 0.5)[labels == 0]
    assert found["false_alarms"]["share"] == pytest.approx(called_real.mean())
    by_generator = {row["name"]: row for row in found["by"]["generator"]}
    assert by_generator.keys() == {"swap", "mouth"}
    for generator, row in by_generator.items():
        chosen = np.array([clip.generator in (None, generator) for clip in tested])
        auc = roc_auc_score(labels[chosen], scores[chosen])
        assert row["auc"] == pytest.approx(auc, abs=1e-5)


def test_figures_are_written_with_model_and_split(layout: StoreLayout, model: ModelLayout) -> None:
    found = evaluate(layout, model)
    split_hash = read_metadata(layout.split_path)["split_hash"]
    path = model.evaluation("test", split_hash).evaluation_path
    assert read_document(path) == found
    assert (found["model_id"], found["split"], found["split_hash"]) == (
        read_card(model).model_id,
        "test",
        split_hash,
    )


def test_video_that_failed_counts_in_coverage_and_as_wrong(
    layout: StoreLayout, model: ModelLayout, tiny: Any, videos: list[Any]
) -> None:
    before = evaluate(layout, model)
    add_failed_fake(layout)
    found = evaluate(layout, model)
    assert (found["num_videos"], found["num_scored"]) == (11, 10)
    assert found["coverage"] == pytest.approx(10 / 11)
    assert found["statuses"] == {"no_face": 1, "ok": 10}
    assert found["metrics"] == before["metrics"]
    # A fake that nobody judged passes for the surest real of all.
    tested = [clip for clip in videos if clip.part == "test"]
    scores = np.append(scores_one_by_one(layout, tiny, tested), -1.0)
    labels = np.array([*(clip.label for clip in tested), 1])
    worst = found["failed_as_wrong"]
    assert worst["auc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-5)
    assert worst["accuracy"] == pytest.approx(accuracy_score(labels, scores >= 0.5))
    assert worst["auc"] < before["metrics"]["auc"]


def test_video_without_a_finite_logit_is_counted_and_left_out(
    tmp_path: Path, tiny: Any, videos: list[Any], model_of: ModelOf
) -> None:
    spoiled = [
        # A time stamp that is no number makes a logit that is none.
        replace(clip, first_second=math.nan) if clip.path == "test/3.mp4" else clip
        for clip in videos
    ]
    layout = write_store(tiny, tmp_path / "store", spoiled)
    found = evaluate(layout, model_of(tmp_path / "model", layout))
    tested = [clip for clip in spoiled if clip.part == "test" and clip.path != "test/3.mp4"]
    expected = figures(
        np.array([clip.label for clip in tested]), scores_one_by_one(layout, tiny, tested)
    )
    assert found["statuses"] == {"model_error": 1, "ok": 9}
    assert (found["metrics"]["num_videos"], found["metrics"]["num_fake"]) == (9, 4)
    assert {name: found["metrics"][name] for name in expected} == pytest.approx(expected, abs=1e-5)


def test_second_call_predicts_nothing_and_finds_the_same(
    layout: StoreLayout, model: ModelLayout
) -> None:
    found = evaluate(layout, model)
    output = model.evaluation("test", found["split_hash"])
    before = output.evaluation_path.read_bytes(), output.videos_path.stat().st_mtime_ns
    for shard in layout.done_shards():
        layout.crops_path(shard, 0).unlink()
    assert evaluate(layout, model) == found
    after = output.evaluation_path.read_bytes(), output.videos_path.stat().st_mtime_ns
    assert after == before


def test_evaluation_that_was_killed_between_its_files_is_finished(
    layout: StoreLayout, model: ModelLayout
) -> None:
    found = evaluate(layout, model)
    output = model.evaluation("test", found["split_hash"])
    output.evaluation_path.unlink()
    (output.path / ".videos.parquet.0123.tmp").write_bytes(b"a crash leaves this")
    assert evaluate(layout, model) == found
    assert output.evaluation_path.exists()


def test_perturbations_of_earlier_runs_stay_until_other_predictions_are_measured(
    layout: StoreLayout, model: ModelLayout, videos: list[Any], tiny: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run = {"out": out, "perturbations": (Perturbation("jpeg", 50),)}
    one = evaluate(layout, model, **run)["robustness"]
    assert [(row["name"], row["coverage"]) for row in one] == [("jpeg 50", 0.0)]  # no files here
    assert evaluate(layout, model, out=out)["robustness"] == one
    run["perturbations"] = (Perturbation("remux"),)
    both = evaluate(layout, model, **run)["robustness"]
    assert [row["name"] for row in both] == ["jpeg 50", "remux"]
    renamed = [replace(v, generator="other") if v.generator else v for v in videos]
    tiny.write_tables(layout, renamed)
    assert evaluate(layout, model, out=out)["robustness"] == []


def test_figures_of_an_earlier_split_are_not_reused(
    layout: StoreLayout, model: ModelLayout, tiny: Any, videos: list[Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = evaluate(layout, model, out=out)
    tiny.write_tables(layout, videos[:-2])
    second = evaluate(layout, model, out=out)
    assert (first["num_videos"], second["num_videos"]) == (10, 8)
    assert first["split_hash"] != second["split_hash"]
    assert len(read_rows(EvaluationLayout(out).videos_path, EVALUATED)) == 8


@pytest.mark.parametrize("split", ["train", "val"])
def test_splits_that_the_model_learned_from_are_refused_and_nothing_is_written(
    layout: StoreLayout, model: ModelLayout, split: str, tmp_path: Path
) -> None:
    before = sorted(model.path.rglob("*"))
    with pytest.raises(MismatchError, match="learned from") as caught:
        evaluate(layout, model, split=split)
    assert "\n" not in str(caught.value)
    with pytest.raises(MismatchError, match="learned from"):
        evaluate(layout, model, split=split, out=tmp_path / "out")
    assert sorted(model.path.rglob("*")) == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_imported_weights_may_be_measured_on_every_split(
    layout: StoreLayout, model: ModelLayout, split: str
) -> None:
    imported = {"training": None, "split_hash": None}
    card = read_card(model).model_copy(update=imported)
    save_checkpoint(model, model.weights_path.read_bytes(), card)
    model.split_path.unlink()
    rows = read_rows(layout.split_path, SPLIT)
    expected = sum(row["split"] == split for row in rows)
    assert evaluate(layout, model, split=split)["num_videos"] == expected


@pytest.mark.parametrize("learned_in", ["train", "val"])
def test_test_split_is_refused_when_one_of_its_videos_was_learned_from(
    tmp_path: Path,
    tiny: Any,
    layout: StoreLayout,
    videos: list[Any],
    model_of: ModelOf,
    learned_in: str,
) -> None:
    moved = [
        replace(clip, part=learned_in) if clip.path == "test/3.mp4" else clip for clip in videos
    ]
    earlier = write_store(tiny, tmp_path / "earlier", moved)
    model = model_of(tmp_path / "model", earlier)
    with pytest.raises(MismatchError, match="1 of these videos"):
        evaluate(layout, model)


def test_test_split_is_refused_when_one_of_its_videos_is_tied_to_what_was_learned_from(
    layout: StoreLayout, model: ModelLayout, videos: list[Any]
) -> None:
    # A new video of a person who was learned from, under the name of that person's component.
    [learned] = [clip for clip in videos if clip.path == "train/real_0.mp4"]
    add_failed_fake(layout, component=learned.video_id)
    with pytest.raises(MismatchError, match=r"1 of these videos .* for example ramp\.mp4;"):
        evaluate(layout, model)


@pytest.mark.parametrize("what", ["frames", "faces"])
@pytest.mark.parametrize("is_alike", [False, True], ids=["stranger", "copy"])
def test_copy_of_what_was_learned_from_is_known_by_its_looks_in_another_split(
    layout: StoreLayout, model: ModelLayout, videos: list[Any], what: str, is_alike: bool
) -> None:
    rng = np.random.default_rng(0)
    known, other = (rng.bytes(FINGERPRINT_BYTES) for _ in range(2))
    # A few of its bits differ, as after another compression.
    seen = bytes([known[0] ^ 3, *known[1:]]) if is_alike else other
    [clip] = [clip for clip in videos if clip.path == "test/3.mp4"]
    path, schema = {
        "frames": (layout.videos_path, VIDEOS),
        "faces": (layout.manifest_path, MANIFEST),
    }[what]
    rows = read_rows(path, schema)
    for row in rows:
        if row["path"] == clip.path:
            row["fingerprints"] = [seen]
    write_table(path, rows, schema)
    learned = read_rows(model.learned_path, LEARNED)
    learned[0][what] = [known]
    write_table(model.learned_path, learned, LEARNED)
    # The store was divided anew; by ids nothing is on two sides.
    first, *others = read_rows(layout.split_path, SPLIT)
    rows = [{**first, "component": "another"}, *others]
    write_table(layout.split_path, rows, SPLIT, metadata=read_metadata(layout.split_path))
    if is_alike:
        with pytest.raises(MismatchError, match=r"1 of these videos .* for example test/3\.mp4"):
            evaluate(layout, model)
    else:
        assert evaluate(layout, model)["num_videos"] == 10


def test_other_preprocessing_is_refused(
    tmp_path: Path, tiny: Any, model: ModelLayout, videos: list[Any]
) -> None:
    other = PreprocessSettings.model_validate({**tiny.preprocessing.model_dump(), "margin": 1.5})
    layout = write_store(tiny, tmp_path / "other", videos, settings=other)
    with pytest.raises(MismatchError, match=layout.preprocessing_hash):
        evaluate(layout, model)


@pytest.mark.parametrize("has_failed", [False, True], ids=["no video", "failed videos only"])
def test_split_without_anything_to_score_is_refused(
    tmp_path: Path, tiny: Any, videos: list[Any], model_of: ModelOf, has_failed: bool
) -> None:
    clips = [clip for clip in videos if clip.part != "test"]
    layout = write_store(tiny, tmp_path / "store", clips)
    if has_failed:
        add_failed_fake(layout)
    with pytest.raises(StoreError, match="the test split holds no videos with crops; run: "):
        evaluate(layout, model_of(tmp_path / "model", layout))


def test_place_that_another_run_writes_to_is_refused(
    layout: StoreLayout, model: ModelLayout, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with (
        hold_run_lock(EvaluationLayout(out)),
        pytest.raises(StoreError, match="in use by another run"),
    ):
        evaluate(layout, model, out=out)


def test_figures_that_need_both_labels_are_none_and_it_is_said_why(
    tmp_path: Path, tiny: Any, videos: list[Any], model_of: ModelOf
) -> None:
    only_real = [clip for clip in videos if clip.part != "test" or not clip.label]
    layout = write_store(tiny, tmp_path / "store", only_real)
    found = evaluate(layout, model_of(tmp_path / "model", layout))
    metrics = found["metrics"]
    assert (metrics["num_videos"], metrics["auc"], metrics["f1"]) == (5, None, None)
    assert "every scored video is real" in found["undefined"]["auc"]
    assert 0 <= found["false_alarms"]["share"] <= 1
