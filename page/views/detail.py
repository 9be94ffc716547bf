"""The details of one file: verdict, player, scores over time, faces, downloads."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from page import markup
from page.words import describe_model_and_rule, format_clock, format_size, read_limits
from reelcheck.card import ModelCard
from storage.columns import SCHEMA_VERSION
from storage.rows import ScoreRow

_PLAYED = {"mp4": "video/mp4", "mov": "video/mp4", "webm": "video/webm", "matroska": "video/webm"}
"""Containers that browsers may play -> media types."""
_PLAYED_CODECS = ("h264", "vp8", "vp9", "av1")
_PICTURE_TYPES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png", b"RIFF": "image/webp"}
_LARGEST_PICTURE_BYTES = 20_000_000
_ASSETS = Path(__file__).resolve().parents[1] / "assets"


@cache
def get_timeline_component() -> Any:
    """Register the component once; see ``timeline.js``."""
    return st.components.v2.component(
        "reelcheck_timeline",
        html='<div id="timeline"></div>',
        css=(_ASSETS / "timeline.css").read_text(encoding="utf-8"),
        js=(_ASSETS / "timeline.js").read_text(encoding="utf-8"),
    )


def show_detail(
    row: ScoreRow,
    *,
    name: str,
    card: ModelCard | None,
    media: Path | None,
    evidence_dir: Path,
    key: str,
) -> None:
    """Draw the details of one file.

    Args:
        row: the file's row.
        name: name of the file, as the reader knows it.
        card: card of the model; None: unknown.
        media: the file; None: it cannot be shown.
        evidence_dir: folder that the row's ``evidence_path`` is relative to.
        key: keeps these elements apart from others on the page.
    """
    if card is not None and card.notes:
        st.html(markup.render_notes(card.notes))
    st.html(markup.render_verdict_card(row, name=name))
    if row["status"] == "ok":
        with st.container(key=f"player-{key}"):
            _show_media(row, media)
        if _is_moving(row):
            real, _, fake = read_limits(row)
            st.markdown("#### Over time")
            data = make_timeline_data(row, player=f"player-{key}")
            get_timeline_component()(key=f"timeline-{key}", data=data)
            st.caption(
                "Marks: what each frame says alone, not calibrated. Bars: stretches judged "
                "together, on the scale of the verdict. Dashed: the threshold"
                + ("; shaded: inconclusive" if real < fake else "")
                + ". Click, or use the arrow keys, to go there in the video."
            )
        _show_people(row, evidence_dir)
    with st.expander("File and model"):
        left, right = st.columns(2)
        left.html(markup.render_facts(describe_file(row)))
        if card is not None:
            right.html(markup.render_facts(describe_model_and_rule(card)))


def make_timeline_data(row: ScoreRow, *, player: str) -> dict[str, Any]:
    """Make the data of the time-line: numbers only, no text from outside."""
    persons = {track["track_id"]: n for n, track in enumerate(row["tracks"])}
    frames = row["frames"]
    first = min(frame["pts_seconds"] for frame in frames)
    last = max(frame["pts_seconds"] for frame in frames)
    duration = row["duration_seconds"] or 0.0
    # A clip cut from a longer one may keep that one's clock; players begin at 0.
    offset = first if first > duration else 0.0
    return {
        "player": player,
        "shapes": markup.PERSON_SHAPES,
        "start": offset,
        "end": max(last, offset + duration),
        "offset": offset,
        "threshold": row["threshold"],
        "real_below": row["real_below"],
        "fake_from": row["fake_from"],
        "frames": [
            {
                "seconds": frame["pts_seconds"],
                "score": frame["score"],
                "person": persons[frame["track_id"]],
                "is_evidence": frame["is_evidence"],
            }
            for frame in frames
        ],
        "segments": [
            {
                "start": segment["start_seconds"],
                "end": segment["end_seconds"],
                "score": segment["score"],
                "person": persons[segment["track_id"]],
            }
            for segment in row["segments"]
        ],
    }


def describe_file(row: ScoreRow) -> list[tuple[str, str]]:
    """Describe the container and the frames that were looked at."""
    size = f"{row['width']} by {row['height']}" if row["width"] and row["height"] else None
    length = None if row["duration_seconds"] is None else format_clock(row["duration_seconds"])
    looked = None if row["num_frames_decoded"] is None else f"{row['num_frames_decoded']:,}"
    if looked is not None and row["num_frames"]:
        looked = f"{looked} of {row['num_frames']:,}"
    facts = {
        "Picture": size,
        "Length": length,
        "Codec": row["codec"],
        "Container": row["container"],
        "File size": None if row["size_bytes"] is None else format_size(row["size_bytes"]),
        "Frames looked at": looked,
        "... with a face": row["num_frames_with_face"],
        "SHA-256": row["video_id"],
    }
    return [(name, str(value)) for name, value in facts.items() if value is not None]


def format_row(row: ScoreRow, *, name: str) -> str:
    """Format the row as JSON, with the reader's name of the file and no folder of this machine."""
    shown = {**row, "path": name, "root": "", "schema_version": SCHEMA_VERSION}
    return json.dumps(shown, indent=1, allow_nan=False) + "\n"


def _is_moving(row: ScoreRow) -> bool:
    return len({frame["pts_seconds"] for frame in row["frames"]}) > 1


def _show_media(row: ScoreRow, media: Path | None) -> None:
    if media is None or not media.is_file():
        st.caption("The file itself is not here; only its results.")
        return
    if row["container"] == "image":
        _show_picture(media)
        return
    kinds = (row["container"] or "").split(",")
    kind = next((_PLAYED[k] for k in kinds if k in _PLAYED), None)
    if kind is None:
        st.caption(f"Browsers do not play {row['container']}; the verdict does not depend on that.")
        return
    st.video(str(media), format=kind, alt="The file that was checked")
    if row["codec"] not in _PLAYED_CODECS:
        st.caption(
            f"Your browser may not play {row['codec']}; the verdict does not depend on that."
        )


def _show_picture(media: Path) -> None:
    content = media.read_bytes() if media.stat().st_size <= _LARGEST_PICTURE_BYTES else b""
    kind = next((kind for magic, kind in _PICTURE_TYPES.items() if content.startswith(magic)), None)
    if kind is not None:
        uri = markup.make_data_uri(content, kind)
        st.html(f'<div class="rc-still"><img src="{uri}" alt="The picture that was checked"></div>')


def _show_people(row: ScoreRow, evidence_dir: Path) -> None:
    tracks = row["tracks"]
    st.markdown(f"#### {'The face' if len(tracks) == 1 else f'{len(tracks)} people'}")
    faces = markup.cut_evidence_faces(row, evidence_dir)
    for number, track in enumerate(tracks, start=1):
        own = [face for face in faces if face[0]["track_id"] == track["track_id"]]
        with st.container(border=True):
            st.html(
                markup.render_person(row, track, number) + (markup.render_strip(own) if own else "")
            )
    if faces:
        shown = len({frame["track_id"] for frame, _, _ in faces})
        heat = any(heat is not None for _, _, heat in faces)
        st.caption(
            "The frames on which a face looks most fake."
            + (
                f" Below {'those of person 1' if len(tracks) > 1 else 'each'}, the parts of the "
                "face that lower its score when they are blurred away: that shows where a score "
                "comes from, and proves nothing."
                if heat
                else ""
            )
            + (f" Pictures are kept of the first {shown}." if shown < len(tracks) else "")
        )
