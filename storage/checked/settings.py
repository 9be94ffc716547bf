"""Settings that the crops of a store were made with; their hash names the folder."""

from pydantic import ValidationError

from reelcheck.config import PreprocessSettings
from reelcheck.errors import DamagedError
from reelcheck.settings import settings_hash
from storage.layout import StoreLayout


def read_preprocessing(layout: StoreLayout) -> PreprocessSettings:
    """Read the settings of a store.

    Raises:
        DamagedError: they cannot be read, or are not those that the folder is named after.
    """
    path = layout.settings_path
    try:
        settings = PreprocessSettings.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise _make_error(layout, str(error).splitlines()[0]) from error
    if settings_hash(settings) != layout.preprocessing_hash:
        raise _make_error(layout, "its settings are not those that the folder is named after")
    return settings


def _make_error(layout: StoreLayout, reason: str) -> DamagedError:
    return DamagedError(
        f"{layout.settings_path} cannot be read ({reason}); delete it and run preprocess again"
    )
