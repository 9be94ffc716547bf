"""Labels and official splits of public data sets, read from their folders and file names.

A layout knows some of the files: their label, who is seen (``identity``), whose face was put in
(``donor``), the real video behind a fake (``source``), generator, data set and official split. The
other files stay without a label; none is left out.

- ``ffpp``, FaceForensics++ (arXiv 1901.08971) as its download script leaves it, with the actors'
  collection DeepFakeDetection: the official ``train.json``, ``val.json`` and ``test.json`` are
  pairs of YouTube ids and say nothing of the actors. Masks are no videos and stay without a label.
- ``celebdf``, Celeb-DF (arXiv 1909.12962), both versions: what ``List_of_testing_videos.txt`` names
  is test, all other files are train. **The official list is no split by people**: the people of
  its fakes and of its real celebrity videos are also seen in the other files. ``split`` therefore
  refuses it as a leak; ``--set honour_given=false`` makes a new split by who is seen.
- ``dfdc``, the Deepfake Detection Challenge (arXiv 2006.07397): every folder with a
  ``metadata.json``. Its people have no names, so that only a fake and its source are tied.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from reelcheck.config import DatasetLayout
from reelcheck.errors import SourceError, VideoError
from reelcheck.reading import read_regular
from reelcheck.records import InputFile
from tasks.intake.labels import SPLIT_NAMES

Labels: TypeAlias = dict[str, Any]
"""Some fields of ``InputFile``."""

_SPLITS = ("train", "val", "test")
_COMPRESSION = "(raw|c23|c40)"
_YOUTUBE_REAL = re.compile(rf"original_sequences/youtube/{_COMPRESSION}/videos/([0-9]+)\.mp4")
_YOUTUBE_FAKE = re.compile(
    r"manipulated_sequences/(Deepfakes|Face2Face|FaceSwap|NeuralTextures|FaceShifter)/"
    rf"{_COMPRESSION}/videos/([0-9]+)_([0-9]+)\.mp4"
)
_ACTORS_REAL = re.compile(rf"original_sequences/actors/{_COMPRESSION}/videos/([0-9]+)__.+\.mp4")
_ACTORS_FAKE = re.compile(
    rf"manipulated_sequences/DeepFakeDetection/{_COMPRESSION}/videos/"
    r"([0-9]+)_([0-9]+)__(.+)__[0-9A-Za-z]+\.mp4"
)
_CELEB_FOLDERS = {"Celeb-real": 0, "YouTube-real": 0, "Celeb-synthesis": 1}
_CELEB_REAL = re.compile(r"Celeb-real/(id[0-9]+)_[0-9]+\.mp4")
_CELEB_FAKE = re.compile(r"Celeb-synthesis/(id[0-9]+)_(id[0-9]+)_([0-9]+)\.mp4")
_CELEB_YOUTUBE = re.compile(r"YouTube-real/[0-9]+\.mp4")
_CELEB_LIST = "List_of_testing_videos.txt"
_MAX_TABLE_BYTES = 2**30
_DFDC_TABLE = "metadata.json"
_DFDC_LABELS = {"REAL": 0, "FAKE": 1}


def label_by_layout(files: Sequence[InputFile], name: DatasetLayout) -> list[InputFile]:
    """Label the files by the layout of a public data set.

    Args:
        files: the files of one source.
        name: see the top of this file.

    Raises:
        SourceError: no file fits the layout, or a table of the data set cannot be used.
    """
    layout = _LAYOUTS[name]
    root = Path(files[0].root)
    known = layout.read(root, [file.path for file in files])
    if not known:
        raise SourceError(
            f"no file under {root} fits the layout {name}: expected {layout.shape}; give the "
            "folder that holds these, or say what is known of the files with --labels"
        )
    return [replace(file, **known.get(file.path, {})) for file in files]


@dataclass(frozen=True, kw_only=True)
class _Layout:
    read: Callable[[Path, Sequence[str]], dict[str, Labels]]
    """Root and paths below it -> path -> what is known of that file."""
    shape: str
    """Examples of its files, for people."""


def _read_ffpp(root: Path, paths: Sequence[str]) -> dict[str, Labels]:
    split_of = _read_ffpp_splits(root)
    known = {path: _parse_youtube(path, split_of) or _parse_actors(path) for path in paths}
    return {path: labels for path, labels in known.items() if labels is not None}


def _parse_youtube(path: str, split_of: Mapping[str, str]) -> Labels | None:
    if match := _YOUTUBE_REAL.fullmatch(path):
        labels: Labels = {"label": 0, "identity": match[2]}
    elif match := _YOUTUBE_FAKE.fullmatch(path):
        generator, compression, target, donor = match.groups()
        labels = {
            "label": 1,
            "identity": target,
            "donor": donor,
            "source": f"original_sequences/youtube/{compression}/videos/{target}.mp4",
            "generator": generator,
        }
    else:
        return None
    return labels | {"dataset": "FaceForensics++", "split": split_of.get(labels["identity"])}


def _parse_actors(path: str) -> Labels | None:
    # The numbers of actors have nothing to do with the ids of the YouTube videos.
    if match := _ACTORS_REAL.fullmatch(path):
        labels: Labels = {"label": 0, "identity": f"actor_{match[2]}"}
    elif match := _ACTORS_FAKE.fullmatch(path):
        compression, target, donor, scene = match.groups()
        labels = {
            "label": 1,
            "identity": f"actor_{target}",
            "donor": f"actor_{donor}",
            "source": f"original_sequences/actors/{compression}/videos/{target}__{scene}.mp4",
            "generator": "DeepFakeDetection",
        }
    else:
        return None
    return labels | {"dataset": "DeepFakeDetection"}


def _read_ffpp_splits(root: Path) -> dict[str, str]:
    """Read the tables that are there: YouTube id -> official split.

    Raises:
        SourceError: a table is not a list of pairs, or an id is in two splits.
    """
    split_of: dict[str, str] = {}
    for split in _SPLITS:
        paths = (root / f"{split}.json", root / "splits" / f"{split}.json")
        table = next((path for path in paths if path.is_file()), None)
        pairs = [] if table is None else _read_json(table)
        if not (isinstance(pairs, list) and all(map(_is_pair, pairs))):
            raise SourceError(
                f'{table} is not a list of pairs such as [["071", "054"]]; take the file that '
                "comes with FaceForensics++, or remove it"
            )
        for name in (name for pair in pairs for name in pair):
            if split_of.setdefault(name, split) != split:
                raise SourceError(
                    f"{table} gives {name} to {split}, another table to {split_of[name]}; take the "
                    "files that come with FaceForensics++"
                )
    return split_of


def _is_pair(value: object) -> bool:
    return (
        isinstance(value, list) and len(value) == 2 and all(isinstance(name, str) for name in value)
    )


def _read_celebdf(root: Path, paths: Sequence[str]) -> dict[str, Labels]:
    test_paths = _read_celebdf_test(root)
    known = {path: labels for path in paths if (labels := _parse_celebrity(path)) is not None}
    if test_paths is None:
        return known
    return {
        path: labels | {"split": "test" if path in test_paths else "train"}
        for path, labels in known.items()
    }


def _parse_celebrity(path: str) -> Labels | None:
    if match := _CELEB_REAL.fullmatch(path):
        labels: Labels = {"label": 0, "identity": match[1]}
    elif _CELEB_YOUTUBE.fullmatch(path):
        labels = {"label": 0}
    elif match := _CELEB_FAKE.fullmatch(path):
        target, donor, number = match.groups()
        labels = {
            "label": 1,
            "identity": target,
            "donor": donor,
            "source": f"Celeb-real/{target}_{number}.mp4",
            "generator": "Celeb-synthesis",
        }
    else:
        return None
    return labels | {"dataset": "Celeb-DF"}


def _read_celebdf_test(root: Path) -> set[str] | None:
    """Read the paths of the official list of test videos; None: there is no list.

    Raises:
        SourceError: a line cannot be read, or contradicts the file's folder.
    """
    path = root / _CELEB_LIST
    if not path.is_file():
        return None
    names = set()
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        digit, _, name = line.strip().partition(" ")
        name = name.strip()
        label = _CELEB_FOLDERS.get(name.partition("/")[0])
        if digit not in {"0", "1"} or label is None:
            raise SourceError(
                f"{path}, line {number}: {line.strip()!r} is not of the form "
                "'1 YouTube-real/00170.mp4' (1 real, 0 fake, and a file of "
                f"{', '.join(_CELEB_FOLDERS)})"
            )
        if int(digit) == label:  # 1 is real there and fake here
            raise SourceError(
                f"{path}, line {number}: {digit} ({'real' if label else 'fake'}) contradicts the "
                f"folder of {name}; take the list that comes with Celeb-DF"
            )
        names.add(name)
    return names


def _read_dfdc(root: Path, paths: Sequence[str]) -> dict[str, Labels]:
    entries: dict[str, Labels] = {}
    for folder in sorted({PurePosixPath(path).parent for path in paths}):
        entries |= _read_dfdc_entries(root, folder)
    if {entry["split"] for entry in entries.values()} == {"train"}:
        # The tables of the training set name one split only, which is no division.
        entries = {path: entry | {"split": None} for path, entry in entries.items()}
    return {path: entries[path] for path in paths if path in entries}


def _read_dfdc_entries(root: Path, folder: PurePosixPath) -> dict[str, Labels]:
    """Read the folder's table: path -> labels; empty without a table of this kind.

    Raises:
        SourceError: the JSON cannot be read, or an entry is invalid.
    """
    table = root / folder / _DFDC_TABLE
    content = _read_json(table) if table.is_file() else None
    if not isinstance(content, dict) or not _has_labels(content.values()):
        return {}
    return {
        str(folder / name): _parse_dfdc_entry(table, folder, name, entry)
        for name, entry in content.items()
    }


def _has_labels(entries: Iterable[object]) -> bool:
    return any(isinstance(entry, dict) and "label" in entry for entry in entries)


def _parse_dfdc_entry(table: Path, folder: PurePosixPath, name: str, entry: object) -> Labels:
    label = entry.get("label") if isinstance(entry, dict) else None
    if not (isinstance(entry, dict) and isinstance(label, str) and label in _DFDC_LABELS):
        raise SourceError(f"{table}: the label of {name!r} is {label!r}, not REAL or FAKE")
    original, split = entry.get("original"), entry.get("split")
    if not isinstance(original, str | None) or not isinstance(split, str | None):
        raise SourceError(f"{table}: original or split of {name!r} is not a text")
    return {
        "label": _DFDC_LABELS[label],
        "source": str(folder / original) if original else None,
        "dataset": "DFDC",
        "split": SPLIT_NAMES.get((split or "").casefold()),
    }


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not JSON ({error}); repair or remove it") from error


def _read_text(path: Path) -> str:
    try:
        # Whatever lies in the data set's folder: it may be a link to anything.
        return read_regular(path, max_bytes=_MAX_TABLE_BYTES).decode("utf-8-sig")
    except (VideoError, UnicodeDecodeError) as error:
        raise SourceError(f"cannot read {path}: {error}") from error


_LAYOUTS: dict[DatasetLayout, _Layout] = {
    "ffpp": _Layout(
        read=_read_ffpp,
        shape="files such as original_sequences/youtube/c23/videos/000.mp4 and "
        "manipulated_sequences/Deepfakes/c23/videos/000_003.mp4",
    ),
    "celebdf": _Layout(
        read=_read_celebdf,
        shape="files such as Celeb-real/id0_0000.mp4, Celeb-synthesis/id0_id1_0000.mp4 and "
        "YouTube-real/00000.mp4",
    ),
    "dfdc": _Layout(
        read=_read_dfdc,
        shape="folders with videos and a metadata.json such as "
        '{"a.mp4": {"label": "FAKE", "split": "train", "original": "b.mp4"}}',
    ),
}
