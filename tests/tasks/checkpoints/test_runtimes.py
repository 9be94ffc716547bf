"""Which engine a model is run with, and that its ONNX files are those of its weights."""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from models.interop.export import ExportedParts
from models.interop.runtime import Floats, OnnxRuntime, Runtime
from models.metrics.aggregation import AGGREGATIONS
from models.network.detector import Detector
from reelcheck.card import Calibration, ModelCard
from reelcheck.errors import ExportError, MismatchError, StoreError, WeightsError
from storage.checkpoints import read_card, save_checkpoint
from storage.fetched.cache import ExportLayout
from storage.layout import ModelLayout
from storage.weights import weights_to_bytes
from tasks.checkpoints import export, runtimes
from tasks.checkpoints import torch_model as networks
from tasks.checkpoints.exported import locate_exported, read_exported, remove_unused
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
        weights_sha256=sha256(weights).hexdigest(),
        detector=settings,
        training=None,
        preprocessing=tiny.preprocessing,
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


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> ModelLayout:
    """A model; not to be changed."""
    return save_model(tmp_path_factory.mktemp("models") / "model", tiny)


@pytest.fixture(scope="module")
def exported(opened: ModelLayout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of its ONNX files, which scoring has made; not to be changed."""
    folder = tmp_path_factory.mktemp("exports") / "exports"
    assert open_runtime(opened, exports_dir=folder).name == "openvino"
    return folder


@pytest.fixture
def model(opened: ModelLayout, tmp_path: Path) -> ModelLayout:
    """A copy of the model."""
    return ModelLayout(shutil.copytree(opened.path, tmp_path / "model"))


@pytest.fixture(autouse=True)
def exports(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the ONNX files, in the place of the user's."""
    folder = shutil.copytree(exported, tmp_path / "exports")
    monkeypatch.setenv("REELCHECK_EXPORTS", str(folder))
    return folder


def made_of(model: ModelLayout) -> ExportLayout:
    """The ONNX files of a model, in the place of the user's."""
    return locate_exported(read_card(model))


def contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def parts_of(model: ModelLayout) -> ExportedParts:
    """What an export gave, so that not every test has to wait for one."""
    made = read_exported(made_of(model), read_card(model))
    assert made is not None
    assert made.record.max_difference is not None
    return ExportedParts(made.encoder, made.head, made.record.max_difference)


@pytest.fixture
def calls(model: ModelLayout, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each export, none of which takes time."""
    parts, calls = parts_of(model), []
    monkeypatch.setattr(export, "export_parts", lambda *_, **__: calls.append(1) or parts)
    return calls


def test_files_lie_in_the_users_cache_and_none_beside_the_checkpoint(opened: ModelLayout) -> None:
    assert sorted(opened.path.iterdir()) == sorted([opened.weights_path, opened.card_path])
    made, card = made_of(opened), read_card(opened)
    assert made.path.name.startswith(card.network_id)
    found = read_exported(made, card)
    assert found is not None
    assert (found.record.network_id, found.record.problem) == (card.network_id, None)
    assert found.record.encoder_sha256 == sha256(made.encoder_path.read_bytes()).hexdigest()
    assert found.record.head_sha256 == sha256(made.head_path.read_bytes()).hexdigest()
    assert found.record.max_difference is not None
    assert found.record.max_difference < 1e-5


def test_files_are_made_once(model: ModelLayout, exports: Path, calls: list[int]) -> None:
    was = contents(exports)
    for engine in ("auto", "openvino", "onnxruntime"):
        open_runtime(model, engine=engine)
    assert contents(exports) == was
    assert calls == []


def test_once_made_they_need_no_torch(model: ModelLayout) -> None:
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
    tmp_path: Path,
    tiny: Any,
    exports: Path,
    monkeypatch: pytest.MonkeyPatch,
    engine: EngineChoice,
) -> None:
    monkeypatch.setattr(runtimes, "_has_gpu", lambda: engine == "auto")
    model = save_model(tmp_path / "new", tiny, seed=3)
    before = contents(exports)
    assert open_runtime(model, engine=engine).name == "torch"
    assert contents(exports) == before


def negate(onnx_file: bytes) -> bytes:
    """The same graph with its first output times -1, which turns verdicts round."""
    graph = onnx.load_from_string(onnx_file)
    name = graph.graph.output[0].name
    for node in graph.graph.node:
        node.output[:] = [f"{name}_was" if each == name else each for each in node.output]
    graph.graph.node.append(onnx.helper.make_node("Neg", [f"{name}_was"], [name]))
    content: bytes = graph.SerializeToString()
    return content


@pytest.mark.parametrize("engine", ["auto", "openvino", "onnxruntime"])
def test_graph_that_comes_with_a_folder_is_never_opened(
    model: ModelLayout, exports: Path, calls: list[int], engine: EngineChoice
) -> None:
    """Whoever exchanges a graph in a folder exchanges its hash there, too."""
    expected = answers(open_runtime(model, engine=engine))
    parts = parts_of(model)
    turned = answers(OnnxRuntime(parts.encoder, negate(parts.head)))
    np.testing.assert_allclose(turned[0], -expected[0], atol=1e-5, rtol=0)
    record = {
        "network_id": read_card(model).network_id,
        "encoder_sha256": sha256(parts.encoder).hexdigest(),
        "head_sha256": sha256(negate(parts.head)).hexdigest(),
    }
    (model.path / "encoder.onnx").write_bytes(parts.encoder)
    (model.path / "head.onnx").write_bytes(negate(parts.head))
    (model.path / "onnx.json").write_text(json.dumps(record), encoding="utf-8")
    shutil.rmtree(exports)
    np.testing.assert_array_equal(answers(open_runtime(model, engine=engine)), expected)
    assert calls == [1]


@pytest.mark.parametrize("engine", ["auto", "onnxruntime"])
@pytest.mark.parametrize("name", ["encoder.onnx", "head.onnx"])
@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_file_that_is_not_as_it_was_written_is_made_again(
    model: ModelLayout,
    exports: Path,
    calls: list[int],
    engine: EngineChoice,
    name: str,
    damage: str,
) -> None:
    was = contents(exports)
    path = made_of(model).path / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-1] + (bytes([content[-1] ^ 1]) if damage == "changed" else b""))
    open_runtime(model, engine=engine)
    assert calls == [1]
    assert contents(exports) == was


@pytest.mark.parametrize(
    "record", [None, b"", b"{}", b"\xff\xfe", b'{"network_id": "other"}', b'{"network_id": "%s"}']
)
def test_without_a_record_of_this_model_the_same_files_are_made_again(
    model: ModelLayout, exports: Path, calls: list[int], record: bytes | None
) -> None:
    was, made = contents(exports), made_of(model)
    made.encoder_path.write_bytes(b"left by a run that was ended")
    if record is None:
        made.record_path.unlink()
    else:
        network_id = read_card(model).network_id.encode()
        made.record_path.write_bytes(record.replace(b"%s", network_id))
    open_runtime(model)
    assert calls == [1]
    assert contents(exports) == was


def test_other_weights_in_the_folder_get_files_of_their_own(
    opened: ModelLayout, model: ModelLayout, tiny: Any
) -> None:
    save_model(model.path, tiny, seed=1)
    runtime = open_runtime(model)
    made = read_exported(made_of(model), read_card(model))
    assert made is not None
    assert made.record.network_id == read_card(model).network_id != read_card(opened).network_id
    said = answers(runtime)
    np.testing.assert_allclose(
        said, answers(open_runtime(model, engine="torch")), atol=1e-5, rtol=0
    )
    assert abs(said[0] - answers(open_runtime(opened))[0]) > 1e-3


def test_files_of_models_that_were_used_longest_ago_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "all"
    layouts = [ExportLayout(folder / name) for name in "abcd"]
    for age, layout in enumerate(layouts):
        layout.path.mkdir(parents=True)
        if layout is not layouts[0]:  # one that is being made
            layout.record_path.write_text("{}", encoding="utf-8")
            os.utime(layout.record_path, ns=(age, age))
    remove_unused(layouts[3], max_kept=2)
    assert [path.name for path in sorted(folder.iterdir())] == ["a", "c", "d"]
    remove_unused(layouts[2], max_kept=0)
    assert [path.name for path in sorted(folder.iterdir())] == ["a", "c"]


def test_use_of_files_counts(model: ModelLayout) -> None:
    record = made_of(model).record_path
    os.utime(record, (1, 1))
    open_runtime(model)
    assert record.stat().st_mtime > 1


def test_where_files_cannot_be_written_torch_scores_with_a_warning(
    model: ModelLayout,
    exports: Path,
    calls: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    was, expected = contents(exports), answers(open_runtime(model))
    shutil.rmtree(exports)
    # Permissions do not stop root; that no folder can be made in a file does.
    exports.write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        runtime = open_runtime(model)
    assert runtime.name == "torch"
    [warning] = caplog.records
    assert "scoring with torch" in warning.getMessage()
    assert f"cannot be written to {exports}" in warning.getMessage()
    np.testing.assert_allclose(answers(runtime), expected, atol=1e-5, rtol=0)
    for engine in ("openvino", "onnxruntime"):
        with pytest.raises(ExportError, match="cannot be written"):
            open_runtime(model, engine=engine)
    exports.unlink()
    assert open_runtime(model).name == "openvino"
    assert contents(exports) == was


def test_model_that_onnx_cannot_express_is_scored_with_torch_and_tried_once(
    tmp_path: Path,
    tiny: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = save_model(tmp_path / "new", tiny, bias=float("inf"))
    with caplog.at_level(logging.WARNING):
        assert open_runtime(model).name == "torch"
    assert "differ by nan" in caplog.text
    made = read_exported(made_of(model), read_card(model))
    assert made is not None
    assert made.record.problem is not None
    assert not made_of(model).encoder_path.exists()

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
        open_runtime(ModelLayout(tmp_path / "none"), engine=engine)


@pytest.mark.parametrize("engine", ["auto", "openvino", "onnxruntime", "torch"])
def test_weights_of_another_model_are_refused(
    tmp_path: Path, tiny: Any, engine: EngineChoice
) -> None:
    model = save_model(tmp_path / "new", tiny, seed=2)
    other = save_model(tmp_path / "other", tiny, seed=1)
    shutil.copy(other.weights_path, model.weights_path)
    with pytest.raises(MismatchError, match="not the weights"):
        open_runtime(model, engine=engine)
    assert not made_of(model).record_path.exists()


@pytest.mark.parametrize("engine", ["auto", "openvino", "onnxruntime", "torch"])
def test_folder_without_weights_is_refused(model: ModelLayout, engine: EngineChoice) -> None:
    model.weights_path.unlink()
    with pytest.raises((StoreError, WeightsError), match=r"model\.safetensors"):
        open_runtime(model, engine=engine)
