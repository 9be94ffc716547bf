"""Link faces of sampled frames into tracks: one track, one person.

- Samples may lie a second apart, so overlap alone is too strict: faces are matched by how far the
  centre moved and how much the size changed, in units of the face, and by how alike they look.
- Looks decide at a cut: the face in the same place after it may be somebody else's.
- The assignment is the cheapest one overall, not first come first served.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import permutations

import cv2
import numpy as np
from numpy.typing import NDArray

from reelcheck.records import RGB, FaceBox, Keypoints

MAX_CENTRE_MOVE = 1.2
"""Largest move of the centre between two samples, in face sides."""
MAX_SIZE_RATIO = 1.7
MAX_LOOKS_DISTANCE = 0.4
"""Largest Hellinger distance of the colour histograms of two crops of one person."""
LOOKS_PIXELS = 56
"""Side to which a crop is reduced before its colours are counted."""
MAX_GAP_SAMPLES = 2
"""Samples in a row on which a face may be missed without ending its track."""
MAX_TRIED_ASSIGNMENTS = 120
_IMPOSSIBLE = 1e6

Looks = NDArray[np.float32]
"""Normalised colour histogram of a crop, 8 x 8 x 8 bins."""


def looks_of(crop_HWC: RGB) -> Looks:
    """What a face looks like, whatever its place and size."""
    small = cv2.resize(crop_HWC, (LOOKS_PIXELS, LOOKS_PIXELS), interpolation=cv2.INTER_AREA)
    histogram = cv2.calcHist([small], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3).flatten()
    return np.asarray(histogram / histogram.sum(), np.float32)


def looks_distance(before: Looks, after: Looks) -> float:
    """Hellinger distance, 0 to 1; one person's stays below ``MAX_LOOKS_DISTANCE``."""
    return float(cv2.compareHist(before, after, cv2.HISTCMP_BHATTACHARYYA))


@dataclass(frozen=True, eq=False)
class Sighting:
    """One face on one sampled frame, with its crop."""

    box: FaceBox
    crop_HWC: RGB
    keypoints_xy: Keypoints | None = None
    """In the crop, as fractions of its side."""
    looks: Looks = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "looks", looks_of(self.crop_HWC))


Track = tuple[Sighting, ...]
"""Sightings of one person, ascending in ``sample_index``."""


def link_sightings(sightings_per_sample: Sequence[Sequence[Sighting]]) -> tuple[Track, ...]:
    """Link the faces of sampled frames, given in time order, into tracks by first appearance."""
    finished: list[list[Sighting]] = []
    active: list[list[Sighting]] = []
    for sample_index, sightings in enumerate(sightings_per_sample):
        oldest = sample_index - 1 - MAX_GAP_SAMPLES
        finished += [track for track in active if track[-1].box.sample_index < oldest]
        active = [track for track in active if track[-1].box.sample_index >= oldest]
        continued = _match([track[-1] for track in active], sightings)
        for index, sighting in enumerate(sightings):
            if index in continued:
                active[continued[index]].append(sighting)
            else:
                active.append([sighting])
    by_appearance = sorted(
        finished + active, key=lambda t: (t[0].box.sample_index, -t[0].box.confidence)
    )
    return tuple(tuple(track) for track in by_appearance)


def _match(last: Sequence[Sighting], new: Sequence[Sighting]) -> dict[int, int]:
    """Index of a new sighting -> index of the track that it continues."""
    if not last or not new:
        return {}
    costs = np.array([[_cost(before, after) for after in new] for before in last])
    pairs = _cheapest_pairs(costs)
    return {column: row for row, column in pairs if costs[row, column] < _IMPOSSIBLE}


def _cheapest_pairs(costs: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Row and column of each pair of the assignment that costs least in sum."""
    num_rows, num_columns = costs.shape
    if num_rows > num_columns:
        return [(row, column) for column, row in _cheapest_pairs(costs.T)]
    if math.perm(num_columns, num_rows) <= MAX_TRIED_ASSIGNMENTS:
        rows = range(num_rows)
        best = min(permutations(range(num_columns), num_rows), key=lambda p: costs[rows, p].sum())
        return list(zip(rows, best, strict=True))
    # To import this takes longer than a video with few faces does, and 50 MB.
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415

    places = linear_sum_assignment(costs)
    return [(int(row), int(column)) for row, column in zip(*places, strict=True)]


def _cost(before: Sighting, after: Sighting) -> float:
    sides = before.box.side_pixels, after.box.side_pixels
    if min(sides) <= 0:
        return _IMPOSSIBLE
    move = math.dist(before.box.centre, after.box.centre) / (sum(sides) / 2)
    growth = abs(math.log(sides[1] / sides[0]))
    looks = looks_distance(before.looks, after.looks)
    if move > MAX_CENTRE_MOVE or growth > math.log(MAX_SIZE_RATIO) or looks > MAX_LOOKS_DISTANCE:
        return _IMPOSSIBLE
    return move + growth + looks
