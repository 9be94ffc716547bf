"""What models cost, side by side, and whether their exported files answer as they do."""

import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from models.interop.export import export_parts
from reelcheck.card import OnnxFiles
from storage.checkpoints import read_card
from storage.layout import ModelLayout
from tasks.checkpoints.exported import locate_exported
from tasks.checkpoints.torch_model import load_detector
from tasks.registry.footprint import measure_footprints


@pytest.fixture
def sequences(tiny: Any) -> list[Any]:
    return [sequence for clip in tiny.clips(2) for sequence in clip.sequences()]


def test_exported_files_give_the_logits_of_the_network(
    random_model: Path, tmp_path: Path, sequences: list[Any]
) -> None:
    model = ModelLayout(shutil.copytree(random_model, tmp_path / "model"))
    first, second = measure_footprints([model, model], sequences)
    assert first.num_bytes == second.num_bytes == model.weights_path.stat().st_size
    assert first.export_difference is not None
    assert first.export_difference == second.export_difference
    assert 0 <= first.export_difference < 1e-4
    assert first.seconds_per_frame > 0


@pytest.fixture
def made(tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[ModelLayout, Any]:
    """A model, and where its ONNX files would be; there are none."""
    monkeypatch.setenv("REELCHECK_EXPORTS", str(tmp_path / "exports"))
    model = tiny.save_model(tmp_path / "model", seed=7)
    files = locate_exported(read_card(model))
    files.path.mkdir(parents=True)
    return model, files


def test_files_of_another_network_are_seen(
    random_model: Path, made: tuple[ModelLayout, Any], sequences: list[Any]
) -> None:
    """ONNX files of other weights, with a record that says that they belong here."""
    model, files = made
    parts = export_parts(
        load_detector(random_model, read_card(ModelLayout(random_model)).model_id),
        crop_pixels=read_card(model).preprocessing.crop_pixels,
    )
    files.encoder_path.write_bytes(parts.encoder)
    files.head_path.write_bytes(parts.head)
    record = OnnxFiles(
        network_id=read_card(model).network_id,
        encoder_sha256=sha256(parts.encoder).hexdigest(),
        head_sha256=sha256(parts.head).hexdigest(),
    )
    files.record_path.write_text(record.model_dump_json(), encoding="utf-8")
    [found] = measure_footprints([model], sequences)
    assert found.export_difference is not None
    assert found.export_difference > 1e-3


def test_model_without_onnx_files_has_no_difference(
    made: tuple[ModelLayout, Any], sequences: list[Any]
) -> None:
    model, files = made
    impossible = OnnxFiles(
        network_id=read_card(model).network_id, problem="torch cannot express it"
    )
    files.record_path.write_text(impossible.model_dump_json(), encoding="utf-8")
    [found] = measure_footprints([model], sequences)
    assert found.export_difference is None
    assert found.seconds_per_frame > 0
