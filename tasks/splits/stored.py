"""The settings that a store was divided with."""

from reelcheck.config import SplitSettings
from reelcheck.errors import StoreError
from storage.layout import StoreLayout
from storage.tables import read_metadata


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
