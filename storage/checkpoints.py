"""Checkpoint folder <-> disk, and the pointer to the version in use; needs no torch."""

from pathlib import Path

from pydantic import ValidationError

from reelcheck.card import ModelCard, OnnxFiles
from reelcheck.errors import StoreError
from storage.atomic import write_bytes, write_text
from storage.layout import ModelLayout, RegistryLayout


def save_checkpoint(layout: ModelLayout, weights: bytes, card: ModelCard) -> None:
    """Write the weights and then the card, whose existence means that the model is complete."""
    write_bytes(layout.weights_path, weights)
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


def read_onnx_record(layout: ModelLayout) -> OnnxFiles | None:
    """What the ONNX files of a checkpoint folder were made from; None: there are none."""
    try:
        return OnnxFiles.model_validate_json(layout.onnx_path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError, UnicodeDecodeError):
        return None


def read_champion(registry: RegistryLayout) -> str | None:
    """Name of the version in use, or None where none was ever promoted."""
    return next(iter(_champions(registry)), None)


def set_champion(registry: RegistryLayout, version: str) -> None:
    """Move the pointer, atomically: whatever ends this process, one version is in use."""
    earlier = [name for name in _champions(registry) if name != version]
    names = [version, *earlier][: 1 + _NUM_EARLIER_CHAMPIONS]
    write_text(registry.champion_path, "".join(f"{name}\n" for name in names))


def roll_back(registry: RegistryLayout) -> str:
    """Put the version before into use again, atomically; that in use is withdrawn.

    Returns:
        Its name.

    Raises:
        StoreError: there is none before, or its folder is gone.
    """
    names = _champions(registry)
    if len(names) < 2:
        raise StoreError(
            f"{registry.path} has no earlier version to go back to; promote another one: "
            "reelcheck models promote"
        )
    read_card(registry.version(names[1]))
    # First: a version that is in use and withdrawn does no harm, the opposite would.
    withdrawn = [*_withdrawn(registry), names[0]]
    write_text(registry.withdrawn_path, "".join(f"{name}\n" for name in withdrawn))
    write_text(registry.champion_path, "".join(f"{name}\n" for name in names[1:]))
    return names[1]


def is_withdrawn(registry: RegistryLayout, version: str) -> bool:
    """Whether a rollback has taken this version out of use: only a person puts it back."""
    return version in _withdrawn(registry)


_NUM_EARLIER_CHAMPIONS = 5


def _champions(registry: RegistryLayout) -> list[str]:
    """Names of versions: that in use, then those before it."""
    return _names(registry.champion_path)


def _withdrawn(registry: RegistryLayout) -> list[str]:
    return _names(registry.withdrawn_path)


def _names(path: Path) -> list[str]:
    """One on each line; none where there is no file."""
    return path.read_text(encoding="utf-8").split() if path.exists() else []
