"""A checkpoint folder that somebody uploads as a ZIP -> a folder that can be scored with.

Two files are taken, ``card.json`` and ``model.safetensors``. Everything is checked before a byte is
written, and nothing in the archive decides where it is written. Other files of a checkpoint folder
(``ModelLayout.holds``) are left out. Any other file may be meant to run, an ONNX file too, so the
whole archive is refused.
"""

import hashlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path, PurePosixPath
from typing import IO

from safetensors import SafetensorError, safe_open

from reelcheck.card import ModelCard
from reelcheck.errors import (
    FaceModelError,
    MismatchError,
    SettingsError,
    WeightsError,
)
from storage.atomic import atomic_path, write_bytes
from storage.checkpoints import read_card, require_weights_of
from storage.layout import ModelLayout
from tasks.faces.apart import call_apart
from tasks.faces.detection.weights import find_face_model

_MAX_ENTRIES = 500
_MAX_CARD_BYTES = 1_000_000
_MAX_HEADER_BYTES = 10_000_000
_CHUNK_BYTES = 2**20
_MAX_BUILD_BYTES = 8 * 2**30
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LOADABLE = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".py", ".so", ".npy", ".npz"}
"""Endings of files that may be meant to be loaded; of an unfinished run ``.ckpt`` is expected."""
_MAX_DIM, _MAX_DEPTH, _MAX_MEMBERS, _MAX_WIDTH = 4096, 64, 10, 16384
"""Largest network that this machine builds; far above any that is trained."""
_BEGINNINGS = {
    b"PK\x03\x04": "a ZIP, as torch.save writes it, with a pickle inside",
    b"\x80": "a pickle, which could run code",
    b"\x89HDF": "an HDF5 file",
}


def take_model(archive: IO[bytes], folder: Path, *, max_bytes: int) -> ModelCard:
    """Check an uploaded model and write it to a folder.

    Args:
        archive: the ZIP, with the two files at its top or in one folder.
        folder: the folder to write the two files to; holds no model before.
        max_bytes: largest size of the unpacked weights.

    Raises:
        WeightsError: the archive is no ZIP, holds other files or is too large, or its weights are
            no safetensors.
        StoreError: the card is not one of this version.
        MismatchError: card, weights and this program do not belong together.
    """
    layout = ModelLayout(folder)
    try:
        with zipfile.ZipFile(archive) as opened:
            card_entry, weights_entry = _choose_entries(
                opened.infolist(), layout, max_bytes=max_bytes
            )
            write_bytes(layout.card_path, _read_entry(opened, card_entry, _MAX_CARD_BYTES))
            card = _read_usable_card(layout)
            _write_weights(opened, weights_entry, card, layout, max_bytes)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise WeightsError(f"this is not a ZIP that can be read: {error}") from error
    except UnicodeDecodeError as error:
        raise WeightsError("a name in the ZIP is no text") from error
    return card


def _choose_entries(
    entries: list[zipfile.ZipInfo], layout: ModelLayout, *, max_bytes: int
) -> tuple[zipfile.ZipInfo, zipfile.ZipInfo]:
    """Choose the entries of card and weights, if the whole archive is acceptable."""
    if len(entries) > _MAX_ENTRIES:
        raise WeightsError(f"the ZIP holds {len(entries):,} files; {_MAX_ENTRIES} is the most")
    files = [entry for entry in entries if not entry.is_dir()]
    for entry in entries:
        _require_plain(entry)
    by_name = {entry.filename: entry for entry in files}
    if len(by_name) < len(files):
        raise WeightsError("the ZIP holds two files of one name")
    card_name, weights_name = layout.card_path.name, layout.weights_path.name
    tops = {PurePosixPath(name).parent for name in by_name if PurePosixPath(name).name == card_name}
    # Folds of a cross-validation have cards of their own.
    top = min(tops, key=lambda path: len(path.parts), default=PurePosixPath())
    others = sorted(name for name in by_name if not _is_expected(PurePosixPath(name), top, layout))
    if others:
        raise WeightsError(
            f"the ZIP holds {_list_names(others)}, which is no part of a checkpoint folder; only "
            f"{weights_name} and {card_name} are taken"
        )
    found = [by_name.get(str(top / name)) for name in (card_name, weights_name)]
    missing = [name for name, e in zip((card_name, weights_name), found, strict=True) if e is None]
    if missing:
        raise WeightsError(f"the ZIP holds no {' and no '.join(missing)}")
    card, weights = (entry for entry in found if entry is not None)
    for entry, limit in ((card, _MAX_CARD_BYTES), (weights, max_bytes)):
        if entry.file_size > limit:
            raise WeightsError(
                f"{entry.filename} unpacks to {entry.file_size:,} bytes; {limit:,} is the most"
            )
    return card, weights


def _require_plain(entry: zipfile.ZipInfo) -> None:
    """Require an ordinary file below the archive's top that can be unpacked."""
    name = entry.filename
    # zipfile cuts names at a NUL and turns backslashes on Windows only: the original counts.
    path = PurePosixPath(entry.orig_filename)
    if path.is_absolute() or ".." in path.parts or set(entry.orig_filename) & set("\\\0:"):
        raise WeightsError(f"the ZIP holds {name!r}, a name that leads out of its folder")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise WeightsError(f"the ZIP holds {name!r}, a link or device; only files are taken")
    if entry.flag_bits & 0x1:
        raise WeightsError(f"{name} is encrypted; make the ZIP without a password")
    if entry.compress_type not in _COMPRESSIONS:
        raise WeightsError(f"{name} is compressed in a rare way; make the ZIP with deflate")


def _is_expected(name: PurePosixPath, top: PurePosixPath, layout: ModelLayout) -> bool:
    """Whether an entry belongs to a checkpoint folder, and is not meant to be loaded elsewhere."""
    if top not in name.parents:
        return False
    inside = name.relative_to(top)
    is_loadable = inside.suffix.lower() in _LOADABLE
    if inside.suffix == ".ckpt" and layout.unfinished_dir.name in inside.parts:
        is_loadable = False
    return layout.holds(inside) and not is_loadable


def _list_names(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(repr(name) for name in names[:3]) + more


def _read_entry(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> bytes:
    return b"".join(_read_chunks(opened, entry, limit))


def _read_chunks(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> Iterable[bytes]:
    """Read the unpacked bytes; the archive's own statement of their number is not trusted."""
    num_bytes = 0
    with opened.open(entry) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            num_bytes += len(chunk)
            if num_bytes > limit:
                raise WeightsError(f"{entry.filename} unpacks to more than {limit:,} bytes")
            yield chunk


def _write_weights(
    opened: zipfile.ZipFile,
    entry: zipfile.ZipInfo,
    card: ModelCard,
    layout: ModelLayout,
    max_bytes: int,
) -> None:
    digest = hashlib.sha256()
    with atomic_path(layout.weights_path) as temporary:
        with temporary.open("wb") as out:
            for chunk in _read_chunks(opened, entry, max_bytes):
                digest.update(chunk)
                out.write(chunk)
        _require_safetensors(temporary)
        require_weights_of(card, layout, digest.hexdigest())


def _require_safetensors(path: Path) -> None:
    """Require tensors and nothing else, each as large as the file says."""
    with path.open("rb") as stream:
        beginning = stream.read(8)
    for magic, what in _BEGINNINGS.items():
        if beginning.startswith(magic):
            raise WeightsError(f"the weights are {what}; save them as safetensors")
    header_bytes = struct.unpack("<Q", beginning)[0] if len(beginning) == 8 else 0
    if not 0 < header_bytes <= min(_MAX_HEADER_BYTES, path.stat().st_size):
        raise WeightsError("the weights are not safetensors, or cut short")
    try:
        with safe_open(path, framework="numpy") as opened:
            num_tensors = len(opened.keys())
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"the weights are not safetensors: {error}") from error
    if num_tensors == 0:
        raise WeightsError("the weights file holds no tensor")


def _read_usable_card(layout: ModelLayout) -> ModelCard:
    """Read the card, if this program can use the model that it describes."""
    card = read_card(layout)
    _require_face_model(card.preprocessing.face_model_sha256)
    _require_buildable(card)
    return card


def _require_face_model(digest: str) -> None:
    try:
        find_face_model(digest)
    except FaceModelError as error:
        raise MismatchError(
            f"the model was trained with the face detector {digest[:12]}…, which is not here: "
            f"{error}"
        ) from error


def _require_buildable(card: ModelCard) -> None:
    """Refuse a network that takes all of the machine's memory, or that would be downloaded."""
    detector = card.detector
    transformer = detector.transformer
    sizes = {
        "num_members": (card.num_members, _MAX_MEMBERS),
        "depth": (transformer.depth if transformer else 0, _MAX_DEPTH),
        "feature_dim": (transformer.feature_dim if transformer else 0, _MAX_DIM),
        "head": (len(detector.head), _MAX_DEPTH),
        "width": (max((layer.width for layer in detector.head), default=0), _MAX_WIDTH),
    }
    for name, (size, largest) in sizes.items():
        if size > largest:
            raise MismatchError(f"the card has {name} = {size:,}; {largest:,} is the most here")
    if not detector.backbone.replace("_", "").replace(".", "").isalnum():
        raise MismatchError(f"{detector.backbone!r} is no name of a timm model")


def prepare_model(folder: Path, exports_dir: Path, *, timeout_seconds: float = 300.0) -> None:
    """Build the network of an uploaded model and make its ONNX files, in a process that may fail.

    Args:
        folder: folder that ``take_model`` has written.
        exports_dir: folder for the ONNX files.
        timeout_seconds: how long it may take.

    Raises:
        WeightsError: the weights are not those of the network that the card describes, or it takes
            too long or too much memory to build.
        ReelcheckError: something else is wrong with the model.
    """
    try:
        problem = call_apart(
            _build_network,
            args=[folder, exports_dir],
            timeout_seconds=timeout_seconds,
            max_memory_bytes=_MAX_BUILD_BYTES,
        )
    except (TimeoutError, MemoryError, BrokenProcessPool) as error:
        raise WeightsError(
            f"the network takes too long or too much memory to build ({type(error).__name__})"
        ) from error
    if problem is not None:
        raise WeightsError(problem)


def _build_network(folder: Path, exports_dir: Path) -> str | None:
    """Build the network; the result says what is wrong with the weights, if anything."""
    from tasks.checkpoints.export import ensure_onnx_files  # noqa: PLC0415 - imports torch

    try:
        ensure_onnx_files(ModelLayout(folder), exports_dir)
    except (RuntimeError, SettingsError) as error:
        reason = " ".join(str(error).split())[:300]
        return f"the weights are not those of the network that the card describes: {reason}"
    return None
