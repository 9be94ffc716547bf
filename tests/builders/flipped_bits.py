"""Copies of a file with one flipped bit."""

import random
from collections.abc import Iterator
from pathlib import Path


def flip_bits(path: Path, *, num_flips: int | None = None) -> Iterator[int]:
    """Leave one flipped bit in the file, yield its byte's place, and go on to the next.

    At the end the file is as it was.

    Args:
        path: the file.
        num_flips: bits at random places; None: one in each byte.
    """
    content, generator = path.read_bytes(), random.Random(0)
    places = (
        range(len(content))
        if num_flips is None
        else (generator.randrange(len(content)) for _ in range(num_flips))
    )
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << generator.randrange(8)
        path.write_bytes(flipped)
        yield place
    path.write_bytes(content)
