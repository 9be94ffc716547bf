"""Train a detector with Lightning; the only module that imports it.

- Mixed precision where the device has it: bf16, else fp16 with a gradient scaler. On a CPU fp32,
  because bf16 is slower there unless the processor has instructions for it.
- The best epoch by validation F1 is what is returned, not the last.
- Metrics inside training choose the epoch; reported figures come from ``models.metrics``.
"""

import logging
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric
from torchmetrics.classification import BinaryAUROC, BinaryF1Score

from models.batching import Batch, collate
from models.dataset import CropDataset, EpochSampler
from models.detector import Detection, Detector
from reelcheck.config import TrainSettings
from reelcheck.progress import progress_bar

EpochRow = dict[str, float | int]
OnEpoch = Callable[[Sequence[EpochRow]], None]


@dataclass(frozen=True)
class FitResult:
    """Outcome of a training run."""

    weights: dict[str, Tensor]
    """Of the best epoch."""
    best_epoch: int


def fit(
    detector: Detector,
    train_set: CropDataset,
    val_set: CropDataset,
    sampler: EpochSampler,
    settings: TrainSettings,
    *,
    on_epoch: OnEpoch,
) -> FitResult:
    """Train until early stopping.

    The detector is changed in place; the result holds the weights of its best epoch. After each
    epoch ``on_epoch`` is given the log so far, one row per epoch.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # Lightning keeps the modes that it finds; this freezes the batch norms where asked for.
    detector.train()
    module = _TrainingModule(detector, settings, pos_weight=_pos_weight(train_set.labels))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # Lightning recommends many loader processes; how many is a setting of ours.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")
        # Frozen batch norms are in eval mode on purpose.
        warnings.filterwarnings("ignore", message=".*module.* in eval mode.*")
        best = ModelCheckpoint(folder, monitor="val_f1", mode="max", save_weights_only=True)
        trainer = L.Trainer(
            devices=1,
            max_epochs=settings.max_epochs,
            limit_train_batches=settings.max_steps_per_epoch,
            precision=best_precision(),
            gradient_clip_val=settings.clip_norm,
            callbacks=[
                best,
                EarlyStopping("val_f1", mode="max", patience=settings.patience_epochs),
                _Progress(on_epoch),
            ],
            logger=False,
            deterministic="warn",
            num_sanity_val_steps=0,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
        trainer.fit(module, *_loaders(train_set, val_set, sampler, settings))
        state = torch.load(best.best_model_path, weights_only=True)
    weights = {k.removeprefix("detector."): v for k, v in state["state_dict"].items()}
    return FitResult(weights=weights, best_epoch=int(state["epoch"]))


def best_precision() -> Any:
    """Lightning's name of the fastest safe precision of this machine."""
    if not torch.cuda.is_available():
        return "32-true"
    return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"


def detection_loss(
    detection: Detection, batch: Batch, *, pos_weight: float, frame_loss_weight: float
) -> Tensor:
    """Binary cross-entropy of the sequence logits plus that of the frame logits, weighted."""
    weight = torch.tensor(pos_weight, device=batch.labels_B.device)
    sequence_loss = F.binary_cross_entropy_with_logits(
        detection.logits_B, batch.labels_B, pos_weight=weight
    )
    frame_labels_BT = batch.labels_B[:, None].expand_as(detection.frame_logits_BT)
    frame_loss = F.binary_cross_entropy_with_logits(
        detection.frame_logits_BT[batch.mask_BT], frame_labels_BT[batch.mask_BT], pos_weight=weight
    )
    return sequence_loss + frame_loss_weight * frame_loss


class _TrainingModule(L.LightningModule):
    def __init__(self, detector: Detector, settings: TrainSettings, *, pos_weight: float) -> None:
        super().__init__()
        self.detector = detector
        self.settings = settings
        self.pos_weight = pos_weight
        self.train_loss = MeanMetric()
        self.val_loss = MeanMetric()
        self.val_f1 = BinaryF1Score()
        self.val_auc = BinaryAUROC()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self._loss(self.detector(batch), batch)
        self.train_loss.update(loss.detach())
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        detection = self.detector(batch)
        self.val_loss.update(self._loss(detection, batch))
        self.val_f1.update(detection.logits_B.sigmoid(), batch.labels_B.int())
        self.val_auc.update(detection.logits_B.sigmoid(), batch.labels_B.int())

    def on_validation_epoch_end(self) -> None:
        for name in ("val_loss", "val_f1", "val_auc"):
            metric = getattr(self, name)
            self.log(name, metric.compute(), prog_bar=True)
            metric.reset()

    def configure_optimizers(self) -> Any:
        learning_rate = self.settings.effective_learning_rate
        optimiser = torch.optim.AdamW(
            _parameter_groups(self.detector, self.settings.weight_decay), lr=learning_rate
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser,
            max_lr=learning_rate,
            total_steps=int(self.trainer.estimated_stepping_batches) + 1,
        )
        return [optimiser], [{"scheduler": schedule, "interval": "step"}]

    def transfer_batch_to_device(
        self,
        batch: Batch,
        device: torch.device,
        dataloader_idx: int,
    ) -> Batch:
        return batch.to(device)

    def _loss(self, detection: Detection, batch: Batch) -> Tensor:
        return detection_loss(
            detection,
            batch,
            pos_weight=self.pos_weight,
            frame_loss_weight=self.settings.frame_loss_weight,
        )


class _Progress(L.Callback):
    """A progress bar over all epochs, and one log row per epoch."""

    def __init__(self, on_epoch: OnEpoch) -> None:
        self._on_epoch = on_epoch
        self._rows: list[EpochRow] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        num_steps = int(trainer.estimated_stepping_batches)
        self._bar = progress_bar(total=num_steps, description="train", unit="steps")

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self._bar.update(1)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, _TrainingModule)
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self._bar.set_postfix({"epoch": trainer.current_epoch, **metrics})
        self._rows.append(
            {
                "epoch": trainer.current_epoch,
                "step": trainer.global_step,
                "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
                "train_loss": float(pl_module.train_loss.compute()),
                **metrics,
            }
        )
        pl_module.train_loss.reset()
        self._on_epoch(self._rows)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._bar.close()


def _pos_weight(labels: list[int | None]) -> float:
    """Makes both labels count the same, however many there are of each."""
    num_fake = sum(label == 1 for label in labels)
    return (len(labels) - num_fake) / num_fake


def _parameter_groups(detector: Detector, weight_decay: float) -> list[dict[str, Any]]:
    """No weight decay on norms and biases."""
    decayed = [p for p in detector.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in detector.parameters() if p.requires_grad and p.ndim <= 1]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]


def _loaders(
    train_set: CropDataset, val_set: CropDataset, sampler: EpochSampler, settings: TrainSettings
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    has_workers = settings.num_loader_workers > 0
    common: dict[str, Any] = {
        "batch_size": settings.batch_size,
        "collate_fn": collate,
        "num_workers": settings.num_loader_workers,
        # Never fork: the threads of Prefect and torch do not survive it.
        "multiprocessing_context": "forkserver" if has_workers else None,
        "persistent_workers": has_workers,
        "pin_memory": torch.cuda.is_available(),
    }
    return DataLoader(train_set, sampler=sampler, **common), DataLoader(val_set, **common)
