"""Write the reference pages from the code, so that they cannot be wrong.

``python docs/generate.py`` writes them; with ``--check`` it writes nothing and exits with 1 if a
page is stale. ``tests/test_docs.py`` does the same check.
"""

import argparse
import ast
import inspect
import itertools
import sys
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import pyarrow as pa
import typer

import flows.cli.main  # noqa: F401 - adds the commands
from flows.cli.app import app
from reelcheck import config, errors, page_config, train_config
from reelcheck.settings import Settings
from reelcheck.weights.catalogue import CatalogueEntry, load_catalogue
from storage import schemas
from storage.columns import SCHEMA_VERSION, Table
from tasks.plotting.markdown import format_table

FOLDER = Path(__file__).resolve().parent
NOTE = "<!-- Written by `make docs` from the code: do not edit this page. -->"
SECTIONS: dict[str, type[Settings]] = {
    "preprocess": config.PreprocessSettings,
    "run": config.RunSettings,
    "split": config.SplitSettings,
    "train": train_config.TrainSettings,
    "engine": train_config.EngineSettings,
    "score": config.ScoreSettings,
    "gate": config.GateSettings,
}
"""Section of a settings file -> its class."""
WITHOUT_SECTION: dict[str, type[Settings]] = {
    "normalise": config.NormaliseSettings,
    "page": page_config.PageSettings,
}
"""Command -> settings that only its options change."""
EXIT_CODES = {
    0: "The command is done.",
    1: "An unexpected error; `REELCHECK_DEBUG=1` shows where.",
    2: "A wrong command line; or `audit` found a leak or a shortcut.",
    5: "`retrain` will decide the same until a person has acted; the reason says how.",
    130: "Interrupted by Ctrl-C.",
}
"""What the tree of errors does not say."""
_ABOUT_CATALOGUE = (
    "[Weights of others](weights.md) explains the commands. *Checked on* says whether the "
    "converted network was compared with the original on the published file, or on random weights "
    "of the same names only. A size or a hash that is missing was not published where it could be "
    "read; the hash of the first download is recorded."
)


def generate_pages() -> dict[str, str]:
    """Return the text of every reference page under its file name."""
    return {
        "commands.md": describe_commands(),
        "settings.md": describe_settings(),
        "tables.md": describe_tables(),
        "catalogue.md": describe_catalogue(),
    }


def describe_commands() -> str:
    """Return the page of commands."""
    parts = [
        "# Commands",
        NOTE,
        "Every command prints this text with `--help`. Settings are put together in this order: "
        "defaults, recipe (`--recipe`), settings file (`--config`), single values (`--set`); "
        "[settings](settings.md) explains each.",
        "## Exit codes",
        render_table(("code", "meaning"), sorted(_exit_codes())),
    ]
    for name, command in walk_commands(typer.main.get_command(app), "reelcheck"):
        parts += _command_parts(name, command)
    return "\n\n".join(parts) + "\n"


def walk_commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield each command below a Typer command, groups left out, with its full name."""
    if not hasattr(command, "commands"):
        yield name, command
        return
    for inner, child in sorted(command.commands.items()):
        yield from walk_commands(child, f"{name} {inner}")


def _exit_codes() -> Iterator[tuple[str, str]]:
    found = {code: [text] for code, text in EXIT_CODES.items()}
    for error in vars(errors).values():
        is_error = isinstance(error, type) and issubclass(error, errors.ReelcheckError)
        if is_error and "exit_code" in vars(error) and error is not errors.ReelcheckError:
            found.setdefault(error.exit_code, []).append(_first_line(error))
    for code, texts in found.items():
        yield f"{code:>3}", " ".join(texts)


def _command_parts(name: str, command: Any) -> list[str]:
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    examples = [text.split("`")[1] for text in paragraphs if text.startswith("Example: ")]
    prose = [" ".join(text.split()) for text in paragraphs if not text.startswith("Example: ")]
    parts = [f"## `{name}`", *map(_escape, prose)]
    if examples:
        parts.append("\n".join(["```sh", *examples, "```"]))
    rows = [_parameter_row(parameter) for parameter in command.params if parameter.name != "help"]
    if rows:
        parts.append(render_table(("argument or option", "value", "default", "meaning"), rows))
    return parts


def _parameter_row(parameter: Any) -> tuple[str, str, str, str]:
    kind = parameter.type_descriptor.annotation
    is_option = parameter.opts[0].startswith("-")
    name = parameter.opts[0] if is_option else parameter.metavar or parameter.name.upper()
    text, _, told = (parameter.help or "").partition("[default: ")
    value = ""
    if kind is not bool:
        named = parameter.metavar if is_option else None
        value = " ".join([named or _say_type(kind), *_say_limits(parameter.min, parameter.max)])
    if getattr(parameter, "multiple", False) or parameter.nargs == -1:
        value = value.removeprefix("list of ") + ", several times"
    if parameter.required:
        default = "required"
    elif parameter.default is None or parameter.default is False:
        default = told.removesuffix("]")
    else:
        default = f"`{parameter.default}`"
    return f"`{name}`", value, default, _escape(text.strip())


def describe_settings() -> str:
    """Return the page of settings."""
    parts = [
        "# Settings",
        NOTE,
        "A settings file is TOML, given with `--config`; "
        "[examples/config.toml](../examples/config.toml) is one. It has the sections below, each "
        "of them optional. `--set NAME=VALUE` changes one setting: of `[preprocess]` in the "
        "command `preprocess`, of `[split]` in `split`, of `[train]` in `train` and `retrain`, of "
        "`[score]` in `score`. The name is written as it stands here; `N` is a place in a list, "
        "from 0: `--set phases.0.learning_rate=1e-5`. A list is written as in TOML: "
        "`--set 'detector.pixel_std=[0.5, 0.5, 0.5]'`. The word `none` takes a value away. A wrong "
        "name or value is refused in one line that says what is allowed.",
    ]
    for section, cls in SECTIONS.items():
        parts += [f"## `[{section}]`", *_settings_parts(cls)]
    parts += [
        "## Settings without a section",
        "Only options of one command change them; a file does not.",
    ]
    for command, cls in WITHOUT_SECTION.items():
        parts += [f"### `reelcheck {command}`", *_settings_parts(cls)]
    return "\n\n".join(parts) + "\n"


def _settings_parts(cls: type[Settings]) -> list[str]:
    head = ("setting", "value", "default", "meaning")
    return [
        _escape(inspect.cleandoc(cls.__doc__ or "")),
        render_table(head, _setting_rows(cls, "")),
    ]


def _setting_rows(
    cls: type[Settings], prefix: str, defaults: Settings | None = None
) -> Iterator[tuple[str, str, str, str]]:
    notes = read_notes(inspect.getsource(cls))
    for name, field in cls.model_fields.items():
        default = getattr(defaults, name) if defaults is not None else field.get_default()
        nested = _nested_settings(field.annotation)
        meaning = notes.get(name, "" if nested is None else _first_line(nested))
        value = "".join([_say_type(field.annotation), *_say_metadata(field.metadata)])
        shown = "required" if field.is_required() and defaults is None else _say_default(default)
        yield f"`{prefix}{name}`", value, shown, _escape(meaning)
        if nested is not None:
            is_list = _is_list(field.annotation)
            first = default[0] if is_list and default else default
            start = first if isinstance(first, Settings) else None
            yield from _setting_rows(nested, f"{prefix}{name}.{'N.' if is_list else ''}", start)


def _nested_settings(annotation: Any) -> type[Settings] | None:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    found = (_nested_settings(inner) for inner in get_args(annotation))
    return next((cls for cls in found if cls is not None), None)


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) is tuple or any(map(_is_list, get_args(annotation)))


def _say_default(value: Any) -> str:
    if isinstance(value, Settings):
        return "see below"
    if isinstance(value, tuple) and any(isinstance(item, Settings) for item in value):
        return f"{len(value)}, see below"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{list(value)}`"
    return "none" if value is None else f"`{value}`"


_PLAIN_TYPES = {
    bool: "true or false",
    int: "integer",
    float: "number",
    str: "text",
    Path: "path",
    date: "day, such as 2026-01-31",
    type(None): "none",
}


def _say_type(annotation: Any) -> str:
    """Return a type and its limits in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation in _PLAIN_TYPES:
        return _PLAIN_TYPES[annotation]
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin is typing.Annotated:
        limits = [limit for note in inner[1:] for limit in getattr(note, "metadata", [note])]
        return "".join([_say_type(inner[0]), *_say_metadata(limits)])
    if origin in {Union, types.UnionType}:
        return "; or ".join(map(_say_type, inner))
    if origin in {tuple, list}:
        many = "list of" if Ellipsis in inner or origin is list else f"{len(inner)} of"
        return f"{many} {_say_type(inner[0])}"
    return "group"


def _say_metadata(limits: Sequence[Any]) -> list[str]:
    found = {
        name: getattr(limit, name)
        for limit in limits
        for name in ("ge", "gt", "le", "lt", "multiple_of", "min_length", "pattern")
        if getattr(limit, name, None) is not None
    }
    if {"ge", "le"} <= found.keys():
        found = {"range": f"{found.pop('ge')} to {found.pop('le')}"} | found
    words = {
        "range": "{}",
        "ge": "at least {}",
        "gt": "above {}",
        "le": "at most {}",
        "lt": "below {}",
        "multiple_of": "a multiple of {}",
        "min_length": "at least {} of them",
        "pattern": "matching `{}`",
    }
    return [f", {words[name].format(value)}" for name, value in found.items()]


def _say_limits(least: float | None, most: float | None) -> list[str]:
    if least is None and most is None:
        return []
    if most is None:
        return [f"(at least {least})"]
    return [f"({least} to {most})"]


def describe_tables() -> str:
    """Return the page of tables and their columns."""
    tables = [value for value in vars(schemas).values() if isinstance(value, Table)]
    parts = [
        "# Tables",
        NOTE,
        f"Version of all tables: {SCHEMA_VERSION}; a reader refuses other versions. The drawings "
        "at the top of [storage/layout.py](../storage/layout.py) and "
        "[storage/outputs.py](../storage/outputs.py) say which file holds which table. A column "
        "that is not marked *required* may be empty (null). `a[].b` is the field `b` of each item "
        "of the list `a`.",
    ]
    for table in tables:
        rows = [row for field in table.schema for row in _column_rows(field, field.name)]
        note = _escape(inspect.cleandoc(table.row.__doc__ or ""))
        head = ("column", "type", "meaning and unit")
        parts += [
            f"## `{table.name}`",
            f"One row is: {note[:1].lower()}{note[1:]}",
            render_table(head, rows),
        ]
    return "\n\n".join(parts) + "\n"


def _column_rows(field: pa.Field, name: str) -> Iterator[tuple[str, str, str]]:
    kind = _say_arrow(field.type) + ("" if field.nullable else ", required")
    yield f"`{name}`", kind, _escape((field.metadata or {}).get(b"description", b"").decode())
    inner = field.type
    if _is_list_type(field):
        inner, name = inner.value_type, f"{name}[]"
    if pa.types.is_struct(inner):
        for child in inner:
            yield from _column_rows(child, f"{name}.{child.name}")


def _is_list_type(field: pa.Field) -> bool:
    return bool(pa.types.is_list(field.type) or pa.types.is_fixed_size_list(field.type))


def _say_arrow(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"list of {_say_arrow(kind.value_type)}"
    if pa.types.is_fixed_size_list(kind):
        return f"{kind.list_size} of {_say_arrow(kind.value_type)}"
    if pa.types.is_fixed_size_binary(kind):
        return f"{kind.byte_width} bytes"
    return "record" if pa.types.is_struct(kind) else str(kind)


def describe_catalogue() -> str:
    """Return the page of published weights, by kind."""
    parts = ["# Catalogue of published weights", NOTE, _ABOUT_CATALOGUE]
    for kind, title in (("backbone", "Backbones to train from"), ("detector", "Detectors")):
        parts += [f"## {title}"]
        for entry in (entry for entry in load_catalogue().values() if entry.kind == kind):
            parts += [f"### `{entry.name}`", render_table(("", ""), _entry_rows(entry))]
    return "\n\n".join(parts) + "\n"


def _entry_rows(entry: CatalogueEntry) -> Iterator[tuple[str, str]]:
    size = "" if entry.num_bytes is None else f", {entry.num_bytes / 1e6:.1f} MB"
    source = entry.source.model_dump(exclude={"kind"})
    yield "network", f"`{entry.backbone}`, {entry.pixels} px{size}"
    yield "trained on", entry.trained_on
    yield "published figure", entry.published
    yield "licence", f"{entry.licence}; commercial use: {entry.commercial_use}"
    yield "source", f"{entry.source.kind}: " + ", ".join(f"`{value}`" for value in source.values())
    yield "checked on", entry.conversion_checked_on
    yield "read at", "; ".join(entry.cites)


def read_notes(source: str) -> dict[str, str]:
    """Return the text that follows each field of a class, under the field's name."""
    parsed = ast.parse(textwrap.dedent(source)).body
    body = [node for cls in parsed if isinstance(cls, ast.ClassDef) for node in cls.body]
    notes = {}
    for statement, after in itertools.pairwise(body):
        target = statement.target if isinstance(statement, ast.AnnAssign) else None
        text = after.value if isinstance(after, ast.Expr) else None
        if (
            isinstance(target, ast.Name)
            and isinstance(text, ast.Constant)
            and isinstance(text.value, str)
        ):
            notes[target.id] = inspect.cleandoc(text.value)
    return notes


def render_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; columns that are empty in every row are left out."""
    body = list(rows)
    used = [place for place in range(len(head)) if any(row[place].strip() for row in body)]
    return format_table([head[n] for n in used], [[row[n] for n in used] for row in body])


def _escape(text: str) -> str:
    """Return text of a docstring as Markdown: code in single ticks, no accidental HTML."""
    pieces = text.replace("``", "`").split("`")
    pieces[::2] = [piece.replace("<", "&lt;").replace("*", "\\*") for piece in pieces[::2]]
    return "`".join(pieces)


def _first_line(thing: type) -> str:
    return inspect.cleandoc(thing.__doc__ or "").split("\n")[0]


def main() -> None:
    """Write every page, or check that every page is as it would be written."""
    parser = argparse.ArgumentParser(description=inspect.cleandoc(__doc__ or ""))
    parser.add_argument("--check", action="store_true", help="Write nothing; exit 1 if stale.")
    is_check = parser.parse_args().check
    stale = []
    for name, text in generate_pages().items():
        path = FOLDER / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not is_check:
                path.write_text(text, encoding="utf-8")
    if is_check and stale:
        sys.exit(f"stale: {', '.join(stale)}; run `make docs`")


if __name__ == "__main__":
    main()
