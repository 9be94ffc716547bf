"""Labels of each file: from a labels table, or from the names of its folders.

A labels table is a CSV with the columns ``path,label`` and, where known, ``group``, ``identity``,
``donor``, ``source``, ``pair``, ``generator``, ``dataset``, ``date``, ``split``. Paths are relative
to the source folder.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from reelcheck.errors import SourceError
from reelcheck.records import InputFile
from reelcheck.status import Status
from storage.schemas import LABEL_COLUMNS

_LABELS = {"real": 0, "0": 0, "fake": 1, "deepfake": 1, "1": 1}
_FOLDER_LABELS = {"real": 0, "fake": 1, "deepfake": 1}
SPLIT_NAMES = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""Names that people give to splits -> their names here."""
_OPTIONAL_COLUMNS = [name for name in LABEL_COLUMNS if name not in {"label", "split"}]

Value = TypeVar("Value")


def label_files(
    files: Sequence[InputFile], labels: Path | None, *, is_complete: bool = True
) -> list[InputFile]:
    """Label the files, and add a ``missing`` row for every label without a file.

    Args:
        files: what was found under the source.
        labels: the labels table; None: labels and splits come from folder names.
        is_complete: ``files`` are all files of the source folder; from a single file of a folder
            nothing follows about the others.

    Raises:
        SourceError: the table cannot be used, or belongs to another folder.
    """
    if labels is None:
        return [
            replace(file, label=label_of_folders(file), split=split_of_folders(file))
            for file in files
        ]
    rows = read_labels(labels)
    known = {file.path for file in files}
    if is_complete and rows and known.isdisjoint(rows):
        example = next(iter(rows))
        raise SourceError(
            f"none of the {len(rows)} paths in {labels} is in the source folder (for example "
            f"{example!r}); write them relative to it"
        )
    labelled = [replace(file, **rows[file.path]) if file.path in rows else file for file in files]
    root = files[0].root if files else ""
    missing = [
        InputFile(
            root=root,
            path=path,
            status=Status.MISSING,
            reason=f"named in {labels.name}, but not there",
            **values,
        )
        for path, values in sorted(rows.items())
        if is_complete and path not in known
    ]
    return labelled + missing


def label_of_folders(file: InputFile) -> int | None:
    """Read the label from the nearest folder named real, fake or deepfake, in any case."""
    return _read_nearest(file, _FOLDER_LABELS)


def split_of_folders(file: InputFile) -> str | None:
    """Read the split from the nearest folder named train, val, valid, validation or test."""
    return _read_nearest(file, SPLIT_NAMES)


def _read_nearest(file: InputFile, meanings: Mapping[str, Value]) -> Value | None:
    """Look up the nearest folder whose name has a meaning; the source folder comes last."""
    folders = [*PurePosixPath(file.root).parts[-1:], *PurePosixPath(file.path).parts[:-1]]
    known = (meanings.get(folder.casefold()) for folder in reversed(folders))
    return next((meaning for meaning in known if meaning is not None), None)


def read_labels(path: Path) -> dict[str, dict[str, Any]]:
    """Read a labels table: path -> label and the optional columns.

    Raises:
        SourceError: there is no such file; it is no UTF-8 CSV; it lacks a column; a label, a split
            or a date is invalid; or there are two different rows for one path.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            reader.fieldnames = [name.strip().casefold() for name in reader.fieldnames or ()]
            missing = {"path", "label"} - set(reader.fieldnames)
            if missing:
                raise SourceError(
                    f"{path} lacks the column {' and '.join(sorted(missing))}; "
                    f"its first line must be path,label[,{','.join(LABEL_COLUMNS[1:])}]"
                )
            rows: dict[str, dict[str, Any]] = {}
            for row in reader:
                name, values = _parse_row(row, where=f"{path}, line {reader.line_num}")
                if rows.setdefault(name, values) != values:
                    raise SourceError(f"{path}: two different rows for {name!r}; keep one")
            return rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"cannot read the labels table {path}: {error}") from error


def _parse_row(row: Mapping[str, str | None], *, where: str) -> tuple[str, dict[str, Any]]:
    name = (row["path"] or "").strip().replace("\\", "/")
    label = (row["label"] or "").strip().casefold()
    if not name:
        raise SourceError(f"{where}: the path is empty")
    if label not in _LABELS:
        raise SourceError(f"{where}: label {row['label']!r} is none of real, fake, deepfake, 0, 1")
    split = (row.get("split") or "").strip().casefold()
    if split and split not in SPLIT_NAMES:
        raise SourceError(
            f"{where}: split {row['split']!r} is none of {', '.join(SPLIT_NAMES)}; leave it empty "
            "where none is given"
        )
    optional = {column: (row.get(column) or "").strip() or None for column in _OPTIONAL_COLUMNS}
    values = {"label": _LABELS[label], **optional, "split": SPLIT_NAMES.get(split)}
    if (day := optional["date"]) is not None:
        try:
            values["date"] = date.fromisoformat(day).isoformat()
        except ValueError:
            raise SourceError(f"{where}: date {day!r} is no day; write 2026-01-31") from None
    return str(PurePosixPath(name)), values
