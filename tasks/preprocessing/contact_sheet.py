"""Draw the contact sheet of one video: its description, its frames with face boxes, its crops.

A sheet is a column of strips of equal width. Pictures are RGB, lengths are in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from reelcheck.records import RGB
from tasks.faces.decoding.stills import Still

MAX_CROPS = 15
"""Crops in a face track's row."""

Colour = tuple[int, int, int]
_PAPER: Colour = (22, 23, 26)
_INK: Colour = (236, 236, 236)
GOOD: Colour = (110, 205, 130)
BAD: Colour = (255, 170, 70)
FAINT: Colour = (158, 160, 166)
# After Okabe and Ito: colour-blind people can distinguish these colours, too.
_TRACKS: tuple[Colour, ...] = (
    (86, 180, 233),
    (240, 160, 0),
    (0, 200, 140),
    (240, 228, 66),
    (240, 110, 175),
    (255, 110, 60),
    (175, 155, 255),
)
_MARGIN, _GAP, _CROP = 24, 8, 112
_INNER = MAX_CROPS * _CROP + (MAX_CROPS - 1) * _GAP
_WIDTH = _INNER + 2 * _MARGIN
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FRACTION_BITS = 4


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of text at the top of the sheet."""

    text: str
    colour: Colour = _INK
    scale: float = 0.6


@dataclass(frozen=True, kw_only=True, eq=False)
class Face:
    """One face on one sampled frame."""

    track_id: int
    frame_index: int
    pts_seconds: float
    xyxy: tuple[float, float, float, float]
    """Box: x1, y1, x2, y2 in pixels of the upright frame."""
    confidence: float
    crop_HWC: RGB | None
    """None: the crop is not shown."""
    keypoints_xy: tuple[float, ...] | None
    """x and y of each key point of the crop, as fractions of its side; None: not known."""

    @property
    def side_pixels(self) -> float:
        """The longer side of the box."""
        x1, y1, x2, y2 = self.xyxy
        return max(x2 - x1, y2 - y1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sheet:
    """The content of a contact sheet."""

    lines: tuple[Line, ...]
    """Text at the top."""
    stills: tuple[Still, ...]
    """Frames, in the order of time."""
    tracks: tuple[tuple[Face, ...], ...]
    """The faces of each track, in the order of time."""


def draw_sheet(sheet: Sheet) -> RGB:
    """Draw the lines, frames with face boxes, and each face track's crops with key points."""
    strips = [_make_blank(_MARGIN - _GAP), *map(_draw_line, sheet.lines), _make_blank(_GAP)]
    strips += _draw_stills(sheet.stills, [face for track in sheet.tracks for face in track])
    strips += [_draw_track(track) for track in sheet.tracks]
    return np.concatenate([*strips, _make_blank(_MARGIN)])


def escape_text(text: str) -> str:
    r"""Replace characters that cannot be drawn by escapes such as ``\xe9``."""
    return text.encode("unicode_escape").decode("ascii").replace("\\\\", "\\")


def _make_blank(height: int) -> RGB:
    return np.full((height, _WIDTH, 3), _PAPER, np.uint8)


def _write(picture: RGB, text: str, xy: tuple[int, int], colour: Colour, scale: float) -> None:
    cv2.putText(picture, text, xy, _FONT, scale, colour, 1, cv2.LINE_AA)


def _measure_width(text: str, scale: float) -> int:
    (width, _), _ = cv2.getTextSize(text, _FONT, scale, 1)
    return int(width)


def _draw_line(line: Line) -> RGB:
    whole = text = escape_text(line.text)
    kept = len(whole)
    while (width := _measure_width(text, line.scale)) > _INNER:
        kept = min(kept - 4, kept * _INNER // width)
        # The middle of a path is the least useful part.
        text = f"{whole[: kept // 2]} ... {whole[-(kept // 2) :]}"
    strip = _make_blank(round(46 * line.scale))
    _write(strip, text, (_MARGIN, round(32 * line.scale)), line.colour, line.scale)
    return strip


def _draw_stills(stills: Sequence[Still], faces: Sequence[Face]) -> list[RGB]:
    """Draw frames in rows of equal cells: four in a row, or six of a portrait video."""
    if not stills:
        return []
    height, width = stills[0].rgb_HWC.shape[:2]
    num_columns = 4 if width > height else 6
    cell_width = (_INNER - (num_columns - 1) * _GAP) // num_columns
    cell_height = round(cell_width * min(height / width, 16 / 9))
    strips = []
    for index, still in enumerate(stills):
        row, column = divmod(index, num_columns)
        if column == 0:
            strips.append(_make_blank(cell_height + _GAP))
        left = _MARGIN + column * (cell_width + _GAP)
        cell = strips[row][:cell_height, left : left + cell_width]
        _draw_still(cell, still, [f for f in faces if f.frame_index == still.frame_index])
    return strips


def _draw_still(cell: RGB, still: Still, faces: Sequence[Face]) -> None:
    """Draw one frame, its time and its face boxes into a cell of the sheet."""
    height, width = still.rgb_HWC.shape[:2]
    zoom = min(cell.shape[1] / width, cell.shape[0] / height)
    picture = _resize(still.rgb_HWC, max(1, round(width * zoom)), max(1, round(height * zoom)))
    for face in faces:
        colour = _choose_colour(face.track_id)
        x1, y1, x2, y2 = (round(value * still.scale * zoom) for value in face.xyxy)
        cv2.rectangle(picture, (x1, y1), (x2, y2), colour, 2, cv2.LINE_AA)
        _write_label(picture, str(face.track_id), (x1 - 1, y1 - 4), colour)
    _write_label(picture, f"{still.pts_seconds:.2f} s", (5, picture.shape[0] - 8), _INK)
    top, left = ((cell.shape[axis] - picture.shape[axis]) // 2 for axis in (0, 1))
    cell[top : top + picture.shape[0], left : left + picture.shape[1]] = picture


def _write_label(picture: RGB, text: str, xy: tuple[int, int], colour: Colour) -> None:
    """Write text on a dark ground, inside the picture."""
    width = _measure_width(text, 0.5)
    x = min(max(xy[0], 2), max(2, picture.shape[1] - width - 6))
    y = min(max(xy[1], 16), picture.shape[0] - 4)
    cv2.rectangle(picture, (x - 2, y - 15), (x + width + 4, y + 5), _PAPER, cv2.FILLED)
    _write(picture, text, (x + 1, y), colour, 0.5)


def _draw_track(track: Sequence[Face]) -> RGB:
    """Draw a line about the track, then its crops with time, face size and confidence."""
    colour = _choose_colour(track[0].track_id)
    sides = [face.side_pixels for face in track]
    confidence = np.median([face.confidence for face in track])
    title = (
        f"track {track[0].track_id}:  {len(track)} crops,  "
        f"{track[0].pts_seconds:.2f} to {track[-1].pts_seconds:.2f} s,  "
        f"face {min(sides):.0f} to {max(sides):.0f} px,  median confidence {confidence:.2f}"
    )
    strip = _make_blank(38 + _CROP + 42)
    strip[26:32, _MARGIN : _MARGIN + 14] = colour
    _write(strip, title, (_MARGIN + 22, 34), colour, 0.55)
    left = _MARGIN
    for face in track:
        if face.crop_HWC is None:
            continue
        crop = _resize(face.crop_HWC, _CROP, _CROP)
        _draw_dots(crop, face.keypoints_xy or (), colour)
        strip[46 : 46 + _CROP, left : left + _CROP] = crop
        _write(strip, f"{face.pts_seconds:.2f} s", (left, 46 + _CROP + 15), _INK, 0.42)
        about = f"{face.side_pixels:.0f} px  {face.confidence:.2f}"
        _write(strip, about, (left, 46 + _CROP + 31), FAINT, 0.42)
        left += _CROP + _GAP
    return strip


def _draw_dots(crop: RGB, xy: Sequence[float], colour: Colour) -> None:
    """Draw a small dot at each point, given as fractions of the crop's side."""
    for x, y in zip(xy[::2], xy[1::2], strict=True):
        # OpenCV takes fixed-point integers, and the middle of pixel 0 lies at 0, not at 0.5.
        middle = [round((value * len(crop) - 0.5) * 2**_FRACTION_BITS) for value in (x, y)]
        radius = 3 * 2 ** (_FRACTION_BITS - 1)
        cv2.circle(crop, middle, radius, colour, cv2.FILLED, cv2.LINE_AA, _FRACTION_BITS)


def _choose_colour(track_id: int) -> Colour:
    return _TRACKS[track_id % len(_TRACKS)]


def _resize(rgb_HWC: RGB, width: int, height: int) -> RGB:
    # Area averaging avoids aliasing when a picture shrinks, and does not apply when it grows.
    method = cv2.INTER_AREA if width < rgb_HWC.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(rgb_HWC, (width, height), interpolation=method), np.uint8)
