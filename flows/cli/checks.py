"""Checks that a command makes before it imports a heavy library.

So a wrong path, like a wrong setting, is answered at once.
"""

import os
from collections import Counter
from pathlib import Path

from reelcheck.errors import SettingsError, SourceError
from reelcheck.locations import is_url
from reelcheck.recipes import load_recipe
from reelcheck.settings import settings_hash
from reelcheck.train_config import TrainSettings
from reelcheck.weights.catalogue import (
    CatalogueEntry,
    load_catalogue,
    require_accepted_licence,
    require_backbone_of_entry,
)
from storage.fetched.cache import locate_cached_weights
from storage.layout import ModelLayout, find_preprocessed
from storage.refusals import (
    find_weights_file,
    require_folder_apart,
    require_one_kind_of_labels,
    require_source,
)

_NUM_PARTS = 3
"""Train, val and test."""


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


def require_videos_to_divide(source: Path, labels: Path | None, out: Path) -> None:
    """Make sure that a folder may hold enough labelled videos for train, val and test.

    Whether they can be read, show faces and are of different people is not known yet.

    Raises:
        SourceError: no such folder, one inside of the output, a table that cannot be used, or too
            few files of one label.
    """
    from tasks.intake.discover import find_files
    from tasks.intake.labels import label_files

    require_folder_apart(source, out)
    files = label_files(find_files(source, exclude=out), labels)
    counts = Counter(file.label for file in files if file.status is None)
    if min(counts[0], counts[1]) < _NUM_PARTS:
        raise SourceError(
            f"{source} holds {counts[0]} files that are labelled real and {counts[1]} that are "
            f"labelled fake; train, val and test need {_NUM_PARTS} of each at least, of different "
            "people. Put videos into folders named real and fake, or name a table of labels with "
            "--labels"
        )


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


def find_model(model: str) -> str:
    """Find a complete model of this version; a name of the catalogue stands for its folder.

    A URL is looked at later.

    Raises:
        StoreError: there is no such model.
        SettingsError: the catalogue's name is one of a backbone, or has not been fetched.
    """
    from storage.checkpoints import read_card

    if is_url(model):
        return model
    if (entry := load_catalogue().get(model)) is not None and not os.path.lexists(model):
        if entry.kind != "detector":
            raise SettingsError(
                f"{model} is a backbone, which has to be trained: reelcheck train STORE --out DIR "
                f"--init-from {model} --set detector.backbone={entry.backbone}"
            )
        require_consent(entry)
        cached = locate_cached_weights(model)
        if not cached.has_weights():
            raise SettingsError(f"{model} is not here yet; run: reelcheck weights fetch {model}")
        model = str(cached.model.path)
    read_card(ModelLayout(Path(model)))
    return model


def require_initial_weights(settings: TrainSettings) -> None:
    """Make sure that training can start from what the settings name.

    Raises:
        WeightsError: there is no such file.
        SettingsError: weights of the catalogue that are for another backbone, or whose licence
            wants consent.
    """
    start = settings.init_from
    if start is None:
        return
    entry = load_catalogue().get(str(start))
    if entry is None or start.exists():
        find_weights_file(start)
        return
    require_backbone_of_entry(entry, settings.detector.backbone)
    require_consent(entry)


def require_consent(entry: CatalogueEntry, *, is_given: bool = False) -> None:
    """Make sure that a licence was accepted, now or when the weights were fetched.

    Raises:
        SettingsError: it was not, and it does not allow every use.
    """
    if not locate_cached_weights(entry.name).has_weights():
        require_accepted_licence(entry, is_accepted=is_given)
