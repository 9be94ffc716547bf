"""Pieces of HTML. Names and reasons come from outside: everything is escaped in this module."""

import base64
import io
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from PIL import Image

from page.words import (
    MARKS,
    advise,
    describe_flags,
    describe_verdict,
    explain_score,
    explain_verdict,
    format_clock,
    read_limits,
)
from reelcheck.visible import spell_invisible
from storage.rows import FrameRow, ScoreRow, TrackRow
from tasks.scoring.words import format_score

VERDICTS = ("real", "inconclusive", "fake")
EvidenceFace = tuple[FrameRow, bytes, bytes | None]
"""The frame's row, JPEG of the face, JPEG of its heat map if there is one."""
_MARKDOWN = re.compile(r"([\\`*_\[\]<>#!|~$:&])")
"""Characters that begin something in Streamlit's Markdown."""
PERSON_SHAPES = (
    ((-4, -4), (4, -4), (4, 4), (-4, 4)),
    (
        *((-1.7, -5), (1.7, -5), (1.7, -1.7), (5, -1.7), (5, 1.7), (1.7, 1.7)),
        *((1.7, 5), (-1.7, 5), (-1.7, 1.7), (-5, 1.7), (-5, -1.7), (-1.7, -1.7)),
    ),
    (
        *((0, -5.6), (1.5, -2), (5.3, -1.7), (2.4, 0.8), (3.3, 4.5)),
        *((0, 2.5), (-3.3, 4.5), (-2.4, 0.8), (-5.3, -1.7), (-1.5, -2)),
    ),
    ((-4.6, -4.2), (4.6, 4.2), (4.6, -4.2), (-4.6, 4.2)),
)
"""Corners around the origin, in pixels. No person has the shape or the colour of a verdict."""


def escape_text(text: str) -> str:
    """Escape text of others for HTML."""
    return escape(spell_invisible(text))


def escape_markdown(text: str) -> str:
    """Escape text of others for Streamlit's messages, which are Markdown: no picture is fetched."""
    return _MARKDOWN.sub(r"\\\1", spell_invisible(text))


def render_chip(verdict: str | None, words: str | None = None) -> str:
    """Render a verdict in one word: shape, colour and text."""
    text = escape(words or verdict or "no verdict")
    return f'<span class="rc-chip {verdict or "none"}">{MARKS[verdict]} {text}</span>'


def render_verdict_card(row: ScoreRow, *, name: str) -> str:
    """Render the result for one file: verdict, score and their meaning, or why there is none."""
    verdict, score = row["verdict"], row["score"]
    parts = [
        f'<p class="rc-name"><bdi>{escape_text(name)}</bdi></p>',
        f'<div class="rc-head"><p class="rc-word"><span aria-hidden="true">{MARKS[verdict]}</span>'
        f"{escape(describe_verdict(row))}</p>",
    ]
    if verdict is None or score is None:
        parts.append("</div>")
        parts.append(f"<p>{escape(explain_verdict(row))}</p>")
        if row["reason"]:
            parts.append(f'<p class="rc-muted">Reason: {escape_text(row["reason"])}</p>')
        parts.append(f"<p><b>What you can do:</b> {escape(advise(row))}</p>")
    else:
        parts.append(f'<span class="rc-score">score <b>{format_score(score)}</b> of 1</span>')
        parts.append(f"</div>{_render_scale(row, score)}")
        parts.append(f"<p>{escape(explain_verdict(row))} {escape(explain_score(score))}</p>")
        if row["reason"]:
            parts.append(f'<p class="rc-muted">Remark: {escape_text(row["reason"])}</p>')
    flags = "".join(f"<li>{escape(text)}</li>" for text in describe_flags(row["quality_flags"]))
    if flags:
        parts.append(
            '<p><b>Less certain than the score says:</b></p><ul class="rc-warn">' + flags + "</ul>"
        )
    kind = verdict or "none"
    return f'<section class="rc-card {kind}" aria-label="Verdict">{"".join(parts)}</section>'


def _render_scale(row: ScoreRow, score: float) -> str:
    """Render the score on a scale from 0 to 1, with the threshold and the bands of the verdicts."""
    limits = read_limits(row)
    label = (
        f"Score {format_score(score)} on a scale from 0, real, to 1, fake; "
        f"threshold {format_score(limits[1])}"
    )
    real, threshold, fake = (100 * min(1.0, max(0.0, limit)) for limit in limits)
    return (
        f'<div class="rc-scale" role="img" aria-label="{escape(label)}">'
        f'<i class="r" style="width:{real:.2f}%"></i>'
        f'<i class="i" style="left:{real:.2f}%;width:{max(0.0, fake - real):.2f}%"></i>'
        f'<i class="f" style="width:{100 - fake:.2f}%"></i>'
        f'<i class="t" style="left:{threshold:.2f}%"></i>'
        f'<i class="m" style="left:{100 * score:.2f}%"></i>'
        f"<span>0 real</span><span>1 fake</span></div>"
    )


def render_facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Render names and texts, one below the other."""
    lines = "".join(
        f"<dt>{escape_text(name)}</dt><dd>{escape_text(text)}</dd>" for name, text in pairs
    )
    return f'<dl class="rc-facts">{lines}</dl>'


def render_notes(texts: Sequence[str]) -> str:
    """Render the notes of a model card."""
    return "".join(f'<p class="rc-notes" role="note">{escape_text(text)}</p>' for text in texts)


def render_person(row: ScoreRow, track: TrackRow, number: int) -> str:
    """Render one face track in a line."""
    score = track["score"]
    verdict = None if score is None else _find_verdict(score, row)
    text = None if score is None else f"{verdict}, {format_score(score)}"
    chip = render_chip(verdict, text)
    span = f"{format_clock(track['start_seconds'])} to {format_clock(track['end_seconds'])}"
    details = f"{span} · {track['num_frames']} frames · face {track['face_pixels']:.0f} pixels wide"
    return (
        f'<div class="rc-person">{_render_swatch(number - 1)}<b>Person {number}</b>{chip}'
        f'<span class="rc-muted">{escape(details)}</span></div>'
    )


def _render_swatch(index: int) -> str:
    """Render a person's mark on the time-line."""
    corners = PERSON_SHAPES[index % len(PERSON_SHAPES)]
    outline = ", ".join(f"{x + 6:.1f}px {y + 6:.1f}px" for x, y in corners)
    style = f"background:var(--track-{index % 8});clip-path:polygon({outline})"
    return f'<i class="rc-swatch" style="{style}" aria-hidden="true"></i>'


def _find_verdict(score: float, row: ScoreRow) -> str:
    real, _, fake = read_limits(row)
    if score >= fake:
        return "fake"
    return "real" if score < real else "inconclusive"


def render_strip(faces: Sequence[EvidenceFace]) -> str:
    """Render faces side by side, each with its heat map below.

    Args:
        faces: as ``cut_evidence_faces`` gives them.
    """
    items = []
    for frame, face, heat in faces:
        time = format_clock(frame["pts_seconds"])
        pictures = _render_picture(face, f"Face at {time}")
        if heat is not None:
            pictures += _render_picture(heat, f"Heat map of the face at {time}")
        items.append(f"<li>{pictures}{time}<br>alone {format_score(frame['score'])}</li>")
    return f'<ol class="rc-strip">{"".join(items)}</ol>'


def _render_picture(jpeg: bytes, alt: str) -> str:
    uri = make_data_uri(jpeg, "image/jpeg")
    return f'<img src="{uri}" alt="{escape(alt)}" width="112" height="112">'


def make_data_uri(content: bytes, kind: str) -> str:
    """Put content into an address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def cut_evidence_faces(row: ScoreRow, folder: Path) -> list[EvidenceFace]:
    """Cut the faces of a row out of its evidence picture, in the order of frames.

    Args:
        row: the row; frames with ``is_evidence`` are in the picture.
        folder: folder that ``evidence_path`` is relative to.

    Returns:
        Nothing where there is no picture, or a picture of another shape.
    """
    frames = [frame for frame in row["frames"] if frame["is_evidence"]]
    if not frames or not row["evidence_path"]:
        return []
    path = (folder / row["evidence_path"]).resolve()
    if folder.resolve() not in path.parents:
        return []  # a table may come from anywhere
    try:
        with Image.open(path, formats=("JPEG",)) as picture:
            picture.load()
    except OSError:
        return []
    people = [list(own) for _, own in itertools.groupby(frames, lambda f: f["track_id"])]
    side = picture.width // max(map(len, people))
    num_rows = picture.height // max(1, side)
    if picture.height != num_rows * side or num_rows - len(people) not in {0, 1}:
        return []
    has_heat = num_rows > len(people)

    def cut(column: int, row: int) -> bytes:
        left, top = column * side, row * side
        return _encode_jpeg(picture.crop((left, top, left + side, top + side)))

    return [
        (
            frame,
            cut(column, person + (has_heat and person > 0)),
            cut(column, 1) if has_heat and person == 0 else None,
        )
        for person, own in enumerate(people)
        for column, frame in enumerate(own)
    ]


def _encode_jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def render_histogram(counts: Sequence[Mapping[str, int]]) -> str:
    """Render scores from 0 to 1 in columns of equal width, stacked by verdict.

    Args:
        counts: files per verdict of each column.
    """
    largest = max((sum(column.values()) for column in counts), default=0) or 1
    bars = []
    for n, column in enumerate(counts):
        low, high = n / len(counts), (n + 1) / len(counts)
        words = ", ".join(f"{column[v]:,} {v}" for v in VERDICTS if column.get(v))
        stack = "".join(
            f'<i class="{verdict}" style="height:{100 * column[verdict] / largest:.2f}%"></i>'
            for verdict in reversed(VERDICTS)
            if column.get(verdict)
        )
        bars.append(f'<div title="{low:.2f} to {high:.2f}: {words or "none"}">{stack}</div>')
    total = sum(sum(column.values()) for column in counts)
    return (
        f'<div role="img" aria-label="Histogram of {total:,} scores from 0 to 1">'
        f'<div class="rc-histogram">{"".join(bars)}</div>'
        '<div class="rc-ticks"><span>0 real</span><span>score</span><span>1 fake</span></div></div>'
    )


def render_totals(counts: Mapping[str, int]) -> str:
    """Render how many files have which verdict or status."""
    items = []
    for name, number in counts.items():
        verdict = name if name in VERDICTS else None
        items.append(f"<li><b>{number:,}</b> {render_chip(verdict, name.replace('_', ' '))}</li>")
    return f'<ul class="rc-totals">{"".join(items)}</ul>'
