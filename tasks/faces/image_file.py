"""Still pictures: which files are some, and their pixels.

- The content decides, not the name: JPEG, PNG or WebP with one picture in it. An animation is a
  video. Neither decord nor FFmpeg is given a still picture: Pillow reads it, all of its other
  formats shut off.
- A picture that ends too early is an error, never half a picture. Damage inside a file of full
  length is only noticed where the format has checksums: PNG.
- Colours are taken as stored: an ICC profile changes nothing.
"""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from reelcheck.errors import VideoError
from reelcheck.records import RGB, Frame
from reelcheck.status import Status

MAX_IMAGE_PIXELS = 120_000_000
"""Larger pictures are refused, because a few kilobytes can claim any size. Phones of 108 million
pixels stay below."""

_HEAD_BYTES = 12
# What Pillow raises for damaged files, as found by changing bytes at random.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error)


def still_codec(path: Path) -> str | None:
    """``jpeg``, ``png`` or ``webp`` if a file is one still picture, be it whole or damaged.

    None for everything else, also for a file that cannot be read.
    """
    try:
        with path.open("rb") as file:
            codec = _codec_of(file.read(_HEAD_BYTES))
    except OSError:
        return None
    # A JPEG may hold more pictures (depth, the other eye), but shows the first.
    if codec is None or codec == "jpeg":
        return codec
    with suppress(VideoError), _opened(path, codec) as image:
        return None if getattr(image, "n_frames", 1) > 1 else codec
    return codec


def read_image(path: Path, codec: str) -> Frame:
    """The picture of a file, upright, as frame 0 at 0 seconds.

    EXIF orientation is applied. Transparent parts lie over black, as black is what lies beyond a
    frame in a crop. Of 16 bits the upper 8 are kept.

    Args:
        path: the file.
        codec: what ``still_codec`` says of it.

    Raises:
        VideoError: damaged, incomplete, or larger than ``MAX_IMAGE_PIXELS``.
        MemoryError: it needs more than this process may use.
    """
    with _opened(path, codec) as image:
        image.load()
        _turn_upright(image)
        rgb_HWC = np.ascontiguousarray(_as_rgb(image), np.uint8)
    return Frame(frame_index=0, pts_seconds=0.0, rgb_HWC=rgb_HWC)


def _codec_of(head: bytes) -> str | None:
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"RIFF") and head[8:] == b"WEBP":
        return "webp"
    return None


@contextmanager
def _opened(path: Path, codec: str) -> Iterator[ImageFile.ImageFile]:
    """The file with nothing decoded yet; what Pillow raises of it becomes a ``VideoError``."""
    try:
        # Notes on odd metadata, and on sizes that are looked at below.
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=[codec]) as image:
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise _too_large(f"has {image.width} x {image.height} pixels")
            yield image
    except Image.DecompressionBombError as error:
        raise _too_large("is far larger") from error
    except UnidentifiedImageError as error:  # its text holds nothing but the path
        raise _damaged(codec, "its head cannot be read") from error
    except _DAMAGE as error:
        raise _damaged(codec, " ".join(str(error).split())) from error


def _too_large(what: str) -> VideoError:
    return VideoError(
        Status.UNSUPPORTED, f"a picture that {what}; up to {MAX_IMAGE_PIXELS} pixels are read"
    )


def _damaged(codec: str, problem: str) -> VideoError:
    return VideoError(Status.DECODE_ERROR, f"damaged or incomplete picture ({codec}): {problem}")


def _turn_upright(image: Image.Image) -> None:
    # Damaged metadata are no reason to refuse a whole picture. Pillow turns it before it writes the
    # metadata anew, which is the part that fails.
    with suppress(*_DAMAGE):
        ImageOps.exif_transpose(image, in_place=True)


def _as_rgb(image: Image.Image) -> RGB | Image.Image:
    """The picture in 8 bits, three channels."""
    if image.mode.startswith("I"):  # grey of 16 bits, which Pillow would cut off at 255
        grey_HW = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey_HW[..., None], 3, axis=2)
    if not image.has_transparency_data:
        return image.convert("RGB")
    shown = Image.new("RGB", image.size)
    rgba = image.convert("RGBA")
    shown.paste(rgba, mask=rgba)
    return shown
