"""Refuse a path that cannot be used, before any work begins.

Nothing heavy is imported here: the command line makes these checks before it imports a library,
and the code that does the work makes them again. What lies at a URL is looked at when it is
fetched.
"""

import glob
import os
from pathlib import Path

from reelcheck.errors import SettingsError, SourceError, StoreError, WeightsError
from reelcheck.locations import is_url
from storage.layout import ModelLayout, RegistryLayout


def require_one_kind_of_labels(labels: str | Path | None, layout: str | None) -> None:
    """Make sure that labels come from a table or from a data set's layout, not from both.

    Raises:
        SettingsError: from both.
    """
    if labels is not None and layout is not None:
        raise SettingsError(
            f"labels come from {labels} or from the layout {layout}, not from both; leave out "
            "--labels or --layout"
        )


def require_source(source: str | Path) -> None:
    """Make sure that there is a folder or a file; a broken link counts as one.

    Raises:
        SourceError: there is none.
    """
    if not (is_url(source) or os.path.lexists(source)):
        raise SourceError(f"{source} does not exist; give a folder of videos or one video")


def require_input(source: str) -> None:
    """Make sure that what is to be scored is there; ``@LIST`` names a list of paths.

    What a pattern matches is not looked at.

    Raises:
        SourceError: it is not.
    """
    if source.startswith("@"):
        if not Path(source[1:]).is_file():
            raise SourceError(f"the list {source[1:]} cannot be read: there is no such file")
    elif not (is_url(source) or os.path.lexists(source) or glob.has_magic(source)):
        raise SourceError(
            f"{source} does not exist; give a folder, a file, a pattern such as 'inbox/*.mp4', "
            "or @LIST"
        )


def require_folder_apart(source: Path, out: Path) -> None:
    """Make sure that a source is a folder outside of the output.

    Raises:
        SourceError: it is not.
    """
    if not source.is_dir():
        raise SourceError(f"{source} is no folder; give a folder of videos")
    if source.resolve().is_relative_to(out.resolve()):
        raise SourceError(f"{out} holds the source {source}; give another folder for the output")


def find_weights_file(path: Path) -> Path:
    """Find the weights: the file itself, or the one of a checkpoint folder.

    Raises:
        WeightsError: there is none.
    """
    file = ModelLayout(path).weights_path if path.is_dir() else path
    if not file.is_file():
        raise WeightsError(f"{file} is not a file; give .safetensors, or .pth/.pt/.bin of tensors")
    return file


def require_onnx_name(out: Path) -> None:
    """Make sure that a file's name is one for an ONNX file.

    Raises:
        SettingsError: it does not end in ``.onnx``.
    """
    if out.suffix != ".onnx":
        raise SettingsError(f"{out} is no name for an ONNX file; give one such as model.onnx")


def require_versions(registry: str | Path, *names: str) -> None:
    """Make sure that a registry holds versions, and those of these names among them.

    Raises:
        StoreError: it does not.
    """
    if is_url(registry):
        return
    known = RegistryLayout(Path(registry)).version_names()
    if not known:
        raise StoreError(
            f"{registry} holds no model version; run `reelcheck retrain`, or copy one in"
        )
    for name in names:
        if name not in known:
            raise StoreError(f"{registry} holds no version {name}; it has {', '.join(known)}")
