"""Is a product of 8-bit integer matrices right on this processor?

    python benchmarks/integer_products.py

ONNX Runtime multiplies unsigned activations by signed weights. Without VNNI instructions it adds
pairs of products in 16 bits, which are too few. Prints how many sums are wrong, and by how much.
"""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

_SIDE = 768
"""Width of CLIP ViT-B/16."""
_NUM_TOKENS = 197


def main() -> None:
    """Multiply, compare, print."""
    rng = np.random.default_rng(0)
    weights = rng.integers(-127, 128, (_SIDE, _SIDE)).astype(np.int8)
    inputs = rng.integers(0, 256, (_NUM_TOKENS, _SIDE)).astype(np.uint8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["inputs", "weights"], ["sums"])],
        "product",
        [helper.make_tensor_value_info("inputs", TensorProto.UINT8, [None, _SIDE])],
        [helper.make_tensor_value_info("sums", TensorProto.INT32, [None, _SIDE])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (sums,) = session.run(None, {"inputs": inputs})
    truth = inputs.astype(np.int64) @ weights.astype(np.int64)
    error = np.abs(sums - truth)
    print(f"wrong: {np.mean(error > 0):.1%} of {truth.size:,} sums")
    print(f"largest error: {error.max():,}; largest sum: {np.abs(truth).max():,}")


if __name__ == "__main__":
    main()
