"""A contact sheet of one video of a store, for a person who wants to see what was found."""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import pyarrow.compute as pc

from reelcheck.config import PreprocessSettings, RunSettings
from reelcheck.errors import StoreError, VideoError
from reelcheck.locations import is_url, location_of
from reelcheck.status import Status
from storage.atomic import write_bytes
from storage.checked.settings import read_preprocessing
from storage.crops import CropReader
from storage.layout import StoreLayout
from storage.object_store.copies import fetch_file
from storage.rows import ManifestRow, VideoRow
from storage.schemas import MANIFEST, VIDEOS
from storage.tables import read_rows, read_table
from tasks.faces.apart import call_apart
from tasks.faces.decoding.plan import space_evenly
from tasks.faces.decoding.stills import Still
from tasks.faces.worker import read_stills_of
from tasks.preprocessing.contact_sheet import (
    BAD,
    FAINT,
    GOOD,
    MAX_CROPS,
    Face,
    Line,
    Sheet,
    draw_sheet,
)

_MAX_STILLS = 12
_MAX_STILL_PIXELS = 640
_MAX_TRACKS = 30
_MIN_ID_DIGITS = 6


def write_contact_sheet(layout: StoreLayout, video: str, out: Path, run: RunSettings) -> None:
    """Draw one video's frames, face boxes and crops, and write them as a PNG file.

    Args:
        layout: the store.
        video: id of the video or at least six of its first digits, its path or URL, or its file
            name.
        out: the PNG file.
        run: deadline and memory of the process that opens the video.

    Raises:
        StoreError: no such video in the store, several, or a damaged store.
    """
    sheet = gather_sheet(layout, video, run)
    is_done, png = cv2.imencode(".png", cv2.cvtColor(draw_sheet(sheet), cv2.COLOR_RGB2BGR))
    if not is_done:
        raise StoreError(f"the contact sheet of {video!r} cannot be made into a PNG file")
    write_bytes(out, png.tobytes())


def gather_sheet(layout: StoreLayout, video: str, run: RunSettings) -> Sheet:
    """Collect what the store and the video's file have to show; see ``write_contact_sheet``."""
    row = find_video(read_rows(layout.videos_path, VIDEOS), video)
    tracks = _read_tracks(layout, row["video_id"])
    stills, note = _read_stills(layout, row, tracks, run)
    notes = [note] if note else []
    if len(tracks) > _MAX_TRACKS:
        notes.append(f"{len(tracks) - _MAX_TRACKS} more face tracks are not shown")
    return Sheet(
        lines=tuple(_describe(layout, row, notes)),
        stills=tuple(stills),
        tracks=tuple(tracks[:_MAX_TRACKS]),
    )


def find_video(rows: Sequence[VideoRow], video: str) -> VideoRow:
    """Find the row that a person means; of several copies take one whose file is there.

    Args:
        rows: the store's table of files.
        video: id of the video or at least six of its first digits, its path or URL, or its file
            name.

    Raises:
        StoreError: no video fits, or several different ones.
    """
    meant = [row for row in rows if video in {row["path"], location_of(row), row["video_id"]}]
    if not meant:
        meant = [row for row in rows if PurePosixPath(row["path"]).name == video]
    if not meant and len(video) >= _MIN_ID_DIGITS:
        meant = [row for row in rows if (row["video_id"] or "").startswith(video.lower())]
    if not meant:
        raise StoreError(
            f"the store has no video {video!r}; give its path or name, its video_id or at least "
            f"{_MIN_ID_DIGITS} first digits of it, as in videos.parquet"
        )
    if len({row["video_id"] or row["path"] for row in meant}) > 1:
        some = ", ".join(
            f"{row['path']} ({(row['video_id'] or 'no id')[:12]})" for row in meant[:5]
        )
        raise StoreError(f"{video!r} can mean {len(meant)} videos: {some}; give the path or the id")
    return next((row for row in meant if _may_be_there(location_of(row))), meant[0])


def _may_be_there(location: str) -> bool:
    """Whether a path is a file; only fetching shows whether an object is there."""
    return is_url(location) or Path(location).is_file()


def _read_tracks(layout: StoreLayout, video_id: str | None) -> list[tuple[Face, ...]]:
    """Read the faces of every track in the order of time, with the crops that are to be shown."""
    table = read_table(layout.manifest_path, MANIFEST)
    sequences: list[ManifestRow] = table.filter(pc.field("video_id") == video_id).to_pylist()
    by_track: dict[int, list[ManifestRow]] = defaultdict(list)
    for row in sequences:
        by_track[row["track_id"]].append(row)
    return [_read_faces(layout, rows) for _, rows in sorted(by_track.items())]


def _read_faces(layout: StoreLayout, rows: Sequence[ManifestRow]) -> tuple[Face, ...]:
    faces = []
    for row in rows:
        crops = CropReader(layout.crops_path(row["shard"], row["crop_file"]))
        crops_THWC = crops.read(row["crop_row"], sequence_id=row["sequence_id"])
        for index, frame_index in enumerate(row["frame_indices"]):
            x1, y1, x2, y2 = row["boxes_xyxy"][index]
            keypoints_xy = tuple(row["keypoints_xy"][index]) if row["keypoints_xy"] else None
            face = Face(
                track_id=row["track_id"],
                frame_index=frame_index,
                pts_seconds=row["pts_seconds"][index],
                xyxy=(x1, y1, x2, y2),
                confidence=row["confidences"][index],
                crop_HWC=crops_THWC[index],
                keypoints_xy=keypoints_xy,
            )
            faces.append(face)
    faces.sort(key=lambda face: face.frame_index)
    shown = set(space_evenly(len(faces), MAX_CROPS).tolist())
    return tuple(
        face if index in shown else replace(face, crop_HWC=None) for index, face in enumerate(faces)
    )


def _read_stills(
    layout: StoreLayout, row: VideoRow, tracks: Sequence[Sequence[Face]], run: RunSettings
) -> tuple[list[Still], str | None]:
    """Read frames of the video; where there are none to show, the text says why."""
    location = location_of(row)
    if row["video_id"] is None or (row["num_frames_decoded"] or 0) == 0:
        return [], None
    if not _may_be_there(location):
        return [], "the file is gone: crops only"
    frames = sorted({face.frame_index for track in tracks for face in track})
    settings = read_preprocessing(layout)
    try:
        with fetch_file(location, run.read_limits) as path:
            return _read_apart(path, row["video_id"], frames, settings, run), None
    except VideoError as error:
        if error.status is Status.UNREADABLE:
            return [], f"the file has another content now, or none ({error.reason}): crops only"
        return [], f"the frames cannot be read ({error.reason}): crops only"
    except (OSError, StoreError) as error:
        reason = getattr(error, "strerror", None) or error
        return [], f"the file cannot be read ({reason}): crops only"


def _read_apart(
    path: Path,
    video_id: str,
    frame_indices: Sequence[int],
    settings: PreprocessSettings,
    run: RunSettings,
) -> list[Still]:
    """Call ``read_stills`` in a process of its own, with the limits of preprocessing.

    Raises:
        VideoError: the video cannot be read, or not within the limits.
    """
    try:
        return call_apart(
            read_stills_of,
            args=[path, video_id, frame_indices, settings],
            kwargs={
                "max_stills": _MAX_STILLS,
                "max_side_pixels": _MAX_STILL_PIXELS,
                "limits": run.read_limits,
            },
            timeout_seconds=run.timeout_seconds,
            max_memory_bytes=run.max_memory_bytes,
        )
    except TimeoutError:
        raise VideoError(Status.TIMEOUT, f"gave up after {run.timeout_seconds:g} seconds") from None
    except MemoryError:
        raise VideoError(Status.OUT_OF_MEMORY, "not enough memory") from None
    except BrokenProcessPool:
        raise VideoError(Status.DECODE_ERROR, "the process that read it died") from None
    except cv2.error as error:
        raise VideoError(Status.DECODE_ERROR, f"a frame of unusable shape: {error.err}") from error


def _describe(layout: StoreLayout, row: VideoRow, notes: Sequence[str]) -> list[Line]:
    status = f"{row['status']}: {row['reason']}" if row["reason"] else row["status"]
    names = f"video {row['video_id'] or '-'}    preprocessing {layout.preprocessing_hash}"
    lines = [
        Line(text=row["path"], scale=0.8),
        Line(text=status, colour=GOOD if row["status"] == Status.OK else BAD),
        Line(text=_describe_video(row)),
        *(Line(text=note, colour=BAD) for note in notes),
        Line(text=names, colour=FAINT, scale=0.45),
    ]
    return [line for line in lines if line.text]


def _describe_video(row: VideoRow) -> str:
    """Write what is known of the video, in one line."""
    known: dict[str, Any] = {
        **row,
        "container": (row["container"] or "").partition(",")[0],
        "head_rotation": row["head_rotation"] or None,
        "label": {1: "fake", 0: "real", None: None}[row["label"]],
    }
    parts = [
        ("duration_seconds", "{duration_seconds:.2f} s"),
        ("width", "{width} x {height}"),
        ("codec", "{codec} in {container}"),
        ("average_fps", "{average_fps:.4g} frames/s"),
        (
            "num_frames_decoded",
            "{decoder} decoded {num_frames_decoded} frames of {num_frames_sampled} sampled, "
            "{num_frames} in all",
        ),
        ("num_frames_with_face", "a face on {num_frames_with_face}"),
        ("head_rotation", "frames turned by {head_rotation} degrees to find it"),
        ("label", "label {label}"),
    ]
    return "    ".join(text.format_map(known) for name, text in parts if known[name] is not None)
