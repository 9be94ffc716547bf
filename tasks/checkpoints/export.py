"""A checkpoint -> ONNX: the two files that our scoring takes, or one for other programs."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from filelock import FileLock

from models.interop.export import export_onnx, export_parts
from reelcheck.card import ModelCard, OnnxFiles
from reelcheck.errors import ExportError
from storage.atomic import write_bytes, write_text
from storage.checkpoints import read_card
from storage.layout import ModelLayout
from storage.refusals import require_onnx_name
from tasks.checkpoints.exported import (
    ExportedModel,
    locate_exported,
    read_exported,
    remove_unused,
)
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


def ensure_onnx_files(model: ModelLayout, exports_dir: Path | None = None) -> ExportedModel:
    """Make the files for scoring without torch, unless this machine has made them already.

    The weights are those of the card, and the files are written only if they give the same logits
    as the network. Where the model cannot be expressed in ONNX, their record says why, and no run
    tries again.

    Args:
        model: a checkpoint folder.
        exports_dir: folder of the files of all models; None: the user's.

    Raises:
        StoreError: the folder holds no complete model.
        MismatchError: the weights are not those that the card describes.
        WeightsError: the weights are of another network.
        OSError: the files cannot be written.
    """
    card = read_card(model)
    layout = locate_exported(card, exports_dir)
    if (known := read_exported(layout, card)) is not None:
        return known
    layout.path.mkdir(parents=True, exist_ok=True)
    with FileLock(layout.lock_path):
        if (known := read_exported(layout, card)) is not None:  # made meanwhile
            return known
        made = _export(model, card)
        layout.record_path.unlink(missing_ok=True)
        if made.record.problem is None:
            write_bytes(layout.encoder_path, made.encoder)
            write_bytes(layout.head_path, made.head)
        write_text(layout.record_path, made.record.model_dump_json(indent=2) + "\n")
    remove_unused(layout)
    return made


def _export(model: ModelLayout, card: ModelCard) -> ExportedModel:
    detector = load_detector(model.path, card.model_id)
    try:
        parts = export_parts(detector, crop_pixels=card.preprocessing.crop_pixels)
    except ExportError as error:
        return ExportedModel(OnnxFiles(network_id=card.network_id, problem=str(error)))
    record = OnnxFiles(
        network_id=card.network_id,
        encoder_sha256=sha256(parts.encoder).hexdigest(),
        head_sha256=sha256(parts.head).hexdigest(),
        max_difference=parts.max_difference,
    )
    return ExportedModel(record, encoder=parts.encoder, head=parts.head)
