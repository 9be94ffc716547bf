"""Weights + card <-> disk, and the pointer to the version in use.

Weights are safetensors; a ``.pth`` of others is read with ``weights_only`` and never as a pickle.
"""

import pickle
import struct
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from reelcheck.card import ModelCard
from reelcheck.errors import StoreError, WeightsError
from storage.atomic import atomic_path, write_text
from storage.layout import ModelLayout, RegistryLayout

Weights = dict[str, Tensor]
_UNREADABLE = (
    SafetensorError,
    RuntimeError,
    OSError,
    EOFError,
    LookupError,
    ValueError,
    struct.error,
)
"""What the readers raise on damaged files."""


class _Ignored:
    """Stands for a NumPy number beside the weights, such as the best loss: nobody needs it.

    Never NumPy's own class, whose state a file could set to anything.
    """

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


_IGNORED: list[Any] = [
    (_Ignored, name)
    for name in ("numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
]


def weights_to_bytes(weights: Weights) -> bytes:
    """Safetensors file content; the same weights give the same bytes."""
    return save({name: tensor.contiguous().cpu() for name, tensor in weights.items()})


def write_weights(path: Path, weights: bytes) -> None:
    """Write a weights file, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(weights)


def save_checkpoint(layout: ModelLayout, weights: bytes, card: ModelCard) -> None:
    """Write the weights and then the card, whose existence means that the model is complete."""
    write_weights(layout.weights_path, weights)
    write_text(layout.card_path, card.model_dump_json(indent=2) + "\n")


def read_card(layout: ModelLayout) -> ModelCard:
    """The card of a checkpoint folder.

    Raises:
        StoreError: the folder holds no complete model, or one of another version.
    """
    try:
        return ModelCard.model_validate_json(layout.card_path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(
            f"{layout.path} holds no model (no card.json); give the folder that "
            "`reelcheck train STORE --out DIR` wrote"
        ) from None
    except (ValidationError, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise StoreError(
            f"{layout.card_path} is not a model card of this version: {reason}"
        ) from error


def read_weights(path: Path) -> Weights:
    """Tensors of a local weights file or of a checkpoint folder.

    Raises:
        WeightsError: no such file, or not a file of plain tensors.
    """
    if path.is_dir():
        path = ModelLayout(path).weights_path
    if not path.is_file():
        raise WeightsError(f"{path} is not a file; give .safetensors, or .pth/.pt/.bin of tensors")
    loaded = _load(path)
    for key in ("state_dict", "model", "net"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict):
        raise WeightsError(f"{path} holds a {type(loaded).__name__}, not a table of named tensors")
    weights = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    if not weights:
        raise WeightsError(f"{path} holds no tensors")
    return weights


def _load(path: Path) -> object:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_IGNORED):
            loaded: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds more than plain tensors, which could run code; convert it to safetensors"
        ) from error
    except _UNREADABLE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"cannot read weights from {path}: {reason}") from error
    return loaded


def read_champion(registry: RegistryLayout) -> str | None:
    """Name of the version in use, or None where none was ever promoted."""
    if not registry.champion_path.exists():
        return None
    return registry.champion_path.read_text(encoding="utf-8").strip()


def set_champion(registry: RegistryLayout, version: str) -> None:
    """Move the pointer, atomically."""
    write_text(registry.champion_path, version + "\n")
