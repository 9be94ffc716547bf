"""A picture of the frames that look most fake, and of the parts of the face that raise the score.

Heat maps are made by occlusion (after Zeiler and Fergus 2014, arXiv 1311.2901): each part of a face
is blurred away in turn, and the fall of the frame's logit is drawn there. The method asks the model
itself and needs no gradient; it shows where the score comes from, and proves no manipulation.
"""

import itertools
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from models.interop.runtime import Runtime, encode_all
from reelcheck.records import RGB
from tasks.scoring.predict import TrackPrediction

_SIDE = 112
_GRID = 3
"""Parts along each side of a face: each part is one more pass through the encoder."""
_FULL_FALL = 0.1
"""Logits. Where the largest fall is smaller, the map is paler: rounding alone is no evidence."""
_OPACITY = 0.55
_PAPER = 255
"""Grey value where there is no face."""
_JPEG_QUALITY = 88


def choose_evidence(track: TrackPrediction, *, num_frames: int) -> dict[int, tuple[float, RGB]]:
    """Choose the frames with the highest logits.

    Returns:
        Frame index -> second and crop, in the order of time.
    """
    candidates = [
        (float(logit), frame_index, seconds, crop)
        for item in track.sequences
        for logit, frame_index, seconds, crop in zip(
            item.whole.frame_logits_T,
            item.sequence.frame_indices,
            item.sequence.pts_seconds,
            item.sequence.crops_THWC,
            strict=True,
        )
    ]
    chosen = sorted(candidates, key=lambda item: (-item[0], item[1]))[:num_frames]
    in_time_order = sorted(chosen, key=lambda item: (item[2], item[1]))
    return {index: (seconds, crop) for _, index, seconds, crop in in_time_order}


def make_heat_maps(crops_KHWC: RGB, runtime: Runtime) -> NDArray[np.float64]:
    """Measure how far each frame's logit falls when a part is blurred away, (K, grid, grid)."""
    variants = np.concatenate([_occlude(crop) for crop in crops_KHWC])
    [(_, features_ND)] = encode_all(runtime, [(None, variants)])
    maps = []
    for features_TD in np.split(features_ND, len(crops_KHWC)):
        # All variants of one frame are at one time: only the pixels differ.
        logits_T = runtime.classify(
            features_TD, np.zeros(len(features_TD), np.float32)
        ).frame_logits_T.astype(np.float64)
        maps.append((logits_T[0] - logits_T[1:]).reshape(_GRID, _GRID))
    return np.stack(maps)


def make_evidence_picture(
    tracks: Sequence[Sequence[RGB]], maps: NDArray[np.float64] | None
) -> bytes:
    """Draw a row of faces per track as JPEG; heat maps are a second row below the first track.

    Args:
        tracks: crops of each face, the most suspicious first; none of them is empty.
        maps: heat maps of the first track's crops; colours are relative to their largest value.
    """
    rows = [np.hstack([_resize(crop) for crop in crops]) for crops in tracks]
    if maps is not None:
        sized = [_resize(crop) for crop in tracks[0]]
        largest = max(float(maps.max()), _FULL_FALL)
        pairs = zip(sized, maps, strict=True)
        heated = [_lay_heat_over(crop, np.clip(m / largest, 0, 1)) for crop, m in pairs]
        rows.insert(1, np.hstack(heated))
    width = max(row.shape[1] for row in rows)
    picture = cv2.cvtColor(np.vstack([_widen(row, width) for row in rows]), cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return jpeg.tobytes()


def _resize(crop_HWC: RGB) -> RGB:
    return cv2.resize(crop_HWC, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.uint8)


def _widen(row_HWC: RGB, width: int) -> RGB:
    missing = width - row_HWC.shape[1]
    return np.pad(row_HWC, ((0, 0), (0, missing), (0, 0)), constant_values=_PAPER)


def _occlude(crop_HWC: RGB) -> RGB:
    """Make variants: the crop itself, then the crop with each part blurred away."""
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


def _lay_heat_over(crop_HWC: RGB, share_GG: NDArray[np.float64]) -> RGB:
    share_HW = cv2.resize(share_GG, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    colours = cv2.applyColorMap((share_HW * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    alpha_HW1 = _OPACITY * share_HW[..., None]
    mixed = crop_HWC * (1 - alpha_HW1) + cv2.cvtColor(colours, cv2.COLOR_BGR2RGB) * alpha_HW1
    return mixed.astype(np.uint8)
