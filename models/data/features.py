"""Features of a backbone that does not learn: computed once per crop, kept beside the crops.

A file per shard, named after its content: what was damaged is not read but computed again.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from safetensors.torch import load_file, save
from torch import Tensor

from storage.atomic import write_bytes
from storage.hashing import sha256_of
from storage.layout import StoreLayout
from storage.rows import ManifestRow

_NUM_DIGITS = 16
_SUFFIX = ".safetensors"


class FeatureCache:
    """Features of one backbone for the sequences of one store.

    Args:
        layout: the store.
        key: names the backbone: its weights and how its input is made.
    """

    def __init__(self, layout: StoreLayout, key: str) -> None:
        self._folder = layout.features_dir(key)

    def read(self, row: ManifestRow) -> Tensor:
        """Read the features (T, D) of a sequence, which must be there."""
        path = self._find_file(row["shard"])
        assert path is not None
        return _load(path)[row["sequence_id"]]

    def list_missing(self, rows: Sequence[ManifestRow]) -> list[ManifestRow]:
        """List the rows of shards in which a feature is missing or damaged."""
        missing: set[str] = set()
        for row in rows:
            path = self._find_file(row["shard"])
            if path is None or row["sequence_id"] not in _load(path):
                missing.add(row["shard"])
        return [row for row in rows if row["shard"] in missing]

    def write(self, shard: str, features_of: Mapping[str, Tensor]) -> None:
        """Write the features of a shard: sequence id -> (T, D), beside those that are there."""
        before = self._find_file(shard)
        known = dict(_load(before)) if before is not None else {}
        content = save({**known, **{name: t.contiguous() for name, t in features_of.items()}})
        digest = hashlib.sha256(content).hexdigest()[:_NUM_DIGITS]
        path = self._folder / f"{shard}.{digest}{_SUFFIX}"
        write_bytes(path, content)
        _is_whole.cache_clear()  # a damaged file may have had the same name
        if before is not None and before != path:
            before.unlink()

    def _find_file(self, shard: str) -> Path | None:
        """Find the file of a shard; one whose content is not what its name says is deleted."""
        for path in self._folder.glob(f"{shard}.*{_SUFFIX}"):
            if _is_whole(path):
                return path
            path.unlink()
        return None


@lru_cache(maxsize=4096)
def _is_whole(path: Path) -> bool:
    digits = path.name.removesuffix(_SUFFIX).rpartition(".")[2]
    return sha256_of(path)[:_NUM_DIGITS] == digits


@lru_cache(maxsize=64)
def _load(path: Path) -> Mapping[str, Tensor]:
    return load_file(path)
