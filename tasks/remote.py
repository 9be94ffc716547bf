"""Objects of a store or a web server -> files beside the results, where they can be decoded.

They stay there: what was judged can be looked at again, and is not fetched again.
"""

import hashlib
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from reelcheck.errors import SourceError
from reelcheck.progress import progress_bar
from reelcheck.records import InputFile
from reelcheck.status import Status
from storage.atomic import atomic_path
from tasks.discover import find_files


def is_url(source: str) -> bool:
    """Such as ``s3://bucket/videos`` or ``https://…/video.mp4``."""
    return "://" in source


def fetched(url: str, folder: Path) -> list[InputFile]:
    """The objects below a URL, or the one that it names, as files.

    Args:
        url: of any store that fsspec knows; credentials come from the environment, as fsspec's
            packages take them.
        folder: gets a folder for this URL; objects that are there in their size are not fetched.

    Returns:
        One per object; what cannot be fetched says so.

    Raises:
        SourceError: the store is unknown, needs another package, or holds nothing there.
    """
    try:
        store, path = fsspec.url_to_fs(url)
        objects = store.find(path, detail=True)
    except (ImportError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise SourceError(f"{url} cannot be listed: {type(error).__name__}: {reason}") from error
    if not objects:
        raise SourceError(f"{url} names no object that can be read; check the address")
    root = folder.resolve() / hashlib.sha256(url.encode()).hexdigest()[:12]
    base = PurePosixPath(path).parent if list(objects) == [path] else PurePosixPath(path)
    files = []
    with progress_bar(total=len(objects), description="fetch", unit="files") as bar:
        for name, facts in sorted(objects.items()):
            files.append(_file(store, name, facts.get("size"), root, _below(name, base)))
            bar.update(1)
    return files


def _below(name: str, base: PurePosixPath) -> str:
    path = PurePosixPath(name)
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.name


def _file(store: Any, name: str, size: int | None, root: Path, path: str) -> InputFile:
    unfetched = InputFile(root=str(root), path=path, status=Status.UNREADABLE)
    # An object's name comes from outside, and may not lead out of the folder.
    if ".." in PurePosixPath(path).parts:
        return replace(unfetched, reason="its name leads out of its folder")
    target = root / path
    try:
        if not target.exists() or target.stat().st_size != size:
            with atomic_path(target) as temporary:
                store.get_file(name, str(temporary))
    except Exception as error:  # noqa: BLE001 - each store has errors of its own
        reason = " ".join(str(error).split())[:200]
        reason = f"cannot be fetched: {type(error).__name__}: {reason}"
        return replace(unfetched, reason=reason)
    [file] = find_files(target)
    return replace(file, root=str(root), path=path)
