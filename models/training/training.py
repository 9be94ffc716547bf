"""One phase of training with Lightning, which only this module and ``engine`` import.

- Resuming is exact at epoch ends: the order of the data, every draw and the random state of each
  epoch are functions of (seed, epoch), and ``last.ckpt`` holds the rest.
- The result is the best epoch on validation, not the last.
- Metrics in this module choose the epoch; reported figures come from ``models.metrics.metrics``.
"""

import signal
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.multiprocessing.spawn import ProcessRaisedException
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC, BinaryF1Score

from models.data.batching import Batch
from models.data.dataset import CropDataset, digest
from models.data.loading import make_batch_loader
from models.data.sampling import EpochSampler
from models.network.detector import Detector
from models.training.engine import (
    make_trainer_options,
    quieten,
    require_devices,
    shorten_error,
)
from models.training.epochs import find_best_epoch, is_finished
from models.training.loss import compute_loss
from models.training.optimiser import create_optimiser, create_schedule
from reelcheck.card import PhaseSummary
from reelcheck.errors import ReelcheckError, TrainingError
from reelcheck.progress import show_progress
from reelcheck.train_config import EngineSettings, TrainSettings
from storage.rows import EpochRow

OnEpoch = Callable[[Sequence[EpochRow]], None]


@dataclass(frozen=True)
class TrainingData:
    """The sequences that a training run learns from, and those that choose the epoch."""

    train_set: CropDataset
    val_set: CropDataset
    sampler: EpochSampler
    pos_weight: float
    """Weight of a fake in the loss, as a multiple of that of a real sequence."""


@dataclass(frozen=True)
class PhaseResult:
    """Outcome of one phase."""

    weights: dict[str, Tensor]
    """Weights of the best epoch, without those of a backbone that is not run."""
    log: tuple[EpochRow, ...]
    """One row per epoch."""
    summary: PhaseSummary


def fit_phase(
    detector: Detector,
    data: TrainingData,
    settings: TrainSettings,
    engine: EngineSettings,
    *,
    number: int,
    first_epoch: int,
    folder: Path,
    on_epoch: OnEpoch,
) -> PhaseResult:
    """Train until the phase's last epoch or early stopping; go on where an earlier run ended.

    Args:
        detector: changed in place; the result holds the weights of its best epoch.
        data: the sequences to learn from and to choose by.
        settings: settings of the run.
        engine: how to use the machine.
        number: number of the phase, from 1.
        first_epoch: number of epochs before this phase.
        folder: folder for Lightning's checkpoints and logs; a phase that it holds is continued.
        on_epoch: called after each epoch with the rows of the phase so far.

    Raises:
        TrainingError: the loss is no number any more, or the machine lacks the devices.
    """
    phase = settings.phases[number - 1]
    detector.train_backbone_share(phase.backbone_share)
    # Lightning keeps the modes that it finds; this freezes the batch norms where asked for.
    detector.train()
    if engine.gradient_checkpointing:
        detector.backbone.set_grad_checkpointing(True)  # type: ignore[operator]  # timm's
    module = _TrainingModule(detector, data, settings, engine, number=number)
    last_path = folder / "last.ckpt"
    log = _EpochLog(settings, folder, phase=number, first_epoch=first_epoch, on_epoch=on_epoch)
    before = _read_log(last_path)
    # Lightning sets the epoch only after it has asked for the first batches of a resumed run.
    data.sampler.set_epoch(len(before))
    if not is_finished(before, settings, number=number):
        _run(module, log, settings, engine, folder=folder)
    state = torch.load(folder / "best.ckpt", weights_only=True, map_location="cpu")["state_dict"]
    prefix = "average.module." if settings.ema_decay is not None else "detector."
    rows = _read_log(last_path)
    return PhaseResult(
        weights={k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)},
        log=tuple(rows),
        summary=PhaseSummary(
            phase=number,
            learning_rate=settings.effective_learning_rate(phase),
            num_trainable=sum(p.numel() for p in detector.parameters() if p.requires_grad),
            num_parameters=sum(p.numel() for p in detector.parameters()),
            num_epochs=len(rows),
            best_epoch=first_epoch + find_best_epoch(rows, settings),
        ),
    )


def _run(
    module: "_TrainingModule",
    log: "_EpochLog",
    settings: TrainSettings,
    engine: EngineSettings,
    *,
    folder: Path,
) -> None:
    last_path = folder / "last.ckpt"
    require_devices(engine, num_train=len(module.data.sampler), num_val=len(module.data.val_set))
    with warnings.catch_warnings():
        quieten()
        trainer = L.Trainer(
            **make_trainer_options(engine),
            use_distributed_sampler=False,
            max_epochs=settings.phases[module.number - 1].max_epochs,
            limit_train_batches=settings.max_steps_per_epoch,
            accumulate_grad_batches=settings.accumulate_batches,
            gradient_clip_val=settings.clip_norm,
            callbacks=[
                log,
                ModelCheckpoint(
                    folder,
                    filename="last",
                    save_on_train_epoch_end=True,
                    enable_version_counter=False,
                ),
            ],
            logger=TensorBoardLogger(folder, name="", version="tensorboard"),
            log_every_n_steps=10,
            deterministic="warn",
            num_sanity_val_steps=0,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
        try:
            trainer.fit(module, ckpt_path=last_path if last_path.exists() else None)
        except SystemExit as stop:
            # Lightning turns Ctrl-C into the end of the process and is deaf to it from then on.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt from stop
        except (ProcessRaisedException, ReelcheckError) as error:
            raise shorten_error(error) from error


class _TrainingModule(L.LightningModule):
    def __init__(
        self,
        detector: Detector,
        data: TrainingData,
        settings: TrainSettings,
        engine: EngineSettings,
        *,
        number: int,
    ) -> None:
        super().__init__()
        self.detector = detector
        self.data = data
        self.settings = settings
        self.engine = engine
        self.number = number
        # A backbone that is not run stays as it is; to write it takes longer than training a head.
        self.strict_loading = not data.train_set.gives_features
        self.average: AveragedModel | None = None
        if settings.ema_decay is not None:
            average = get_ema_multi_avg_fn(settings.ema_decay)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(detector, multi_avg_fn=average, use_buffers=True)
            self.average.requires_grad_(requires_grad=False)
        kinds = {"accuracy": BinaryAccuracy, "f1": BinaryF1Score}
        # Read after every batch, for which processes must not wait for each other.
        own: dict[str, Any] = {"sync_on_compute": False, "compute_with_cache": False}
        self.train_metrics = MetricCollection(
            {k: m(**own) for k, m in kinds.items()}, prefix="train_"
        )
        self.train_loss = MeanMetric(**own)
        kinds |= {"auc": BinaryAUROC}
        self.val_metrics = MetricCollection({k: m() for k, m in kinds.items()}, prefix="val_")
        # By default it leaves out losses that are no number; here they must be seen.
        self.val_loss = MeanMetric()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if not self.strict_loading:
            state = checkpoint["state_dict"]
            checkpoint["state_dict"] = {k: v for k, v in state.items() if "backbone." not in k}

    def setup(self, stage: str) -> None:
        # In the process that trains: compiled code cannot be sent to another process.
        if self.engine.compile:
            self.detector.backbone.compile(dynamic=True)

    def train_dataloader(self) -> DataLoader[Any]:
        return self._make_loader(self.data.train_set, self.data.sampler)

    def val_dataloader(self) -> DataLoader[Any]:
        world, rank = self.trainer.world_size, self.trainer.global_rank
        return self._make_loader(self.data.val_set, range(rank, len(self.data.val_set), world))

    def configure_optimizers(self) -> Any:
        optimiser = create_optimiser(
            self.detector, self.settings, self.settings.phases[self.number - 1]
        )
        num_steps = int(self.trainer.estimated_stepping_batches)
        schedule = create_schedule(optimiser, self.settings, num_steps=num_steps)
        return [optimiser], [{"scheduler": schedule, "interval": "step"}]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        # Dropout must not depend on what was drawn before: a resumed run has not drawn it.
        epoch = self.data.sampler.epoch
        torch.manual_seed(digest(self.settings.seed, epoch, batch_idx, self.global_rank) % 2**63)
        detection = self.detector(batch)
        loss = self._compute_loss(detection, batch)
        self._require_finite(loss, f"epoch {epoch}, step {batch_idx}")
        self.train_loss.update(loss.detach(), len(batch.labels_B))
        self.train_metrics.update(detection.logits_B.detach().sigmoid(), batch.labels_B.int())
        self.log("loss", loss.detach())
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.average is not None:
            self.average.update_parameters(self.detector)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        detection = (self.average or self.detector)(batch)
        loss = self._compute_loss(detection, batch)
        # Before the metric, which would leave out a loss that is no number.
        self._require_finite(loss, f"the validation of epoch {self.data.sampler.epoch}")
        self.val_loss.update(loss, len(batch.labels_B))
        self.val_metrics.update(detection.logits_B.sigmoid(), batch.labels_B.int())

    def on_validation_epoch_end(self) -> None:
        self.log_dict({"val_loss": self.val_loss.compute(), **self.val_metrics.compute()})
        self.val_loss.reset()
        self.val_metrics.reset()

    def compute_train_values(self) -> dict[str, Tensor]:
        """Compute the training metrics of the epoch so far, over all processes."""
        metrics = {"train_loss": self.train_loss, **dict(self.train_metrics.items())}
        values = {}
        for name, metric in metrics.items():
            with metric.sync_context():
                values[name] = metric.compute()
        return values

    def on_train_epoch_end(self) -> None:
        self.log_dict(self.compute_train_values())
        self.train_loss.reset()
        self.train_metrics.reset()

    def transfer_batch_to_device(
        self,
        batch: Batch,
        device: torch.device,
        dataloader_idx: int,
    ) -> Batch:
        return batch.to(device)

    def _require_finite(self, loss: Tensor, where: str) -> None:
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {float(loss.detach())} in {where}; give a lower "
                f"phases.{self.number - 1}.learning_rate, a clip_norm, or --precision fp32"
            )

    def _compute_loss(self, detection: Any, batch: Batch) -> Tensor:
        return compute_loss(
            detection,
            batch,
            pos_weight=self.data.pos_weight,
            frame_loss_weight=self.settings.frame_loss_weight,
        )

    def _make_loader(self, dataset: CropDataset, sampler: Any) -> DataLoader[Any]:
        return make_batch_loader(
            dataset,
            sampler,
            batch_size=self.settings.batch_size // self.trainer.world_size,
            num_workers=self.engine.num_loader_workers,
        )


class _EpochLog(L.Callback):
    """Shows progress, makes a log row per epoch, and finds the best epoch and the end by them."""

    def __init__(
        self,
        settings: TrainSettings,
        folder: Path,
        *,
        phase: int,
        first_epoch: int,
        on_epoch: OnEpoch,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._phase = phase
        self._first_epoch = first_epoch
        self._on_epoch = on_epoch
        self._rows: list[EpochRow] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        # A spawned process begins with the usual warnings.
        quieten()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        num_batches = int(trainer.num_training_batches)
        self._bar = show_progress(
            total=num_batches * int(trainer.max_epochs or 1),
            description=f"train, phase {self._phase}",
            unit="batches",
            is_shown=trainer.is_global_zero,
        )
        self._bar.update(num_batches * trainer.current_epoch)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        assert isinstance(pl_module, _TrainingModule)
        live = {"loss": pl_module.train_loss.compute(), **pl_module.train_metrics.compute()}
        shown = {name.removeprefix("train_"): f"{float(value):.3f}" for name, value in live.items()}
        self._bar.set_postfix({"epoch": trainer.current_epoch, **shown}, refresh=False)
        self._bar.update(1)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # The module's own hook runs after this one; its metrics are not in callback_metrics yet.
        assert isinstance(pl_module, _TrainingModule)
        metrics = {**trainer.callback_metrics, **pl_module.compute_train_values()}
        rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
        row: EpochRow = {
            "phase": self._phase,
            "epoch": self._first_epoch + trainer.current_epoch,
            "step": trainer.global_step,
            "learning_rate": max(rates),
            "train_loss": float(metrics["train_loss"]),
            "train_accuracy": float(metrics["train_accuracy"]),
            "train_f1": float(metrics["train_f1"]),
            "val_loss": float(metrics["val_loss"]),
            "val_accuracy": float(metrics["val_accuracy"]),
            "val_f1": float(metrics["val_f1"]),
            "val_auc": float(metrics["val_auc"]),
            "is_best": False,
        }
        self._rows.append(row)
        is_best = find_best_epoch(self._rows, self._settings) == len(self._rows) - 1
        row["is_best"] = is_best
        if is_best:
            # Before ``last.ckpt``, whose log may name no best epoch that is not there.
            trainer.save_checkpoint(self._folder / "best.ckpt", weights_only=True)
        if is_finished(self._rows, self._settings, number=self._phase):
            trainer.should_stop = True
        if trainer.is_global_zero:
            self._on_epoch(self._rows)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self._rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._rows = list(state_dict["rows"])

    def teardown(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        if hasattr(self, "_bar"):
            self._bar.close()

    # After an error Lightning calls this alone; the message must not stand behind the bar.
    on_exception = teardown


def _read_log(path: Path) -> list[EpochRow]:
    if not path.exists():
        return []
    callbacks = torch.load(path, weights_only=True, map_location="cpu")["callbacks"]
    return list(callbacks["_EpochLog"]["rows"])
