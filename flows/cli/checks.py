"""Checks that a command makes before it imports a heavy library.

So a wrong path, like a wrong setting, is answered at once.
"""

from pathlib import Path

from reelcheck.locations import is_url
from reelcheck.recipes import load_recipe
from reelcheck.settings import settings_hash
from storage.layout import ModelLayout, find_preprocessed
from storage.refusals import require_one_kind_of_labels, require_source


def require_labelled_source(source: str, labels: str | None, layout: str | None = None) -> None:
    """Make sure that there are videos, and labels that can be read.

    Raises:
        SettingsError: both a labels table and a layout.
        SourceError: no such file or folder, or a table that cannot be used.
    """
    require_one_kind_of_labels(labels, layout)
    require_source(source)
    if labels is not None and not is_url(labels):
        from tasks.intake.labels import read_labels

        read_labels(Path(labels))


def require_store(store: str, preprocessing: str | None, *, recipe: str | None = None) -> None:
    """Make sure that a store holds the preprocessing that is asked for.

    Args:
        store: path or URL.
        preprocessing: its hash; None: the only one, or the recipe's.
        recipe: name of the recipe whose preprocessing is taken from among several.

    Raises:
        SettingsError: an unknown recipe.
        StoreError: there is none, or several and nothing says which.
    """
    own = None if recipe is None else settings_hash(load_recipe(recipe).preprocess)
    if is_url(store):
        return
    if preprocessing is None and own is not None and (Path(store) / own).is_dir():
        preprocessing = own
    find_preprocessed(Path(store), preprocessing)


def require_model(model: str) -> None:
    """Make sure that a folder holds a complete model of this version.

    Raises:
        StoreError: it does not.
    """
    from storage.checkpoints import read_card

    if not is_url(model):
        read_card(ModelLayout(Path(model)))
