"""A second look at two videos whose faces are perhaps the same: do their crops agree?

The aligned faces of two crops are laid over each other and moved, turned and stretched a little
until they fit best (Evangelidis and Psarakis 2008, "Parametric image alignment using enhanced
correlation coefficient maximization"). Then those of a copy agree in their details, and those of
two people do not, however alike they look from afar.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from reelcheck.records import FINGERPRINT_BYTES, RGB, Keypoints
from storage.crops import open_crops
from storage.layout import StoreLayout
from storage.rows import ManifestRow
from storage.schemas import MANIFEST
from storage.tables import keep_videos, read_table
from tasks.faces.decoding.plan import space_evenly
from tasks.faces.detection.aligned import MAX_CROPS, align_face
from tasks.faces.detection.fingerprint import compute_fingerprint, mirror_fingerprints

MIN_CORRELATION = 0.975
"""Of rendered faces of different people that are perhaps the same, the best pair of crops agrees
with .97 at most; copies that are perhaps copies nearly all agree with more than .98."""
_MAX_PAIRS = 4
"""Pairs of crops that are looked at, those with the nearest fingerprints first."""
_MAX_STRETCH = 1.33
_DETAIL_PIXELS, _SHADE_PIXELS = 1.0, 8.0
"""Standard deviations of the Gaussians between which details lie: noise is finer, light coarser."""
_EDGE_PIXELS = 6
"""Of the window's edge nothing is compared: it may move out of the other picture."""
_STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 1e-4)

Pair = tuple[str, str]


class AlignedFaces(NamedTuple):
    """The aligned crops of a video, by window."""

    pictures: tuple[RGB, ...]
    hashes_NK: NDArray[np.uint8]
    window_N: NDArray[np.int64]


def confirm_pairs(layout: StoreLayout, pairs: Sequence[Pair]) -> list[Pair]:
    """Keep the pairs of videos of a store that show the same faces.

    A video whose crops are not in this folder shows no face.

    Raises:
        StoreError: crops are damaged.
    """
    if not pairs:
        return []
    columns = (
        *("video_id", "sequence_id", "shard", "crop_file", "crop_row"),
        *("num_frames", "keypoints_xy"),
    )
    table = read_table(layout.manifest_path, MANIFEST, columns=columns)
    rows_of: dict[str, list[ManifestRow]] = defaultdict(list)
    for row in keep_videos(table, sorted({name for pair in pairs for name in pair})).to_pylist():
        rows_of[row["video_id"]].append(row)

    @lru_cache(maxsize=256)
    def read(video_id: str) -> AlignedFaces:
        return describe_faces(
            crop for row in rows_of[video_id] for crop in _read_crops(layout, row)
        )

    return [(one, other) for one, other in pairs if show_same_face(read(one), read(other))]


def _read_crops(layout: StoreLayout, row: ManifestRow) -> Iterator[tuple[RGB, Keypoints]]:
    path = layout.crops_path(row["shard"], row["crop_file"])
    if row["keypoints_xy"] and path.exists():
        crops_THWC = open_crops(path).read(row["crop_row"], sequence_id=row["sequence_id"])
        for index in space_evenly(row["num_frames"], MAX_CROPS):
            x_y = row["keypoints_xy"][index]
            yield crops_THWC[index], Keypoints(*zip(x_y[::2], x_y[1::2], strict=True))


def describe_faces(crops: Iterable[tuple[RGB, Keypoints]]) -> AlignedFaces:
    """Align the faces of crops with their key points, in sides of the crop."""
    seen = [
        (picture, found, window)
        for crop, points in crops
        for window, picture in enumerate(align_face(crop, points))
        if (found := compute_fingerprint(picture)) is not None
    ]
    hashes = b"".join(found for _, found, _ in seen)
    return AlignedFaces(
        pictures=tuple(picture for picture, _, _ in seen),
        hashes_NK=np.frombuffer(hashes, np.uint8).reshape(-1, FINGERPRINT_BYTES),
        window_N=np.array([window for _, _, window in seen], np.int64),
    )


def show_same_face(one: AlignedFaces, other: AlignedFaces) -> bool:
    """Whether any of the most similar crops of two videos agree in their details."""
    if not one.pictures or not other.pictures:
        return False
    flipped_NK = mirror_fingerprints(other.hashes_NK)
    plain_AB, mirrored_AB = (
        np.bitwise_count(one.hashes_NK[:, None] ^ hashes_NK[None]).sum(axis=2, dtype=np.int64)
        for hashes_NK in (other.hashes_NK, flipped_NK)
    )
    is_same_AB = one.window_N[:, None] == other.window_N[None]
    bits_AB = np.where(is_same_AB, np.minimum(plain_AB, mirrored_AB), 8 * FINGERPRINT_BYTES)
    for place in np.argsort(bits_AB, axis=None, kind="stable")[:_MAX_PAIRS]:
        a, b = np.unravel_index(place, bits_AB.shape)
        picture = other.pictures[b]
        if mirrored_AB[a, b] < plain_AB[a, b]:
            picture = picture[:, ::-1]
        if _correlate(one.pictures[a], picture) >= MIN_CORRELATION:
            return True
    return False


def _correlate(one: RGB, other: RGB) -> float:
    """Correlate two windows after the best affine move; 0: they are not brought together."""
    template, moved = _take_details(one), _take_details(other)
    mask_HW = np.zeros(one.shape[:2], np.uint8)
    mask_HW[_EDGE_PIXELS:-_EDGE_PIXELS, _EDGE_PIXELS:-_EDGE_PIXELS] = 255
    start = np.eye(2, 3, dtype=np.float32)
    try:
        correlation, matrix = cv2.findTransformECC(
            template, moved, start, cv2.MOTION_AFFINE, _STEPS, mask_HW, 1
        )
    except cv2.error:  # it does not converge
        return 0.0
    stretch = np.linalg.svd(matrix[:, :2], compute_uv=False)
    is_small = stretch.max() < _MAX_STRETCH and stretch.min() > 1 / _MAX_STRETCH
    return float(correlation) if is_small else 0.0


def _take_details(picture_HWC: RGB) -> NDArray[np.float32]:
    luma = cv2.cvtColor(np.ascontiguousarray(picture_HWC), cv2.COLOR_RGB2GRAY).astype(np.float32)
    smooth, shade = (
        cv2.GaussianBlur(luma, (0, 0), pixels) for pixels in (_DETAIL_PIXELS, _SHADE_PIXELS)
    )
    return np.asarray(smooth - shade, np.float32)
