"""The ONNX files that this machine has made from a model's weights; needs no torch.

They lie in the user's cache, never in a checkpoint folder: a graph can compute anything, and no
hash in a folder can say that it computes what the weights do, as whoever exchanges the graph
exchanges the hash, too. So a graph that comes with a folder is never opened.
"""

import hashlib
import importlib.metadata
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from reelcheck.card import ModelCard, OnnxFiles
from storage.fetched.cache import ExportLayout, locate_exports_dir

_ALGORITHM = 1
"""Version of ``models/interop/export.py``. Increase it when the same weights give other files."""
_EXPORTERS = ("torch", "timm", "onnxscript")
_MAX_KEPT = 20
"""Models whose files are kept: those used last."""


@dataclass(frozen=True, eq=False)
class ExportedModel:
    """The content of a model's ONNX files."""

    record: OnnxFiles
    encoder: bytes = b""
    head: bytes = b""


def locate_exported(card: ModelCard, exports_dir: Path | None = None) -> ExportLayout:
    """Locate the ONNX files of a model, made by what is installed; whether or not they are there.

    Args:
        card: of the model.
        exports_dir: folder of the files of all models; None: the user's.
    """
    made_by = [f"{name} {importlib.metadata.version(name)}" for name in _EXPORTERS]
    digest = hashlib.sha256("\n".join([str(_ALGORITHM), *made_by]).encode()).hexdigest()[:8]
    return ExportLayout((exports_dir or locate_exports_dir()) / f"{card.network_id}-{digest}")


def read_exported(layout: ExportLayout, card: ModelCard) -> ExportedModel | None:
    """Read a model's ONNX files; None: they are not there, or not as they were written."""
    try:
        record = OnnxFiles.model_validate_json(layout.record_path.read_bytes())
        is_empty = record.problem is not None
        files = () if is_empty else (layout.encoder_path, layout.head_path)
        made = ExportedModel(record, *(path.read_bytes() for path in files))
    except (OSError, ValidationError):
        return None
    found = [hashlib.sha256(content).hexdigest() for content in (made.encoder, made.head)]
    is_whole = is_empty or found == [record.encoder_sha256, record.head_sha256]
    if record.network_id != card.network_id or not is_whole:
        return None
    with suppress(OSError):  # only to know which are used
        os.utime(layout.record_path)
    return made


def remove_unused(layout: ExportLayout, *, max_kept: int = _MAX_KEPT) -> None:
    """Remove the ONNX files of the models that were used longest ago; they can be made again."""
    known = [ExportLayout(path) for path in layout.path.parent.iterdir() if path.is_dir()]
    for unused in _sort_by_use(known)[max_kept:]:
        if unused.path != layout.path:
            shutil.rmtree(unused.path, ignore_errors=True)


def _sort_by_use(layouts: Sequence[ExportLayout]) -> list[ExportLayout]:
    """Sort by the time of the last use, the latest first; unfinished ones may be at work."""
    used: list[tuple[int, ExportLayout]] = []
    for layout in layouts:
        with suppress(FileNotFoundError):
            used.append((layout.record_path.stat().st_mtime_ns, layout))
    return [layout for _, layout in sorted(used, key=lambda item: -item[0])]
