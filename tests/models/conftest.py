"""Settings of every test of models, and one phase of training for those that need it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import settings
from torch import Tensor

from storage.layout import StoreLayout
from storage.schemas import MANIFEST
from storage.tables import read_rows

if TYPE_CHECKING:  # Lightning takes seconds to import
    from models.data.dataset import Draw
    from models.network.detector import Detector
    from models.training.training import PhaseResult
    from reelcheck.train_config import TrainSettings

settings.register_profile("models", deadline=None, max_examples=40)
settings.load_profile("models")


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@dataclass
class Run:
    """Everything that one phase of training showed."""

    detector: "Detector"
    settings: "TrainSettings"
    before: dict[str, Tensor]
    orders: "list[list[Draw]]"
    states: list[dict[str, Tensor]] = field(default_factory=list)
    """The detector's weights after each epoch."""
    logs: list[list[dict[str, Any]]] = field(default_factory=list)
    """What was told after each epoch."""
    result: "PhaseResult" = None  # type: ignore[assignment]

    @property
    def log(self) -> Any:
        return self.result.log

    def column(self, name: str) -> list[float]:
        return [row[name] for row in self.log]

    @property
    def best(self) -> int:
        """The last epoch that was better than all before it."""
        return max(n for n, is_best in enumerate(self.column("is_best")) if is_best)


@dataclass
class Trainer:
    """Trains one phase with some of the tiny settings changed."""

    tiny: Any
    folders: pytest.TempPathFactory

    def settings(self, *, dropout: float = 0.1, **changes: Any) -> "TrainSettings":
        from reelcheck.train_config import Phase, TrainSettings

        of_phase = {k: changes.pop(k) for k in list(changes) if k in Phase.model_fields}
        transformer = self.tiny.detector.transformer.model_copy(update={"dropout": dropout})
        return TrainSettings.model_validate(
            {
                **dict(self.tiny.training),
                "phases": (self.tiny.training.phases[0].model_copy(update=of_phase),),
                "detector": self.tiny.detector.model_copy(update={"transformer": transformer}),
                **changes,
            }
        )

    def __call__(
        self,
        layout: StoreLayout,
        *,
        engine: dict[str, Any] | None = None,
        folder: Path | None = None,
        number: int = 1,
        first_epoch: int = 0,
        pos_weight: float = 1.0,
        num_val: int | None = None,
        **changes: Any,
    ) -> Run:
        from models.data.dataset import CropDataset
        from models.data.sampling import EpochSampler
        from models.network.detector import Detector
        from models.training.training import TrainingData, fit_phase
        from reelcheck.train_config import EngineSettings

        settings = self.settings(**changes)
        rows = read_rows(layout.manifest_path, MANIFEST)
        torch.manual_seed(settings.seed)
        detector = Detector(
            settings.detector, freeze_batch_norm=settings.effective_freeze_batch_norm
        )
        orders: list[list[Draw]] = []

        class RecordingSampler(EpochSampler):
            """A real sampler that remembers what it gave."""

            def __iter__(self) -> "Iterator[Draw]":
                orders.append(list(super().__iter__()))
                return iter(orders[-1])

        run = Run(detector, settings, copied(detector), orders)

        def on_epoch(log: Any) -> None:
            run.logs.append([dict(row) for row in log])
            run.states.append(copied(detector))

        engine_settings = EngineSettings(**(engine or {}))
        # What remembers cannot be sent to other processes.
        remembers = engine_settings.num_devices == 1
        sampler_type = RecordingSampler if remembers else EpochSampler
        run.result = fit_phase(
            detector,
            TrainingData(
                CropDataset(layout, rows, training=settings),
                CropDataset(layout, rows[:num_val]),
                sampler_type(rows, settings, first_epoch=first_epoch),
                pos_weight,
            ),
            settings,
            engine_settings,
            number=number,
            first_epoch=first_epoch,
            folder=folder or self.folders.mktemp("phase"),
            on_epoch=on_epoch if remembers else list,
        )
        return run


def copied(detector: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in detector.state_dict().items()}


@pytest.fixture(scope="session")
def train_phase(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """The class above: a conftest cannot be imported from a test under importlib mode."""
    return Trainer(tiny, tmp_path_factory)
