"""Weights out of ONNX files: those of floats, and those quantised for integer products."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data
from onnxruntime.quantization import QuantType, quantize_dynamic

from models.interop.onnx_weights import read_onnx_weights
from reelcheck.errors import WeightsError


@pytest.fixture
def matrices() -> dict[str, NDArray[np.float32]]:
    """Two layers (in, out); the columns of the second differ a hundredfold."""
    rng = np.random.default_rng(0)
    scales = np.geomspace(0.1, 10, 5)
    return {
        "fc1": rng.normal(size=(8, 12)).astype(np.float32),
        "fc2": (rng.normal(size=(12, 5)) * scales).astype(np.float32),
    }


@pytest.fixture
def file(tmp_path: Path, matrices: dict[str, NDArray[np.float32]]) -> Path:
    """x -> fc1 -> fc2, with names as torch's exporter gives them."""
    nodes, last = [], "x"
    values = [numpy_helper.from_array(np.arange(5, dtype=np.float32), "net.fc2.bias")]
    for number, (name, matrix) in enumerate(matrices.items()):
        values.append(numpy_helper.from_array(matrix, f"onnx::MatMul_{number}"))
        nodes.append(
            helper.make_node(
                "MatMul", [last, values[-1].name], [f"out{number}"], f"/net/{name}/MatMul"
            )
        )
        last = f"out{number}"
    nodes.append(helper.make_node("Add", [last, "net.fc2.bias"], ["y"], "/net/fc2/Add"))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])],
        values,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    return path


def test_quantised_matrices_come_back_named_and_in_torchs_order(
    file: Path, tmp_path: Path, matrices: dict[str, NDArray[np.float32]]
) -> None:
    small = tmp_path / "int8.onnx"
    quantize_dynamic(file, small, per_channel=True, weight_type=QuantType.QInt8)
    found = read_onnx_weights(small)
    assert found.keys() == {"net.fc1.weight", "net.fc2.weight", "net.fc2.bias"}
    for name, matrix in matrices.items():
        weight = found[f"net.{name}.weight"]
        assert weight.dtype == torch.float32
        # Half a step of 127 per output channel.
        step = np.abs(matrix).max(axis=0) / 127
        assert np.all(np.abs(weight.numpy().T - matrix) <= 0.51 * step)
    assert found["net.fc2.bias"].tolist() == [0, 1, 2, 3, 4]


def test_one_scale_for_a_whole_matrix_is_read_too(
    file: Path, tmp_path: Path, matrices: dict[str, NDArray[np.float32]]
) -> None:
    small = tmp_path / "uint8.onnx"
    quantize_dynamic(file, small, per_channel=False, weight_type=QuantType.QUInt8)
    weight = read_onnx_weights(small)["net.fc1.weight"].numpy().T
    spread = matrices["fc1"].max() - matrices["fc1"].min()
    assert np.abs(weight - matrices["fc1"]).max() <= 0.51 * spread / 255


def test_floats_keep_their_names(file: Path) -> None:
    found = read_onnx_weights(file)
    assert found.keys() == {"onnx::MatMul_0", "onnx::MatMul_1", "net.fc2.bias"}


@pytest.mark.parametrize("content", [b"", b"no protobuf", b"\x08\x08\xff\xff\xff"])
def test_what_is_no_onnx_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"bad\.onnx"):
        read_onnx_weights(path)


def test_integers_without_a_scale_are_refused(file: Path, tmp_path: Path) -> None:
    small = tmp_path / "int8.onnx"
    quantize_dynamic(file, small, per_channel=True, weight_type=QuantType.QInt8)
    model = onnx.load(small)
    for node in model.graph.node:
        if node.op_type == "Cast":
            node.output[0] = "elsewhere"
    onnx.save(model, small)
    with pytest.raises(WeightsError, match="cannot read weights"):
        read_onnx_weights(small)


def test_numbers_that_lie_in_another_file_are_refused(file: Path, tmp_path: Path) -> None:
    """The file says where: it could be any file of this machine."""
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(10_000))
    model = onnx.load(file)
    tensor = model.graph.initializer[0]
    size = len(tensor.raw_data)
    set_external_data(tensor, str(secret), 0, size)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    changed = tmp_path / "inside" / "model.onnx"
    changed.parent.mkdir()
    changed.write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match="lie in another file"):
        read_onnx_weights(changed)
