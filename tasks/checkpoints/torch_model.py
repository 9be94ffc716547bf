"""A checkpoint folder -> the network in torch, ready to score."""

from functools import lru_cache
from pathlib import Path

from models.network.detector import Detector, Ensemble, create_ensemble
from models.training.inference import choose_device
from reelcheck.errors import MismatchError
from storage.checkpoints import read_card
from storage.hashing import sha256_of
from storage.layout import ModelLayout
from storage.weights import read_weights


@lru_cache(maxsize=2)
def load_detector(path: Path, model_id: str) -> Detector | Ensemble:
    """Load the detector of a checkpoint folder, on the GPU if there is one, ready to score.

    Args:
        path: the checkpoint folder.
        model_id: a part of the cache's key: a new model in an old folder is loaded again.

    Raises:
        MismatchError: the weights are not those that the card describes.
    """
    layout = ModelLayout(path)
    card = read_card(layout)
    detector = (
        create_ensemble(
            card.detector, num_members=card.num_members, shares_backbone=card.shares_backbone
        )
        if card.num_members > 1
        else Detector(card.detector)
    )
    weights = read_weights(layout.weights_path)
    if sha256_of(layout.weights_path)[:12] != model_id:
        raise MismatchError(
            f"{layout.weights_path} are not the weights that the card of model {model_id} "
            "describes; copy the whole checkpoint folder again"
        )
    detector.load_state_dict(weights)
    return detector.to(choose_device()).eval()
