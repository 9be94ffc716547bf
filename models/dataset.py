"""Manifest rows -> dataset items, and the order in which training sees them.

- The sampler's order and every random draw inside an item are functions of (seed, epoch, item):
  the number of loader processes changes nothing, and a resumed run sees what it would have seen.
- A real video and the fakes made from it are drawn as twins: next to each other, with the same
  frames and the same augmentation, so that only the manipulation tells them apart.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from models.batching import Item
from models.transforms import augment, normalise
from reelcheck.sources import source_finder
from storage.crops import CropReader
from storage.layout import StoreLayout
from storage.tables import Row

Draw = tuple[int, int]
"""Epoch and index: what the training sampler yields."""


class CropDataset(Dataset[Item]):
    """Crop sequences of a store.

    Args:
        layout: the store.
        rows: manifest or sequence rows; the label may be missing.
        min_frames: None: every frame, unchanged (evaluation). A number: training draws between
            this many frames and all of them, and may augment.
        use_augmentation: change colours and geometry at random.
        seed: of all draws.
    """

    def __init__(
        self,
        layout: StoreLayout,
        rows: Sequence[Row],
        *,
        min_frames: int | None = None,
        use_augmentation: bool = False,
        seed: int = 0,
    ) -> None:
        self._layout = layout
        self._rows = list(rows)
        self._twins = twin_keys(rows)
        self._min_frames = min_frames
        self._use_augmentation = use_augmentation
        self._seed = seed

    @property
    def rows(self) -> Sequence[Row]:
        """The rows that the items come from, in order."""
        return self._rows

    @property
    def labels(self) -> list[int | None]:
        """Label of every item; None unknown."""
        return [row.get("label") for row in self._rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: int | Draw) -> Item:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        row = self._rows[index]
        crops_THWC = _reader(self._layout.crops_path(row["shard"], row["part"])).read(row["row"])
        crops_TCHW = torch.from_numpy(crops_THWC.copy()).permute(0, 3, 1, 2)
        seconds_T = torch.tensor(row["pts_seconds"], dtype=torch.float64)
        if self._min_frames is not None:
            # Seeded by the twin, not by the item: twins get the same frames and the same changes.
            generator = np.random.default_rng(_digest(self._seed, epoch, self._twins[index]))
            kept = _draw_frames(len(seconds_T), self._min_frames, generator)
            crops_TCHW, seconds_T = crops_TCHW[kept], seconds_T[kept]
            if self._use_augmentation:
                crops_TCHW = _augmented(crops_TCHW, seed=int(generator.integers(2**63)))
        label = row.get("label")
        return Item(
            frames_TCHW=normalise(crops_TCHW),
            # Relative before float32: a late time stamp must not cost precision.
            seconds_T=(seconds_T - seconds_T[0]).float(),
            label=float("nan") if label is None else float(label),
            index=index,
        )


class EpochSampler(Sampler[Draw]):
    """Every sequence once per epoch, twins together, shuffled by (seed, epoch).

    Lightning calls ``set_epoch``.
    """

    def __init__(self, rows: Sequence[Row], *, seed: int) -> None:
        by_twin: dict[str, list[int]] = defaultdict(list)
        for index, key in enumerate(twin_keys(rows)):
            by_twin[key].append(index)
        self._groups = [by_twin[key] for key in sorted(by_twin)]
        self._num_items = len(rows)
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order is yielded next."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._num_items

    def __iter__(self) -> Iterator[Draw]:
        generator = np.random.default_rng(_digest(self._seed, self._epoch, "order"))
        for place in generator.permutation(len(self._groups)):
            for index in self._groups[place]:
                yield self._epoch, index


def twin_keys(rows: Sequence[Row]) -> list[str]:
    """For each row a key, the same for a real video's sequence and those of its fakes."""
    find = source_finder((row["path"], row["video_id"]) for row in rows if "path" in row)
    origins = [_origin(row, find) for row in rows]
    return [
        f"{origin}#{row['track_id']}#{row['sequence_id'].rsplit('-', 1)[-1]}"
        for origin, row in zip(origins, rows, strict=True)
    ]


def _origin(row: Row, find: Callable[[str], frozenset[str]]) -> str:
    """Id of the one video that a fake's source means, or the video's own."""
    own = str(row["video_id"])
    # A fake named like its source is not its own source.
    sources = find(row.get("source") or "") - {own}
    return min(sources) if len(sources) == 1 else own


def _draw_frames(num_frames: int, min_frames: int, generator: np.random.Generator) -> list[int]:
    """A random choice of random length, in time order."""
    length = int(generator.integers(min(min_frames, num_frames), num_frames + 1))
    chosen = generator.choice(num_frames, size=length, replace=False)
    return [int(frame) for frame in np.sort(chosen)]


@lru_cache(maxsize=256)
def _reader(path: Path) -> CropReader:
    return CropReader(path)


def _augmented(crops_TCHW: Tensor, *, seed: int) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return augment(crops_TCHW)


def _digest(seed: int, epoch: int, key: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{epoch}/{key}".encode()).digest()[:8])
