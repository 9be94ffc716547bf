"""The result of a scoring run as one HTML file: for people, offline, without anything beside it.

File names and reasons come from outside. In the table Jinja escapes them; in the data they are JSON
without a ``<``; the script that shows the data makes text nodes only; and the page's content
security policy runs that one script, known by its hash, and loads nothing from anywhere.
"""

import base64
import hashlib
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from reelcheck.card import Calibration, ModelCard
from reelcheck.status import Status
from storage.schemas import SCORES
from storage.schemas import STAGES as VIDEO_STAGES
from storage.tables import Row
from tasks.judging import PART_LOOKS_FAKE
from tasks.summary import STAGES as RUN_STAGES

STATUS_WORDS = {
    Status.OK: "Faces were found and judged.",
    Status.NO_FACE: "None of the frames looked at shows a face.",
    Status.FACE_TOO_SMALL: "There are faces, but all of them are too small to be judged.",
    Status.TOO_FEW_FRAMES: "No face was seen on enough frames to be judged.",
    Status.DECODE_ERROR: "The file is damaged or incomplete.",
    Status.TIMEOUT: "The file took longer than allowed and was given up.",
    Status.OUT_OF_MEMORY: "The file needed more memory than one file may use.",
    Status.UNSUPPORTED: "This is neither a video nor a picture that can be read.",
    Status.UNREADABLE: "The file is there, but it cannot be opened.",
    Status.MISSING: "The file was named in a list, but it is not there.",
    Status.INTERNAL_ERROR: "A defect of reelcheck itself met this video; it is worth a report.",
    Status.MODEL_ERROR: "Faces were found, but the model gave no usable number for them.",
}
"""What each status means, for a reader who knows nothing of the software."""
FLAG_WORDS = {
    "small_face": "the face is small and was enlarged for the model",
    "blurred": "the face is blurred",
    "dark": "the face is dark",
    "bright": "the face is very bright",
    "damaged": "some frames could not be decoded",
    "face_seldom_seen": "the face is on fewer than half of the frames looked at",
    PART_LOOKS_FAKE: "not fake as a whole, but one stretch alone would be: look there",
}
"""What each quality flag means; see ``tasks.judging.quality_flags``."""
VERDICTS = ("fake", "inconclusive", "real")
_STAGE_WORDS = {**RUN_STAGES, "model": "judge the faces"}
_NUM_BINS = 20
_HISTOGRAM_PIXELS = 120
_LISTS = ("quality_flags", "tracks", "segments", "frames")
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters, and marks that turn the direction of the text after them."""
_TEMPLATES = PackageLoader("tasks")
_SCRIPTS = ("elements.js", "details.js", "table.js")
"""In the page they are one."""


def render_report(
    rows: Sequence[Row], *, card: ModelCard, summary: Mapping[str, Any], evidence_dir: Path
) -> str:
    """The page ``report.html``; equal input gives equal text.

    Args:
        rows: of ``storage.schemas.SCORES``; a missing key counts as null. The address
            ``#video=<n>`` opens the n-th of them, counted from 1.
        card: of the model that gave the scores.
        summary: what the run cost, as in ``summary.json``; every key may be absent.
        evidence_dir: the folder that ``evidence_path`` is relative to. A picture that is not there
            or no JPEG is left out, and the page says so.

    Returns:
        HTML5 that refers to no other file.
    """
    rows = [_complete(row) for row in rows]
    environment = _environment()
    template = environment.get_template("report.html.j2")
    style, *scripts = (
        _TEMPLATES.get_source(environment, name)[0] for name in ("report.css", *_SCRIPTS)
    )
    script = "\n".join(scripts)
    return template.render(
        headline=_headline(rows),
        run_facts=list(_run_facts(rows, summary)),
        model_facts=list(_model_facts(card)),
        notes=card.notes,
        rule=_rule(card.calibration),
        calibration=card.calibration,
        histogram=_histogram(rows),
        verdict_counts=_counts((row["verdict"] for row in rows), VERDICTS),
        status_counts=_counts((row["status"] for row in rows), Status),
        videos=sorted(enumerate(rows, start=1), key=_place_in_table),
        data=({"row": row, "evidence": _evidence(row, evidence_dir)} for row in rows),
        words={
            "statuses": STATUS_WORDS,
            "flags": FLAG_WORDS,
            "stages": [(f"{stage}_seconds", _STAGE_WORDS[stage]) for stage in VIDEO_STAGES],
        },
        style=style,
        script=script,
        style_hash=_csp_hash(style),
        script_hash=_csp_hash(script),
    )


def _environment() -> Environment:
    environment = Environment(
        loader=_TEMPLATES,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"visible": _visible, "score": _score, "time": _time, "words": _words}
    # JSON has no NaN: a page that holds one does not open.
    environment.policies["json.dumps_kwargs"] = {
        "allow_nan": False,
        "separators": (",", ":"),
        "sort_keys": True,
    }
    return environment


def _csp_hash(source: str) -> str:
    digest = hashlib.sha256(source.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _complete(row: Row) -> Row:
    """Every column of the table, and no number that JSON cannot hold."""
    complete: Row = {name: _finite(row.get(name)) for name in SCORES.names}
    return complete | {name: complete[name] or [] for name in _LISTS}


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value


def _evidence(row: Row, folder: Path) -> dict[str, Any] | None:
    """Size in pixels and data URI of a video's picture; None where there is none."""
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


def _headline(rows: Sequence[Row]) -> str:
    counts = _counts((row["verdict"] for row in rows), VERDICTS)
    parts = [f"{count:,} {verdict}" for verdict, count in counts.items()]
    without = sum(row["verdict"] is None for row in rows)
    if without:
        parts.append(f"{without:,} without a verdict")
    files = f"{len(rows):,} {'file' if len(rows) == 1 else 'files'}"
    return f"{files}: {', '.join(parts)}" if parts else "No files"


def _run_facts(rows: Sequence[Row], summary: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    roots = sorted({row["root"] for row in rows if row["root"] is not None})
    if roots:
        more = f" and {len(roots) - 3} more" if len(roots) > 3 else ""
        yield "folder" if len(roots) == 1 else "folders", ", ".join(roots[:3]) + more
    if summary.get("started_at") is not None:
        yield "started", _moment(str(summary["started_at"]))
    if summary.get("wall_seconds") is not None:
        speed = summary.get("videos_per_second")
        rate = "" if speed is None else f", {speed:.2f} videos per second"
        yield "took", _time(summary["wall_seconds"]) + rate
    if summary.get("cpu_seconds") is not None:
        stages = (summary.get("stage_seconds") or {}).items()
        parts = ", ".join(f"{_STAGE_WORDS.get(stage, stage)} {_time(t)}" for stage, t in stages)
        yield "processor time", _time(summary["cpu_seconds"]) + (f" ({parts})" if parts else "")
    if summary.get("engine") is not None:
        yield "engine", str(summary["engine"])


def _model_facts(card: ModelCard) -> Iterable[tuple[str, str]]:
    yield "model", card.model_id
    judged = "each frame alone" if card.detector.transformer is None else "frames together"
    members = f", mean of {card.num_members} detectors" if card.num_members > 1 else ""
    yield "detector", f"{card.detector.backbone}, judges {judged}{members}"
    if card.training is not None and card.training.recipe is not None:
        yield "recipe", card.training.recipe
    if card.source is not None:
        yield "weights from", f"{card.source.file_name} ({card.source.licence})"
    yield "settings hash", card.preprocessing_hash
    num_videos = card.validation.get("num_videos")
    if num_videos:
        auc = card.validation.get("auc")
        found = "" if auc is None else f"; AUC there {auc:.3f}, which flatters the model"
        yield "calibrated on", f"{num_videos:,} validation videos{found}"


def _rule(calibration: Calibration) -> str:
    """Which scores get which verdict, in words."""
    real, fake = calibration.real_below, calibration.fake_from
    if real <= 0 and fake > 1:
        return (
            "On the validation videos no score separated fake from real well enough: this model "
            "calls every video inconclusive."
        )
    if real >= fake:
        return f"Called fake from a score of {_score(fake)} on, real below it."
    called = [
        f"fake from a score of {_score(fake)} on" if fake <= 1 else "never fake",
        f"real below {_score(real)}" if real > 0 else "never real",
    ]
    return f"Called {', '.join(called)}; otherwise inconclusive: the model abstains."


def _histogram(rows: Sequence[Row]) -> dict[str, Any]:
    """Scores in bars stacked by verdict, the real ones at the bottom.

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


def _counts(values: Iterable[str | None], order: Iterable[str]) -> dict[str, int]:
    """How often each value occurs, those that do, in the given order."""
    counts = Counter(values)
    return {str(value): counts[value] for value in order if counts[value]}


def _place_in_table(numbered: tuple[int, Row]) -> tuple[float, str]:
    """The highest score first, what has none last."""
    _, row = numbered
    return (1.0 if row["score"] is None else -row["score"]), row["path"]


def _score(value: float) -> str:
    """Three digits; never claims the certainty of 0 or 1."""
    if 0 < value < 0.001:
        return "<0.001"
    return ">0.999" if 0.999 < value < 1 else f"{value:.3f}"


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} h" if hours else f"{minutes}:{rest:02d} min"


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{moment:%Y-%m-%d %H:%M %Z}".strip()


def _words(name: str) -> str:
    return name.replace("_", " ")


def _visible(text: str) -> str:
    return _INVISIBLE.sub(lambda found: f"⟨U+{ord(found.group()):04X}⟩", text)
