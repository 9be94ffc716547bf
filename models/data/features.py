"""Features of a backbone that does not learn: computed once per crop, kept beside the crops.

A file per shard, named after its content: what was damaged is not read but computed again.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from reelcheck.errors import StoreError
from storage.atomic import write_bytes
from storage.hashing import NUM_NAME_DIGITS, is_named_after_content
from storage.layout import StoreLayout
from storage.rows import ManifestRow

_SUFFIX = ".safetensors"


class FeatureCache:
    """Features of one backbone for the sequences of one store.

    Args:
        layout: the store.
        key: names the backbone: its weights and how its input is made.
    """

    def __init__(self, layout: StoreLayout, key: str) -> None:
        self._folder = layout.features_dir(key)
        self._path_of: dict[str, Path] = {}

    def read(self, row: ManifestRow) -> Tensor:
        """Read the features (T, D) of a sequence.

        Raises:
            StoreError: they are not there any more.
        """
        path = self._find_file(row["shard"])
        try:
            features_TD: Tensor = _open(path).get_tensor(row["sequence_id"])
        except (OSError, TypeError, SafetensorError) as error:
            raise StoreError(
                f"features in {self._folder} have gone ({error}); run the command again"
            ) from error
        return features_TD

    def list_missing(self, rows: Sequence[ManifestRow]) -> list[ManifestRow]:
        """List the rows whose features are missing or damaged."""
        known = {shard: self._list_ids(shard) for shard in {row["shard"] for row in rows}}
        return [row for row in rows if row["sequence_id"] not in known[row["shard"]]]

    def write(self, shard: str, features_of: Mapping[str, Tensor]) -> None:
        """Write features of a shard, sequence id -> (T, D), beside those that are there."""
        before = self._find_file(shard)
        known = {name: _open(before).get_tensor(name) for name in self._list_ids(shard)}
        content = save({**known, **{name: t.contiguous() for name, t in features_of.items()}})
        digest = hashlib.sha256(content).hexdigest()[:NUM_NAME_DIGITS]
        path = self._folder / f"{shard}.{digest}{_SUFFIX}"
        write_bytes(path, content)
        self._path_of[shard] = path
        if before is not None and before != path:
            before.unlink(missing_ok=True)

    @contextmanager
    def hold_lock(self) -> Iterator[None]:
        """Hold the right to write; another run that wants it waits, and then finds the features."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._folder / "lock"):
            self._path_of.clear()  # what was found before may have been replaced
            yield

    def _list_ids(self, shard: str) -> frozenset[str]:
        path = self._find_file(shard)
        return frozenset() if path is None else frozenset(_open(path).keys())

    def _find_file(self, shard: str) -> Path | None:
        """Find the file of a shard; one whose content is not what its name says is deleted."""
        if shard not in self._path_of:
            for path in self._folder.glob(f"{shard}.*{_SUFFIX}"):
                if is_named_after_content(path):
                    self._path_of[shard] = path
                    break
                path.unlink(missing_ok=True)
        return self._path_of.get(shard)


@cache
def _open(path: Path | None) -> Any:
    """Open a file, of which only what is asked for is read."""
    return safe_open(path, framework="pt")
