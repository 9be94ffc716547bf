"""Pieces of HTML. Names and reasons come from outside: everything is escaped here."""

import base64
import io
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from PIL import Image

from page.words import MARKS, clock, finding, headline, meaning, next_step, score_text, warnings
from storage.tables import Row

_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters, and marks that turn the direction of the text after them."""
VERDICTS = ("real", "inconclusive", "fake")
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
"""Corners around the origin, in pixels; none is a verdict's shape, as no person's colour is."""


def shown(text: str) -> str:
    """Text of others, for HTML."""
    return escape(_INVISIBLE.sub(lambda found: f"⟨U+{ord(found.group()):04X}⟩", text))


def chip(verdict: str | None, words: str | None = None) -> str:
    """A verdict in one word: shape, colour and text."""
    text = escape(words or verdict or "no verdict")
    return f'<span class="rc-chip {verdict or "none"}">{MARKS[verdict]} {text}</span>'


def verdict_card(row: Row, *, name: str) -> str:
    """The answer for one file: verdict, score and what they mean, or why there is none."""
    verdict = row["verdict"]
    parts = [
        f'<p class="rc-name"><bdi>{shown(name)}</bdi></p>',
        f'<div class="rc-head"><p class="rc-word"><span aria-hidden="true">{MARKS[verdict]}</span>'
        f"{escape(headline(row))}</p>",
    ]
    if verdict is None:
        parts.append("</div>")
        parts.append(f"<p>{escape(finding(row))}</p>")
        if row["reason"]:
            parts.append(f'<p class="rc-muted">Reason: {shown(row["reason"])}</p>')
        parts.append(f"<p><b>What you can do:</b> {escape(next_step(row))}</p>")
    else:
        parts.append(f'<span class="rc-score">score <b>{score_text(row["score"])}</b> of 1</span>')
        parts.append(f"</div>{_scale(row)}")
        parts.append(f"<p>{escape(finding(row))} {escape(meaning(row['score']))}</p>")
        if row["reason"]:
            parts.append(f'<p class="rc-muted">Remark: {shown(row["reason"])}</p>')
    said = "".join(f"<li>{escape(text)}</li>" for text in warnings(row["quality_flags"] or []))
    if said:
        parts.append(
            '<p><b>Less certain than the score says:</b></p><ul class="rc-warn">' + said + "</ul>"
        )
    kind = verdict or "none"
    return f'<section class="rc-card {kind}" aria-label="Verdict">{"".join(parts)}</section>'


def _scale(row: Row) -> str:
    """The score between 0 and 1, the threshold, and what is called what."""
    real = 100 * min(1.0, max(0.0, row["real_below"]))
    fake = 100 * min(1.0, max(0.0, row["fake_from"]))
    score, threshold = 100 * row["score"], 100 * min(1.0, max(0.0, row["threshold"]))
    label = (
        f"Score {score_text(row['score'])} on a scale from 0, real, to 1, fake; "
        f"threshold {score_text(row['threshold'])}"
    )
    return (
        f'<div class="rc-scale" role="img" aria-label="{escape(label)}">'
        f'<i class="r" style="width:{real:.2f}%"></i>'
        f'<i class="i" style="left:{real:.2f}%;width:{max(0.0, fake - real):.2f}%"></i>'
        f'<i class="f" style="width:{100 - fake:.2f}%"></i>'
        f'<i class="t" style="left:{threshold:.2f}%"></i>'
        f'<i class="m" style="left:{score:.2f}%"></i>'
        f"<span>0 real</span><span>1 fake</span></div>"
    )


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and texts, one below the other."""
    lines = "".join(f"<dt>{shown(name)}</dt><dd>{shown(text)}</dd>" for name, text in pairs)
    return f'<dl class="rc-facts">{lines}</dl>'


def notes(texts: Sequence[str]) -> str:
    """What a model's card wants to be read first."""
    return "".join(f'<p class="rc-notes" role="note">{shown(text)}</p>' for text in texts)


def person_line(row: Row, track: Row, number: int) -> str:
    """One face in a line."""
    verdict = _verdict(track["score"], row)
    said = chip(verdict, f"{verdict}, {score_text(track['score'])}")
    span = f"{clock(track['start_seconds'])} to {clock(track['end_seconds'])}"
    details = f"{span} · {track['num_frames']} frames · face {track['face_pixels']:.0f} pixels wide"
    return (
        f'<div class="rc-person">{_swatch(number - 1)}<b>Person {number}</b>{said}'
        f'<span class="rc-muted">{escape(details)}</span></div>'
    )


def _swatch(place: int) -> str:
    """A person's mark on the time-line."""
    corners = PERSON_SHAPES[place % len(PERSON_SHAPES)]
    outline = ", ".join(f"{x + 6:.1f}px {y + 6:.1f}px" for x, y in corners)
    style = f"background:var(--track-{place % 8});clip-path:polygon({outline})"
    return f'<i class="rc-swatch" style="{style}" aria-hidden="true"></i>'


def _verdict(score: float, row: Row) -> str:
    if score >= row["fake_from"]:
        return "fake"
    return "real" if score < row["real_below"] else "inconclusive"


def strip(faces: Sequence[tuple[Row, bytes, bytes | None]]) -> str:
    """Faces side by side, each with its heat map below.

    Args:
        faces: the frame's row, JPEG of the face, JPEG of its heat map.
    """
    items = []
    for frame, face, heat in faces:
        time = clock(frame["pts_seconds"])
        pictures = _picture(face, f"Face at {time}")
        if heat is not None:
            pictures += _picture(heat, f"Heat map of the face at {time}")
        items.append(f"<li>{pictures}{time}<br>alone {score_text(frame['score'])}</li>")
    return f'<ol class="rc-strip">{"".join(items)}</ol>'


def _picture(jpeg: bytes, alt: str) -> str:
    return (
        f'<img src="{data_uri(jpeg, "image/jpeg")}" alt="{escape(alt)}" width="112" height="112">'
    )


def data_uri(content: bytes, kind: str) -> str:
    """Content within an address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def evidence_faces(row: Row, folder: Path) -> list[tuple[Row, bytes, bytes | None]]:
    """The pictures of a row, cut out of the one that scoring has written, in the order of frames.

    Args:
        row: with ``evidence_path`` and ``frames``; ``storage.schemas.SCORES`` says how they belong
            together.
        folder: what the path is relative to.

    Returns:
        Nothing where there is no picture, or one of another kind.
    """
    frames = [frame for frame in row["frames"] or [] if frame["is_evidence"]]
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
        return _jpeg(picture.crop((left, top, left + side, top + side)))

    return [
        (
            frame,
            cut(column, person + (has_heat and person > 0)),
            cut(column, 1) if has_heat and person == 0 else None,
        )
        for person, own in enumerate(people)
        for column, frame in enumerate(own)
    ]


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def histogram(counts: Sequence[Mapping[str, int]]) -> str:
    """Scores from 0 to 1 in columns of equal width, stacked by verdict.

    Args:
        counts: of each column, files per verdict.
    """
    largest = max((sum(column.values()) for column in counts), default=0) or 1
    bars = []
    for n, column in enumerate(counts):
        low, high = n / len(counts), (n + 1) / len(counts)
        said = ", ".join(f"{column[v]:,} {v}" for v in VERDICTS if column.get(v))
        stack = "".join(
            f'<i class="{verdict}" style="height:{100 * column[verdict] / largest:.2f}%"></i>'
            for verdict in reversed(VERDICTS)
            if column.get(verdict)
        )
        bars.append(f'<div title="{low:.2f} to {high:.2f}: {said or "none"}">{stack}</div>')
    total = sum(sum(column.values()) for column in counts)
    return (
        f'<div role="img" aria-label="Histogram of {total:,} scores from 0 to 1">'
        f'<div class="rc-histogram">{"".join(bars)}</div>'
        '<div class="rc-ticks"><span>0 real</span><span>score</span><span>1 fake</span></div></div>'
    )


def totals(counts: Mapping[str, int]) -> str:
    """How many files have which verdict or status."""
    items = []
    for name, number in counts.items():
        verdict = name if name in VERDICTS else None
        items.append(f"<li><b>{number:,}</b> {chip(verdict, name.replace('_', ' '))}</li>")
    return f'<ul class="rc-totals">{"".join(items)}</ul>'
