"""Weights inside an ONNX file -> named tensors; integers that stand for numbers become numbers.

A file whose matrix products were quantised for int8 arithmetic (``DynamicQuantizeLinear`` and
``MatMulInteger``) rounds every activation to 8 bits as well, and on a processor without VNNI
ONNX Runtime's sums of such products are cut off: the same picture has other features there. The
weights alone lose little: with a scale per output channel, at most 0.4 % of its largest one. So
they are taken out, and the network computes with floats, which gives the same features everywhere.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.checker import ValidationError
from onnx.external_data_helper import uses_external_data

from reelcheck.errors import WeightsError

_QUANTISED = "MatMulInteger"
_UNREADABLE = (DecodeError, OSError, ValueError, TypeError, LookupError, ValidationError)
"""Exceptions for damaged files, and for those of another kind."""


def read_onnx_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read the weights of an ONNX file, of which nothing is run.

    The weight of a quantised matrix product is named after its node, ``/a/b/MatMul_quant`` gives
    ``a.b.weight``, and transposed to torch's (out, in).

    Raises:
        WeightsError: the file is no such file, or is damaged.
    """
    try:
        weights = _collect_weights(onnx.load(path, load_external_data=False).graph)
    except _UNREADABLE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"cannot read weights from {path} ({reason}); give a file of floats, or one that "
            "onnxruntime.quantization.quantize_dynamic has made, with its weights inside"
        ) from error
    if not weights:
        raise WeightsError(f"{path} holds no weights")
    return {name: torch.from_numpy(np.array(array)) for name, array in weights.items()}


def _collect_weights(graph: onnx.GraphProto) -> dict[str, NDArray[np.float32]]:
    if outside := [item.name for item in graph.initializer if uses_external_data(item)]:
        # The file names another file, anywhere on this machine.
        raise ValueError(f"the numbers of {outside[0]} lie in another file")
    arrays = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    weights = {name: a for name, a in arrays.items() if a.dtype == np.float32}
    readers = {name: node for node in graph.node for name in node.input}
    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type == _QUANTISED:
            name = node.name.strip("/").rpartition("/")[0].replace("/", ".")
            scale = weights.pop(_find_scale(node, arrays, readers, makers))
            matrix, zero = (arrays[node.input[place]].astype(np.float32) for place in (1, 3))
            weights[f"{name}.weight"] = ((matrix - zero) * scale).T
    return weights


def _find_scale(
    node: onnx.NodeProto,
    arrays: Mapping[str, NDArray[np.generic]],
    readers: Mapping[str, onnx.NodeProto],
    makers: Mapping[str, onnx.NodeProto],
) -> str:
    """Find the name of the scale of a quantised product's weights.

    The product is cast to float and multiplied by the product of two scales: that of the
    activations, which is computed, and that of the weights, which the file holds.

    Raises:
        LookupError: the product is not scaled so.
    """
    scaled = readers[readers[node.output[0]].output[0]]
    scales = [name for mid in scaled.input for name in makers[mid].input if name in arrays]
    if len(scales) != 1:
        raise LookupError(f"the product {node.name!r} has no scale of its own")
    return str(scales[0])
