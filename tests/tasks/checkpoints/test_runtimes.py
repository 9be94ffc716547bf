"""Which engine a model is run with, and that its ONNX files are those of its weights."""

import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.interop.export import ExportedParts
from models.interop.runtime import Floats, Runtime
from models.metrics.aggregation import AGGREGATIONS
from models.network.detector import Detector
from reelcheck.card import Calibration, ModelCard
from reelcheck.errors import ExportError, MismatchError, StoreError
from reelcheck.settings import settings_hash
from storage.checkpoints import read_card, read_onnx_record, save_checkpoint
from storage.layout import ModelLayout
from storage.weights import weights_to_bytes
from tasks.checkpoints import export, runtimes
from tasks.checkpoints import torch_model as networks
from tasks.checkpoints.runtimes import EngineChoice, open_runtime

CALIBRATION = Calibration(temperature=1.0, threshold=0.5, real_below=0.5, fake_from=0.5)


@pytest.fixture(scope="module", autouse=True)
def _without_gpu() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtimes, "_has_gpu", lambda: False)
        patch.setattr(networks, "choose_device", lambda: torch.device("cpu"))
        yield
    torch.set_num_threads(num_threads)


def save_model(folder: Path, tiny: Any, *, seed: int = 0, bias: float = 0.0) -> ModelLayout:
    """A model that classifies single frames, whose export takes least time."""
    settings = tiny.detector.model_copy(update={"transformer": None})
    torch.manual_seed(seed)
    detector = Detector(settings)
    torch.nn.init.constant_(detector.head.layers[-1].bias, bias)
    weights = weights_to_bytes(detector.state_dict())
    card = ModelCard(
        model_id=sha256(weights).hexdigest()[:12],
        detector=settings,
        training=None,
        preprocessing=tiny.preprocessing,
        preprocessing_hash=settings_hash(tiny.preprocessing),
        split_hash=None,
        calibration=CALIBRATION,
        aggregation=AGGREGATIONS[0],
        num_videos={},
        validation={},
        versions={},
    )
    save_checkpoint(ModelLayout(folder), weights, card)
    return ModelLayout(folder)


def answers(runtime: Runtime) -> Floats:
    """Of a sequence of noise: every number that a runtime gives."""
    crops = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    answer = runtime.classify(runtime.encode(crops), np.arange(5, dtype=np.float32))
    return np.concatenate([[answer.logit], answer.frame_logits_T, answer.frame_weights_T])


def contents(model: ModelLayout) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in model.path.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> ModelLayout:
    """A model that was scored with once; not to be changed."""
    model = save_model(tmp_path_factory.mktemp("models") / "model", tiny)
    assert open_runtime(model).name == "openvino"
    return model


@pytest.fixture
def model(opened: ModelLayout, tmp_path: Path) -> ModelLayout:
    """A copy of it."""
    return ModelLayout(shutil.copytree(opened.path, tmp_path / "model"))


def test_files_lie_beside_the_checkpoint_and_nothing_else_does(opened: ModelLayout) -> None:
    checkpoint = [opened.weights_path, opened.card_path]
    made = [opened.encoder_path, opened.head_path, opened.onnx_path]
    assert sorted(opened.path.iterdir()) == sorted([*checkpoint, *made])
    record = read_onnx_record(opened)
    assert record is not None
    assert (record.model_id, record.problem) == (read_card(opened).model_id, None)
    assert record.encoder_sha256 == sha256(opened.encoder_path.read_bytes()).hexdigest()
    assert record.head_sha256 == sha256(opened.head_path.read_bytes()).hexdigest()
    assert record.max_difference is not None
    assert record.max_difference < 1e-5


def test_files_are_made_once(model: ModelLayout) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in model.path.iterdir()}
    was = contents(model)
    for engine in ("auto", "openvino", "onnxruntime"):
        open_runtime(model, engine=engine)
    assert contents(model) == was
    after = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in model.path.iterdir()}
    assert after == before


def test_once_made_they_need_neither_the_weights_nor_torch(model: ModelLayout) -> None:
    model.weights_path.unlink()
    script = (
        "import sys; from pathlib import Path; from storage.layout import ModelLayout; "
        "from tasks.checkpoints import runtimes; runtimes._has_gpu = lambda: False; "
        "print(runtimes.open_runtime(ModelLayout(Path(sys.argv[1]))).name); "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(model.path)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("openvino\n", "", 0)


def test_every_engine_that_is_asked_for_is_taken_and_answers_alike(model: ModelLayout) -> None:
    said = {}
    for engine in ("openvino", "onnxruntime", "torch"):
        runtime = open_runtime(model, engine=engine)
        assert runtime.name == engine
        said[engine] = answers(runtime)
    for engine in ("openvino", "onnxruntime"):
        np.testing.assert_allclose(said[engine], said["torch"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_torch_alone_makes_no_files(
    tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch, engine: EngineChoice
) -> None:
    monkeypatch.setattr(runtimes, "_has_gpu", lambda: engine == "auto")
    model = save_model(tmp_path / "model", tiny)
    before = contents(model)
    assert open_runtime(model, engine=engine).name == "torch"
    assert contents(model) == before


@pytest.mark.parametrize("engine", ["auto", "openvino", "onnxruntime"])
@pytest.mark.parametrize("name", ["encoder.onnx", "head.onnx"])
@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_file_that_is_not_the_one_that_was_made_is_refused(
    model: ModelLayout, engine: EngineChoice, name: str, damage: str
) -> None:
    path = model.path / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-1] + (bytes([content[-1] ^ 1]) if damage == "changed" else b""))
    with pytest.raises(MismatchError, match=f"{name} is not the file") as caught:
        open_runtime(model, engine=engine)
    assert str(model.onnx_path) in str(caught.value)
    assert open_runtime(model, engine="torch").name == "torch"


@pytest.mark.parametrize("record", [None, b"", b"{}", b"\xff\xfe", b'{"model_id": "other"}'])
def test_without_a_record_of_these_weights_the_same_files_are_made_again(
    opened: ModelLayout, model: ModelLayout, monkeypatch: pytest.MonkeyPatch, record: bytes | None
) -> None:
    made = _parts_of(opened)
    calls = []
    monkeypatch.setattr(export, "export_parts", lambda *_, **__: calls.append(1) or made)
    model.encoder_path.write_bytes(b"left by a run that was ended")
    if record is None:
        model.onnx_path.unlink()
    else:
        model.onnx_path.write_bytes(record)
    open_runtime(model)
    assert calls == [1]
    assert contents(model) == contents(opened)


def _parts_of(model: ModelLayout) -> ExportedParts:
    """What an export gave, so that not every test has to wait for one."""
    record = read_onnx_record(model)
    assert record is not None
    assert record.max_difference is not None
    return ExportedParts(
        model.encoder_path.read_bytes(), model.head_path.read_bytes(), record.max_difference
    )


def test_other_weights_in_the_folder_get_files_of_their_own(
    opened: ModelLayout, model: ModelLayout, tiny: Any
) -> None:
    save_model(model.path, tiny, seed=1)
    runtime = open_runtime(model)
    record = read_onnx_record(model)
    assert record is not None
    assert record.model_id == read_card(model).model_id != read_card(opened).model_id
    said = answers(runtime)
    np.testing.assert_allclose(
        said, answers(open_runtime(model, engine="torch")), atol=1e-5, rtol=0
    )
    assert abs(said[0] - answers(open_runtime(opened))[0]) > 1e-3


@pytest.mark.parametrize("name", ["encoder.onnx", "head.onnx"])
def test_where_files_cannot_be_written_torch_scores_with_a_warning(
    opened: ModelLayout,
    tmp_path: Path,
    tiny: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    made = _parts_of(opened)
    monkeypatch.setattr(export, "export_parts", lambda *_, **__: made)
    model = save_model(tmp_path / "model", tiny)
    # Permissions do not stop root; that no file can replace a folder does.
    (model.path / name).mkdir()
    with caplog.at_level(logging.WARNING):
        runtime = open_runtime(model)
    assert runtime.name == "torch"
    [warning] = caplog.records
    assert "scoring with torch" in warning.getMessage()
    assert f"cannot be written to {model.path} (Is a directory)" in warning.getMessage()
    np.testing.assert_allclose(answers(runtime), answers(open_runtime(opened)), atol=1e-5, rtol=0)
    for engine in ("openvino", "onnxruntime"):
        with pytest.raises(ExportError, match="cannot be written"):
            open_runtime(model, engine=engine)
    # Nothing claims that the files are there, and no half of one is left.
    assert not model.onnx_path.exists()
    assert not list(model.path.glob(".*"))
    (model.path / name).rmdir()
    assert open_runtime(model).name == "openvino"
    assert contents(model) == contents(opened)


def test_model_that_onnx_cannot_express_is_scored_with_torch_and_tried_once(
    tmp_path: Path,
    tiny: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = save_model(tmp_path / "model", tiny, bias=float("inf"))
    with caplog.at_level(logging.WARNING):
        assert open_runtime(model).name == "torch"
    assert "differ by nan" in caplog.text
    record = read_onnx_record(model)
    assert record is not None
    assert record.problem is not None
    assert not model.encoder_path.exists()

    def tried_again(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(export, "export_parts", tried_again)
    assert open_runtime(model).name == "torch"
    for engine in ("openvino", "onnxruntime"):
        with pytest.raises(ExportError, match="has no ONNX files") as caught:
            open_runtime(model, engine=engine)
        assert read_card(model).model_id in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("engine", ["auto", "openvino", "onnxruntime", "torch"])
def test_folder_without_a_model_is_refused(tmp_path: Path, engine: EngineChoice) -> None:
    with pytest.raises(StoreError, match="holds no model"):
        open_runtime(ModelLayout(tmp_path), engine=engine)


@pytest.mark.parametrize("engine", ["auto", "openvino", "onnxruntime", "torch"])
def test_weights_of_another_model_are_refused(
    tmp_path: Path, tiny: Any, engine: EngineChoice
) -> None:
    model = save_model(tmp_path / "model", tiny)
    other = save_model(tmp_path / "other", tiny, seed=1)
    shutil.copy(other.weights_path, model.weights_path)
    with pytest.raises(MismatchError, match="not the weights"):
        open_runtime(model, engine=engine)
    assert not model.onnx_path.exists()
