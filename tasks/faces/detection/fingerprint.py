"""Perceptual hash of a picture: hashes of similar pictures differ in few bits.

The hash holds the signs of a picture's low frequencies, after pHash (Zauner 2010, "Implementation
and benchmarking of perceptual image hash functions"), but 16 x 16 instead of 8 x 8: all faces have
a similar shape and would share too many of 64 bits. With signs, instead of comparisons with the
median, the hash of the mirrored picture follows from that of the picture.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from reelcheck.records import FINGERPRINT_BYTES, RGB

_SIDE = 64
_NUM_FREQUENCIES = 16
"""Frequencies along each axis; their square is the number of bits."""
_NEAR_PIXELS = 128
"""Larger pictures are first reduced to about this side by leaving pixels out, to save time."""
_FLAT_BELOW = 6.0
"""Standard deviation of luma (0 to 255) below which the hash would describe only noise."""
assert _NUM_FREQUENCIES**2 == 8 * FINGERPRINT_BYTES  # noqa: S101


def compute_fingerprint(rgb_HWC: RGB) -> bytes | None:
    """Compute the hash of a picture; None: the picture shows almost nothing."""
    step = max(1, min(rgb_HWC.shape[:2]) // _NEAR_PIXELS)
    luma_HW = cv2.cvtColor(np.ascontiguousarray(rgb_HWC[::step, ::step]), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(luma_HW, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    if small.std() < _FLAT_BELOW:
        return None
    low = cv2.dct(small)[:_NUM_FREQUENCIES, :_NUM_FREQUENCIES]
    return np.packbits(low > 0).tobytes()


def mirror_fingerprints(fingerprints_NK: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Compute the hashes of N mirrored pictures: odd horizontal frequencies change their sign."""
    odd = np.arange(_NUM_FREQUENCIES**2) % 2 == 1
    return fingerprints_NK ^ np.packbits(odd)
