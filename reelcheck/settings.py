"""Settings: frozen, validated once, hashed where they name output.

How they are put together: defaults, then a recipe, then a TOML file, then ``key=value``. A value
is written as in TOML where that is a list, a table or quoted text, such as ``[0.5, 0.5, 0.5]``;
anything else is plain text, which pydantic reads as what the setting is: a number, a date, a path.
"""

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from reelcheck.errors import SettingsError


class Settings(BaseModel):
    """Base of all settings: frozen, finite, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


_SECTIONS = {"preprocess", "run", "split", "train", "engine", "score", "gate"}
AnySettings = TypeVar("AnySettings", bound=Settings)


def settings_hash(settings: Settings) -> str:
    """Twelve hexadecimal digits that name these settings; the same on every machine."""
    text = json.dumps(settings.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def load_settings(
    cls: type[AnySettings],
    *,
    section: str,
    config_path: Path | None = None,
    changes: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    base: AnySettings | None = None,
) -> AnySettings:
    """Settings from defaults, one section of a TOML file, changes and ``key=value`` overrides.

    Args:
        cls: the settings class.
        section: table of the TOML file that belongs to ``cls``.
        config_path: the TOML file, or None.
        changes: values by name, such as those of a command's options.
        overrides: what a person wrote, such as ``margin=1.5``, ``phases.0.max_epochs=2`` or
            ``detector.pixel_mean=[0.5, 0.5, 0.5]``; ``none`` is no value.
        base: what to start from instead of the defaults.

    Raises:
        SettingsError: an unreadable file, an unknown key or a value that is not allowed.
    """
    values = (base if base is not None else cls()).model_dump()
    if config_path is not None:
        merge(values, _read_section(config_path, section))
    merge(values, dict(changes or {}))
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise SettingsError(f"{override!r} is not KEY=VALUE; for example --set margin=1.5")
        nested: Any = _read_value(key, value)
        for part in reversed(key.split(".")):
            nested = {part: nested}
        merge(values, nested)
    return validated(cls, values)


def validated(cls: type[AnySettings], values: dict[str, Any]) -> AnySettings:
    """``cls(**values)`` with pydantic's complaints turned into one readable line.

    Raises:
        SettingsError: an unknown key or a value that is not allowed.
    """
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        problems = [_describe_problem(cls, problem) for problem in error.errors()]
        raise SettingsError("; ".join(problems)) from error


def _describe_problem(cls: type[Settings], problem: ErrorDetails) -> str:
    """Describe one complaint of pydantic's: which setting, its value, what is allowed."""
    place, message = problem["loc"], problem["msg"]
    if problem["type"] == "extra_forbidden":
        known = ", ".join(_find_fields(cls, place[:-1]))
        return f"{'.'.join(map(str, place))}: no such setting; known are {known}"
    if problem["type"] == "missing" and isinstance(place[-1], int):
        place, message = place[:-1], f"Item {place[-1]}, counted from 0, is missing"
    elif problem["type"] == "tuple_type":
        message = 'Input should be a list, such as [0.5, 0.5, 0.5] or ["jpeg 50"]'
    return f"{'.'.join(map(str, place)) or cls.__name__} = {problem['input']!r}: {message}"


def _find_fields(cls: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """Names of the settings at a place, such as that of ``detector.transformer``."""
    for name in place:
        if isinstance(name, str) and name in cls.model_fields:
            cls = next(iter(_find_models(cls.model_fields[name].annotation)), cls)
    return list(cls.model_fields)


def _find_models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The settings classes in a type, such as that in ``tuple[Phase, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _find_models(part)


def _read_value(key: str, text: str) -> Any:
    """Read a list, a table or quoted text as TOML does; anything else stays the text it is."""
    if not text.lstrip().startswith(("[", "{", '"', "'")):
        return text
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(
            f"{key} = {text} cannot be read as TOML ({error}); write for example [0.5, 0.5], "
            '["jpeg 50"] or {max_epochs = 5}, in single quotes for the shell'
        ) from error
    return document["value"]


def _read_section(config_path: Path, section: str) -> dict[str, Any]:
    try:
        document = tomllib.loads(config_path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"cannot read settings from {config_path}: {error}") from error
    if unknown := set(document) - _SECTIONS:
        raise SettingsError(
            f"{config_path}: no such section: {', '.join(sorted(unknown))}; "
            f"known are {', '.join(sorted(_SECTIONS))}"
        )
    values = document.get(section, {})
    if not isinstance(values, dict):
        raise SettingsError(f"{config_path}: [{section}] must be a table of settings")
    return values


def merge(target: dict[str, Any], update: dict[str, Any]) -> None:
    """Put values into nested ones, in place; a place in a list is named by its number.

    Raises:
        SettingsError: no such place in a list.
    """
    for key, value in update.items():
        known = target.get(key)
        if isinstance(known, list | tuple) and isinstance(value, dict):
            places = {str(place): item for place, item in enumerate(known)}
            if unknown := set(value) - set(places):
                raise SettingsError(
                    f"{key} has no place {', '.join(sorted(unknown))}; it has {len(places)}, "
                    "numbered from 0"
                )
            merge(places, value)
            target[key] = list(places.values())
        elif isinstance(known, dict) and isinstance(value, dict):
            merge(known, value)
        else:
            target[key] = _without_none(value)


def _without_none(value: Any) -> Any:
    """The same with every text ``none`` made no value, which TOML cannot say."""
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_none(inner) for inner in value]
    return None if isinstance(value, str) and value.lower() == "none" else value


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """``name: before != after`` of every value in which nested settings differ."""
    old, new = _flat(before), _flat(after)
    return [
        f"{name}: {old.get(name)} != {new.get(name)}"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Every innermost value under its name, such as ``phases.0.max_epochs``."""
    if isinstance(value, dict):
        items = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list | tuple):
        items = [(str(place), inner) for place, inner in enumerate(value)]
    else:
        return {name: value}
    flat: dict[str, Any] = {}
    for key, inner in items:
        flat |= _flat(inner, f"{name}.{key}" if name else key)
    return flat
