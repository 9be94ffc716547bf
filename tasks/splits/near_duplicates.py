"""Find videos that show the same pictures or faces, though their bytes differ.

Two fingerprints match where at most 32 (frames) or 48 (faces) of 256 bits differ, as they are or
with one of the pictures mirrored; ``benchmarks/near_duplicates.py`` shows how far apart copies and
strangers lie. One match of faces counts only if others are near, too, and if it is not very near,
only if a look at the crops confirms it.

Fingerprints are sorted by each of 16 bands of neighbouring bits in turn, and compared with the
next few in that order alone, so that the work grows with their number and not with its square.
Where that brings two videos together, all fingerprints of both are compared.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reelcheck.records import FINGERPRINT_BYTES


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When two videos look alike."""

    max_bits: int
    """Two fingerprints match where no more bits differ; at least one pair must."""
    max_further_bits: int
    """... and where no more bits than these differ, they are near."""
    min_near: int = 1
    """Number of each video's different fingerprints that are near to some of the other's; all, if
    there are fewer."""
    min_share: float = 0.0
    """Least share of one video's different fingerprints that are near."""

    def holds(self, bits_AB: "NDArray[np.uint8]") -> bool:
        """Whether two videos look alike.

        Args:
            bits_AB: in how many bits each of one video's different fingerprints differs from each
                of the other's.
        """
        is_near_AB = bits_AB <= self.max_further_bits
        near = [np.any(is_near_AB, axis=axis, keepdims=True).ravel() for axis in (0, 1)]
        return bool(
            bits_AB.min() <= self.max_bits
            and all(own.sum() >= min(self.min_near, len(own)) for own in near)
            and max(own.mean() for own in near) >= self.min_share
        )


LIKE_FRAMES = Rule(max_bits=32, max_further_bits=32, min_share=0.25)
"""Few matches may be a title that many videos share."""
LIKE_FACES = Rule(max_bits=34, max_further_bits=56, min_near=3)
"""Of 6,853 pairs of public clips of different people none is nearer than 51 bits; of 12,480 pairs
of rendered faces, which are much more alike, one is nearer than 35, but no three are near."""
PERHAPS_LIKE_FACES = Rule(max_bits=48, max_further_bits=56, min_near=2)
"""Nor does this hold for any of those 6,853, but for 76 of the rendered ones: it needs a second
look, at the crops (``tasks/splits/confirm.py``)."""
_MAX_NEIGHBOURS = 64
"""Each fingerprint is compared with at most this number of those that follow it in its band."""
_NUM_BANDS = FINGERPRINT_BYTES // 2
_NEXT_BAND = np.uint64(2**49)
"""Two keys are in one band where their first 15 of 64 bits are equal: they differ by less."""
_CHUNK = 2**16
"""Fingerprints that are handled at a time: few enough for a processor's cache."""

Positions = NDArray[np.int64]
Words = NDArray[np.uint64]
Pair = tuple[str, str]
Confirm = Callable[[Sequence[Pair]], Sequence[Pair]]


class Likeness(NamedTuple):
    """Two videos that look alike."""

    first: str
    second: str
    what: str
    """``frames`` or ``faces``."""


def find_near_duplicates(
    frames: pa.Table, faces: pa.Table, *, confirm: Confirm | None = None
) -> list[Likeness]:
    """Find pairs of videos that show the same frames, or the same face at the same moment; sorted.

    Args:
        frames: fingerprints of frames, a list per row: columns ``video_id``, ``fingerprints``.
            Rows of one video count together; rows without an id or a list do not count.
        faces: the same columns for face crops.
        confirm: keeps those pairs of videos, of pairs whose faces are perhaps the same, that show
            the same. None: it would keep none.
    """
    return sorted(
        [Likeness(*pair, "frames") for pair in _find_like_videos(frames, LIKE_FRAMES)]
        + [Likeness(*pair, "faces") for pair in _find_like_faces(faces, confirm)]
    )


def _find_like_faces(table: pa.Table, confirm: Confirm | None) -> Sequence[Pair]:
    if confirm is None:
        return list(_find_like_videos(table, LIKE_FACES))
    found = _find_like_videos(table, PERHAPS_LIKE_FACES, sure=LIKE_FACES)
    sure = [pair for pair, is_sure in found.items() if is_sure]
    return [*sure, *confirm([pair for pair, is_sure in found.items() if not is_sure])]


def _find_like_videos(table: pa.Table, rule: Rule, *, sure: Rule | None = None) -> dict[Pair, bool]:
    """Find pairs of videos that the rule calls alike, and whether the stricter rule does, too."""
    names, starts, hashes_N4 = _group_hashes(table)

    # A still scene gives the same hash again and again.
    @lru_cache(maxsize=2**16)
    def list_distinct(video: int) -> Words:
        return np.unique(hashes_N4[starts[video] : starts[video + 1]], axis=0)

    found = {}
    for one, other in _find_close_videos(hashes_N4, starts, rule.max_bits).tolist():
        bits_AB = _count_bits(list_distinct(one)[:, None], list_distinct(other)[None])
        if rule.holds(bits_AB):
            found[names[one], names[other]] = sure is None or sure.holds(bits_AB)
    return found


def _group_hashes(table: pa.Table) -> tuple[list[str], Positions, Words]:
    """Names of videos, ascending; where the hashes of each begin, and the end; all hashes."""
    known = table.drop_null().combine_chunks().sort_by("video_id")
    lists = known["fingerprints"].combine_chunks()
    ids = known["video_id"].combine_chunks().dictionary_encode()
    ends = np.cumsum([0, *pc.list_value_length(lists).to_numpy()])
    names = ids.dictionary.to_pylist()
    firsts = np.searchsorted(ids.indices.to_numpy(), np.arange(len(names) + 1))
    flat = lists.flatten().cast(pa.binary(FINGERPRINT_BYTES))
    data = np.frombuffer(flat.buffers()[1] or b"", np.uint8).reshape(-1, FINGERPRINT_BYTES)
    return names, ends[firsts], _separate_bits(data[flat.offset : flat.offset + len(flat)])


def _separate_bits(hashes_NK: NDArray[np.uint8]) -> Words:
    """Put the same bits into four words: first the even bits, then the odd bits.

    The mirrored picture has all odd bits changed (``tasks/faces/detection/fingerprint.py``).
    """
    hashes_N4 = np.empty((len(hashes_NK), 4), np.uint64)
    for start in range(0, len(hashes_NK), _CHUNK):
        bits_PB = np.unpackbits(hashes_NK[start : start + _CHUNK], axis=1)
        halves_PB = np.concatenate([bits_PB[:, ::2], bits_PB[:, 1::2]], axis=1)
        hashes_N4[start : start + _CHUNK] = np.packbits(halves_PB, axis=1).view(np.uint64)
    return hashes_N4


def _count_bits(one: Words, other: Words) -> NDArray[np.uint8]:
    """Count the bits in which hashes (..., 4) differ, or one of them and the other's mirror."""
    bits = np.bitwise_count(one ^ other)
    even, odd = bits[..., 0] + bits[..., 1], bits[..., 2] + bits[..., 3]
    return np.asarray(even + np.minimum(odd, 4 * FINGERPRINT_BYTES - odd))


def _find_close_videos(hashes_N4: Words, starts: Positions, max_bits: int) -> Positions:
    """Find videos that have matching hashes: distinct pairs (Q, 2) of their positions."""
    num_videos = len(starts) - 1
    video_N = np.repeat(np.arange(num_videos, dtype=np.int32), np.diff(starts))
    pairs_Q = np.zeros(0, np.int64)
    for band in range(_NUM_BANDS):
        key_N = _make_keys(hashes_N4, band)
        order_M = _drop_runs(np.argsort(key_N, kind="stable"), key_N, video_N)
        pairs = [pairs_Q]
        for start in range(0, len(order_M), _CHUNK):
            own_P = order_M[start : start + _CHUNK + _MAX_NEIGHBOURS]
            one_C, other_C = _find_close_neighbours(key_N[own_P], hashes_N4[own_P], max_bits)
            videos_C2 = video_N[np.stack([own_P[one_C], own_P[other_C]], axis=1)].astype(np.int64)
            first_C, second_C = np.sort(videos_C2, axis=1).T
            pairs.append(np.unique((first_C * num_videos + second_C)[first_C != second_C]))
        pairs_Q = np.unique(np.concatenate(pairs))
    return np.stack(np.divmod(pairs_Q, max(1, num_videos)), axis=1)


def _make_keys(hashes_N4: Words, band: int) -> Words:
    """Make keys of 64 bits, beginning with a band, that are alike for a picture and its mirror.

    An odd bit is replaced by whether it differs from the next odd bit: mirroring does not change
    that. Half of the 16 bits of a band are odd, so that 15 bits remain alike.
    """
    bytes_NK = hashes_N4.view(np.uint8)
    key_N = np.empty(len(hashes_N4), np.uint64)
    for start in range(0, len(key_N), _CHUNK):
        own_PK = bytes_NK[start : start + _CHUNK]
        columns = []
        for number in range(band, band + 4):
            even, odd = own_PK[:, number % _NUM_BANDS], own_PK[:, _NUM_BANDS + number % _NUM_BANDS]
            following = own_PK[:, _NUM_BANDS + (number + 1) % _NUM_BANDS]
            columns += [even, odd ^ (odd << 1 | following >> 7)]
        key_N[start : start + _CHUNK] = np.stack(columns, axis=1).view(">u8")[:, 0]
    return key_N


def _drop_runs(order_N: Positions, key_N: Words, video_N: NDArray[np.int32]) -> Positions:
    """Keep only the first and the last of neighbours in one band that belong to one video.

    Frames of one video are much alike, and would leave no room for frames of other videos.
    """
    key_N, video_N = key_N[order_N], video_N[order_N]
    is_same = (video_N[1:] == video_N[:-1]) & (key_N[1:] ^ key_N[:-1] < _NEXT_BAND)
    is_kept_N = np.ones(len(order_N), np.bool_)
    is_kept_N[1:-1] = ~(is_same[1:] & is_same[:-1])
    return order_N[is_kept_N]


def _find_close_neighbours(
    key_P: Words, hashes_P4: Words, max_bits: int
) -> tuple[Positions, Positions]:
    """Find matching hashes in one band that are near each other in the order of keys."""
    even_2P = np.ascontiguousarray(hashes_P4[:, :2].T)
    ones, others = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for step in range(1, min(_MAX_NEIGHBOURS, len(key_P) - 1) + 1):
        is_near = key_P[:-step] ^ key_P[step:] < _NEXT_BAND
        if not is_near.any():
            break
        # Hardly any two strangers are near enough by half of the bits, which takes half the time.
        bits_2 = np.bitwise_count(even_2P[:, :-step] ^ even_2P[:, step:])
        one_C = np.flatnonzero(is_near & (bits_2[0] + bits_2[1] <= max_bits))
        one_C = one_C[_count_bits(hashes_P4[one_C], hashes_P4[one_C + step]) <= max_bits]
        ones.append(one_C)
        others.append(one_C + step)
    return np.concatenate(ones), np.concatenate(others)
