"""Tensors <-> weights files.

Weights are stored as safetensors. A ``.pth`` file from elsewhere is read with ``weights_only``, so
that it cannot run code.
"""

import hashlib
import pickle
import struct
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save
from torch import Tensor

from reelcheck.card import ModelCard
from reelcheck.errors import WeightsError
from storage.checkpoints import require_weights_of
from storage.layout import ModelLayout
from storage.refusals import find_weights_file

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
"""Exceptions of the readers for damaged files."""


class _Ignored:
    """Replaces a NumPy number beside the weights, such as the best loss, which nobody needs.

    NumPy's own class is not used, because a file could set its state to anything.
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
    """Make the content of a safetensors file; the same weights give the same bytes."""
    return save({name: tensor.contiguous().cpu() for name, tensor in weights.items()})


def read_weights(path: Path) -> Weights:
    """Read the tensors of a local weights file or of a checkpoint folder.

    Raises:
        WeightsError: there is no such file, or it holds more than plain tensors.
    """
    path = find_weights_file(path)
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


def read_model_weights(layout: ModelLayout, card: ModelCard) -> Weights:
    """Read the weights of a checkpoint folder, if they are those of its card.

    The bytes that are hashed are the bytes that are used, whatever is written meanwhile.

    Raises:
        WeightsError: there is no such file, or it holds no tensors.
        MismatchError: they are the weights of another model.
    """
    path = find_weights_file(layout.path)
    try:
        content = path.read_bytes()
        require_weights_of(card, layout, hashlib.sha256(content).hexdigest())
        return load(content)
    except _UNREADABLE as error:
        raise _describe_unreadable(path, error) from error


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
        raise _describe_unreadable(path, error) from error
    return loaded


def _describe_unreadable(path: Path, error: Exception) -> WeightsError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return WeightsError(f"cannot read weights from {path}: {reason}")
