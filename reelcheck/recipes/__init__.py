"""Recipes: settings that belong together, under a name.

A recipe is a TOML file in this folder: ``description``, ``[preprocess]``, ``[train]``, and where it
changes only some of another's settings, ``based_on``. The folder ``fast`` holds small variants for
trying things out.
"""

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from reelcheck.config import PreprocessSettings
from reelcheck.errors import SettingsError
from reelcheck.settings import AnySettings, merge, validated
from reelcheck.train_config import EngineSettings, TrainSettings


@dataclass(frozen=True)
class Recipe:
    """What a name stands for."""

    name: str
    description: str
    preprocess: PreprocessSettings
    train: TrainSettings
    engine: EngineSettings


def recipe_names() -> list[str]:
    """Names of all recipes, sorted."""
    return sorted(_find_files())


def load_recipe(name: str) -> Recipe:
    """The recipe of this name.

    Raises:
        SettingsError: there is none.
    """
    if name not in recipe_names():
        raise SettingsError(
            f"no recipe is called {name!r}; there are {', '.join(recipe_names())} "
            "(reelcheck recipes explains them)"
        )
    document = _document(name)
    return Recipe(
        name=name,
        description=" ".join(document["description"].split()),
        preprocess=_changed(PreprocessSettings(), document.get("preprocess", {})),
        train=_changed(TrainSettings(recipe=name), document.get("train", {})),
        engine=_changed(EngineSettings(), document.get("engine", {})),
    )


def _find_files() -> dict[str, Traversable]:
    """Find the file of each recipe, by its name."""
    folder = files(__name__)
    found = [*folder.iterdir(), *(folder / "fast").iterdir()]
    suffix = ".toml"
    return {file.name.removesuffix(suffix): file for file in found if file.name.endswith(suffix)}


def _changed(defaults: AnySettings, changes: dict[str, Any]) -> AnySettings:
    values = defaults.model_dump()
    merge(values, changes)
    return validated(type(defaults), values)


def _document(name: str) -> dict[str, Any]:
    document = tomllib.loads(_find_files()[name].read_text(encoding="utf-8"))
    values = _document(document.pop("based_on")) if "based_on" in document else {}
    merge(values, document)
    return values
