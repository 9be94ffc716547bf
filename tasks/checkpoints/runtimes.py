"""A checkpoint folder -> a runtime that scores: ONNX files on a CPU, torch on a GPU."""

import logging
from pathlib import Path

from models.interop.runtime import OnnxRuntime, OpenVINORuntime, Runtime
from reelcheck.card import ModelCard
from reelcheck.config import EngineChoice
from reelcheck.errors import ExportError, MismatchError
from storage.checkpoints import read_card, read_onnx_record
from storage.hashing import sha256_of
from storage.layout import ModelLayout

_log = logging.getLogger(__name__)


def open_runtime(model: ModelLayout, *, engine: EngineChoice = "auto") -> Runtime:
    """Load a model for scoring.

    Args:
        model: a checkpoint folder.
        engine: auto: torch on a GPU; else OpenVINO, or torch for what ONNX cannot express.

    Raises:
        StoreError: the folder holds no complete model.
        MismatchError: the weights, or the ONNX files, are not those that the card describes.
        ExportError: the engine that was asked for needs ONNX files that cannot be made.
    """
    card = read_card(model)
    if engine == "torch" or (engine == "auto" and _has_gpu()):
        return _open_torch_runtime(model, card)
    problem = _find_onnx_problem(model, card)
    if problem is None:
        make = OnnxRuntime if engine == "onnxruntime" else OpenVINORuntime
        return make(model.encoder_path, model.head_path)
    if engine != "auto":
        raise ExportError(f"model {card.model_id} has no ONNX files: {problem}")
    _log.warning("scoring with torch, which is slower on a CPU: %s", problem)
    return _open_torch_runtime(model, card)


def _open_torch_runtime(model: ModelLayout, card: ModelCard) -> Runtime:
    # Here, because they cost 14 CPU seconds that a CPU does not need.
    from models.interop.torch_runtime import TorchRuntime  # noqa: PLC0415
    from tasks.checkpoints.torch_model import load_detector  # noqa: PLC0415

    return TorchRuntime(load_detector(model.path, card.model_id))


def _find_onnx_problem(model: ModelLayout, card: ModelCard) -> str | None:
    """Find out why this model has no ONNX files; missing files are made now. None: it has them.

    Raises:
        MismatchError: the files have changed since they were made.
    """
    made = read_onnx_record(model)
    if made is None or made.model_id != card.model_id:
        from tasks.checkpoints.export import ensure_onnx_files  # noqa: PLC0415 - imports torch

        _log.info("writing ONNX files beside the model, once")
        try:
            made = ensure_onnx_files(model)
        except OSError as error:
            return f"they cannot be written to {model.path} ({error.strerror})"
    if made.problem is not None:
        return made.problem
    hashes = {model.encoder_path: made.encoder_sha256, model.head_path: made.head_sha256}
    for path, expected in hashes.items():
        if not path.exists() or sha256_of(path) != expected:
            raise MismatchError(
                f"{path} is not the file that was made from model {card.model_id}; delete "
                f"{model.onnx_path}, so that it is made again"
            )
    return None


def _has_gpu() -> bool:
    """Whether NVIDIA's driver is loaded; to ask torch, torch would have to be imported."""
    return Path("/proc/driver/nvidia/version").exists()
