"""Perceptual hash of a picture: pictures that look alike have hashes that differ in few bits.

The signs of a picture's low frequencies, after pHash (Zauner 2010, "Implementation and benchmarking
of perceptual image hash functions"), with 16 x 16 of them instead of 8 x 8: faces are all of one
shape and would share too many of 64 bits. Signs, instead of comparisons with the median, make the
hash of the mirrored picture known from that of the picture.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from reelcheck.records import FINGERPRINT_BYTES, RGB

_SIDE = 64
_NUM_FREQUENCIES = 16
"""Along each axis; their square is the number of bits."""
_NEAR_PIXELS = 128
"""Larger pictures are thinned out to about this first: time goes by area."""
_FLAT_BELOW = 6.0
"""Standard deviation of luma: with less to be seen, the hash is that of the noise."""
assert _NUM_FREQUENCIES**2 == 8 * FINGERPRINT_BYTES  # noqa: S101


def fingerprint(rgb_HWC: RGB) -> bytes | None:
    """Hash of a picture; None where next to nothing is to be seen."""
    step = max(1, min(rgb_HWC.shape[:2]) // _NEAR_PIXELS)
    luma_HW = cv2.cvtColor(np.ascontiguousarray(rgb_HWC[::step, ::step]), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(luma_HW, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    if small.std() < _FLAT_BELOW:
        return None
    low = cv2.dct(small)[:_NUM_FREQUENCIES, :_NUM_FREQUENCIES]
    return np.packbits(low > 0).tobytes()


def mirrored(fingerprints_NK: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Hashes of the same N pictures, mirrored: odd horizontal frequencies change their sign."""
    odd = np.arange(_NUM_FREQUENCIES**2) % 2 == 1
    return fingerprints_NK ^ np.packbits(odd)
