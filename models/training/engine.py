"""How training uses the machine: processes, number format, and expected warnings."""

import logging
import os
import re
import warnings
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy

from reelcheck.errors import ReelcheckError, SettingsError, TrainingError
from reelcheck.train_config import EngineSettings

_RENDEZVOUS = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
_PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
_EXPECTED_WARNINGS = (
    # Lightning recommends many loader processes; their number is a setting of ours.
    ".*does not have many workers.*",
    ".*treespec, LeafSpec.*",
    # Frozen batch norms are in eval mode on purpose.
    ".*module.* in eval mode.*",
    # A small set has fewer batches than steps between two entries of the log.
    ".*number of training batches.*",
    # Resuming goes on in the same folder.
    ".*Checkpoint directory .* exists and is not empty.*",
    # ... or in one that was moved.
    ".*The dirpath has changed.*",
    # torchmetrics has synchronised what is logged.
    ".*sync_dist=True.*",
)


def make_trainer_options(engine: EngineSettings) -> dict[str, Any]:
    """Make the arguments of ``lightning.Trainer`` for these settings on this machine."""
    strategy: Any = "auto"
    if engine.world_size > 1:
        # Spawned, not started by running our command again, which may be a worker of the
        # orchestrator.
        strategy = DDPStrategy(start_method="spawn")
    return {
        "accelerator": "cuda" if torch.cuda.is_available() else "cpu",
        "devices": engine.num_devices,
        "num_nodes": engine.num_nodes,
        "strategy": strategy,
        "precision": _PRECISIONS[choose_precision(engine)],
    }


def read_node_rank(engine: EngineSettings) -> int:
    """Read the number of this machine among those that train together; machine 0 writes the model.

    Raises:
        SettingsError: the environment does not say how the machines find each other.
    """
    if engine.num_nodes == 1:
        return 0
    missing = [name for name in _RENDEZVOUS if name not in os.environ]
    if missing:
        raise SettingsError(
            f"num_nodes = {engine.num_nodes} needs {' and '.join(missing)} in the environment: the "
            "first machine's address, a free port of it, and this machine's number from 0"
        )
    return int(os.environ["NODE_RANK"])


def choose_precision(engine: EngineSettings) -> str:
    """Choose the number format: as the settings say, or the fastest safe one of this machine."""
    if engine.precision != "auto":
        return engine.precision
    if not torch.cuda.is_available():
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def require_devices(engine: EngineSettings, *, num_train: int, num_val: int) -> None:
    """Refuse more devices than there are, or than can be given something to do.

    Args:
        engine: the settings.
        num_train: number of draws in an epoch.
        num_val: number of sequences in the validation.

    Raises:
        TrainingError: too many devices.
    """
    counts = {
        "sequences in the train split": num_train,
        # All others would wait for a process that has no sequence.
        "sequences in the val split": num_val,
    }
    for things, count in counts.items():
        if engine.world_size > count:
            raise TrainingError(
                f"{describe_devices(engine)}, but there are only {count} {things}; "
                "give no more than that"
            )
    if torch.cuda.is_available() and engine.num_devices > torch.cuda.device_count():
        raise TrainingError(
            f"num_devices = {engine.num_devices}, but there are only {torch.cuda.device_count()} "
            "GPUs in this machine; give no more than that"
        )


def describe_devices(engine: EngineSettings) -> str:
    """Describe the settings that make ``world_size``, for a message."""
    nodes = f" on each of num_nodes = {engine.num_nodes}" if engine.num_nodes > 1 else ""
    return f"num_devices = {engine.num_devices}{nodes}"


def quieten() -> None:
    """Ignore the expected warnings of Lightning, until ``catch_warnings`` ends."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for expected in _EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message=expected)


def shorten_error(error: Exception) -> ReelcheckError:
    """Make an error of one line: another process sends a traceback, whose last line says it all."""
    line = re.sub(r"^reelcheck\.errors\.\w+: ", "", str(error).strip().splitlines()[-1])
    return type(error)(line) if isinstance(error, ReelcheckError) else TrainingError(line)
