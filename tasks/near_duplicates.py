"""Which videos show the same pictures or faces, though their bytes differ?

Two fingerprints match where at most 32 of 256 bits differ, as they are or with one of the pictures
mirrored; ``benchmarks/near_duplicates.py`` shows how far apart copies and strangers lie.

Fingerprints are only compared where 16 neighbouring bits agree, so that the work grows with their
number and not with its square.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reelcheck.records import FINGERPRINT_BYTES
from tasks.faces.fingerprint import mirrored

MAX_BITS = 32
"""Two pictures look alike where no more bits differ."""
MIN_FRAME_SHARE = 0.25
"""Of the different frames of one of two videos; fewer may be a title that many videos share."""
_MAX_NEIGHBOURS = 64
"""Of fingerprints with the same 16 bits, each is compared with so many that follow it in order."""

Indices = NDArray[np.int64]


class Likeness(NamedTuple):
    """Two videos that look alike."""

    first: str
    second: str
    what: str
    """``frames`` or ``faces``."""


def near_duplicates(
    frames: Mapping[str, Sequence[bytes]], faces: Mapping[str, Sequence[bytes]]
) -> list[Likeness]:
    """Pairs of videos that show the same frames, or the same face at the same moment; sorted.

    Args:
        frames: video id -> fingerprints of its frames.
        faces: video id -> fingerprints of its face crops.
    """
    like_frames = _like_videos(frames, min_share=MIN_FRAME_SHARE)
    # No two people's faces match: one that does is enough.
    like_faces = _like_videos(faces, min_share=0.0)
    return sorted(
        [Likeness(*pair, "frames") for pair in like_frames]
        + [Likeness(*pair, "faces") for pair in like_faces]
    )


def _like_videos(
    hashes: Mapping[str, Sequence[bytes]], *, min_share: float
) -> list[tuple[str, str]]:
    """Pairs of videos of which at least such a share of the different hashes of one match."""
    names = sorted(name for name in hashes if hashes[name])
    # A still scene gives the same hash again and again.
    distinct = [sorted(set(hashes[name])) for name in names]
    num_V = np.array([len(own) for own in distinct], dtype=np.int64)
    video_N = np.repeat(np.arange(len(names)), num_V)
    data = b"".join(hash_ for own in distinct for hash_ in own)
    pairs_P2 = _close_pairs(np.frombuffer(data, np.uint8).reshape(-1, FINGERPRINT_BYTES), video_N)
    videos_Q2, place_P = np.unique(video_N[pairs_P2], axis=0, return_inverse=True)
    shares_2Q = [
        np.bincount(np.unique(np.stack([place_P, pairs_P2[:, side]], 1), axis=0)[:, 0])
        / num_V[videos_Q2[:, side]]
        for side in (0, 1)
    ]
    is_alike_Q = np.maximum(*shares_2Q) >= min_share
    return [(names[one], names[other]) for one, other in videos_Q2[is_alike_Q]]


def _close_pairs(plain_NK: NDArray[np.uint8], video_N: Indices) -> Indices:
    """Places of hashes of different videos that match, as distinct pairs (P, 2), in order."""
    num_hashes = len(plain_NK)
    both_MK = np.concatenate([plain_NK, mirrored(plain_NK)])
    found = [np.zeros((0, 2), np.int64)]
    for band in range(0, FINGERPRINT_BYTES, 2):
        # As text, so that they are sorted by these two bytes first.
        turned_MK = np.roll(both_MK, -band, axis=1)
        order_M = np.argsort(_as_text(turned_MK), kind="stable")
        band_M = turned_MK[order_M, 0].astype(np.int64) * 256 + turned_MK[order_M, 1]
        for step in range(1, _MAX_NEIGHBOURS + 1):
            first_C = np.flatnonzero(band_M[:-step] == band_M[step:])
            if not len(first_C):
                break
            one_C, other_C = order_M[first_C], order_M[first_C + step]
            bits_C = np.bitwise_count(both_MK[one_C] ^ both_MK[other_C]).sum(axis=1)
            pairs_C2 = np.stack([one_C % num_hashes, other_C % num_hashes], axis=1)
            is_match_C = (bits_C <= MAX_BITS) & (np.diff(video_N[pairs_C2], axis=1)[:, 0] != 0)
            found.append(np.sort(pairs_C2[is_match_C], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def _as_text(rows_MK: NDArray[np.uint8]) -> NDArray[Any]:
    return np.ascontiguousarray(rows_MK).view(f"S{rows_MK.shape[1]}")[:, 0]
