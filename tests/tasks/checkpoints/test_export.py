"""A checkpoint as one ONNX file: the scores of the store, without our code."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from models.data.dataset import CropDataset
from models.metrics.aggregation import AGGREGATIONS
from models.network.detector import Detector
from models.training.inference import score_sequences
from reelcheck.card import Calibration, ModelCard
from reelcheck.errors import ExportError, MismatchError, SettingsError, StoreError
from storage.checkpoints import read_card, save_checkpoint
from storage.layout import ModelLayout, StoreLayout
from storage.schemas import MANIFEST
from storage.tables import read_rows
from storage.weights import weights_to_bytes
from tasks.checkpoints.export import export_model

CALIBRATION = Calibration(temperature=1 / 3, threshold=0.1, real_below=0.05, fake_from=0.7)


@pytest.fixture(scope="module", autouse=True)
def _one_torch_thread() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def save_model(folder: Path, detector: Detector, tiny: Any) -> ModelLayout:
    weights = weights_to_bytes(detector.state_dict())
    card = ModelCard(
        weights_sha256=sha256(weights).hexdigest(),
        detector=tiny.detector,
        training=tiny.training,
        preprocessing=tiny.preprocessing,
        split_hash="0" * 12,
        calibration=CALIBRATION,
        aggregation=AGGREGATIONS[0],
        num_videos={},
        validation={},
        versions={},
    )
    save_checkpoint(ModelLayout(folder), weights, card)
    return ModelLayout(folder)


@pytest.fixture
def layout(tmp_path: Path, tiny: Any) -> StoreLayout:
    clips = [
        tiny.Clip(path=f"{number}.mp4", label=number % 2, num_frames=1 + 5 * number)
        for number in range(4)
    ]
    return tiny.write_store(tmp_path / "store", clips)


def test_file_alone_gives_the_logits_of_the_model(
    tmp_path: Path, tiny: Any, layout: StoreLayout
) -> None:
    torch.manual_seed(0)
    detector = Detector(tiny.detector)
    model = save_model(tmp_path / "model", detector, tiny)
    result = export_model(model, tmp_path / "new" / "model.onnx")

    assert result.path == tmp_path / "new" / "model.onnx"
    assert result.num_bytes == result.path.stat().st_size
    assert result.max_difference <= 1e-5
    assert list(result.path.parent.iterdir()) == [result.path]
    session = onnxruntime.InferenceSession(result.path, providers=["CPUExecutionProvider"])
    card = read_card(model)
    metadata = session.get_modelmeta().custom_metadata_map
    numbers = {name: float(metadata.pop(name)) for name in ("temperature", "threshold")}
    assert numbers == {"temperature": CALIBRATION.temperature, "threshold": CALIBRATION.threshold}
    assert metadata == {
        "model_id": card.model_id,
        "preprocessing_hash": layout.preprocessing_hash,
        "crop_pixels": str(tiny.preprocessing.crop_pixels),
    }
    rows = read_rows(layout.manifest_path, MANIFEST)
    dataset = CropDataset(layout, rows)
    expected = [sequence.logit for sequence in score_sequences(detector, dataset)]
    assert np.ptp(expected) > 1e-3
    for item, logit in zip((dataset[n] for n in range(len(dataset))), expected, strict=True):
        feed = {
            "frames_BTCHW": item.frames_TCHW[None].numpy(),
            "seconds_BT": item.seconds_T[None].numpy(),
            "mask_BT": np.ones((1, len(item.seconds_T)), bool),
        }
        [logits_B] = session.run(["logits_B"], feed)
        np.testing.assert_allclose(logits_B, [logit], atol=1e-5, rtol=0)


def test_refused_export_leaves_the_earlier_file(tmp_path: Path, tiny: Any) -> None:
    detector = Detector(tiny.detector)
    torch.nn.init.constant_(detector.head.frame_head.bias, torch.inf)
    model = save_model(tmp_path / "model", detector, tiny)
    out = tmp_path / "out" / "model.onnx"
    out.parent.mkdir()
    out.write_bytes(b"before")
    with pytest.raises(ExportError, match="nothing was written"):
        export_model(model, out)
    assert [path.read_bytes() for path in out.parent.iterdir()] == [b"before"]


def test_weights_of_another_model_are_refused(tmp_path: Path, tiny: Any) -> None:
    model = save_model(tmp_path / "model", Detector(tiny.detector), tiny)
    model.weights_path.write_bytes(weights_to_bytes(Detector(tiny.detector).state_dict()))
    with pytest.raises(MismatchError, match="not the weights"):
        export_model(model, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize("name", ["model", "model.pt", "onnx"])
def test_other_file_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=r"such as model\.onnx"):
        export_model(ModelLayout(tmp_path), tmp_path / name)


def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no model"):
        export_model(ModelLayout(tmp_path), tmp_path / "model.onnx")
