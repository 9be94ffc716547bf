"""Which files are still pictures, and that their pixels are right, whole or not at all."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reelcheck.errors import VideoError
from reelcheck.records import RGB
from reelcheck.status import Status
from tasks.faces.decoding.image_file import MAX_IMAGE_PIXELS, find_still_codec, read_image

ORIENTATION_TAG = 0x0112
# What a camera stores of an upright picture, by the EXIF standard's eight orientations.
STORED: dict[int, Callable[[RGB], RGB]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}
LOSSLESS: dict[str, dict[str, Any]] = {"png": {}, "webp": {"lossless": True}}


def picture(width: int = 96, height: int = 64) -> RGB:
    corners = np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8)
    large = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large, np.uint8)


def encoded(image: RGB | Image.Image, codec: str, **options: Any) -> bytes:
    if not isinstance(image, Image.Image):
        image = Image.fromarray(np.ascontiguousarray(image))
    target = io.BytesIO()
    image.save(target, codec, **options)
    return target.getvalue()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ORIENTATION_TAG] = orientation
    return tags


def read(content: bytes, folder: Path) -> RGB:
    path = folder / "picture.bin"
    path.write_bytes(content)
    frame = read_image(path, find_still_codec(path) or "none")
    assert (frame.frame_index, frame.pts_seconds) == (0, 0.0)
    return frame.rgb_HWC


def read_or_error(path: Path, codec: str) -> RGB | VideoError:
    try:
        return read_image(path, codec).rgb_HWC
    except VideoError as error:
        return error


def assert_refused(content: bytes, folder: Path, status: Status) -> None:
    with pytest.raises(VideoError) as caught:
        read(content, folder)
    assert caught.value.status is status
    assert caught.value.reason
    assert "\n" not in caught.value.reason


SOME = Image.fromarray(picture())
OTHER = Image.fromarray(picture()[::-1].copy())
CONTENTS: dict[str, tuple[bytes, str | None]] = {
    "jpeg": (encoded(SOME, "jpeg"), "jpeg"),
    "progressive jpeg": (encoded(SOME, "jpeg", progressive=True), "jpeg"),
    "jpeg of two pictures": (encoded(SOME, "mpo", save_all=True, append_images=[OTHER]), "jpeg"),
    "png": (encoded(SOME, "png"), "png"),
    "webp": (encoded(SOME, "webp"), "webp"),
    "lossless webp": (encoded(SOME, "webp", lossless=True), "webp"),
    "apng": (encoded(SOME, "png", save_all=True, append_images=[OTHER]), None),
    "animated webp": (encoded(SOME, "webp", save_all=True, append_images=[OTHER]), None),
    "gif": (encoded(SOME, "gif"), None),
    "bmp": (encoded(SOME, "bmp"), None),
    "tiff": (encoded(SOME, "tiff"), None),
    "avi": (b"RIFF\x00\x10\x00\x00AVI LIST", None),
    "text": (b"This is no picture.\n", None),
    "nothing": (b"", None),
    "head of a jpeg": (b"\xff\xd8\xff\xe0", "jpeg"),
    "head of a png": (b"\x89PNG\r\n\x1a\n", "png"),
    "head of a webp": (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "webp"),
}


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("name", ["a.jpg", "a.mp4", "a"])
def test_still_codec_goes_by_content_not_by_name(tmp_path: Path, kind: str, name: str) -> None:
    content, codec = CONTENTS[kind]
    (tmp_path / name).write_bytes(content)
    assert find_still_codec(tmp_path / name) == codec


def test_still_codec_of_what_cannot_be_read(tmp_path: Path) -> None:
    assert find_still_codec(tmp_path / "absent.jpg") is None
    assert find_still_codec(tmp_path) is None


@pytest.mark.parametrize("codec", LOSSLESS)
@pytest.mark.parametrize("orientation", STORED)
def test_read_orientation_is_applied(tmp_path: Path, codec: str, orientation: int) -> None:
    stored = STORED[orientation](picture())
    content = encoded(stored, codec, exif=exif(orientation), **LOSSLESS[codec])
    np.testing.assert_array_equal(read(content, tmp_path), picture())


@pytest.mark.parametrize("orientation", STORED)
def test_read_jpeg_is_what_opencv_reads(tmp_path: Path, orientation: int) -> None:
    stored = STORED[orientation](picture())
    content = encoded(stored, "jpeg", quality=95, exif=exif(orientation))
    truth = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert truth is not None
    found = read(content, tmp_path)
    assert found.shape == truth.shape == picture().shape
    assert np.abs(found.astype(int) - truth).max() <= 3  # another inverse cosine transform


def test_read_formats_agree(tmp_path: Path) -> None:
    pictures = [
        read(encoded(picture(), codec, **options), tmp_path)
        for codec, options in (*LOSSLESS.items(), ("jpeg", {"quality": 95}), ("webp", {}))
    ]
    for found in pictures:
        assert np.abs(found.astype(int) - picture()).mean() < 3


def test_read_jpeg_of_two_pictures_is_the_first(tmp_path: Path) -> None:
    found = read(CONTENTS["jpeg of two pictures"][0], tmp_path)
    np.testing.assert_array_equal(found, read(CONTENTS["jpeg"][0], tmp_path))


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA"])
def test_read_modes_without_transparency_are_their_colours(tmp_path: Path, mode: str) -> None:
    base = Image.fromarray(picture())
    image = base.quantize(32) if mode == "P" else base.convert(mode)
    found = read(encoded(image, "png"), tmp_path)
    np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")))


@settings(deadline=None, max_examples=30)
@given(alpha=st.integers(0, 255), colour=st.tuples(*[st.integers(0, 255)] * 3))
def test_read_transparent_parts_lie_over_black(
    tmp_path_factory: pytest.TempPathFactory, alpha: int, colour: tuple[int, int, int]
) -> None:
    folder = tmp_path_factory.mktemp("alpha")
    image = Image.new("RGBA", (8, 4), (*colour, alpha))
    wanted = np.array(colour) * alpha / 255
    for codec, options in (("png", {}), ("webp", {"lossless": True, "exact": True})):
        found = read(encoded(image, codec, **options), folder)
        assert np.abs(found - wanted).max() <= 1


def test_read_transparent_colour_of_a_palette_is_black(tmp_path: Path) -> None:
    image = Image.new("P", (4, 2), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.putpixel((0, 0), 0)
    opaque = read(encoded(image, "png"), tmp_path)
    assert opaque[0, 1].tolist() == [200, 100, 50]
    shown = read(encoded(image, "png", transparency=1), tmp_path)
    assert shown.max() == 0


@pytest.mark.parametrize("shape", [(64, 96), (64, 96, 3), (64, 96, 4)])
def test_read_16_bits_keep_the_upper_8(tmp_path: Path, shape: tuple[int, ...]) -> None:
    deep = np.random.default_rng(0).integers(0, 2**16, shape, np.uint16)
    if shape[-1] == 4:
        deep[..., 3] = 2**16 - 1
    is_done, content = cv2.imencode(".png", deep)
    assert is_done
    upper = (deep >> 8).astype(np.uint8)
    wanted = np.repeat(upper[..., None], 3, axis=2) if upper.ndim == 2 else upper[..., 2::-1]
    np.testing.assert_array_equal(read(content.tobytes(), tmp_path), wanted)


def test_read_cmyk_comes_back_as_its_colours(tmp_path: Path) -> None:
    content = encoded(Image.fromarray(picture()).convert("CMYK"), "jpeg", quality=100)
    found = read(content, tmp_path)
    assert found.shape == picture().shape
    assert np.abs(found.astype(int) - picture()).mean() < 3


WHOLE = {
    name: (content, np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))
    for name, (content, codec) in CONTENTS.items()
    if codec is not None and not name.startswith("head")
}


@settings(deadline=None, max_examples=300)
@given(name=st.sampled_from(sorted(WHOLE)), share=st.floats(0, 1, exclude_max=True))
def test_read_truncated_is_an_error_or_the_whole_picture(
    tmp_path_factory: pytest.TempPathFactory, name: str, share: float
) -> None:
    content, whole = WHOLE[name]
    path = tmp_path_factory.mktemp("cut") / "picture"
    path.write_bytes(content[: max(12, int(share * len(content)))])
    codec = find_still_codec(path)
    assert codec is not None
    found = read_or_error(path, codec)
    if isinstance(found, VideoError):
        assert found.status is Status.DECODE_ERROR
        assert str(path) not in found.reason
    else:
        np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_read_half_a_file_is_an_error(tmp_path: Path, name: str) -> None:
    content = WHOLE[name][0]
    half = len(content) // (4 if name == "jpeg of two pictures" else 2)
    assert_refused(content[:half], tmp_path, Status.DECODE_ERROR)


@settings(deadline=None, max_examples=400)
@given(
    name=st.sampled_from(sorted(WHOLE)),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=6))),
    is_head=st.booleans(),
)
def test_read_damaged_raises_nothing_but_video_errors(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    changes: list[tuple[float, bytes]],
    *,
    is_head: bool,
) -> None:
    content = bytearray(WHOLE[name][0])
    for share, new in changes:
        place = 12 + int(share * ((300 if is_head else len(content)) - 12))
        content[place : place + len(new)] = new
    path = tmp_path_factory.mktemp("damaged") / "picture"
    path.write_bytes(content)
    codec = find_still_codec(path)
    if codec is None:
        return  # it says now that it is an animation
    found = read_or_error(path, codec)
    if isinstance(found, VideoError):
        assert found.status in {Status.DECODE_ERROR, Status.UNSUPPORTED}
        assert "\n" not in found.reason
    else:
        assert (found.dtype, found.shape[2]) == (np.uint8, 3)


def png_claiming(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def jpeg_claiming(width: int, height: int) -> bytes:
    content = bytearray(encoded(SOME, "jpeg"))
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def webp_claiming(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    extended = b"VP8X\x0a\x00\x00\x00" + bytes(4) + size
    body = b"WEBP" + extended + encoded(SOME, "webp")[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("claiming", [png_claiming, jpeg_claiming, webp_claiming])
@pytest.mark.parametrize("side", [11_000, 16_000, 60_000])
def test_read_refuses_more_pixels_than_the_limit(
    tmp_path: Path, claiming: Callable[[int, int], bytes], side: int
) -> None:
    assert side * side > MAX_IMAGE_PIXELS
    content = claiming(side, side)
    if claiming is webp_claiming:  # its parts disagree, and the larger number is noticed first
        with pytest.raises(VideoError):
            read(content, tmp_path)
        return
    assert_refused(content, tmp_path, Status.UNSUPPORTED)


def test_read_claim_within_the_limit_is_only_damaged(tmp_path: Path) -> None:
    assert_refused(png_claiming(9000, 3000), tmp_path, Status.DECODE_ERROR)


@pytest.mark.parametrize("codec", ["jpeg", "png", "webp"])
def test_read_damaged_metadata_do_not_harm_the_picture(tmp_path: Path, codec: str) -> None:
    whole = read(encoded(SOME, codec), tmp_path)
    for data in (b"Exif\x00\x00nothing of EXIF", exif(6).tobytes()[:-9]):
        content = encoded(SOME, codec, exif=data)
        assert sorted(read(content, tmp_path).shape) == sorted(whole.shape)
