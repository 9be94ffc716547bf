"""Scores: who gets one, and that nobody else does."""

import csv
import math
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from models.aggregation import AGGREGATION
from models.batching import collate
from models.dataset import CropDataset
from models.detector import Detector
from reelcheck.card import Calibration, ModelCard
from reelcheck.config import PreprocessSettings
from reelcheck.errors import MismatchError
from reelcheck.records import ScoredSequence
from reelcheck.settings import settings_hash
from reelcheck.status import Status
from reelcheck.train_config import TrainSettings
from storage.checkpoints import read_card, save_checkpoint, weights_to_bytes
from storage.layout import ModelLayout, ScoreLayout, StoreLayout, preprocessed
from storage.schemas import LOGITS, MANIFEST, SCORES, VIDEOS
from storage.tables import Row, read_rows, write_table
from tasks.score import (
    load_detector,
    logits_path,
    require_same_preprocessing,
    score_rows,
    score_shard,
    write_scores,
)

SaveModel = Callable[..., ModelLayout]
CALIBRATION = Calibration(temperature=2.0, threshold=0.5, real_below=0.3, fake_from=0.7)


@pytest.fixture(scope="module")
def card(tiny: Any) -> ModelCard:
    return ModelCard(
        model_id="m",
        detector=tiny.detector,
        training=TrainSettings(detector=tiny.detector),
        preprocessing=tiny.preprocessing,
        preprocessing_hash=settings_hash(tiny.preprocessing),
        split_hash="split",
        calibration=CALIBRATION,
        aggregation=AGGREGATION,
        num_videos={},
        validation={},
        versions={},
    )


@pytest.fixture(scope="module")
def save_model(card: ModelCard) -> SaveModel:
    """A function that writes a checkpoint folder with random weights."""

    def save(folder: Path, seed: int = 0, **architecture: Any) -> ModelLayout:
        torch.manual_seed(seed)
        transformer = card.detector.transformer.model_copy(update=architecture)
        detector = card.detector.model_copy(update={"transformer": transformer})
        weights = weights_to_bytes(Detector(detector).state_dict())
        changes = {"model_id": sha256(weights).hexdigest()[:12], "detector": detector}
        model = ModelLayout(folder)
        save_checkpoint(model, weights, card.model_copy(update=changes))
        return model

    return save


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, save_model: SaveModel) -> ModelLayout:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def layout(tmp_path: Path, tiny: Any) -> StoreLayout:
    videos = [tiny.Clip(path=f"v{i}.mp4", label=i % 2, num_tracks=1 + i % 2) for i in range(5)]
    return tiny.write_store(tmp_path / "store", videos, shard_size=2)


VIDEO = st.fixed_dictionaries(
    {
        "root": st.just("/videos"),
        "path": st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12),
        "video_id": st.sampled_from(["a", "b", "c", None]),
        "status": st.sampled_from([str(status) for status in Status]),
        "reason": st.none() | st.text(max_size=5),
        "num_faces": st.none() | st.integers(0, 3),
    }
)
SEQUENCE = st.builds(
    ScoredSequence,
    sequence_id=st.just("s"),
    video_id=st.sampled_from("abc"),
    track_id=st.integers(0, 2),
    num_frames=st.integers(1, 30),
    logit=st.floats(-1e4, 1e4) | st.sampled_from([math.nan, math.inf, -math.inf]),
)
NOT_JUDGED = ("score", "verdict", "logit")


@settings(deadline=None)
@given(videos=st.lists(VIDEO, max_size=8), sequences=st.lists(SEQUENCE, max_size=8))
def test_score_exists_exactly_where_the_status_is_ok(
    card: ModelCard, videos: list[Row], sequences: list[ScoredSequence]
) -> None:
    rows = score_rows(iter(videos), iter(sequences), card)
    assert [row["path"] for row in rows] == [video["path"] for video in videos]
    for row, video in zip(rows, videos, strict=True):
        is_ok = row["status"] == Status.OK
        assert [row.get(name) is not None for name in NOT_JUDGED] == [is_ok] * 3
        if is_ok:
            assert 0 <= row["score"] <= 1
            assert row["score"] == pytest.approx(expit(row["logit"] / 2), abs=1e-12)
            assert math.isfinite(row["logit"])
        if video["status"] != Status.OK:
            assert (row["status"], row["reason"]) == (video["status"], video["reason"])
            assert row.get("num_frames") is None


@pytest.mark.parametrize("logits", [[math.nan], [1.0, math.nan], [math.inf], []])
def test_logit_that_is_no_number_becomes_a_model_error(
    card: ModelCard, logits: list[float]
) -> None:
    video = {"path": "a", "video_id": "a", "status": "ok", "reason": None, "num_faces": 1}
    sequences = [
        ScoredSequence(sequence_id="s", video_id="a", track_id=0, num_frames=5, logit=logit)
        for logit in logits
    ]
    [row] = score_rows([video], sequences, card)
    assert row["status"] == Status.MODEL_ERROR
    assert "finite" in row["reason"]
    assert [row.get(name) for name in NOT_JUDGED] == [None] * 3


@pytest.mark.parametrize(("logit", "verdict"), [(-9.0, "real"), (0.0, "inconclusive"), (9, "fake")])
def test_verdict_follows_the_cards_calibration(card: ModelCard, logit: float, verdict: str) -> None:
    video = {"path": "a", "video_id": "a", "status": "ok", "reason": "cut", "num_faces": 1}
    sequences = [
        ScoredSequence(sequence_id=str(n), video_id="a", track_id=0, num_frames=n, logit=logit)
        for n in (10, 12)
    ]
    [row] = score_rows([video], sequences, card)
    assert (row["verdict"], row["num_frames"], row["reason"]) == (verdict, 22, "cut")
    assert (row["model_id"], row["preprocessing_hash"]) == ("m", card.preprocessing_hash)


def test_shard_logits_are_the_detectors(
    layout: StoreLayout, model: ModelLayout, tmp_path: Path
) -> None:
    out = ScoreLayout(tmp_path / "out")
    counts = [score_shard.fn(shard, layout, model, out) for shard in layout.done_shards()]
    assert counts == [3, 3, 1]
    card = read_card(model)
    scored = {
        row["sequence_id"]: row["logit"]
        for shard in layout.done_shards()
        for row in read_rows(logits_path(out, layout, card, shard), LOGITS)
    }
    dataset = CropDataset(layout, read_rows(layout.manifest_path, MANIFEST))
    detector = load_detector(model.path, card.model_id)
    for index, row in enumerate(dataset.rows):
        with torch.no_grad():
            alone = detector(collate([dataset[index]])).logits_B.item()
        assert scored.pop(row["sequence_id"]) == pytest.approx(alone, abs=1e-5)
    assert not scored


def test_finished_shard_is_not_scored_again(
    layout: StoreLayout, model: ModelLayout, tmp_path: Path
) -> None:
    out = ScoreLayout(tmp_path / "out")
    [shard, *_] = layout.done_shards()
    assert score_shard.fn(shard, layout, model, out) == 3
    target = logits_path(out, layout, read_card(model), shard)
    before = (target.read_bytes(), target.stat().st_mtime_ns)
    layout.crops_path(shard, 0).unlink()
    assert score_shard.fn(shard, layout, model, out) == 3
    assert (target.read_bytes(), target.stat().st_mtime_ns) == before


def test_shard_is_scored_anew_for_another_model(
    layout: StoreLayout, model: ModelLayout, save_model: SaveModel, tmp_path: Path
) -> None:
    out = ScoreLayout(tmp_path / "out")
    [shard, *_] = layout.done_shards()
    score_shard.fn(shard, layout, model, out)
    score_shard.fn(shard, layout, save_model(tmp_path / "other", seed=1), out)
    logits = [
        [row["logit"] for row in read_rows(path, LOGITS)]
        for path in sorted((out.path / "shards").iterdir())
    ]
    assert len(logits) == 2
    assert logits[0] != logits[1]


def add_bad_videos(layout: StoreLayout) -> list[Row]:
    rows = read_rows(layout.videos_path, VIDEOS)
    bad = [
        {**rows[0], "path": f'bad {status}, "odd" naïve\nname.mp4', "video_id": None}
        | {"status": str(status), "reason": 'because, of "this"'}
        for status in Status
        if status is not Status.OK
    ]
    write_table(layout.videos_path, [*rows, *bad], VIDEOS)
    return [*rows, *bad]


def test_result_tables_hold_one_row_per_file_and_agree(
    layout: StoreLayout, model: ModelLayout, tmp_path: Path
) -> None:
    out = ScoreLayout(tmp_path / "out")
    videos = add_bad_videos(layout)
    for shard in layout.done_shards():
        score_shard.fn(shard, layout, model, out)
    files = [(video["root"], video["path"]) for video in videos]
    returned = write_scores.fn(files, layout, model, out)
    table = pq.read_table(out.parquet_path)
    rows = table.to_pylist()
    assert table.schema.equals(SCORES)
    assert [row["path"] for row in rows] == [row["path"] for row in returned]
    assert sorted(row["path"] for row in rows) == sorted(video["path"] for video in videos)
    assert sum(row["score"] is not None for row in rows) == 5
    with out.csv_path.open(encoding="utf-8", newline="") as file:
        cells = list(csv.DictReader(file))
    assert list(cells[0]) == SCORES.names
    for row, cell in zip(rows, cells, strict=True):
        assert {name: "" if value is None else str(value) for name, value in row.items()} == {
            name: str(float(cell[name])) if isinstance(row[name], float) else cell[name]
            for name in row
        }


def test_null_is_no_text_in_the_csv(
    layout: StoreLayout, model: ModelLayout, tmp_path: Path
) -> None:
    out = ScoreLayout(tmp_path / "out")
    [row, *_] = write_scores.fn([("/videos", "v0.mp4")], layout, model, out)
    assert row["status"] == Status.MODEL_ERROR, "no shard was scored"
    [_, line] = out.csv_path.read_text(encoding="utf-8").splitlines()
    assert ",,," in line


def test_only_files_that_were_asked_for_are_in_the_result(
    layout: StoreLayout, model: ModelLayout, tmp_path: Path
) -> None:
    out = ScoreLayout(tmp_path / "out")
    for shard in layout.done_shards():
        score_shard.fn(shard, layout, model, out)
    files = [("/videos", "v1.mp4"), ("/elsewhere", "v2.mp4"), ("/videos", "v9.mp4")]
    rows = write_scores.fn(files, layout, model, out)
    assert [row["path"] for row in rows] == ["v1.mp4"]
    assert len(read_rows(out.parquet_path, SCORES)) == 1


def test_other_preprocessing_is_refused_and_both_hashes_named(
    card: ModelCard, tmp_path: Path
) -> None:
    require_same_preprocessing(card, preprocessed(tmp_path, card.preprocessing_hash))
    other = settings_hash(PreprocessSettings())
    with pytest.raises(MismatchError, match=other) as caught:
        require_same_preprocessing(card, preprocessed(tmp_path, other))
    assert card.preprocessing_hash in str(caught.value)


def test_loaded_detector_is_ready_to_score(tiny: Any, model: ModelLayout) -> None:
    detector = load_detector(model.path, read_card(model).model_id)
    assert not any(module.training for module in detector.modules())
    torch.manual_seed(0)
    expected = Detector(tiny.detector).state_dict()
    for name, tensor in detector.state_dict().items():
        assert torch.equal(tensor.cpu(), expected[name])


@pytest.mark.parametrize("architecture", [{}, {"feature_dim": 32}, {"depth": 2}])
def test_weights_of_another_model_are_refused(
    save_model: SaveModel, tmp_path: Path, architecture: dict[str, int]
) -> None:
    model = save_model(tmp_path / "model", seed=4)
    other = save_model(tmp_path / "other", seed=5, **architecture)
    model_id, other_id = read_card(model).model_id, read_card(other).model_id
    shutil.copy(other.weights_path, model.weights_path)
    with pytest.raises(MismatchError, match=f"not the weights that the card of model {model_id} "):
        load_detector(model.path, model_id)
    # Where they belong they are good weights.
    assert load_detector(other.path, other_id)


def test_nothing_is_scored_with_the_weights_of_another_model(
    layout: StoreLayout, save_model: SaveModel, tmp_path: Path
) -> None:
    model = save_model(tmp_path / "model", seed=6)
    shutil.copy(save_model(tmp_path / "other", seed=7).weights_path, model.weights_path)
    out = ScoreLayout(tmp_path / "out")
    with pytest.raises(MismatchError, match="not the weights"):
        score_shard.fn(layout.done_shards()[0], layout, model, out)
    assert not out.path.exists()
