"""Checkpoint folders on disk, and the pointer to the version in use; needs no torch."""

from pydantic import ValidationError

from reelcheck.card import ModelCard, OnnxFiles
from reelcheck.errors import StoreError
from storage.atomic import write_bytes, write_text
from storage.checked.names import read_names, write_names
from storage.layout import ModelLayout, RegistryLayout


def save_checkpoint(layout: ModelLayout, weights: bytes, card: ModelCard) -> None:
    """Write the weights and then the card, which marks the model as complete."""
    write_bytes(layout.weights_path, weights)
    write_text(layout.card_path, card.model_dump_json(indent=2) + "\n")


def read_card(layout: ModelLayout) -> ModelCard:
    """Read the card of a checkpoint folder.

    Raises:
        StoreError: the folder holds no complete model, or a card of another version.
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
    """Read which weights the ONNX files of a folder were made from; None: no such files."""
    try:
        return OnnxFiles.model_validate_json(layout.onnx_path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError, UnicodeDecodeError):
        return None


def read_champion(registry: RegistryLayout) -> str | None:
    """Read the name of the version in use; None: no version was ever promoted."""
    return next(iter(_read_champions(registry)), None)


def set_champion(registry: RegistryLayout, version: str) -> None:
    """Put a version into use, atomically: if this process is killed, one version is in use."""
    earlier = [name for name in _read_champions(registry) if name != version]
    names = [version, *earlier][: 1 + _NUM_EARLIER_CHAMPIONS]
    write_names(registry.champion_path, names)


def roll_back(registry: RegistryLayout) -> str:
    """Put the previous version into use again, atomically, and withdraw the present one.

    Returns:
        Name of the version that is now in use.

    Raises:
        StoreError: there is no previous version, or its folder is gone.
    """
    names = _read_champions(registry)
    if len(names) < 2:
        raise StoreError(
            f"{registry.path} has no earlier version to go back to; promote another one: "
            "reelcheck models promote"
        )
    read_card(registry.version(names[1]))
    # Written first: a version in use that counts as withdrawn does no harm, unlike the opposite.
    withdrawn = [*_read_withdrawn(registry), names[0]]
    write_names(registry.withdrawn_path, withdrawn)
    write_names(registry.champion_path, names[1:])
    return names[1]


def is_withdrawn(registry: RegistryLayout, version: str) -> bool:
    """Whether a rollback has taken this version out of use; only a person may promote it again."""
    return version in _read_withdrawn(registry)


_NUM_EARLIER_CHAMPIONS = 5


def _read_champions(registry: RegistryLayout) -> list[str]:
    """Read the names of the version in use and of those before it, in this order."""
    return read_names(registry.champion_path)


def _read_withdrawn(registry: RegistryLayout) -> list[str]:
    return read_names(registry.withdrawn_path)
