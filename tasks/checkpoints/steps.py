"""Nodes of the DAG: make a checkpoint ready for scoring."""

from prefect import task

from tasks.checkpoints.export import ensure_onnx_files

write_onnx_step = task(name="write ONNX files")(ensure_onnx_files)
