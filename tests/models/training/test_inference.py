"""Scoring: one logit per row, in order, whatever the batch size."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.data.batching import collate
from models.data.dataset import CropDataset, Draw, Look
from models.network.detector import Detector, Ensemble
from models.training.inference import score_sequences
from storage.layout import StoreLayout
from storage.schemas import MANIFEST
from storage.tables import read_rows


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> StoreLayout:
    videos = [
        tiny.Clip(path=f"{i}.mp4", label=i % 2, num_frames=3 + i, num_tracks=1 + i % 2)
        for i in range(5)
    ]
    return tiny.write_store(tmp_path_factory.mktemp("inference"), videos)


@pytest.fixture(scope="module")
def detector(tiny: Any) -> Detector:
    torch.manual_seed(0)
    transformer = tiny.detector.transformer.model_copy(update={"dropout": 0.9})
    return Detector(tiny.detector.model_copy(update={"transformer": transformer})).train()


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_logits_are_those_of_each_row_alone(
    layout: StoreLayout, detector: Detector, batch_size: int
) -> None:
    dataset = CropDataset(layout, read_rows(layout.manifest_path, MANIFEST))
    done: list[int] = []
    scored = score_sequences(detector.train(), dataset, batch_size=batch_size, on_batch=done.append)
    assert sum(done) == len(scored) == len(dataset) == 7
    detector.eval()
    for index, (row, sequence) in enumerate(zip(dataset.rows, scored, strict=True)):
        for name in ("sequence_id", "video_id", "track_id", "num_frames"):
            assert getattr(sequence, name) == row[name]
        with torch.no_grad():
            alone = detector(collate([dataset[index]])).logits_B.item()
        assert sequence.logit == pytest.approx(alone, abs=1e-5)
    assert len({round(sequence.logit, 4) for sequence in scored}) == 7


def test_scoring_needs_no_label_and_changes_no_weight(
    layout: StoreLayout, detector: Detector
) -> None:
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    labelled = CropDataset(layout, read_rows(layout.manifest_path, MANIFEST))
    rows = [{**row, "label": None} for row in read_rows(layout.manifest_path, MANIFEST)]
    logits = {s.sequence_id: s.logit for s in score_sequences(detector, labelled)}
    for sequence in score_sequences(detector, CropDataset(layout, rows)):
        assert sequence.logit == pytest.approx(logits[sequence.sequence_id], abs=1e-5)
    after = detector.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_draws_are_scored_in_their_order_and_a_blend_is_a_video_of_its_own(
    layout: StoreLayout, detector: Detector
) -> None:
    rows = read_rows(layout.manifest_path, MANIFEST)
    draws = [Draw(2), Draw(0, look=Look.TWIN), Draw(0, look=Look.BLEND)]
    scored = score_sequences(detector, CropDataset(layout, rows, draws=draws, seed=3))
    assert [s.video_id for s in scored] == [
        rows[2]["video_id"],
        rows[0]["video_id"],
        rows[0]["video_id"] + "+blend",
    ]
    assert len({s.sequence_id for s in scored}) == 3
    assert len({s.logit for s in scored}) == 3


def test_an_ensemble_is_scored_like_a_detector(layout: StoreLayout, tiny: Any) -> None:
    torch.manual_seed(0)
    ensemble = Ensemble(tiny.detector, num_members=3)
    dataset = CropDataset(layout, read_rows(layout.manifest_path, MANIFEST))
    logits = [s.logit for s in score_sequences(ensemble, dataset)]
    members = [[s.logit for s in score_sequences(m, dataset)] for m in ensemble.members]
    assert logits == pytest.approx(np.mean(members, axis=0).tolist(), abs=1e-5)
    assert np.ptp(members, axis=0).min() > 1e-3


def test_nothing_to_score_gives_nothing(tmp_path: Path, detector: Detector) -> None:
    assert score_sequences(detector, CropDataset(StoreLayout(tmp_path), [])) == []
