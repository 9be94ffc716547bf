"""A checkpoint -> ONNX: the two files that our scoring takes, or one for other programs."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from models.interop.export import export_onnx, export_parts
from reelcheck.card import OnnxFiles
from reelcheck.errors import ExportError
from storage.atomic import write_bytes, write_text
from storage.checkpoints import read_card, read_onnx_record
from storage.layout import ModelLayout
from storage.refusals import require_onnx_name
from tasks.checkpoints.torch_model import load_detector


@dataclass(frozen=True)
class ExportResult:
    """The file that was written."""

    path: Path
    max_difference: float
    """Largest difference seen between its logits in onnxruntime and the detector's."""
    num_bytes: int


def export_model(model: ModelLayout, out: Path) -> ExportResult:
    """Write a model, weights inside, as one ``.onnx`` file.

    ``models.interop.export`` describes inputs and outputs of the file. Its ``metadata_props`` hold
    what else scoring needs: ``model_id``, ``preprocessing_hash``,
    ``crop_pixels``, ``temperature`` (score = sigmoid(logit / temperature)) and ``threshold``.

    Args:
        model: a checkpoint folder.
        out: the file.

    Raises:
        SettingsError: ``out`` does not end in ``.onnx``.
        StoreError: the folder holds no complete model.
        MismatchError: the weights are not those that the card describes.
        WeightsError: the weights cannot be read.
        ExportError: the model cannot be expressed in ONNX, or gives other logits there.
    """
    require_onnx_name(out)
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
    write_bytes(out, exported.model)
    return ExportResult(
        path=out, max_difference=exported.max_difference, num_bytes=len(exported.model)
    )


def ensure_onnx_files(model: ModelLayout) -> OnnxFiles:
    """Write the files for scoring without torch beside the checkpoint, unless they are there.

    Where the model cannot be expressed in ONNX, their record says why, and no run tries again.

    Raises:
        StoreError: the folder holds no complete model.
        MismatchError: the weights are not those that the card describes.
        OSError: the folder cannot be written to.
    """
    card = read_card(model)
    if (made := read_onnx_record(model)) is not None and made.model_id == card.model_id:
        return made
    model.onnx_path.unlink(missing_ok=True)
    try:
        parts = export_parts(
            load_detector(model.path, card.model_id), crop_pixels=card.preprocessing.crop_pixels
        )
    except ExportError as error:
        made = OnnxFiles(model_id=card.model_id, problem=str(error))
    else:
        made = OnnxFiles(
            model_id=card.model_id,
            encoder_sha256=sha256(parts.encoder).hexdigest(),
            head_sha256=sha256(parts.head).hexdigest(),
            max_difference=parts.max_difference,
        )
        write_bytes(model.encoder_path, parts.encoder)
        write_bytes(model.head_path, parts.head)
    write_text(model.onnx_path, made.model_dump_json(indent=2) + "\n")
    return made
