"""Dataset items -> batches, prepared by processes of their own where asked for."""

import multiprocessing
import os
import threading
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils.data import DataLoader

from models.data.batching import collate
from models.data.dataset import CropDataset, Draw


def make_batch_loader(
    dataset: CropDataset,
    order: Iterable[int | Draw],
    *,
    batch_size: int,
    num_workers: int,
) -> DataLoader[Any]:
    """Make a loader of a data set's batches, page-locked where there is a GPU.

    Args:
        dataset: the data set to read.
        order: the items in the order wanted; iterated again for each epoch.
        batch_size: items per batch.
        num_workers: processes; 0: batches are made where they are used.
    """
    has_workers = num_workers > 0
    return DataLoader(
        dataset,
        sampler=order,
        batch_size=batch_size,
        collate_fn=collate,
        num_workers=num_workers,
        # Never fork: the threads of Prefect and torch do not survive it.
        multiprocessing_context="forkserver" if has_workers else None,
        worker_init_fn=_end_with_trainer if has_workers else None,
        persistent_workers=has_workers,
        pin_memory=torch.cuda.is_available(),
    )


def _end_with_trainer(_worker: int) -> None:
    """End this loader process when the training process is killed.

    torch watches the parent only, which is the fork server and lives on.
    """
    trainer = multiprocessing.parent_process()
    assert trainer is not None

    def end() -> None:
        trainer.join()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()
