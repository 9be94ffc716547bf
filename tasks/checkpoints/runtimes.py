"""A checkpoint folder -> a runtime that scores: ONNX files on a CPU, torch on a GPU."""

import logging
from pathlib import Path

from models.interop.runtime import OnnxRuntime, OpenVINORuntime, Runtime
from reelcheck.card import ModelCard
from reelcheck.config import EngineChoice
from reelcheck.errors import ExportError
from storage.checkpoints import read_card, read_checked_card
from storage.layout import ModelLayout
from tasks.checkpoints.exported import ExportedModel, locate_exported, read_exported

_log = logging.getLogger(__name__)


def open_runtime(
    model: ModelLayout, *, engine: EngineChoice = "auto", exports_dir: Path | None = None
) -> Runtime:
    """Load a model for scoring; card and weights are checked to belong together.

    Args:
        model: a checkpoint folder.
        engine: auto: torch on a GPU; else OpenVINO, or torch for what ONNX cannot express.
        exports_dir: folder of the ONNX files of all models; None: the user's.

    Raises:
        StoreError: the folder holds no complete model.
        MismatchError: the card was changed, or the weights are not those that it describes.
        WeightsError: the weights are of another network.
        ExportError: the engine that was asked for needs ONNX files that cannot be made.
    """
    if engine == "torch" or (engine == "auto" and _has_gpu()):
        return _open_torch_runtime(model, read_card(model))
    card = read_checked_card(model)
    exported = _load_exported(model, card, exports_dir)
    if isinstance(exported, ExportedModel):
        make = OnnxRuntime if engine == "onnxruntime" else OpenVINORuntime
        return make(exported.encoder, exported.head)
    if engine != "auto":
        raise ExportError(f"model {card.model_id} has no ONNX files: {exported}")
    _log.warning("scoring with torch, which is slower on a CPU: %s", exported)
    return _open_torch_runtime(model, card)


def _open_torch_runtime(model: ModelLayout, card: ModelCard) -> Runtime:
    # Here, because they cost 14 CPU seconds that a CPU does not need.
    from models.interop.torch_runtime import TorchRuntime  # noqa: PLC0415
    from tasks.checkpoints.torch_model import load_detector  # noqa: PLC0415

    return TorchRuntime(load_detector(model.path, card.model_id))


def _load_exported(
    model: ModelLayout, card: ModelCard, exports_dir: Path | None
) -> ExportedModel | str:
    """Load the ONNX files that this machine has made; missing ones are made now.

    Returns:
        The files, or the reason why there are none.
    """
    layout = locate_exported(card, exports_dir)
    made = read_exported(layout, card)
    if made is None:
        from tasks.checkpoints.export import ensure_onnx_files  # noqa: PLC0415 - imports torch

        _log.info("making ONNX files of model %s, once on this machine", card.model_id)
        try:
            made = ensure_onnx_files(model, exports_dir)
        except OSError as error:
            return f"they cannot be written to {layout.path} ({error.strerror})"
    return made.record.problem or made


def _has_gpu() -> bool:
    """Whether NVIDIA's driver is loaded; to ask torch, torch would have to be imported."""
    return Path("/proc/driver/nvidia/version").exists()
