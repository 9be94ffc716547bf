"""Nodes of the DAG: make a checkpoint ready for scoring."""

import logging

from prefect import task

from storage.layout import ModelLayout
from tasks.checkpoints.export import ensure_onnx_files

_log = logging.getLogger(__name__)


def make_onnx_files(model: ModelLayout) -> None:
    """Make a model's ONNX files in this user's cache; a model without them is a model, too."""
    try:
        ensure_onnx_files(model)
    except OSError as error:
        _log.warning("the ONNX files cannot be written, scoring will try again: %s", error)


make_onnx_step = task(name="make ONNX files")(make_onnx_files)
