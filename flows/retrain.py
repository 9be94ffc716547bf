"""Flow: new labelled videos -> challenger -> promoted if it beats the champion."""

from pathlib import Path

from prefect import flow

from flows.evaluate import evaluate
from flows.preprocess import preprocess
from flows.train import split, train
from reelcheck.config import RunSettings, TrainSettings, settings_hash
from storage.checkpoints import read_champion
from storage.layout import RegistryLayout, find_preprocessed
from storage.tables import read_metadata
from tasks.promote import Decision, promote


@flow(name="retrain", validate_parameters=True)
def retrain(
    source: Path,
    store: Path,
    registry: Path,
    labels: Path | None = None,
    settings: TrainSettings | None = None,
    run: RunSettings | None = None,
) -> Decision:
    """Preprocess what is new, train a challenger, and let it replace the champion if it is better.

    Args:
        source: folder of labelled videos.
        store: store to add to.
        registry: folder of model versions and the ``champion`` pointer.
        labels: labels table; None: folder names.
        settings: the training run; None: the defaults.
        run: how to use the machine.
    """
    settings = settings or TrainSettings()
    preprocess(source, store, labels=labels, run=run)
    split(store)
    layout = find_preprocessed(store)
    split_hash = read_metadata(layout.split_path)["split_hash"]
    # Named after what went in: the same data and settings are the same version.
    version = f"{layout.preprocessing_hash}-{split_hash}-{settings_hash(settings)}"
    versions = RegistryLayout(registry)
    train(store, versions.version(version).path, settings=settings)
    challenger = evaluate(store, versions.version(version).path)
    champion = read_champion(versions)
    if champion == version:
        return Decision(promoted=False, reason="no new labelled videos: the champion stays")
    incumbent = evaluate(store, versions.version(champion).path) if champion else None
    return promote(versions, version, challenger, incumbent)
