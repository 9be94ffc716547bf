"""Link faces of sampled frames into tracks: one track, one person.

- Samples may be a second apart, so overlap alone is too strict: faces are matched by the move of
  the centre and the change of size, in units of the face, and by their colours.
- Colours decide at a cut, after which another person's face may be at the same place.
- The assignment with the lowest total cost wins.
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
"""Largest number of successive samples without a face that do not end its track."""
MAX_TRIED_ASSIGNMENTS = 120
_IMPOSSIBLE = 1e6
_SMALLEST_PIXELS = 1e-3
"""A box without extent: it is nobody, and its size cannot be compared."""

Looks = NDArray[np.float32]
"""Normalised colour histogram of a crop, 8 x 8 x 8 bins."""


def describe_looks(crop_HWC: RGB) -> Looks:
    """Compute the colours of a face, whatever its position and size."""
    small = cv2.resize(crop_HWC, (LOOKS_PIXELS, LOOKS_PIXELS), interpolation=cv2.INTER_AREA)
    histogram = cv2.calcHist([small], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3).flatten()
    return np.asarray(histogram / histogram.sum(), np.float32)


def compare_looks(before: Looks, after: Looks) -> float:
    """Compute the Hellinger distance, 0 to 1; below ``MAX_LOOKS_DISTANCE`` for one person."""
    return float(cv2.compareHist(before, after, cv2.HISTCMP_BHATTACHARYYA))


@dataclass(frozen=True, eq=False)
class Sighting:
    """One face on one sampled frame, with its crop."""

    box: FaceBox
    crop_HWC: RGB
    keypoints_xy: Keypoints | None = None
    """Key points in the crop, as fractions of its side."""
    looks: Looks = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "looks", describe_looks(self.crop_HWC))


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
    """Match sightings: index of a new sighting -> index of the track that it continues."""
    if not last or not new:
        return {}
    costs = np.array([[_compute_cost(before, after) for after in new] for before in last])
    pairs = _find_cheapest_pairs(costs)
    return {column: row for row, column in pairs if costs[row, column] < _IMPOSSIBLE}


def _find_cheapest_pairs(costs: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Find the assignment with the lowest total cost: row and column of each pair."""
    num_rows, num_columns = costs.shape
    if num_rows > num_columns:
        return [(row, column) for column, row in _find_cheapest_pairs(costs.T)]
    if math.perm(num_columns, num_rows) <= MAX_TRIED_ASSIGNMENTS:
        rows = range(num_rows)
        best = min(permutations(range(num_columns), num_rows), key=lambda p: costs[rows, p].sum())
        return list(zip(rows, best, strict=True))
    # This import takes longer than a video with few faces, and 50 MB.
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415

    pairs = zip(*linear_sum_assignment(costs), strict=True)
    return [(int(row), int(column)) for row, column in pairs]


def _compute_cost(before: Sighting, after: Sighting) -> float:
    sides = before.box.side_pixels, after.box.side_pixels
    if min(sides) < _SMALLEST_PIXELS:
        return _IMPOSSIBLE
    move = math.dist(before.box.centre, after.box.centre) / (sum(sides) / 2)
    growth = abs(math.log(sides[1] / sides[0]))
    looks = compare_looks(before.looks, after.looks)
    if move > MAX_CENTRE_MOVE or growth > math.log(MAX_SIZE_RATIO) or looks > MAX_LOOKS_DISTANCE:
        return _IMPOSSIBLE
    return move + growth + looks
