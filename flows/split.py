"""Flow: labelled store -> train, val and test, without leaks."""

from collections.abc import Iterator
from contextlib import contextmanager

from flows.prefect_server.temporary import flow
from reelcheck.config import SplitSettings
from reelcheck.locations import Location
from reelcheck.recipes import load_recipe
from reelcheck.settings import settings_hash
from reelcheck.train_config import TrainSettings
from storage.layout import (
    StoreLayout,
    find_preprocessed,
    is_no_crops,
)
from storage.object_store.copies import open_for_reading, open_for_writing
from tasks.splits.steps import split_step


@flow(name="split", validate_parameters=True)
def split_store(
    store: Location, settings: SplitSettings | None = None, preprocessing: str | None = None
) -> dict[str, dict[str, int]]:
    """Split a store's labelled videos into train, val and test without leaks.

    Args:
        store: a preprocessed store, by path or URL.
        settings: fractions and seed; None: those of the existing split, or the defaults.
        preprocessing: hash of the preprocessing to use, if the store holds several.

    Returns:
        Number of videos per split and label.
    """
    with open_for_writing(store, wanted=is_no_crops) as copy:
        return split_step(find_preprocessed(copy.path, preprocessing), settings)


@contextmanager
def prepare_split_store(
    store: Location, settings: TrainSettings, preprocessing: str | None
) -> Iterator[StoreLayout]:
    """Split a store's labelled videos, then give its layout with all crops.

    Where the store holds several preprocessings, the one of the settings' recipe is taken.
    """
    with open_for_writing(store, wanted=is_no_crops) as copy:
        if preprocessing is None and settings.recipe is not None:
            own = settings_hash(load_recipe(settings.recipe).preprocess)
            if (copy.path / own).is_dir():
                preprocessing = own
        split_step(find_preprocessed(copy.path, preprocessing), None)
    with open_for_reading(store) as folder:
        yield find_preprocessed(folder, preprocessing)
