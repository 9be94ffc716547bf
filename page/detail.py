"""Everything that is known of one file: verdict, player, scores over time, faces, downloads."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from page import markup
from page.words import card_facts, clock, size_text
from reelcheck.card import ModelCard
from storage.schemas import SCHEMA_VERSION, SCORES
from storage.tables import Row

_PLAYED = {"mp4": "video/mp4", "mov": "video/mp4", "webm": "video/webm", "matroska": "video/webm"}
"""Containers that browsers may play -> media types."""
_PLAYED_CODECS = ("h264", "vp8", "vp9", "av1")
_PICTURE_TYPES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png", b"RIFF": "image/webp"}
_LARGEST_PICTURE_BYTES = 20_000_000
_HERE = Path(__file__).parent


@cache
def timeline_component() -> Any:
    """Registered once; ``timeline.js`` says what it does."""
    return st.components.v2.component(
        "reelcheck_timeline",
        html='<div id="timeline"></div>',
        css=(_HERE / "timeline.css").read_text(encoding="utf-8"),
        js=(_HERE / "timeline.js").read_text(encoding="utf-8"),
    )


def show_detail(
    row: Row,
    *,
    name: str,
    card: ModelCard | None,
    media: Path | None,
    evidence_dir: Path,
    key: str,
) -> None:
    """Draw it.

    Args:
        row: of ``storage.schemas.SCORES``.
        name: of the file, as the reader knows it.
        card: of the model; None: it is not known here.
        media: the file; None: it cannot be shown.
        evidence_dir: what the row's ``evidence_path`` is relative to.
        key: keeps this drawing apart from others on the page.
    """
    if card is not None and card.notes:
        st.html(markup.notes(card.notes))
    st.html(markup.verdict_card(row, name=name))
    if row["status"] == "ok":
        with st.container(key=f"player-{key}"):
            _show_media(row, media)
        if _is_moving(row):
            st.markdown("#### Over time")
            data = timeline_data(row, player=f"player-{key}")
            timeline_component()(key=f"timeline-{key}", data=data)
            st.caption(
                "Marks: what each frame says alone, not calibrated. Bars: stretches judged "
                "together, on the scale of the verdict. Dashed: the threshold"
                + ("; shaded: inconclusive" if row["real_below"] < row["fake_from"] else "")
                + ". Click, or use the arrow keys, to go there in the video."
            )
        _show_people(row, evidence_dir)
    with st.expander("File and model"):
        left, right = st.columns(2)
        left.html(markup.facts(file_facts(row)))
        if card is not None:
            right.html(markup.facts(card_facts(card)))


def timeline_data(row: Row, *, player: str) -> dict[str, Any]:
    """What the time-line draws; nothing of what others have written."""
    places = {track["track_id"]: n for n, track in enumerate(row["tracks"])}
    frames = [frame for frame in row["frames"] if frame["score"] is not None]
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
                "person": places[frame["track_id"]],
                "is_evidence": frame["is_evidence"],
            }
            for frame in frames
        ],
        "segments": [
            {
                "start": part["start_seconds"],
                "end": part["end_seconds"],
                "score": part["score"],
                "person": places[part["track_id"]],
            }
            for part in row["segments"]
        ],
    }


def file_facts(row: Row) -> list[tuple[str, str]]:
    """What the container says, and what was looked at."""
    size = f"{row['width']} by {row['height']}" if row["width"] and row["height"] else None
    length = None if row["duration_seconds"] is None else clock(row["duration_seconds"])
    looked = row["num_frames_decoded"]
    if looked is not None and row["num_frames"]:
        looked = f"{looked:,} of {row['num_frames']:,}"
    found = {
        "Picture": size,
        "Length": length,
        "Codec": row["codec"],
        "Container": row["container"],
        "File size": None if row["size_bytes"] is None else size_text(row["size_bytes"]),
        "Frames looked at": looked,
        "... with a face": row["num_frames_with_face"],
        "SHA-256": row["video_id"],
    }
    return [(name, str(value)) for name, value in found.items() if value is not None]


def download_row(row: Row, *, name: str) -> str:
    """The row as JSON, under the reader's name for the file and without folders of this machine."""
    told = {column: row.get(column) for column in SCORES.names}
    told |= {"path": name, "root": "", "schema_version": SCHEMA_VERSION}
    return json.dumps(told, indent=1, allow_nan=False) + "\n"


def _is_moving(row: Row) -> bool:
    return len({frame["pts_seconds"] for frame in row["frames"]}) > 1


def _show_media(row: Row, media: Path | None) -> None:
    if media is None or not media.is_file():
        st.caption("The file itself is not here; only what was found in it.")
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
        uri = markup.data_uri(content, kind)
        st.html(f'<div class="rc-still"><img src="{uri}" alt="The picture that was checked"></div>')


def _show_people(row: Row, evidence_dir: Path) -> None:
    tracks = row["tracks"]
    st.markdown(f"#### {'The face' if len(tracks) == 1 else f'{len(tracks)} people'}")
    faces = markup.evidence_faces(row, evidence_dir)
    for number, track in enumerate(tracks, start=1):
        own = [face for face in faces if face[0]["track_id"] == track["track_id"]]
        with st.container(border=True):
            st.html(markup.person_line(row, track, number) + (markup.strip(own) if own else ""))
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
