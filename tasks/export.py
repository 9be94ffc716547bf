"""A checkpoint -> ONNX: the two files that our scoring takes, or one for other programs."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from models.export import export_onnx, export_parts
from reelcheck.card import OnnxFiles
from reelcheck.errors import ExportError, SettingsError
from storage.atomic import write_bytes, write_text
from storage.checkpoints import read_card, read_onnx_record
from storage.layout import ModelLayout
from tasks.networks import load_detector


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
    write_bytes(out, exported.model)
    return ExportResult(
        path=out, max_difference=exported.max_difference, num_bytes=len(exported.model)
    )


def ensure_onnx_files(model: ModelLayout) -> OnnxFiles:
    """The files that scoring without torch takes, written beside the checkpoint unless there.

    Where the model cannot be expressed in ONNX, their record says why, and nobody tries again.

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
            judge_sha256=sha256(parts.judge).hexdigest(),
            max_difference=parts.max_difference,
        )
        write_bytes(model.encoder_path, parts.encoder)
        write_bytes(model.judge_path, parts.judge)
    write_text(model.onnx_path, made.model_dump_json(indent=2) + "\n")
    return made
