"""A checkpoint folder -> the network in torch, ready to score."""

from functools import lru_cache
from pathlib import Path

from models.network.detector import Detector, Ensemble, create_ensemble
from models.training.inference import choose_device
from reelcheck.errors import MismatchError, WeightsError
from storage.checkpoints import read_card
from storage.layout import ModelLayout
from storage.weights import read_model_weights


@lru_cache(maxsize=2)
def load_detector(path: Path, model_id: str) -> Detector | Ensemble:
    """Load the detector of a checkpoint folder, on the GPU if there is one, ready to score.

    Args:
        path: the checkpoint folder.
        model_id: a part of the cache's key: a new model in an old folder is loaded again.

    Raises:
        StoreError: the folder holds no complete model.
        WeightsError: the weights are of another network.
        MismatchError: the weights are not those that the card describes, or the folder holds
            another model by now.
    """
    layout = ModelLayout(path)
    card = read_card(layout)
    if card.model_id != model_id:
        raise MismatchError(
            f"{path} holds model {card.model_id} by now, and held {model_id} before; run the "
            "command again"
        )
    weights = read_model_weights(layout, card)
    detector = (
        create_ensemble(
            card.detector, num_members=card.num_members, shares_backbone=card.shares_backbone
        )
        if card.num_members > 1
        else Detector(card.detector)
    )
    try:
        detector.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(
            f"the weights in {path} are not those of the network that the card describes: {reason}"
        ) from error
    return detector.to(choose_device()).eval()
