"""Settings -> optimiser and learning-rate schedule of one phase."""

import itertools
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler, OneCycleLR

from models.network.backbone import list_layers
from models.network.detector import Detector
from reelcheck.train_config import Phase, TrainSettings


def create_optimiser(detector: Detector, settings: TrainSettings, phase: Phase) -> Optimizer:
    """Create the optimiser of the parameters that learn in this phase.

    Norms and biases get no weight decay. With ``layer_decay`` each layer of the backbone learns
    more slowly than the one after it (Clark et al. 2020, arXiv 2003.10555).
    """
    learning_rate = settings.effective_learning_rate(phase)
    scales = _find_layer_scales(detector, settings.layer_decay)
    learning = [(n, p) for n, p in detector.named_parameters() if p.requires_grad]

    def group_of(item: tuple[str, torch.nn.Parameter]) -> tuple[float, bool]:
        return scales.get(item[0], 1.0), item[1].ndim > 1

    groups: list[dict[str, Any]] = [
        {
            "params": [parameter for _, parameter in members],
            "lr": learning_rate * scale,
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (scale, decays), members in itertools.groupby(
            sorted(learning, key=group_of), key=group_of
        )
    ]
    if settings.optimizer == "adam":
        return torch.optim.Adam(groups, lr=learning_rate)
    return torch.optim.AdamW(groups, lr=learning_rate)


def create_schedule(
    optimiser: Optimizer, settings: TrainSettings, *, num_steps: int
) -> LRScheduler:
    """Create the schedule of one phase; each group's learning rate changes in proportion."""
    if settings.schedule == "one_cycle":
        highest = [group["lr"] for group in optimiser.param_groups]
        return OneCycleLR(optimiser, max_lr=highest, total_steps=num_steps + 1)
    if settings.schedule == "cosine":
        return CosineAnnealingLR(optimiser, T_max=num_steps)
    return ConstantLR(optimiser, factor=1.0)


def _find_layer_scales(detector: Detector, layer_decay: float | None) -> dict[str, float]:
    if layer_decay is None:
        return {}
    layers = list_layers(detector.backbone)
    return {
        f"backbone.{name}": layer_decay ** (len(layers) - number)
        for number, names in enumerate(layers)
        for name in names
    }
