"""The order in which training sees the data: a function of (seed, epoch) alone.

- A real video and the fakes made from it are drawn as twins, next to each other: only the
  manipulation distinguishes them. A real sequence and its blend with itself are twins, too.
- Every sequence comes once per epoch; then sequences of the rarer label come again, people in turn,
  until both labels are equally frequent.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import torch.distributed as dist
from torch.utils.data import Sampler

from models.data.dataset import Draw, Look, digest, make_twin_keys
from reelcheck.train_config import TrainSettings
from storage.rows import ManifestRow


class EpochSampler(Sampler[Draw]):
    """Draws of one epoch after the other; Lightning calls ``set_epoch``.

    Where training is distributed, each process gets its own share of every batch.

    Args:
        rows: labelled manifest rows; without fakes where all fakes are to be self-blended.
        settings: ``batch_size``, ``balance``, ``twins``, ``self_blend`` and ``seed`` are used.
        first_epoch: number of epochs before this phase; added to Lightning's number.
    """

    def __init__(
        self, rows: Sequence[ManifestRow], settings: TrainSettings, *, first_epoch: int = 0
    ) -> None:
        self._rows = rows
        self._settings = settings
        by_twin: dict[str, list[int]] = defaultdict(list)
        for index, key in enumerate(make_twin_keys(rows)):
            by_twin[key if settings.twins else str(index)].append(index)
        self._twins = [by_twin[key] for key in sorted(by_twin)]
        self._blendable = find_blendable(rows)
        self._first_epoch = first_epoch
        self._epoch = first_epoch
        self._num_draws = len(self.draws(first_epoch))

    @property
    def epoch(self) -> int:
        """Number of the epoch whose order is yielded, over all phases."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order is yielded next."""
        self._epoch = self._first_epoch + epoch

    def __len__(self) -> int:
        return math.ceil(self._num_draws / _count_processes())

    def __iter__(self) -> Iterator[Draw]:
        draws, num_processes = self.draws(self._epoch), _count_processes()
        if num_processes > 1:
            batch_size, rank = self._settings.batch_size, dist.get_rank()
            draws = take_process_share(
                draws, batch_size=batch_size, num_processes=num_processes, rank=rank
            )
        return iter(draws)

    def draws(self, epoch: int) -> list[Draw]:
        """All draws of an epoch, in order; every epoch has as many."""
        passes = self._settings.passes_per_epoch
        return [draw for n in range(passes) for draw in self._one_pass(epoch * passes + n)]

    def _one_pass(self, number: int) -> list[Draw]:
        generator = np.random.default_rng(digest(self._settings.seed, number, "order"))
        units = self._make_units(number, generator)
        order = generator.permutation(len(units))
        return [draw for number in order for draw in units[number]]

    def _make_units(self, number: int, generator: np.random.Generator) -> list[list[Draw]]:
        """Make groups of draws that stay together."""
        blends = [
            [Draw(index, number, repeat, Look.TWIN), Draw(index, number, repeat, Look.BLEND)]
            for index, repeat in self._take_in_turn(
                self._blendable,
                _count_blends(self._rows, self._blendable, self._settings),
                generator,
            )
        ]
        if not self._settings.twins:
            blends = [[draw] for pair in blends for draw in pair]
        if self._settings.self_blend == 1:
            return blends
        units = blends + [[Draw(index, number) for index in twins] for twins in self._twins]
        if self._settings.balance != "repeat":
            return units
        is_fake = [row["label"] == 1 for row in self._rows]
        missing = 2 * sum(is_fake) - len(is_fake)
        rarer = [index for index, fake in enumerate(is_fake) if fake == (missing <= 0)]
        again = self._take_in_turn(rarer, abs(missing), generator)
        return units + [[Draw(index, number, repeat + 1)] for index, repeat in again]

    def _take_in_turn(
        self, indices: Sequence[int], count: int, generator: np.random.Generator
    ) -> list[tuple[int, int]]:
        """Take ``count`` rows, people in turn, each with how often it was taken before."""
        queues: dict[str, list[int]] = defaultdict(list)
        for index in generator.permutation(np.asarray(indices, np.int64)):
            queues[_name_person(self._rows[index])].append(int(index))
        in_turn = sorted(
            (position, order, index)
            for order, queue in enumerate(queues.values())
            for position, index in enumerate(queue)
        )
        return [
            (in_turn[n % len(in_turn)][2], n // len(in_turn))
            for n in range(count if in_turn else 0)
        ]


def take_process_share(
    draws: Sequence[Draw], *, batch_size: int, num_processes: int, rank: int
) -> list[Draw]:
    """Take the draws of one of several processes: its share of every batch.

    Args:
        draws: draws of the epoch, at least one per process. All processes must take the same
            number of steps: where the draws are too few, the first ones come again at the end.
        batch_size: sequences over all processes, a multiple of their number.
        num_processes: number of processes that share each batch.
        rank: number of the process, from 0.
    """
    whole = [*draws, *draws[: -len(draws) % num_processes]]
    batches = [whole[n : n + batch_size] for n in range(0, len(whole), batch_size)]
    sizes = [len(batch) // num_processes for batch in batches]
    return [
        draw
        for batch, size in zip(batches, sizes, strict=True)
        for draw in batch[rank * size : (rank + 1) * size]
    ]


def find_blendable(rows: Sequence[ManifestRow]) -> list[int]:
    """Find the positions of rows that can be blended: real sequences with known key points."""
    return [n for n, row in enumerate(rows) if row["label"] == 0 and row.get("keypoints_xy")]


def list_blend_draws(rows: Sequence[ManifestRow]) -> list[Draw]:
    """List every row that can be blended, and its blend, for a validation without true fakes."""
    return [Draw(n, look=look) for n in find_blendable(rows) for look in (Look.TWIN, Look.BLEND)]


def _count_blends(
    rows: Sequence[ManifestRow], candidates: Sequence[int], settings: TrainSettings
) -> int:
    if settings.self_blend == 1:
        return len(candidates)
    num_fake = [row["label"] for row in rows].count(1)
    if settings.balance == "repeat":
        num_fake = max(num_fake, len(rows) - num_fake)
    return round(num_fake * settings.self_blend / (1 - settings.self_blend))


def _name_person(row: ManifestRow) -> str:
    return str(row.get("group") or row.get("identity") or row["video_id"])


def _count_processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
