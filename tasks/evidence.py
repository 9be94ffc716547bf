"""The frames that speak most for a fake, as one picture, and what in them does.

Heat maps are made by occlusion (after Zeiler and Fergus 2014, arXiv 1311.2901): each part of a face
is blurred away in turn, and how far the frame's logit falls is drawn there. That asks the model
itself and needs no gradient; it shows where the score comes from, and proves no manipulation.
"""

import itertools
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from models.runtime import Runtime, encode_all
from reelcheck.records import RGB
from tasks.judging import JudgedTrack

_SIDE = 112
_GRID = 3
"""Parts along each side of a face: each is one more pass through the encoder."""
_FULL_FALL = 0.1
"""A smaller largest fall is drawn paler: rounding alone, in bf16 above all, is no evidence."""
_OPACITY = 0.55
_PAPER = 255
"""Gray value of places without a face."""
_JPEG_QUALITY = 88


def most_telling(track: JudgedTrack, *, num_frames: int) -> dict[int, tuple[float, RGB]]:
    """Frame index -> second and crop of the frames with the highest logits, in time order."""
    found = [
        (float(logit), frame_index, seconds, crop)
        for judged in track.sequences
        for logit, frame_index, seconds, crop in zip(
            judged.whole.frame_logits_T,
            judged.sequence.frame_indices,
            judged.sequence.pts_seconds,
            judged.sequence.crops_THWC,
            strict=True,
        )
    ]
    chosen = sorted(found, key=lambda item: (-item[0], item[1]))[:num_frames]
    return {index: (seconds, crop) for _, index, seconds, crop in sorted(chosen, key=_by_time)}


def heat_maps(crops_KHWC: RGB, runtime: Runtime) -> NDArray[np.float64]:
    """How far each frame's logit falls when a part of it is blurred away, (K, grid, grid)."""
    variants = np.concatenate([_occluded(crop) for crop in crops_KHWC])
    [(_, features_ND)] = encode_all(runtime, [(None, variants)])
    maps = []
    for features_TD in np.split(features_ND, len(crops_KHWC)):
        # Of one frame, so at one time: only the pixels differ.
        logits_T = runtime.judge(
            features_TD, np.zeros(len(features_TD), np.float32)
        ).frame_logits_T.astype(np.float64)
        maps.append((logits_T[0] - logits_T[1:]).reshape(_GRID, _GRID))
    return np.stack(maps)


def evidence_picture(tracks: Sequence[Sequence[RGB]], maps: NDArray[np.float64] | None) -> bytes:
    """JPEG: a row of faces per track; where there are heat maps, the first row again below itself.

    Colours tell the largest fall of all its faces, and nothing where nothing falls.

    Args:
        tracks: crops of each face, the most suspicious first; none of them is empty.
        maps: of the first one's crops.
    """
    rows = [np.hstack([_sized(crop) for crop in crops]) for crops in tracks]
    if maps is not None:
        sized = [_sized(crop) for crop in tracks[0]]
        largest = max(float(maps.max()), _FULL_FALL)
        pairs = zip(sized, maps, strict=True)
        heated = [_heated(crop, np.clip(m / largest, 0, 1)) for crop, m in pairs]
        rows.insert(1, np.hstack(heated))
    width = max(row.shape[1] for row in rows)
    picture = cv2.cvtColor(np.vstack([_widened(row, width) for row in rows]), cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return jpeg.tobytes()


def _sized(crop_HWC: RGB) -> RGB:
    return cv2.resize(crop_HWC, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.uint8)


def _widened(row_HWC: RGB, width: int) -> RGB:
    missing = width - row_HWC.shape[1]
    return np.pad(row_HWC, ((0, 0), (0, missing), (0, 0)), constant_values=_PAPER)


def _by_time(item: tuple[float, int, float, RGB]) -> tuple[float, int]:
    return item[2], item[1]


def _occluded(crop_HWC: RGB) -> RGB:
    """The crop, and after it the crop with each part blurred away."""
    side = len(crop_HWC)
    blurred = cv2.GaussianBlur(crop_HWC, (0, 0), side / 8)
    edges = np.linspace(0, side, _GRID + 1).round().astype(int)
    variants = [crop_HWC]
    for top, bottom in itertools.pairwise(edges):
        for left, right in itertools.pairwise(edges):
            variant = crop_HWC.copy()
            variant[top:bottom, left:right] = blurred[top:bottom, left:right]
            variants.append(variant)
    return np.stack(variants)


def _heated(crop_HWC: RGB, share_GG: NDArray[np.float64]) -> RGB:
    share_HW = cv2.resize(share_GG, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    colours = cv2.applyColorMap((share_HW * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    alpha_HW1 = _OPACITY * share_HW[..., None]
    mixed = crop_HWC * (1 - alpha_HW1) + cv2.cvtColor(colours, cv2.COLOR_BGR2RGB) * alpha_HW1
    return mixed.astype(np.uint8)
