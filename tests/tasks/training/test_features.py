"""Features of a backbone that does not learn: computed once, and the model is the same."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from models.data.dataset import CropDataset
from models.data.features import FeatureCache
from models.network.detector import Detector
from models.training.inference import score_sequences
from reelcheck.train_config import DetectorSettings, TrainSettings
from storage.checkpoints import read_card
from storage.layout import ModelLayout, StoreLayout
from storage.rows import ManifestRow
from storage.schemas import MANIFEST, VALIDATION
from storage.tables import read_rows
from storage.weights import weights_to_bytes
from tasks.checkpoints.torch_model import load_detector
from tasks.training.features import encode_once, has_fixed_features, name_encoder
from tasks.training.train import train
from tasks.verification.verify import verify

STILL = {
    "flip": 0.0,
    "rotation": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "noise": 0.0,
    "blur": 0.0,
}


@pytest.fixture
def layout(tiny: Any, tmp_path: Path) -> StoreLayout:
    made: StoreLayout = tiny.write_store(tmp_path / "store", tiny.three_parts())
    return made


@pytest.fixture
def frozen(tiny: Any, tmp_path: Path) -> TrainSettings:
    """Settings with a backbone that does not learn and crops that do not change."""
    torch.manual_seed(4)
    path = tmp_path / "start.safetensors"
    path.write_bytes(weights_to_bytes(Detector(tiny.detector).backbone.state_dict()))
    values = tiny.training.model_dump()
    phase = {"max_epochs": 2, "learning_rate": 1e-2, "backbone_share": 0}
    values |= {"phases": [phase], "augment": STILL, "init_from": path, "self_blend": 0.0}
    return TrainSettings.model_validate(values)


def files_of(layout: StoreLayout) -> dict[str, int]:
    """Feature files of a store, and when each was written."""
    root = layout.path / "features"
    return {str(path): path.stat().st_mtime_ns for path in root.rglob("*.safetensors")}


def validation_of(model: ModelLayout) -> list[float]:
    return [row["logit"] for row in read_rows(model.validation_path, VALIDATION)]


def test_model_is_that_of_crops_encoded_every_time(
    layout: StoreLayout, frozen: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick, slow = ModelLayout(tmp_path / "quick"), ModelLayout(tmp_path / "slow")
    card = train(layout, quick, frozen)
    assert files_of(layout)
    assert [phase.num_trainable for phase in card.phases] != [card.phases[0].num_parameters]
    monkeypatch.setattr("tasks.training.member.has_fixed_features", lambda settings: False)
    train(layout, slow, frozen)
    torch.testing.assert_close(
        torch.tensor(validation_of(quick)), torch.tensor(validation_of(slow)), atol=1e-4, rtol=1e-4
    )


def test_layers_inside_the_backbone_are_learned_from_and_scored_alike(
    layout: StoreLayout, frozen: TrainSettings, tmp_path: Path
) -> None:
    detector = frozen.detector.model_copy(update={"feature_layers": (1, 2)})
    model = ModelLayout(tmp_path / "model")
    card = train(layout, model, frozen.model_copy(update={"detector": detector}))
    by_id = {row["sequence_id"]: row for row in read_rows(layout.manifest_path, MANIFEST)}
    validation = read_rows(model.validation_path, VALIDATION)
    dataset = CropDataset(layout, [by_id[row["sequence_id"]] for row in validation])
    scored = score_sequences(load_detector(model.path, card.model_id), dataset)
    assert validation_of(model) == pytest.approx([score.logit for score in scored], abs=1e-4)
    both, last = (
        Detector(detector.model_copy(update={"feature_layers": layers}))
        for layers in ((1, 2), (2,))
    )
    last.backbone.load_state_dict(both.backbone.state_dict())
    assert name_encoder(both) != name_encoder(last)


def test_features_are_computed_once(
    layout: StoreLayout, frozen: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(layout, ModelLayout(tmp_path / "one"), frozen)
    before = files_of(layout)
    seen: list[torch.Tensor] = []
    encode = Detector.encode
    monkeypatch.setattr(Detector, "encode", lambda self, x: (seen.append(x), encode(self, x))[1])
    changed = frozen.model_copy(update={"seed": 7})
    train(layout, ModelLayout(tmp_path / "two"), changed)
    assert files_of(layout) == before
    assert {frames.ndim for frames in seen} == {2}


def test_backbone_that_does_not_learn_is_not_written_in_every_epoch(
    layout: StoreLayout, frozen: TrainSettings, tmp_path: Path
) -> None:
    model, undisturbed = ModelLayout(tmp_path / "model"), ModelLayout(tmp_path / "undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.training.train._write", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(layout, model, frozen)
    kept = [path.stat().st_size for path in model.unfinished_dir.rglob("*.ckpt")]
    card = train(layout, undisturbed, frozen)
    assert kept
    assert max(kept) < undisturbed.weights_path.stat().st_size / 2
    assert train(layout, model, frozen).model_id == card.model_id


def test_folds_share_the_backbone_that_did_not_learn(
    layout: StoreLayout, frozen: TrainSettings, tmp_path: Path
) -> None:
    model = ModelLayout(tmp_path / "model")
    card = train(layout, model, frozen.model_copy(update={"folds": 2}))
    assert (card.num_members, card.shares_backbone) == (2, True)
    rows = read_rows(layout.manifest_path, MANIFEST)
    dataset = CropDataset(layout, rows)
    together, *apart = (
        [s.logit for s in score_sequences(load_detector(m.path, read_card(m).model_id), dataset)]
        for m in (model, model.fold(0), model.fold(1))
    )
    torch.testing.assert_close(
        torch.tensor(together), torch.tensor(apart).mean(0), atol=1e-5, rtol=0
    )
    largest = max(m.weights_path.stat().st_size for m in (model.fold(0), model.fold(1)))
    assert model.weights_path.stat().st_size < 1.5 * largest
    assert verify(model.path, sets_aside=False)[1] == []


@pytest.mark.parametrize(
    "change",
    [
        {"init_from": None},
        {"self_blend": 0.5},
        {"augment": {**STILL, "flip": 0.5}},
        {"augment": {**STILL, "jpeg": 0.1}},
        {"phases": [{"backbone_share": 0}, {"backbone_share": 0.1}]},
    ],
)
def test_features_that_change_are_not_kept(frozen: TrainSettings, change: dict[str, Any]) -> None:
    assert has_fixed_features(frozen)
    changed = TrainSettings.model_validate({**frozen.model_dump(), **change})
    assert not has_fixed_features(changed)


def test_damaged_file_is_computed_again(layout: StoreLayout, tiny: Any) -> None:
    detector = Detector(tiny.detector)
    rows = read_rows(layout.manifest_path, MANIFEST)
    cache = encode_once(layout, rows, detector)
    expected = {row["sequence_id"]: cache.read(row) for row in rows}
    (name, *_) = files_of(layout)
    path = Path(name)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.rename(path.with_name("kept"))
    path.write_bytes(content)
    again = FeatureCache(layout, name_encoder(detector))
    missing = again.list_missing(rows)
    assert {row["shard"] for row in missing} == {path.name.partition(".")[0]}
    assert not path.exists()
    cache = encode_once(layout, rows, detector)
    assert path.exists()
    for row in rows:
        assert torch.equal(cache.read(row), expected[row["sequence_id"]])


def test_new_sequences_of_a_shard_are_added(layout: StoreLayout, tiny: Any) -> None:
    detector = Detector(tiny.detector)
    rows: list[ManifestRow] = read_rows(layout.manifest_path, MANIFEST)
    encode_once(layout, rows[:1], detector)
    cache = encode_once(layout, rows, detector)
    assert cache.list_missing(rows) == []
    assert len(files_of(layout)) == len({row["shard"] for row in rows})
    assert [len(cache.read(row)) for row in rows] == [row["num_frames"] for row in rows]


def test_name_tells_weights_and_input_apart(tiny: Any) -> None:
    settings: DetectorSettings = tiny.detector
    torch.manual_seed(1)
    detector = Detector(settings)
    other = Detector(settings.model_copy(update={"pixel_mean": (0.1, 0.1, 0.1)}))
    other.backbone.load_state_dict(detector.backbone.state_dict())
    heads = Detector(settings.model_copy(update={"transformer": None}))
    heads.backbone.load_state_dict(detector.backbone.state_dict())
    assert name_encoder(detector) == name_encoder(heads)
    assert name_encoder(detector) != name_encoder(other)
    assert name_encoder(detector) != name_encoder(Detector(settings))
