"""Draw the contact sheet of one video: what it is, where faces were found, what was cut out.

A sheet is a column of strips of one width. Pictures are RGB, lengths are in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from reelcheck.records import RGB
from tasks.faces.stills import Still

MAX_CROPS = 15
"""Crops in a face track's row."""

Colour = tuple[int, int, int]
_PAPER: Colour = (22, 23, 26)
_INK: Colour = (236, 236, 236)
GOOD: Colour = (110, 205, 130)
BAD: Colour = (255, 170, 70)
FAINT: Colour = (158, 160, 166)
# After Okabe and Ito: told apart by colour-blind people, too.
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
_BINARY_PLACES = 4


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the sheet's head."""

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
    """In pixels of the upright frame."""
    confidence: float
    crop_HWC: RGB | None
    """None: not chosen to be shown."""
    keypoints_xy: tuple[float, ...] | None
    """x and y of each key point of the crop, as fractions of its side; None: not known."""

    @property
    def side_pixels(self) -> float:
        """The longer side of the box."""
        x1, y1, x2, y2 = self.xyxy
        return max(x2 - x1, y2 - y1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sheet:
    """What is to be drawn."""

    lines: tuple[Line, ...]
    """The head."""
    stills: tuple[Still, ...]
    """Frames, in the order of time."""
    tracks: tuple[tuple[Face, ...], ...]
    """The faces of each track, in the order of time."""


def draw_sheet(sheet: Sheet) -> RGB:
    """The lines, frames with face boxes, then each face track's crops with their key points."""
    strips = [_blank(_MARGIN - _GAP), *map(_line_strip, sheet.lines), _blank(_GAP)]
    strips += _still_strips(sheet.stills, [face for track in sheet.tracks for face in track])
    strips += [_track_strip(track) for track in sheet.tracks]
    return np.concatenate([*strips, _blank(_MARGIN)])


def plain(text: str) -> str:
    r"""The text with all that cannot be drawn written as an escape, such as ``\xe9``."""
    return text.encode("unicode_escape").decode("ascii").replace("\\\\", "\\")


def _blank(height: int) -> RGB:
    return np.full((height, _WIDTH, 3), _PAPER, np.uint8)


def _write(picture: RGB, text: str, xy: tuple[int, int], colour: Colour, scale: float) -> None:
    cv2.putText(picture, text, xy, _FONT, scale, colour, 1, cv2.LINE_AA)


def _text_width(text: str, scale: float) -> int:
    (width, _), _ = cv2.getTextSize(text, _FONT, scale, 1)
    return int(width)


def _line_strip(line: Line) -> RGB:
    whole = text = plain(line.text)
    kept = len(whole)
    while (width := _text_width(text, line.scale)) > _INNER:
        kept = min(kept - 4, kept * _INNER // width)
        # The middle of a path tells least.
        text = f"{whole[: kept // 2]} ... {whole[-(kept // 2) :]}"
    strip = _blank(round(46 * line.scale))
    _write(strip, text, (_MARGIN, round(32 * line.scale)), line.colour, line.scale)
    return strip


def _still_strips(stills: Sequence[Still], faces: Sequence[Face]) -> list[RGB]:
    """Rows of equal cells: four in a row, or six of a video that stands upright."""
    if not stills:
        return []
    height, width = stills[0].rgb_HWC.shape[:2]
    num_columns = 4 if width > height else 6
    cell_width = (_INNER - (num_columns - 1) * _GAP) // num_columns
    cell_height = round(cell_width * min(height / width, 16 / 9))
    strips = []
    for place, still in enumerate(stills):
        row, column = divmod(place, num_columns)
        if column == 0:
            strips.append(_blank(cell_height + _GAP))
        left = _MARGIN + column * (cell_width + _GAP)
        cell = strips[row][:cell_height, left : left + cell_width]
        _draw_still(cell, still, [f for f in faces if f.frame_index == still.frame_index])
    return strips


def _draw_still(cell: RGB, still: Still, faces: Sequence[Face]) -> None:
    """Fill a part of the sheet with one frame, its time and its face boxes."""
    height, width = still.rgb_HWC.shape[:2]
    zoom = min(cell.shape[1] / width, cell.shape[0] / height)
    picture = _resized(still.rgb_HWC, max(1, round(width * zoom)), max(1, round(height * zoom)))
    for face in faces:
        colour = _colour(face.track_id)
        x1, y1, x2, y2 = (round(value * still.scale * zoom) for value in face.xyxy)
        cv2.rectangle(picture, (x1, y1), (x2, y2), colour, 2, cv2.LINE_AA)
        _write_label(picture, str(face.track_id), (x1 - 1, y1 - 4), colour)
    _write_label(picture, f"{still.pts_seconds:.2f} s", (5, picture.shape[0] - 8), _INK)
    top, left = ((cell.shape[axis] - picture.shape[axis]) // 2 for axis in (0, 1))
    cell[top : top + picture.shape[0], left : left + picture.shape[1]] = picture


def _write_label(picture: RGB, text: str, xy: tuple[int, int], colour: Colour) -> None:
    """Text on a dark ground, kept inside the picture."""
    width = _text_width(text, 0.5)
    x = min(max(xy[0], 2), max(2, picture.shape[1] - width - 6))
    y = min(max(xy[1], 16), picture.shape[0] - 4)
    cv2.rectangle(picture, (x - 2, y - 15), (x + width + 4, y + 5), _PAPER, cv2.FILLED)
    _write(picture, text, (x + 1, y), colour, 0.5)


def _track_strip(track: Sequence[Face]) -> RGB:
    """A line about the track, then its crops over their time, face size and confidence."""
    colour = _colour(track[0].track_id)
    sides = [face.side_pixels for face in track]
    confidence = np.median([face.confidence for face in track])
    title = (
        f"track {track[0].track_id}:  {len(track)} crops,  "
        f"{track[0].pts_seconds:.2f} to {track[-1].pts_seconds:.2f} s,  "
        f"face {min(sides):.0f} to {max(sides):.0f} px,  median confidence {confidence:.2f}"
    )
    strip = _blank(38 + _CROP + 42)
    strip[26:32, _MARGIN : _MARGIN + 14] = colour
    _write(strip, title, (_MARGIN + 22, 34), colour, 0.55)
    left = _MARGIN
    for face in track:
        if face.crop_HWC is None:
            continue
        crop = _resized(face.crop_HWC, _CROP, _CROP)
        _draw_dots(crop, face.keypoints_xy or (), colour)
        strip[46 : 46 + _CROP, left : left + _CROP] = crop
        _write(strip, f"{face.pts_seconds:.2f} s", (left, 46 + _CROP + 15), _INK, 0.42)
        about = f"{face.side_pixels:.0f} px  {face.confidence:.2f}"
        _write(strip, about, (left, 46 + _CROP + 31), FAINT, 0.42)
        left += _CROP + _GAP
    return strip


def _draw_dots(crop: RGB, xy: Sequence[float], colour: Colour) -> None:
    """A small dot at each point, given in sides of the crop."""
    for x, y in zip(xy[::2], xy[1::2], strict=True):
        # OpenCV takes integers with binary places, and pixel 0 has its middle at 0, not at 0.5.
        middle = [round((value * len(crop) - 0.5) * 2**_BINARY_PLACES) for value in (x, y)]
        radius = 3 * 2 ** (_BINARY_PLACES - 1)
        cv2.circle(crop, middle, radius, colour, cv2.FILLED, cv2.LINE_AA, _BINARY_PLACES)


def _colour(track_id: int) -> Colour:
    return _TRACKS[track_id % len(_TRACKS)]


def _resized(rgb_HWC: RGB, width: int, height: int) -> RGB:
    # Area averaging avoids aliasing when shrinking; it has no meaning when enlarging.
    method = cv2.INTER_AREA if width < rgb_HWC.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(rgb_HWC, (width, height), interpolation=method), np.uint8)
