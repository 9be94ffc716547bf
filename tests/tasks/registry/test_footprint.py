"""What models cost, side by side, and whether their exported files answer as they do."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from storage.checkpoints import read_card, read_onnx_record
from storage.layout import ModelLayout
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


def test_files_of_another_network_are_seen(
    random_model: Path, tmp_path: Path, tiny: Any, sequences: list[Any]
) -> None:
    """ONNX files of other weights, with a record that says that they belong here."""
    model = tiny.save_model(tmp_path / "model", seed=7)
    other = ModelLayout(random_model)
    for path in (other.encoder_path, other.head_path):
        shutil.copy(path, model.path)
    made = read_onnx_record(other)
    assert made is not None
    record = made.model_copy(update={"model_id": read_card(model).model_id})
    model.onnx_path.write_text(record.model_dump_json(), encoding="utf-8")
    [found] = measure_footprints([model], sequences)
    assert found.export_difference is not None
    assert found.export_difference > 1e-3


def test_model_without_onnx_files_has_no_difference(
    tmp_path: Path, random_model: Path, sequences: list[Any]
) -> None:
    model = ModelLayout(shutil.copytree(random_model, tmp_path / "model"))
    made = read_onnx_record(model)
    assert made is not None
    impossible = made.model_copy(update={"problem": "torch cannot express it"})
    model.onnx_path.write_text(impossible.model_dump_json(), encoding="utf-8")
    [found] = measure_footprints([model], sequences)
    assert found.export_difference is None
    assert found.seconds_per_frame > 0
