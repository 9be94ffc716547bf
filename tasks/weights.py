"""A weights file of others -> a folder that training starts from or that scores videos."""

import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import get_args

from models.aggregation import AGGREGATIONS
from models.convert import Naming, convert_backbone
from models.published import (
    PUBLISHED,
    DetectorFormat,
    PaddingStyle,
    convert_detector,
)
from reelcheck.card import UNCALIBRATED, ModelCard, WeightsSource
from reelcheck.errors import MismatchError, SettingsError, WeightsError
from reelcheck.settings import settings_hash
from storage.atomic import write_bytes
from storage.checkpoints import read_card, save_checkpoint
from storage.hashing import sha256_of
from storage.layout import ModelLayout
from storage.weights import read_weights, weights_to_bytes

WeightsFormat = Naming | DetectorFormat

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
) -> ModelCard | None:
    """Convert a weights file into a folder of this project.

    Args:
        file: safetensors, or a file of torch that holds plain tensors.
        out: the folder.
        format: lukemelas, torchvision and timm are ImageNet classifiers, and become a backbone for
            ``init_from``; sbi, dfbench, dfdc and polimi are detectors, and become a model.
        backbone: timm's name; needed for a backbone.
        pixels: side of a detector's input; None: what the original takes.
        padding_style: release of ``efficientnet_pytorch`` that a detector was made with, where it
            is not the assumed one.

    Returns:
        The card of a detector; None for a backbone, which has none.

    Raises:
        SettingsError: an unknown format or backbone, or an option that does not belong to it.
        WeightsError: the file cannot be read, holds code, or is not of this format.
        MismatchError: the folder holds another model.
    """
    if format in ("lukemelas", "torchvision", "timm"):
        if pixels is not None or padding_style is not None:
            raise SettingsError(
                f"{format} weights become a backbone, which takes any size; leave input size and "
                "padding out, and set detector.input_pixels and detector.padding in training"
            )
        _import_backbone(file, out, format, backbone)
        return None
    if format not in PUBLISHED:
        known = ", ".join((*get_args(Naming), *PUBLISHED))
        raise SettingsError(f"no such format of weights: {format!r}; known are {known}")
    return _import_detector(
        file, out, format, backbone=backbone, pixels=pixels, padding_style=padding_style
    )


def _import_backbone(file: Path, out: Path, naming: Naming, backbone: str | None) -> None:
    if backbone is None:
        raise SettingsError(
            f"which network {naming} weights are for must be said: --backbone NAME, timm's name, "
            "such as tf_efficientnet_b4 for lukemelas or efficientnet_b4 for torchvision"
        )
    given = read_weights(file)
    with _errors_about(file):
        weights = weights_to_bytes(convert_backbone(given, backbone, naming))
    _refuse_other_model(out, model_id=None)
    write_bytes(ModelLayout(out).weights_path, weights)


def _import_detector(
    file: Path,
    out: Path,
    format: DetectorFormat,
    *,
    backbone: str | None,
    pixels: int | None,
    padding_style: PaddingStyle | None,
) -> ModelCard:
    given = read_weights(file)
    with _errors_about(file):
        imported = convert_detector(
            given, format, backbone=backbone, pixels=pixels, padding_style=padding_style
        )
    weights = weights_to_bytes(imported.weights)
    published = PUBLISHED[format]
    card = ModelCard(
        model_id=sha256(weights).hexdigest()[:12],
        detector=imported.detector,
        training=None,
        source=WeightsSource(
            format=format,
            file_name=file.name,
            file_sha256=sha256_of(file),
            licence=published.licence,
            url=published.url,
        ),
        preprocessing=imported.preprocessing,
        preprocessing_hash=settings_hash(imported.preprocessing),
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
def _errors_about(file: Path) -> Iterator[None]:
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
