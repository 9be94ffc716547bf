"""Manifest rows -> dataset items.

Every random draw inside an item is a function of (seed, draw): the number of loader processes
changes nothing, and a resumed run sees what it would have seen.
"""

import hashlib
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from models.data.batching import Item
from models.data.features import FeatureCache
from models.data.self_blend import make_self_blend
from models.data.transforms import augment
from reelcheck.locations import make_source_finder
from reelcheck.records import RGB
from reelcheck.train_config import TrainSettings
from storage.crops import open_crops
from storage.layout import StoreLayout
from storage.rows import ManifestRow


class Look(StrEnum):
    """How a crop sequence is shown."""

    PLAIN = "plain"
    BLEND = "blend"
    """The sequence blended with itself: a fake."""
    TWIN = "twin"
    """The real sequence that the blend was made from, with the same change of colours."""


class Draw(NamedTuple):
    """One item, as a sampler asks for it."""

    row: int
    """Position in the data set's rows."""
    number: int = 0
    """Number of the pass over the data."""
    repeat: int = 0
    """How often the row was drawn before in this pass."""
    look: Look = Look.PLAIN


class CropDataset(Dataset[Item]):
    """Crop sequences of a store.

    Args:
        layout: the store.
        rows: manifest rows; the label may be null.
        draws: the items ``dataset[0]``, ``dataset[1]`` ...; None: every row as it is.
        training: None: every frame, unchanged (evaluation). Settings of a training run: frames are
            drawn and changed as these say.
        seed: seed of the blends of evaluation.
        features: give features from here in place of the frames, which are then not changed.
    """

    def __init__(
        self,
        layout: StoreLayout,
        rows: Sequence[ManifestRow],
        *,
        draws: Sequence[Draw] | None = None,
        training: TrainSettings | None = None,
        seed: int = 0,
        features: FeatureCache | None = None,
    ) -> None:
        self._layout = layout
        self._features = features
        self._rows = list(rows)
        self._draws = list(draws) if draws is not None else [Draw(n) for n in range(len(rows))]
        self._training = training
        self._seed = training.seed if training is not None else seed
        use_twins = training is None or training.twins
        self._keys = make_twin_keys(rows) if use_twins else [row["sequence_id"] for row in rows]

    @property
    def rows(self) -> list[ManifestRow]:
        """The row of every item; a blend counts as a fake video of its own."""
        return [_show_row(self._rows[draw.row], draw.look) for draw in self._draws]

    @property
    def gives_features(self) -> bool:
        """Whether the items hold features in place of frames."""
        return self._features is not None

    def __len__(self) -> int:
        return len(self._draws)

    def __getitem__(self, key: int | Draw) -> Item:
        draw = key if isinstance(key, Draw) else self._draws[key]
        row = self._rows[draw.row]
        seconds_T = np.asarray(row["pts_seconds"], np.float64)
        # Seeded by the twin, not by the item: twins get the same frames and the same changes.
        generator = np.random.default_rng(
            digest(self._seed, draw.number, draw.repeat, self._keys[draw.row])
        )
        kept = np.arange(len(seconds_T))
        if self._training is not None:
            kept = _draw_frames(len(seconds_T), self._training, generator)
        frames = (
            self._show_crops(draw, kept, generator)
            if self._features is None
            else self._features.read(row)[kept]
        )
        seconds_T = seconds_T[kept]
        label = _show_row(row, draw.look)["label"]
        return Item(
            frames_TCHW=frames,
            # Relative before float32: a late time stamp must not cost precision.
            seconds_T=torch.from_numpy(seconds_T - seconds_T[0]).float(),
            label=float("nan") if label is None else float(label),
            index=draw.row,
        )

    def _show_crops(
        self, draw: Draw, kept: NDArray[np.int64], generator: np.random.Generator
    ) -> Tensor:
        """Read the crops (T, 3, S, S) at these positions, blended and changed as drawn."""
        row = self._rows[draw.row]
        crops = open_crops(self._layout.crops_path(row["shard"], row["crop_file"]))
        crops_THWC = crops.read(row["crop_row"], sequence_id=row["sequence_id"])[kept]
        keypoints_T62 = keypoints_of(row)
        keypoints_T62 = keypoints_T62[kept] if keypoints_T62 is not None else None
        if draw.look is not Look.PLAIN:
            assert keypoints_T62 is not None  # the samplers blend no others
            crops_THWC = self._blend(crops_THWC, keypoints_T62, draw)
        crops_TCHW = torch.from_numpy(crops_THWC).permute(0, 3, 1, 2)
        if self._training is None:
            return crops_TCHW
        return augment(
            crops_TCHW,
            self._training.augment,
            keypoints_T62=keypoints_T62,
            seed=int(generator.integers(2**63)),
        )

    def _blend(self, crops_THWC: RGB, keypoints_T62: NDArray[np.float32], draw: Draw) -> RGB:
        sequence_id = self._rows[draw.row]["sequence_id"]
        seed = digest(self._seed, draw.number, draw.repeat, f"blend {sequence_id}")
        blend = make_self_blend(crops_THWC, keypoints_T62, np.random.default_rng(seed))
        return blend.fake_THWC if draw.look is Look.BLEND else blend.twin_THWC


def keypoints_of(row: ManifestRow) -> NDArray[np.float32] | None:
    """Key points of a row's frames (T, 6, 2), fractions of the crop's side; None where unknown."""
    points = row.get("keypoints_xy")
    return np.asarray(points, np.float32).reshape(-1, 6, 2) if points else None


def make_twin_keys(rows: Sequence[ManifestRow]) -> list[str]:
    """Make a key per row, equal for a sequence of a real video and those of its fakes."""
    find = make_source_finder((row["path"], row["video_id"]) for row in rows)
    origins = [_find_origin(row, find) for row in rows]
    return [
        f"{origin}#{row['track_id']}#{row['sequence_id'].rsplit('-', 1)[-1]}"
        for origin, row in zip(origins, rows, strict=True)
    ]


def digest(*parts: int | str) -> int:
    """Make a seed from the names and numbers that it stands for."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8])


def _find_origin(row: ManifestRow, find: Callable[[str], frozenset[str]]) -> str:
    """Find the id of the one video that a fake's source names; else take the video's own id."""
    own = str(row["video_id"])
    # A fake named like its source is not its own source.
    sources = find(row.get("source") or "") - {own}
    return min(sources) if len(sources) == 1 else own


def _show_row(row: ManifestRow, look: Look) -> ManifestRow:
    if look is not Look.BLEND:
        return row
    video_id, sequence_id = (f"{row[key]}+blend" for key in ("video_id", "sequence_id"))
    return {**row, "label": 1, "video_id": video_id, "sequence_id": sequence_id}


def _draw_frames(
    num_frames: int, settings: TrainSettings, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Draw a random number of frames; their positions are in time order."""
    longest = min(num_frames, settings.max_frames or num_frames)
    length = int(generator.integers(min(settings.min_frames, longest), longest + 1))
    return np.sort(generator.choice(num_frames, size=length, replace=False))
