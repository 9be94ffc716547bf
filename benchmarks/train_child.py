"""Measurements that ``train.py`` makes in other processes: steps of each kind, and the loader.

Weights are random, which costs the same as trained ones. Nothing here needs Lightning.
"""

import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from models.data.batching import Batch, collate
from models.data.dataset import CropDataset, Draw
from models.data.sampling import EpochSampler
from models.network.detector import Detector
from models.network.heads import Detection
from models.training.loss import compute_loss
from models.training.optimiser import create_optimiser
from reelcheck.recipes import load_recipe
from reelcheck.records import CropSequence
from reelcheck.train_config import AugmentSettings, TrainSettings
from storage.crops import CropWriter
from storage.layout import StoreLayout
from storage.rows import ManifestRow
from storage.schemas import MANIFEST
from storage.tables import Row, read_rows, write_table

Numbers = dict[str, float]
_NO_CHANGES = AugmentSettings.model_validate(dict.fromkeys(AugmentSettings.model_fields, 0.0))
_NUM_WAITING_STEPS = 16
_WARM_UP = 1_000_000
"""Number of a round whose batches no other round has."""


@dataclass(frozen=True)
class Plan:
    """Settings that all variants share."""

    recipe: str
    backbone: str
    store: Path
    """One preprocessing output."""
    batch_size: int
    """Sequences."""
    num_steps: int
    """Per round."""
    device: str
    num_threads: int

    @property
    def settings(self) -> TrainSettings:
        """Those of the recipe with this backbone."""
        recipe = load_recipe(self.recipe).train
        detector = recipe.detector.model_copy(update={"backbone": self.backbone})
        return recipe.model_copy(update={"detector": detector, "batch_size": self.batch_size})


@dataclass(frozen=True)
class Variant:
    """One way to take a training step."""

    precision: str
    is_padded: bool = False
    """Each sequence goes through the backbone as long as the longest of its batch."""
    is_contiguous: bool = False
    """NCHW instead of channels_last."""
    is_compiled: bool = False


class Trainee:
    """A detector with its optimiser, ready to take steps in one way."""

    def __init__(self, plan: Plan, variant: Variant) -> None:
        torch.set_num_threads(plan.num_threads)
        torch.manual_seed(0)
        self.plan, self.variant = plan, variant
        self.device = torch.device(plan.device)
        settings = plan.settings
        detector = Detector(
            settings.detector, freeze_batch_norm=settings.effective_freeze_batch_norm
        )
        if variant.is_contiguous:
            detector.backbone.to(memory_format=torch.contiguous_format)
        self.detector = detector.to(self.device).train()
        self.optimiser = create_optimiser(self.detector, settings, settings.phases[-1])
        self.clip_norm = settings.clip_norm
        if variant.is_compiled:
            self.detector.backbone.compile(dynamic=True)
        started = time.perf_counter()
        # Of two lengths, so that the compiler has seen that they change.
        for batch in self.batches(_WARM_UP, num_batches=2 if variant.is_compiled else 1):
            self.step(batch)
        self.clock()
        self.warm_up_wall_seconds = time.perf_counter() - started

    def batches(self, number: int, *, num_batches: int) -> list[Batch]:
        """Those of a round, the same for every variant, on the device and laid out for it."""
        draws = _take_draws(self.plan, first_epoch=number, num_batches=num_batches)
        loader = _make_loader(self.plan, draws, self.plan.settings.augment)
        return [self._laid_out(batch.to(self.device)) for batch in loader]

    def _laid_out(self, batch: Batch) -> Batch:
        frames_NCHW = batch.frames_NCHW
        if self.variant.is_padded:
            shape = (batch.mask_BT.numel(), *frames_NCHW.shape[1:])
            padded_NCHW = frames_NCHW.new_zeros(shape).to(memory_format=torch.channels_last)
            padded_NCHW[batch.mask_BT.flatten()] = frames_NCHW
            frames_NCHW = padded_NCHW
        if self.variant.is_contiguous:
            frames_NCHW = frames_NCHW.contiguous()
        return Batch(**{**vars(batch), "frames_NCHW": frames_NCHW})

    def loss(self, batch: Batch) -> Tensor:
        """Of a batch that is laid out."""
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.variant.precision == "bf16"
        ):
            detection = self._padded(batch) if self.variant.is_padded else self.detector(batch)
            return compute_loss(detection, batch, pos_weight=1.0, frame_loss_weight=0.5)

    def _padded(self, batch: Batch) -> Detection:
        features_ND = self.detector.backbone(self.detector.to_input(batch.frames_NCHW))
        features_BTD = features_ND.unflatten(0, batch.mask_BT.shape)
        detection: Detection = self.detector.head(features_BTD, batch.seconds_BT, batch.mask_BT)
        return detection

    def step(self, batch: Batch) -> None:
        """As in training: loss, gradients, clipping, weights."""
        self.loss(batch).backward()  # type: ignore[no-untyped-call]  # torch's
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.detector.parameters(), self.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad()

    def clock(self) -> float:
        """CPU seconds of this process; on a GPU wall seconds, once its work is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()


@lru_cache
def _make_trainee(plan: Plan, variant: Variant) -> Trainee:
    return Trainee(plan, variant)


def measure_steps(plan: Plan, variant: Variant, number: int) -> Numbers:
    """One round; before the first one the detector is built, compiled and warmed up."""
    trainee = _make_trainee(plan, variant)
    batches = trainee.batches(number, num_batches=plan.num_steps)
    num_images = sum(int(batch.mask_BT.sum()) for batch in batches)
    started = trainee.clock()
    for batch in batches:
        trainee.step(batch)
    seconds = trainee.clock() - started
    return {
        "seconds": seconds,
        "images_per_second": num_images / seconds,
        "sequences_per_second": plan.num_steps * plan.batch_size / seconds,
        "backbone_images_per_image": sum(len(batch.frames_NCHW) for batch in batches) / num_images,
        "warm_up_wall_seconds": trainee.warm_up_wall_seconds,
    }


def measure_memory(plan: Plan, variant: Variant) -> Numbers:
    """Peak of the first step, with weights and optimiser; in a process that did nothing before."""
    before = _read_resident_bytes()
    trainee = Trainee(plan, variant)
    is_cuda = trainee.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() if is_cuda else _read_peak_resident_bytes() - before
    return {"peak_gib": peak / 2**30}


def measure_limits(plan: Plan, variant: Variant) -> Numbers:
    """Bounds of a step: its arithmetic and its memory traffic, and this machine's rates of both.

    Arithmetic is three times that of the forward pass. Traffic is what torch saves for the backward
    pass, written once and read once: less than any real step moves.
    """
    trainee = _make_trainee(plan, variant)
    [batch] = trainee.batches(_WARM_UP, num_batches=1)
    num_images = len(batch.frames_NCHW)
    with FlopCounterMode(display=False) as counter:
        trainee.loss(batch)
    saved_bytes = _count_saved_bytes(trainee, batch)
    is_cuda = trainee.device.type == "cuda"
    side = 8192 if is_cuda else 1024
    dtype = torch.bfloat16 if variant.precision == "bf16" else torch.float32
    a, b = (torch.randn(side, side, device=trainee.device, dtype=dtype) for _ in range(2))
    from_bytes = torch.ones(2**30 if is_cuda else 2**28, dtype=torch.uint8, device=trainee.device)
    to_bytes = torch.zeros_like(from_bytes)
    return {
        "flop_per_image": 3 * counter.get_total_flops() / num_images,
        "saved_bytes_per_image": saved_bytes / num_images,
        "matmul_flop_per_second": 2 * side**3 / _measure_seconds(trainee, lambda: torch.mm(a, b)),
        "copied_bytes_per_second": 2
        * len(from_bytes)
        / _measure_seconds(trainee, lambda: to_bytes.copy_(from_bytes)),
    }


def _count_saved_bytes(trainee: Trainee, batch: Batch) -> int:
    """Of distinct tensors that the forward pass keeps, without the weights."""
    weights = {p.untyped_storage().data_ptr() for p in trainee.detector.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = trainee.loss(batch)  # keeps the graph, so that no memory is used twice
    del loss
    return sum(nbytes for address, nbytes in kept.items() if address not in weights)


def _measure_seconds(trainee: Trainee, work: Callable[[], object]) -> float:
    """Shortest of ten runs after a first one."""
    work()
    times = []
    for _ in range(10):
        started = trainee.clock()
        work()
        times.append(trainee.clock() - started)
    return min(times)


def measure_loader(plan: Plan, *, with_changes: bool, number: int) -> Numbers:
    """Measure the items per CPU second of one process that does nothing else."""
    torch.set_num_threads(1)
    augment = plan.settings.augment if with_changes else _NO_CHANGES
    draws = _take_draws(plan, first_epoch=number, num_batches=16)
    started = time.process_time()
    num_images = sum(len(batch.frames_NCHW) for batch in _make_loader(plan, draws, augment))
    seconds = time.process_time() - started
    return {
        "seconds": seconds,
        "sequences_per_second": len(draws) / seconds,
        "images_per_second": num_images / seconds,
    }


def measure_waiting(plan: Plan, variant: Variant, num_workers: int) -> Numbers:
    """Share of wall time that a training loop waits for its next batch."""
    trainee = _make_trainee(plan, variant)
    # Batches that were prepared before the clock starts are used up first.
    num_first = 1 + 2 * num_workers
    num_steps = max(_NUM_WAITING_STEPS, plan.num_steps)
    draws = _take_draws(plan, first_epoch=0, num_batches=num_first + num_steps)
    batches = iter(_make_loader(plan, draws, plan.settings.augment, num_workers=num_workers))
    for _ in range(num_first):
        trainee.step(next(batches).to(trainee.device))
    trainee.clock()
    waited, started = 0.0, time.perf_counter()
    for _ in range(num_steps):
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        trainee.step(batch.to(trainee.device))
        trainee.clock()  # so that a GPU's work is not taken for waiting
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "waiting_share": waited / seconds,
        "sequences_per_wall_second": num_steps * plan.batch_size / seconds,
    }


def _take_draws(plan: Plan, *, first_epoch: int, num_batches: int) -> list[Draw]:
    sampler = EpochSampler(_read_rows(plan.store), plan.settings)
    wanted = num_batches * plan.batch_size
    return [draw for draw, _ in zip(_repeat(sampler, first_epoch), range(wanted), strict=False)]


def _repeat(sampler: EpochSampler, epoch: int) -> Iterator[Draw]:
    while True:
        yield from sampler.draws(epoch)
        epoch += _WARM_UP + 1  # never the draws of another round


def _make_loader(
    plan: Plan, draws: list[Draw], augment: AugmentSettings, *, num_workers: int = 0
) -> DataLoader[Batch]:
    settings = plan.settings.model_copy(update={"augment": augment})
    return DataLoader(
        CropDataset(StoreLayout(plan.store), _read_rows(plan.store), training=settings),  # type: ignore[arg-type]
        sampler=draws,
        batch_size=plan.batch_size,
        collate_fn=collate,
        num_workers=num_workers,
        multiprocessing_context="forkserver" if num_workers else None,
        pin_memory=plan.device == "cuda",
    )


@lru_cache(maxsize=1)
def _read_rows(store: Path) -> list[ManifestRow]:
    rows = read_rows(StoreLayout(store).manifest_path, MANIFEST)
    return [row for row in rows if row["label"] is not None]


def write_random_store(store: Path, *, num_videos: int, num_frames: int, side: int) -> None:
    """Crop files and manifest of made-up videos, one face each, every second a fake.

    The pictures are blocks of colour under noise: for the loader they cost what faces cost.
    """
    layout = StoreLayout(store)
    rng = np.random.default_rng(0)
    rows: list[Row] = []
    with CropWriter(lambda part: layout.crops_path("random", part)) as writer:
        for number in range(num_videos):
            blocks = rng.integers(0, 216, (num_frames, side // 16 + 1, side // 16 + 1, 3))
            colours = blocks.repeat(16, 1).repeat(16, 2)[:, :side, :side]
            noise = rng.integers(0, 40, colours.shape)
            sequence = CropSequence(
                sequence_id=f"{number:016x}-00-00",
                video_id=f"{number:064x}",
                track_id=0,
                crops_THWC=(colours + noise).astype(np.uint8),
                frame_indices=tuple(range(num_frames)),
                pts_seconds=tuple(frame / 3 for frame in range(num_frames)),
                boxes_xyxy=((0.0, 0.0, float(side), float(side)),) * num_frames,
                confidences=(0.9,) * num_frames,
                sharpness=(1.0,) * num_frames,
                brightness=(1.0,) * num_frames,
                keypoints_xy=((0.36, 0.36, 0.65, 0.37, 0.5, 0.54, 0.5, 0.69, 0.2, 0.4, 0.8, 0.4),)
                * num_frames,
            )
            crop_file, crop_row = writer.append(sequence)
            known = {name: value for name, value in vars(sequence).items() if name != "crops_THWC"}
            rows.append(
                {
                    **known,
                    "num_frames": num_frames,
                    "shard": "random",
                    "crop_file": crop_file,
                    "crop_row": crop_row,
                    "face_pixels": float(side),
                    "path": f"{number}.mp4",
                    "label": number % 2,
                    "source": f"{number - 1}.mp4" if number % 2 else None,
                }
            )
    write_table(layout.manifest_path, rows, MANIFEST)


def _read_resident_bytes() -> int:
    if sys.platform != "linux":
        return 0
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _read_peak_resident_bytes() -> int:
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
