"""Edits that people make of a clip: cut, turned, enlarged, set into other pictures, re-encoded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from reelcheck.records import RGB

Box = Sequence[float]
Change = Callable[[RGB, Box], RGB]
"""Changes a picture with a face in a box x1, y1, x2, y2."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """How a clip is changed."""

    change: Change | None = None
    crf: int = 23
    speed: float = 1.0
    is_reversed: bool = False
    start: float = 0.0
    end: float = 1.0
    """The part of the clip that is kept, 0 to 1."""


def turn(degrees: float, *, is_mirrored: bool = False) -> Change:
    """Turn clockwise about the middle, black around."""

    def change(picture: RGB, _: Box) -> RGB:
        shown = np.ascontiguousarray(picture[:, ::-1]) if is_mirrored else picture
        height, width = shown.shape[:2]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, 1)
        return np.asarray(cv2.warpAffine(shown, matrix, (width, height)), np.uint8)

    return change


def zoom(factor: float) -> Change:
    """Enlarge around the face: a part of the picture as wide as its 1 / factor."""

    def change(picture: RGB, box: Box) -> RGB:
        height, width = picture.shape[:2]
        wide, high = int(width / factor), int(height / factor)
        left = int(np.clip((box[0] + box[2]) / 2 - wide / 2, 0, width - wide))
        top = int(np.clip((box[1] + box[3]) / 2 - high / 2, 0, height - high))
        return picture[top : top + high, left : left + wide]

    return change


def cut(left: float, top: float, right: float, bottom: float) -> Change:
    """Keep a part, in sides of the picture."""

    def change(picture: RGB, _: Box) -> RGB:
        height, width = picture.shape[:2]
        rows = slice(int(top * height), int(bottom * height))
        return picture[rows, int(left * width) : int(right * width)]

    return change


def cover(left: float, top: float, right: float, bottom: float) -> Change:
    """Cover a part with yellow, in sides of the picture."""

    def change(picture: RGB, _: Box) -> RGB:
        covered = picture.copy()
        cut(left, top, right, bottom)(covered, ())[:] = (255, 255, 0)
        return covered

    return change


def surround(wider: float, higher: float) -> Change:
    """Set into the middle of a larger black picture."""

    def change(picture: RGB, _: Box) -> RGB:
        height, width = picture.shape[:2]
        y, x = int(height * (higher - 1) / 2), int(width * (wider - 1) / 2)
        return np.asarray(np.pad(picture, ((y, y), (x, x), (0, 0))), np.uint8)

    return change


def set_into(width: int, height: int, inner_width: int, left: int, top: int) -> Change:
    """Picture in picture: reduced, somewhere in a noisy one."""
    behind = np.random.default_rng(0).integers(40, 110, (height, width, 3), np.uint8)

    def change(picture: RGB, _: Box) -> RGB:
        inner_height = round(len(picture) * inner_width / picture.shape[1])
        inner = cv2.resize(picture, (inner_width, inner_height), interpolation=cv2.INTER_AREA)
        shown = behind.copy()
        place = shown[top : top + inner_height, left : left + inner_width]
        place[:] = inner[: len(place), : place.shape[1]]
        return shown

    return change


def resize(wide: float, high: float) -> Change:
    """Change the sides."""

    def change(picture: RGB, _: Box) -> RGB:
        small = cv2.resize(picture, None, fx=wide, fy=high, interpolation=cv2.INTER_AREA)
        return np.asarray(small, np.uint8)

    return change


def blur(picture: RGB, _: Box) -> RGB:
    """Blur strongly."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 4), np.uint8)


def grey(picture: RGB, _: Box) -> RGB:
    """Grey, brighter, with more contrast."""
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    changed = np.clip((luma - 128) * 1.3 + 148, 0, 255).astype(np.uint8)
    return np.asarray(np.repeat(changed[..., None], 3, axis=2), np.uint8)


def add_noise(picture: RGB, _: Box) -> RGB:
    """Add noise that differs from frame to frame."""
    noise = np.random.default_rng(int(picture.sum())).integers(-15, 16, picture.shape)
    return np.asarray(np.clip(picture + noise, 0, 255), np.uint8)


def mirror(picture: RGB, _: Box) -> RGB:
    """Mirror left and right."""
    return picture[:, ::-1]


def turn_and_zoom(picture: RGB, box: Box) -> RGB:
    """Turn a little, then enlarge."""
    return zoom(1.4)(turn(-6)(picture, box), box)


EDITS: dict[str, Edit] = {
    "CRF 42": Edit(crf=42),
    "half the size": Edit(change=resize(0.5, 0.5), crf=34),
    "1.5 times as fast": Edit(speed=1.5),
    "backwards": Edit(is_reversed=True),
    "the first seventh": Edit(end=0.15),
    "the last third": Edit(start=0.62),
    "mirrored": Edit(change=mirror),
    "the middle 90 %": Edit(change=cut(0.05, 0.05, 0.95, 0.95)),
    "black above and below": Edit(change=surround(1, 1.5)),
    "black at the sides": Edit(change=surround(1.6, 1)),
    "squeezed to 85 %": Edit(change=resize(1, 0.85)),
    "grey, more contrast": Edit(change=grey),
    "noise": Edit(change=add_noise),
    "blur": Edit(change=blur),
    "turned by 3": Edit(change=turn(3)),
    "turned by 5": Edit(change=turn(5)),
    "turned by 8": Edit(change=turn(-8)),
    "turned by 15": Edit(change=turn(15)),
    "turned by 20": Edit(change=turn(20)),
    "mirrored and turned by 8": Edit(change=turn(8, is_mirrored=True)),
    "part of 60 % above the middle": Edit(change=cut(0.2, 0.1, 0.8, 0.7)),
    "face 1.3 times as large": Edit(change=zoom(1.3)),
    "face 2.2 times as large": Edit(change=zoom(2.2)),
    "turned by 6, 1.4 times as large": Edit(change=turn_and_zoom, crf=30),
    "picture in picture, 1/3": Edit(change=set_into(960, 720, 320, 600, 400)),
    "picture in picture, 2/5": Edit(change=set_into(960, 540, 400, 20, 20)),
    "picture in picture, 260 of 640": Edit(change=set_into(640, 480, 260, 300, 30)),
    "banner over the lower quarter": Edit(change=cover(0, 0.75, 1, 1)),
    "banner over the upper fifth": Edit(change=cover(0, 0, 1, 0.2)),
    "banner over the left quarter": Edit(change=cover(0, 0, 0.25, 1)),
}


def read_clip(path: Path, *, seconds: float, width: int) -> tuple[list[RGB], float]:
    """Read the beginning of a video in a new width, and its frames per second."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        fps = float(stream.average_rate or 25)
        frames: list[RGB] = []
        for frame in container.decode(stream):
            if len(frames) >= seconds * fps:
                break
            height = round(frame.height * width / frame.width / 2) * 2
            picture = frame.to_ndarray(format="rgb24")
            sized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
            frames.append(np.asarray(sized, np.uint8))
    return frames, fps


def write_edit(path: Path, frames: Sequence[RGB], fps: float, edit: Edit, box: Box) -> None:
    """Write the edited clip as H.264."""
    kept = frames[int(edit.start * len(frames)) : max(1, int(edit.end * len(frames)))]
    kept = kept[::-1] if edit.is_reversed else kept
    rate = Fraction(fps * edit.speed).limit_denominator(1001)
    with av.open(str(path), "w") as container:
        options = {"preset": "veryfast", "crf": str(edit.crf)}
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.pix_fmt = "yuv420p"
        for picture in kept:
            changed = picture if edit.change is None else edit.change(picture, box)
            height, width = (side // 2 * 2 for side in changed.shape[:2])
            if not stream.codec_context.is_open:
                stream.height, stream.width = height, width
            even = np.ascontiguousarray(changed[:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        container.mux(stream.encode())
