"""Still pictures: recognise the files, read the pixels.

- The content decides, not the name: JPEG, PNG or WebP with one picture. An animation is a video.
  Still pictures are read by Pillow with these three formats only, never by decord or FFmpeg.
- A picture that ends too early is an error, never half a picture. Damage inside a file of full
  length is noticed only in PNG, which has checksums.
- Colours stay as stored: an ICC profile changes nothing.
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
"""Larger pictures are refused, because a small file can claim any size. Pictures of phones with 108
million pixels are smaller."""

_HEAD_BYTES = 12
# Exceptions of Pillow for damaged files, found by random changes of bytes.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error)


def find_still_codec(path: Path) -> str | None:
    """Find the codec of a still picture, whole or damaged: ``jpeg``, ``png`` or ``webp``.

    None: the file is something else or cannot be read.
    """
    try:
        with path.open("rb") as file:
            codec = _find_codec(file.read(_HEAD_BYTES))
    except OSError:
        return None
    # A JPEG may hold more pictures (depth, the other eye), but programs show the first.
    if codec is None or codec == "jpeg":
        return codec
    with suppress(VideoError), _open(path, codec) as image:
        return None if getattr(image, "n_frames", 1) > 1 else codec
    return codec


def read_image(path: Path, codec: str) -> Frame:
    """Read a picture file, upright, as frame 0 at 0 seconds.

    EXIF orientation is applied. Transparent regions become black, like the outside of a frame in a
    crop. Of 16 bits the upper 8 are kept.

    Args:
        path: the file.
        codec: result of ``find_still_codec``.

    Raises:
        VideoError: the picture is damaged, incomplete, or larger than ``MAX_IMAGE_PIXELS``.
        MemoryError: it needs more memory than this process may use.
    """
    with _open(path, codec) as image:
        image.load()
        _turn_upright(image)
        rgb_HWC = np.ascontiguousarray(_convert_to_rgb(image), np.uint8)
    return Frame(frame_index=0, pts_seconds=0.0, rgb_HWC=rgb_HWC)


def _find_codec(head: bytes) -> str | None:
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"RIFF") and head[8:] == b"WEBP":
        return "webp"
    return None


@contextmanager
def _open(path: Path, codec: str) -> Iterator[ImageFile.ImageFile]:
    """Open the file without decoding; Pillow's exceptions become ``VideoError``."""
    try:
        # Ignored are notes on odd metadata, and on sizes, which are checked below.
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=[codec]) as image:
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise _make_size_error(f"has {image.width} x {image.height} pixels")
            yield image
    except Image.DecompressionBombError as error:
        raise _make_size_error("is far larger") from error
    except UnidentifiedImageError as error:  # its text holds nothing but the path
        raise _make_damage_error(codec, "its head cannot be read") from error
    except _DAMAGE as error:
        raise _make_damage_error(codec, " ".join(str(error).split())) from error


def _make_size_error(what: str) -> VideoError:
    return VideoError(
        Status.UNSUPPORTED, f"a picture that {what}; up to {MAX_IMAGE_PIXELS} pixels are read"
    )


def _make_damage_error(codec: str, problem: str) -> VideoError:
    return VideoError(Status.DECODE_ERROR, f"damaged or incomplete picture ({codec}): {problem}")


def _turn_upright(image: Image.Image) -> None:
    # Damaged metadata are no reason to refuse a whole picture. Pillow turns the picture before it
    # rewrites the metadata, which is the step that fails.
    with suppress(*_DAMAGE):
        ImageOps.exif_transpose(image, in_place=True)


def _convert_to_rgb(image: Image.Image) -> RGB | Image.Image:
    """Convert the picture to 8 bits and three channels."""
    if image.mode.startswith("I"):  # grey of 16 bits, which Pillow would cut off at 255
        grey_HW = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey_HW[..., None], 3, axis=2)
    if not image.has_transparency_data:
        return image.convert("RGB")
    shown = Image.new("RGB", image.size)
    rgba = image.convert("RGBA")
    shown.paste(rgba, mask=rgba)
    return shown
