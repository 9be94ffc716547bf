"""Flow: new labelled videos -> challenger -> promoted if it beats the champion."""

from pathlib import Path

from prefect import flow

from flows.evaluate import evaluate
from flows.preprocess import preprocess, store_layout
from flows.train import split, train
from models.evaluation import Evaluation
from reelcheck.config import PreprocessSettings, RunSettings
from reelcheck.errors import MismatchError
from reelcheck.settings import settings_hash
from reelcheck.train_config import TrainSettings
from storage.checkpoints import read_champion
from storage.layout import RegistryLayout
from storage.tables import read_metadata
from tasks.faces.weights import configured_face_model_sha256
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
    preprocessing = PreprocessSettings(face_model_sha256=configured_face_model_sha256())
    layout = store_layout(store, preprocessing)
    preprocess(source, store, labels=labels, settings=preprocessing, run=run)
    split(store, preprocessing=layout.preprocessing_hash)
    split_hash = read_metadata(layout.split_path)["split_hash"]
    # Named after what went in: the same data and settings are the same version.
    version = f"{layout.preprocessing_hash}-{split_hash}-{settings_hash(settings)}"
    versions = RegistryLayout(registry)
    champion = read_champion(versions)
    if champion == version:
        return Decision(promoted=False, reason="no new labelled videos: the champion stays")
    challenger_path = versions.version(version).path
    train(store, challenger_path, settings=settings, preprocessing=layout.preprocessing_hash)
    metrics = evaluate(store, challenger_path, preprocessing=layout.preprocessing_hash)
    try:
        incumbent = _incumbent_metrics(store, versions, champion, layout.preprocessing_hash)
    except MismatchError as error:
        reason = f"champion and challenger cannot be compared: {error}"
        return Decision(promoted=False, reason=reason)
    return promote(versions, version, metrics, incumbent)


def _incumbent_metrics(
    store: Path, versions: RegistryLayout, champion: str | None, preprocessing: str
) -> Evaluation | None:
    if champion is None:
        return None
    return evaluate(store, versions.version(champion).path, preprocessing=preprocessing)
