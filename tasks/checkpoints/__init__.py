"""Weights in and out.

runtimes.py        load a checkpoint to score with: OpenVINO, ONNX Runtime or torch
torch_model.py     load a checkpoint as a network in torch
export.py          checkpoint -> ONNX, checked against the detector
exported.py        the ONNX files that this machine has made
fetch.py           a name of the catalogue -> converted weights in the user's cache
import_weights.py  published weights of others -> safetensors
uploads.py         take a checkpoint folder from a stranger, in a ZIP
steps.py           nodes of the DAG
"""
