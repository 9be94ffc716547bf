"""Checkpoint folders on disk, and the pointer to the version in use; needs no torch.

Nothing that a folder says of itself is believed. Every read of a card computes its model id anew,
and whoever uses the weights compares their hash with the card's.
"""

import json
from typing import Any

from reelcheck.card import ModelCard
from reelcheck.errors import MismatchError, SettingsError, StoreError
from reelcheck.settings import validated
from storage.atomic import write_bytes, write_text
from storage.checked.names import read_names, write_names
from storage.hashing import sha256_of
from storage.layout import ModelLayout, RegistryLayout


def save_checkpoint(layout: ModelLayout, weights: bytes, card: ModelCard) -> None:
    """Write the weights and then the card, which marks the model as complete."""
    write_bytes(layout.weights_path, weights)
    write_text(layout.card_path, card.model_dump_json(indent=2) + "\n")


def read_card(layout: ModelLayout) -> ModelCard:
    """Read the card of a checkpoint folder, if it is the one that was written.

    Raises:
        StoreError: the folder holds no complete model, a card of another version, or one with a
            value that is not allowed.
        MismatchError: the card was changed after it was written.
    """
    values = _read_card_values(layout)
    stated = {name: values.pop(name, None) for name in ModelCard.model_computed_fields}
    try:
        card = validated(ModelCard, values)
    except SettingsError as error:
        raise StoreError(
            f"{layout.card_path} is not a model card of this version: {error}"
        ) from error
    for name, value in stated.items():
        if value != getattr(card, name):
            raise MismatchError(
                f"{layout.card_path} was changed after the model was made: it says {name} = "
                f"{value!r}, its content gives {getattr(card, name)}; take the whole folder from "
                "its source again"
            )
    return card


def _read_card_values(layout: ModelLayout) -> dict[str, Any]:
    try:
        values = json.loads(layout.card_path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(
            f"{layout.path} holds no model (no card.json); give the folder that "
            "`reelcheck train STORE --out DIR` wrote"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise StoreError(
            f"{layout.card_path} is not a model card of this version: {reason}"
        ) from error
    wanted = ModelCard.model_fields["card_version"].default
    if not isinstance(values, dict) or values.get("card_version") != wanted:
        version = values.get("card_version") if isinstance(values, dict) else None
        raise StoreError(
            f"{layout.card_path} is not a model card of this version: it has version {version!r}, "
            f"this program takes {wanted}. Train the model again (or fetch or import its weights "
            "again), or use the program that it was made with"
        )
    return values


def read_checked_card(layout: ModelLayout) -> ModelCard:
    """Read the card of a checkpoint folder, and make sure that the weights belong to it.

    Reads the whole weights file, at about a gigabyte a second.

    Raises:
        StoreError: the folder holds no complete model; see ``read_card``.
        MismatchError: the card was changed, or the weights are others.
    """
    card = read_card(layout)
    try:
        digest = sha256_of(layout.weights_path)
    except OSError as error:
        raise StoreError(
            f"{layout.weights_path} cannot be read ({error.strerror}); take the whole folder from "
            "its source again"
        ) from error
    require_weights_of(card, layout, digest)
    return card


def require_weights_of(card: ModelCard, layout: ModelLayout, digest: str) -> None:
    """Make sure that weights of this SHA-256 are those that a card describes.

    Raises:
        MismatchError: they are others.
    """
    if digest != card.weights_sha256:
        raise MismatchError(
            f"{layout.weights_path} are not the weights that the card of model {card.model_id} "
            f"describes (SHA-256 {digest[:12]}… instead of {card.weights_sha256[:12]}…); take the "
            "whole folder from its source again"
        )


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
