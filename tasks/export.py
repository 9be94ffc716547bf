"""A checkpoint -> one ONNX file that other runtimes can score with."""

from dataclasses import dataclass
from pathlib import Path

from models.export import export_onnx
from reelcheck.errors import SettingsError
from storage.atomic import atomic_path
from storage.checkpoints import read_card
from storage.layout import ModelLayout
from tasks.score import load_detector


@dataclass(frozen=True)
class ExportResult:
    """What was written."""

    path: Path
    max_difference: float
    """Largest one seen between its logits in onnxruntime and the detector's."""
    num_bytes: int


def export_model(model: ModelLayout, out: Path) -> ExportResult:
    """Write a model, weights inside, as one ``.onnx`` file; ``models.export`` says what it takes.

    Its ``metadata_props`` hold what scoring needs besides: ``model_id``, ``preprocessing_hash``,
    ``crop_pixels``, ``temperature`` (score = sigmoid(logit / temperature)) and ``threshold``.

    Args:
        model: a checkpoint folder.
        out: the file.

    Raises:
        SettingsError: ``out`` does not end in ``.onnx``.
        StoreError: the folder holds no complete model.
        MismatchError: the weights are not those that the card describes.
        WeightsError: the weights cannot be read.
        ExportError: the model cannot be expressed in ONNX, or answers otherwise there.
    """
    if out.suffix != ".onnx":
        raise SettingsError(f"{out} is no name for an ONNX file; give one such as model.onnx")
    card = read_card(model)
    crop_pixels = card.preprocessing.crop_pixels
    exported = export_onnx(
        load_detector(model.path, card.model_id),
        crop_pixels=crop_pixels,
        metadata={
            "model_id": card.model_id,
            "preprocessing_hash": card.preprocessing_hash,
            "crop_pixels": str(crop_pixels),
            "temperature": repr(card.calibration.temperature),
            "threshold": repr(card.calibration.threshold),
        },
    )
    with atomic_path(out) as temporary:
        temporary.write_bytes(exported.model)
    return ExportResult(
        path=out, max_difference=exported.max_difference, num_bytes=len(exported.model)
    )
