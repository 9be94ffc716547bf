"""What a store says of its own division; hashes are computed, never believed."""

import hashlib
from collections.abc import Iterable

from reelcheck.config import SplitSettings
from reelcheck.errors import StoreError
from storage.layout import StoreLayout
from storage.rows import SplitRow
from storage.schemas import SPLIT
from storage.tables import read_metadata, read_rows


def read_split_settings(layout: StoreLayout) -> SplitSettings | None:
    """Read the settings of the store's division, if it has one.

    Raises:
        StoreError: the table of the division lacks them.
    """
    if not layout.split_path.exists():
        return None
    stored = read_metadata(layout.split_path).get("settings")
    if stored is None:
        raise StoreError(f"{layout.split_path} lacks its settings; delete it and split again")
    return SplitSettings.model_validate_json(stored)


def read_split_hash(layout: StoreLayout) -> str:
    """Compute the hash of a store's division from its rows."""
    return hash_split(read_rows(layout.split_path, SPLIT))


def hash_split(rows: Iterable[SplitRow]) -> str:
    """Make twelve hexadecimal digits that name who is in which split, with which label."""
    lines = sorted(f"{r['video_id']} {r['component']} {r['label']} {r['split']}" for r in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
