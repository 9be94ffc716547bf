"""Weights of other projects -> a folder that training starts from or that scores videos."""

import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from models.interop.convert import convert_backbone
from models.interop.onnx_weights import read_onnx_weights
from models.interop.published import PUBLISHED, convert_detector
from models.metrics.aggregation import AGGREGATIONS
from reelcheck.card import UNCALIBRATED, ModelCard, WeightsSource
from reelcheck.errors import MismatchError, WeightsError
from reelcheck.weights.catalogue import CatalogueEntry
from reelcheck.weights.formats import (
    DETECTOR_FORMATS,
    NAMINGS,
    DetectorFormat,
    Naming,
    PaddingStyle,
    WeightsFormat,
    require_options_of_format,
)
from storage.atomic import write_bytes, write_text
from storage.checkpoints import read_card, save_checkpoint
from storage.hashing import sha256_of
from storage.layout import ModelLayout
from storage.weights import read_weights, weights_to_bytes

_NOTES = (
    "imported weights, not calibrated: the score is the network's own probability, and no verdict "
    "is inconclusive",
    "a sequence is the mean of its frames' logits; the original averages in its own way",
)


def import_weights(
    file: Path,
    out: Path,
    *,
    format: WeightsFormat,
    backbone: str | None = None,
    pixels: int | None = None,
    padding_style: PaddingStyle | None = None,
    origin: CatalogueEntry | None = None,
) -> ModelCard | None:
    """Convert a weights file into a folder of this project.

    Args:
        file: safetensors, or a file of torch that holds plain tensors.
        out: the folder to write.
        format: lukemelas, torchvision and timm are ImageNet classifiers, and become a backbone for
            ``init_from``; sbi, dfbench, dfdc and polimi are detectors, and become a model.
        backbone: timm's name; needed for a backbone.
        pixels: side of a detector's input; None: that of the original.
        padding_style: release of ``efficientnet_pytorch`` that a detector was made with; None: the
            assumed one.
        origin: entry of the catalogue that the file was fetched for; None: a user named the file.

    Returns:
        The card of a detector; None for a backbone, which has no card but ``source.json``.

    Raises:
        SettingsError: an unknown format or backbone, or an option that does not belong to it.
        WeightsError: the file cannot be read, holds code, or is not of this format.
        MismatchError: the folder holds another model.
    """
    require_options_of_format(format, backbone=backbone, pixels=pixels, padding_style=padding_style)
    if format in DETECTOR_FORMATS:
        return _import_detector(
            file,
            out,
            format,
            backbone=backbone,
            pixels=pixels,
            padding_style=padding_style,
            origin=origin,
        )
    assert format in NAMINGS  # noqa: S101 - by the line above
    assert backbone is not None  # noqa: S101 - likewise
    _import_backbone(file, out, format, backbone, origin)
    return None


def _import_backbone(
    file: Path, out: Path, naming: Naming, backbone: str, origin: CatalogueEntry | None
) -> None:
    given = read_onnx_weights(file) if file.suffix == ".onnx" else read_weights(file)
    with _name_file_in_errors(file):
        weights = weights_to_bytes(convert_backbone(given, backbone, naming))
    _refuse_other_model(out, model_id=None)
    layout = ModelLayout(out)
    layout.source_path.unlink(missing_ok=True)
    write_bytes(layout.weights_path, weights)
    source = _describe_source(file, naming, origin, licence=None, url=None)
    write_text(layout.source_path, source.model_dump_json(indent=2) + "\n")


def _describe_source(
    file: Path,
    format: WeightsFormat,
    origin: CatalogueEntry | None,
    *,
    licence: str | None,
    url: str | None,
) -> WeightsSource:
    return WeightsSource(
        format=format,
        file_name=file.name,
        file_sha256=sha256_of(file),
        licence=licence if origin is None else origin.licence,
        url=url if origin is None else origin.url,
        catalogue_name=None if origin is None else origin.name,
    )


def _import_detector(
    file: Path,
    out: Path,
    format: DetectorFormat,
    *,
    backbone: str | None,
    pixels: int | None,
    padding_style: PaddingStyle | None,
    origin: CatalogueEntry | None,
) -> ModelCard:
    given = read_weights(file)
    with _name_file_in_errors(file):
        imported = convert_detector(
            given, format, backbone=backbone, pixels=pixels, padding_style=padding_style
        )
    weights = weights_to_bytes(imported.weights)
    published = PUBLISHED[format]
    card = ModelCard(
        weights_sha256=sha256(weights).hexdigest(),
        detector=imported.detector,
        training=None,
        source=_describe_source(file, format, origin, licence=published.licence, url=published.url),
        preprocessing=imported.preprocessing,
        split_hash=None,
        calibration=UNCALIBRATED,
        aggregation=AGGREGATIONS[0],
        num_videos={},
        validation={},
        versions={name: importlib.metadata.version(name) for name in ("torch", "timm")},
        notes=(*_NOTES, *published.notes),
    )
    _refuse_other_model(out, model_id=card.model_id)
    save_checkpoint(ModelLayout(out), weights, card)
    return card


@contextmanager
def _name_file_in_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except WeightsError as error:
        raise WeightsError(f"{file}: {error}") from error


def _refuse_other_model(out: Path, *, model_id: str | None) -> None:
    layout = ModelLayout(out)
    if layout.card_path.exists() and read_card(layout).model_id != model_id:
        raise MismatchError(
            f"{out} holds another model already; give another --out folder, or delete that one"
        )
