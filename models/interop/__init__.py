"""The same network in other formats.

export.py          torch -> ONNX
runtime.py         ONNX -> features and logits, in OpenVINO or ONNX Runtime
torch_runtime.py   the same in torch
convert.py         names of others' weights -> ours
onnx_weights.py    weights inside an ONNX file, also quantised ones
published.py       which published weights are known
"""
