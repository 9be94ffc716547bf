"""The result of a scoring run as one HTML file for people, readable without a network.

File names and reasons come from outside. In the table Jinja escapes them; in the data they are JSON
without a ``<``; the script that shows the data makes text nodes only; and the page's content
security policy allows that one script, known by its hash, and forbids to load anything else.
"""

import base64
import hashlib
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from reelcheck.card import ModelCard
from reelcheck.status import Status
from reelcheck.visible import spell_invisible
from storage.rows import ScoreRow
from storage.schemas import SCORES
from storage.schemas import STAGES as VIDEO_STAGES
from tasks.preprocessing.summary import STAGES as RUN_STAGES
from tasks.scoring.words import (
    FLAG_WORDS,
    STATUS_WORDS,
    VERDICTS,
    describe_model,
    describe_rule,
    format_duration,
    format_score,
)

_STAGE_WORDS = {**RUN_STAGES, "model": "judge the faces"}
_NUM_BINS = 20
_HISTOGRAM_PIXELS = 120
_LISTS = ("quality_flags", "tracks", "segments", "frames")
_TEMPLATES = PackageLoader("tasks.scoring")
_SCRIPTS = ("elements.js", "details.js", "table.js")
"""Joined to one script in the page."""


def render_report(
    rows: Sequence[Mapping[str, Any]],
    *,
    card: ModelCard,
    summary: Mapping[str, Any],
    evidence_dir: Path,
) -> str:
    """Render the page ``report.html``; equal input gives equal text.

    Args:
        rows: rows of ``storage.schemas.SCORES``; a missing key counts as null. The address
            ``#video=<n>`` opens the n-th row, counted from 1.
        card: the card of the model that gave the scores.
        summary: what the run cost, as in ``summary.json``; every key may be absent.
        evidence_dir: the folder that ``evidence_path`` is relative to. A picture that is not there
            or no JPEG is left out, and the page says so.

    Returns:
        HTML5 that refers to no other file.
    """
    complete = [_complete_row(row) for row in rows]
    environment = _make_environment()
    template = environment.get_template("report.html.j2")
    style, *scripts = (
        _TEMPLATES.get_source(environment, name)[0] for name in ("report.css", *_SCRIPTS)
    )
    script = "\n".join(scripts)
    return template.render(
        headline=_summarise(complete),
        run_facts=list(_describe_run(complete, summary)),
        model_facts=describe_model(card),
        notes=card.notes,
        rule=describe_rule(card.calibration),
        calibration=card.calibration,
        histogram=_stack_histogram(complete),
        verdict_counts=_count_in_order((row["verdict"] for row in complete), VERDICTS),
        status_counts=_count_in_order((row["status"] for row in complete), Status),
        videos=sorted(enumerate(complete, start=1), key=_rank_row),
        data=({"row": row, "evidence": _encode_evidence(row, evidence_dir)} for row in complete),
        words={
            "statuses": STATUS_WORDS,
            "flags": FLAG_WORDS,
            "stages": [(f"{stage}_seconds", _STAGE_WORDS[stage]) for stage in VIDEO_STAGES],
        },
        style=style,
        script=script,
        style_hash=_hash_for_csp(style),
        script_hash=_hash_for_csp(script),
    )


def _make_environment() -> Environment:
    environment = Environment(
        loader=_TEMPLATES,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "visible": spell_invisible,
        "score": format_score,
        "time": format_duration,
        "words": _spell_out,
    }
    # JSON has no NaN: a page that holds one does not open.
    environment.policies["json.dumps_kwargs"] = {
        "allow_nan": False,
        "separators": (",", ":"),
        "sort_keys": True,
    }
    return environment


def _hash_for_csp(source: str) -> str:
    digest = hashlib.sha256(source.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _complete_row(row: Mapping[str, Any]) -> ScoreRow:
    """Make a row with every column of the table, and no number that JSON cannot hold."""
    lists = {name: row.get(name) or [] for name in _LISTS}
    return SCORES.complete(_drop_non_finite({**row, **lists}))


def _drop_non_finite(value: Any) -> Any:
    """Replace numbers that JSON lacks by null, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _drop_non_finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_drop_non_finite(inner) for inner in value]
    return value


def _encode_evidence(row: ScoreRow, folder: Path) -> dict[str, Any] | None:
    """Encode a video's picture: size in pixels and data URI; None: there is no picture."""
    if row["evidence_path"] is None:
        return None
    try:
        content = (folder / row["evidence_path"]).read_bytes()
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as picture:
            width, height = picture.size
    except OSError:
        return None
    uri = f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
    return {"width": width, "height": height, "uri": uri}


def _summarise(rows: Sequence[ScoreRow]) -> str:
    counts = _count_in_order((row["verdict"] for row in rows), VERDICTS)
    parts = [f"{count:,} {verdict}" for verdict, count in counts.items()]
    without = sum(row["verdict"] is None for row in rows)
    if without:
        parts.append(f"{without:,} without a verdict")
    files = f"{len(rows):,} {'file' if len(rows) == 1 else 'files'}"
    return f"{files}: {', '.join(parts)}" if parts else "No files"


def _describe_run(
    rows: Sequence[ScoreRow], summary: Mapping[str, Any]
) -> Iterable[tuple[str, str]]:
    # The root is empty in a report of the page: visitors see no folder of the server.
    roots = sorted({row["root"] for row in rows if row["root"]})
    if roots:
        more = f" and {len(roots) - 3} more" if len(roots) > 3 else ""
        yield "Folder" if len(roots) == 1 else "Folders", ", ".join(roots[:3]) + more
    if summary.get("started_at") is not None:
        yield "Started", _format_moment(str(summary["started_at"]))
    if summary.get("wall_seconds") is not None:
        speed = summary.get("videos_per_second")
        rate = "" if speed is None else f", {speed:.2f} videos per second"
        yield "Took", format_duration(summary["wall_seconds"]) + rate
    if summary.get("cpu_seconds") is not None:
        stages = (summary.get("stage_seconds") or {}).items()
        parts = ", ".join(
            f"{_STAGE_WORDS.get(stage, stage)} {format_duration(t)}" for stage, t in stages
        )
        yield (
            "Processor time",
            format_duration(summary["cpu_seconds"]) + (f" ({parts})" if parts else ""),
        )
    if summary.get("engine") is not None:
        yield "Engine", str(summary["engine"])


def _stack_histogram(rows: Sequence[ScoreRow]) -> dict[str, Any]:
    """Stack the counts of scores by verdict in bars, the real ones at the bottom.

    Returns:
        ``height`` in pixels, ``largest`` number of videos in one column, and ``bars``: x and width
        in percent of the picture's width, y and height in pixels.
    """
    counts = Counter(
        (min(int(row["score"] * _NUM_BINS), _NUM_BINS - 1), row["verdict"])
        for row in rows
        if row["score"] is not None
    )
    columns = Counter[int]()
    for (column, _), count in counts.items():
        columns[column] += count
    largest = max(columns.values(), default=0)
    bars = []
    for column in sorted(columns):
        top = float(_HISTOGRAM_PIXELS)
        for verdict in reversed(VERDICTS):
            count = counts[column, verdict]
            height = count * _HISTOGRAM_PIXELS / largest
            top -= height
            low, high = column / _NUM_BINS, (column + 1) / _NUM_BINS
            title = f"{count} {verdict}, score {low:.2f} to {high:.2f}"
            bar = {"x": 100 * low, "width": 100 / _NUM_BINS, "y": top, "height": height}
            if count:
                bars.append({**bar, "verdict": verdict, "title": title})
    return {"height": _HISTOGRAM_PIXELS, "largest": largest or "", "bars": bars}


def _count_in_order(values: Iterable[str | None], order: Iterable[str]) -> dict[str, int]:
    """Count the values that occur, in the given order."""
    counts = Counter(values)
    return {str(value): counts[value] for value in order if counts[value]}


def _rank_row(numbered: tuple[int, ScoreRow]) -> tuple[float, str]:
    """Rank the highest score first, rows without a score last."""
    _, row = numbered
    return (1.0 if row["score"] is None else -row["score"]), row["path"]


def _format_moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{moment:%Y-%m-%d %H:%M %Z}".strip()


def _spell_out(name: str) -> str:
    return name.replace("_", " ")
