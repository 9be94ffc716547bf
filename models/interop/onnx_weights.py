"""Weights inside an ONNX file -> named tensors; integers that stand for numbers become numbers.

A file whose matrix products were quantised for int8 arithmetic (``DynamicQuantizeLinear`` and
``MatMulInteger``) rounds every activation to 8 bits as well, and on a processor without VNNI
ONNX Runtime's sums of such products are cut off: the same picture has other features there. The
weights alone lose little: with a scale per output channel, at most 0.4 % of its largest one. So
they are taken out, and the network computes with floats, which gives the same features everywhere.
"""

from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper

from reelcheck.errors import WeightsError

_QUANTISED = "MatMulInteger"


def read_onnx_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read the weights of an ONNX file, of which nothing is run.

    The weight of a quantised matrix product is named after its node, ``/a/b/MatMul_quant`` gives
    ``a.b.weight``, and transposed to torch's (out, in).

    Raises:
        WeightsError: the file is no such file, or is damaged.
    """
    try:
        graph = onnx.load(path, load_external_data=False).graph
        arrays = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    except (DecodeError, OSError, ValueError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"cannot read weights from {path}: {reason}") from error
    weights = {name: a for name, a in arrays.items() if a.dtype == np.float32}
    readers: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        readers |= dict.fromkeys(node.input, node)
    makers = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        if node.op_type == _QUANTISED:
            name = node.name.strip("/").rpartition("/")[0].replace("/", ".")
            scale = _find_scale(node, arrays, readers, makers, path)
            matrix, zero = (arrays[node.input[place]].astype(np.float32) for place in (1, 3))
            weights[f"{name}.weight"] = ((matrix - zero) * weights.pop(scale)).T
    if not weights:
        raise WeightsError(f"{path} holds no weights")
    return {name: torch.from_numpy(np.array(array)) for name, array in weights.items()}


def _find_scale(
    node: onnx.NodeProto,
    arrays: dict[str, NDArray[np.generic]],
    readers: dict[str, onnx.NodeProto],
    makers: dict[str, onnx.NodeProto],
    path: Path,
) -> str:
    """Find the name of the scale of a quantised product's weights.

    The product is cast to float and multiplied by the product of two scales: that of the
    activations, which is computed, and that of the weights, which the file holds.
    """
    try:
        scaled = readers[readers[node.output[0]].output[0]]
        scales = [name for mid in scaled.input for name in makers[mid].input if name in arrays]
        scale: str
        (scale,) = scales
    except (LookupError, ValueError) as error:
        raise WeightsError(
            f"{path}: the scale of the weights of {node.name!r} cannot be found; give a file that "
            "onnxruntime.quantization.quantize_dynamic has made, or one of floats"
        ) from error
    return scale
