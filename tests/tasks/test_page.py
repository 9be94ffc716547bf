"""The page says what the table says, and whatever a file is called stays text."""

import base64
import hashlib
import io
import json
import math
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from models.verdict import verdict_of
from reelcheck.card import Calibration, ModelCard
from reelcheck.config import PreprocessSettings
from reelcheck.status import Status
from reelcheck.train_config import DetectorSettings, TrainSettings
from storage.schemas import SCORES
from tasks.page import render_report

CALIBRATION = Calibration(temperature=1.3, threshold=0.43, real_below=0.3, fake_from=0.61)
HOSTILE = (
    "</script><script>document.title='taken'</script>",
    "<img src=x onerror=\"document.title='taken'\">",
    "<!--<script>",
    "\"'`><b onmouseover=alert(1)>",
    "]]>&lt;&amp;\\u003c",
    "{{ 7 * 7 }}{% raw %}",
    "https://example.org/a.js",
    "\u202egpj.exe\u2066\u200f",
    "line\u2028break\r\n\ttab\x00\x1b[31m",
    "x" * 4000,
)


class Page(HTMLParser):
    """What another reader of HTML makes of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.scripts: dict[str, str] = {}
        """Text of the script elements, by id; the one that runs has none: ``""``."""
        self.style = ""
        self.rows: list[dict[str, Any]] = []
        """Of the table: ``n``, texts ``cells`` and the sorting ``keys`` by column class."""
        self._cell: str | None = None
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.tags.append((tag, attributes))
        self._inside = tag
        if tag == "tbody" and "data-n" in attributes:
            self.rows.append({"n": int(attributes["data-n"]), "cells": {}, "keys": {}})
        elif tag == "td" and "class" in attributes and self.rows:
            self._cell = attributes["class"].split()[-1]
            self.rows[-1]["cells"].setdefault(self._cell, "")
            self.rows[-1]["keys"].setdefault(self._cell, attributes.get("data-v"))
        elif tag == "script":
            self.scripts[attributes.get("id", "")] = ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""
        if tag == "td":
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[list(self.scripts)[-1]] += data
        elif self._inside == "style":
            self.style += data
        if self._cell:
            self.rows[-1]["cells"][self._cell] += data

    def videos(self) -> dict[int, Any]:
        """The data of the page by number; refuses what a browser's JSON would."""

        return {  # parse_constant: of NaN and Infinity
            int(name.removeprefix("video-")): json.loads(text, parse_constant=pytest.fail)
            for name, text in self.scripts.items()
            if name.startswith("video-")
        }

    def skeleton(self) -> list[tuple[str, list[str]]]:
        return [(tag, sorted(attributes)) for tag, attributes in self.tags]


def card_of(**changes: Any) -> ModelCard:
    fields: dict[str, Any] = {
        "model_id": "0123456789ab",
        "detector": DetectorSettings(),
        "training": TrainSettings(recipe="frames"),
        "preprocessing": PreprocessSettings(),
        "preprocessing_hash": "feedc0de",
        "split_hash": "beef",
        "calibration": CALIBRATION,
        "aggregation": "worst_track_of_mean_sequence_logits",
        "num_videos": {},
        "validation": {"num_videos": 40, "auc": 0.9},
        "versions": {},
    }
    return ModelCard(**(fields | changes))


def row_of(path: str = "a/b.mp4", *, score: float | None = None, **changes: Any) -> dict[str, Any]:
    """A row of the table; with a score it is a judged one, with two frames of a face."""
    row: dict[str, Any] = {"root": "/videos", "path": path, "status": "no_face", "reason": "none"}
    row |= {"model_id": "0123456789ab", "preprocessing_hash": "feedc0de"}
    row |= {name: [] for name in ("quality_flags", "tracks", "segments", "frames")}
    if score is None:
        return row | changes
    judged = {"track_id": 3, "score": score, "start_seconds": 0.5, "end_seconds": 7.25}
    frame = {"track_id": 3, "weight": 0.5, "is_evidence": True}
    row |= {"status": "ok", "reason": None, "score": score, "logit": 0.25}
    row |= {"verdict": verdict_of(score, CALIBRATION), "duration_seconds": 8.0}
    row |= CALIBRATION.model_dump(exclude={"temperature", "threshold_rule"})
    row |= {"width": 640, "height": 360, "segments": [judged]}
    row["tracks"] = [{**judged, "box_xyxy": [10.0, 20.0, 90.0, 100.0]}]
    row["frames"] = [
        {**frame, "frame_index": 12, "pts_seconds": 0.5, "score": 0.75},
        {**frame, "frame_index": 175, "pts_seconds": 7.25, "score": 0.125},
    ]
    return row | changes


def html_of(rows: list[dict[str, Any]], folder: Path = Path(), **card: Any) -> str:
    return render_report(rows, card=card_of(**card), summary={}, evidence_dir=folder)


def page_of(rows: list[dict[str, Any]], folder: Path = Path(), **card: Any) -> Page:
    return Page(html_of(rows, folder, **card))


SCORE = st.none() | st.floats(0, 1)
ROWS = st.lists(
    st.builds(row_of, st.text(), score=SCORE, reason=st.none() | st.text(), codec=st.text()),
    max_size=6,
)
LIGHT = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@LIGHT
@given(ROWS)
def test_every_row_is_on_the_page_with_every_column(rows: list[dict[str, Any]]) -> None:
    videos = page_of(rows).videos()
    empty = dict.fromkeys(SCORES.names)
    assert [videos[n]["row"] for n in sorted(videos)] == [empty | row for row in rows]


@LIGHT
@given(ROWS)
def test_table_has_every_row_the_highest_score_first(rows: list[dict[str, Any]]) -> None:
    shown = [rows[row["n"] - 1] for row in page_of(rows).rows]
    scores = [row.get("score") for row in shown]
    known = [score for score in scores if score is not None]
    assert Counter(row["path"] for row in shown) == Counter(row["path"] for row in rows)
    assert scores == [*sorted(known, reverse=True), *[None] * (len(scores) - len(known))]


@LIGHT
@given(st.text(min_size=1) | st.sampled_from(HOSTILE))
def test_no_text_changes_the_structure_of_the_page(text: str) -> None:
    assert skeleton_with(text) == skeleton_with("harmless")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text: str) -> None:
    page = page_of([row_of(f"in/{text}")])
    shown = page.rows[0]["cells"]["file"]
    # What turns or moves text is spelled out.
    assert "".join(c if c.isprintable() else f"⟨U+{ord(c):04X}⟩" for c in text) in shown
    assert page.videos()[1]["row"]["path"] == f"in/{text}"


def skeleton_with(text: str) -> list[tuple[str, list[str]]]:
    rows = [
        row_of(f"in/{text}", reason=text, codec=text),
        row_of(f"in/{text}", score=0.9, quality_flags=[text], container=text, root=text),
    ]
    return page_of(rows, notes=(text,)).skeleton()


def test_page_refers_to_nothing_outside_itself() -> None:
    page = page_of([row_of(HOSTILE[6], score=0.5), row_of()], notes=("https://example.org",))
    for tag, attributes in page.tags:
        assert tag not in {"link", "iframe", "object", "embed", "base"}
        for name in {"src", "href", "srcset", "action", "data", "poster"} & set(attributes):
            assert attributes[name].startswith("#")
    assert not re.search(r"https?:|//[a-z]|url\(|@import", page.style)
    assert not re.search(r"https?:|\bfetch\(|\bimport\(|XMLHttp|WebSocket", page.scripts[""])
    assert "innerHTML" not in page.scripts[""]


def test_policy_allows_the_pages_own_script_and_style_only() -> None:
    page = page_of([row_of()])
    policy = next(
        attributes["content"]
        for _, attributes in page.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert allowed["default-src"] == "'none'"
    assert allowed["img-src"] == "data:"
    for name, text in (("style-src", page.style), ("script-src", page.scripts[""])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert allowed[name] == f"'sha256-{digest}'"


@pytest.mark.parametrize("status", [status for status in Status if status != Status.OK])
def test_failure_has_its_status_its_reason_and_words_for_it(status: Status) -> None:
    page = page_of([row_of(status=str(status), reason="the very reason")])
    cells = page.rows[0]["cells"]
    assert cells["status"] == status.replace("_", " ")
    assert cells["reason"] == "the very reason"
    assert json.loads(page.scripts["words"])["statuses"][status]


def test_nothing_known_is_an_empty_cell_and_zero_is_zero() -> None:
    zero, unknown = page_of([row_of(score=0.0, num_faces=0, duration_seconds=0.0), row_of()]).rows
    for column, text in {"score": "0.000", "faces": "0", "duration": "0.0 s"}.items():
        assert (unknown["cells"][column], unknown["keys"][column]) == ("", "")
        assert (zero["cells"][column], float(zero["keys"][column])) == (text, 0)
    assert unknown["cells"]["verdict-column"] == ""


@pytest.mark.parametrize(
    ("score", "text"), [(0.9999, ">0.999"), (0.0001, "<0.001"), (1.0, "1.000"), (0.61, "0.610")]
)
def test_rounding_never_claims_certainty(score: float, text: str) -> None:
    assert page_of([row_of(score=score)]).rows[0]["cells"]["score"] == text


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_lacks_is_null(number: float) -> None:
    row = row_of(score=0.5, average_fps=number)
    row["tracks"][0]["sharpness"] = number
    shown = page_of([row]).videos()[1]["row"]
    assert shown["average_fps"] is None
    assert shown["tracks"][0]["sharpness"] is None


def test_equal_input_gives_equal_bytes() -> None:
    rows = [row_of("b.mp4", score=0.7), row_of("a.mp4", score=0.7), row_of("c.mp4")]
    turned = [dict(reversed(row.items())) for row in rows]
    assert html_of(rows) == html_of(turned)


@LIGHT
@given(st.lists(SCORE, max_size=30))
def test_histogram_and_totals_count_every_score_once(scores: list[float | None]) -> None:
    rows = [row_of(score=score) for score in scores]
    html = html_of(rows)
    expected = Counter(row["verdict"] for row in rows if "verdict" in row)
    drawn = Counter[str]()
    for count, verdict in re.findall(r"<title>(\d+) (\w+), score", html):
        drawn[verdict] += int(count)
    assert drawn == expected
    totals = re.findall(r'<span class="verdict \w+">(\w+)</span></th><td>(\d+)</td>', html)
    assert {verdict: int(count) for verdict, count in totals} == dict(expected)


@LIGHT
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_bars_stand_on_each_other_and_fill_the_height(scores: list[float]) -> None:
    tags = page_of([row_of(score=score) for score in scores]).tags
    columns: dict[str, list[tuple[float, float]]] = {}
    for bar in (a for tag, a in tags if tag == "rect" and a.get("class", "").startswith("bar ")):
        columns.setdefault(bar["x"], []).append((float(bar["y"]), float(bar["height"])))
    axis = next(float(a["y1"]) for tag, a in tags if tag == "line" and a["class"] == "axis")
    for spans in columns.values():
        tops = sorted(top for top, _ in spans)
        bottoms = sorted(top + height for top, height in spans)
        assert bottoms == pytest.approx([*tops[1:], axis])
    assert min(top for spans in columns.values() for top, _ in spans) == pytest.approx(0)


@pytest.mark.parametrize(
    ("real_below", "fake_from", "words"),
    [
        (0.3, 0.61, "Called fake from a score of 0.610 on, real below 0.300; otherwise incon"),
        (0.43, 0.43, "Called fake from a score of 0.430 on, real below it."),
        (0.0, 0.61, "Called fake from a score of 0.610 on, never real; otherwise inconclusive"),
        (0.3, math.nextafter(1, 2), "Called never fake, real below 0.300; otherwise inconclusive"),
        (0.0, math.nextafter(1, 2), "calls every video inconclusive"),
    ],
)
def test_rule_in_words(real_below: float, fake_from: float, words: str) -> None:
    calibration = CALIBRATION.model_copy(update={"real_below": real_below, "fake_from": fake_from})
    assert words in html_of([row_of(score=0.5)], calibration=calibration)


def test_head_says_what_was_scored_with_what_and_its_notes() -> None:
    summary: dict[str, Any] = {"started_at": "2025-03-04T05:06:07+00:00", "engine": "an engine"}
    summary |= {"wall_seconds": 90.0, "videos_per_second": 0.25}
    summary |= {"cpu_seconds": 170.0, "stage_seconds": {"decode": 12.5}}
    card = card_of(notes=("SYNTHETIC data",), num_members=5)
    rows = [row_of(score=0.9), row_of(score=0.1), row_of()]
    html = render_report(rows, card=card, summary=summary, evidence_dir=Path())
    assert "3 files: 1 fake, 1 real, 1 without a verdict" in html
    for text in ("SYNTHETIC data", "0123456789ab", "mean of 5 detectors", "feedc0de", "/videos"):
        assert text in html
    cost = ("1:30 min, 0.25 videos per second", "make pictures 12.5 s", "2025-03-04 05:06 UTC")
    for text in (*cost, "40 validation videos", "an engine"):
        assert text in html


def write_evidence(path: Path, num_faces: int) -> bytes:
    path.parent.mkdir(parents=True)
    buffer = io.BytesIO()
    Image.effect_noise((112 * num_faces, 224), 90).convert("RGB").save(buffer, format="JPEG")
    path.write_bytes(buffer.getvalue())
    return buffer.getvalue()


def test_evidence_is_embedded_but_not_shown_before_it_is_asked_for(tmp_path: Path) -> None:
    content = write_evidence(tmp_path / "evidence" / "1.jpg", 2)
    page = page_of([row_of(score=0.9, evidence_path="evidence/1.jpg")], tmp_path)
    evidence = page.videos()[1]["evidence"]
    kind, data = evidence["uri"].split(",", 1)
    assert kind == "data:image/jpeg;base64"
    assert base64.b64decode(data, validate=True) == content
    assert (evidence["width"], evidence["height"]) == (224, 224)
    assert "img" not in {tag for tag, _ in page.tags}


@pytest.mark.parametrize("content", [None, b"", b"no picture", b"\xff\xd8\xff\xe0"])
def test_a_picture_that_is_not_there_or_none_is_left_out(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "1.jpg").write_bytes(content)
    page = page_of([row_of(score=0.9, evidence_path="1.jpg")], tmp_path)
    assert page.videos()[1]["evidence"] is None


@pytest.fixture(scope="module")
def browser() -> str:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("no chromium on the PATH")
    return found


def shown_by(browser: str, page: Path, address: str, profile: Path) -> str:
    """The document after its script has run."""
    command = [
        browser,
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
        *("--disable-component-update", "--disable-sync", "--no-first-run", "--dump-dom"),
        f"--user-data-dir={profile}",
        f"{page.as_uri()}{address}",
    ]
    done = subprocess.run(command, capture_output=True, check=True, timeout=120)
    return done.stdout.decode()


def test_a_browser_shows_the_details_of_the_video_in_the_address(
    browser: str, tmp_path: Path
) -> None:
    write_evidence(tmp_path / "evidence" / "1.jpg", 2)
    hostile, flags = "in/" + "".join(HOSTILE[:4]), ["blurred", HOSTILE[1]]
    rows = [
        row_of(hostile, reason=HOSTILE[0], status="decode_error"),
        row_of(hostile, score=0.9, quality_flags=flags, evidence_path="evidence/1.jpg"),
    ]
    path = tmp_path / "report.html"
    path.write_text(html_of(rows, tmp_path), encoding="utf-8")
    untouched = page_of(rows, tmp_path)

    judged = shown_by(browser, path, "#video=2", tmp_path / "profile")
    page = Page(judged)
    assert "Deepfake check: 2 files: 1 fake, 1 without a verdict" in judged
    assert "<title>taken" not in judged
    assert "Fake: the score 0.900 has reached 0.610." in judged
    assert "the face is blurred; &lt;img src=x" in judged
    assert "track 3, frame 12, 0.50 s: 0.750, weight 0.500" in judged
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    uri = page.videos()[2]["evidence"]["uri"]
    assert [picture["src"] for picture in pictures] == [uri, uri]
    assert [picture["alt"] for picture in pictures] == [
        f"Face of track 3 at {time}, heat map below" for time in ("0.50 s", "7.25 s")
    ]
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.scripts == untouched.scripts

    failed = shown_by(browser, path, "#video=1", tmp_path / "profile")
    assert "No verdict: decode error. The file is damaged or incomplete." in failed
    assert "Reason: &lt;/script&gt;&lt;script&gt;" in failed
    assert "img" not in {tag for tag, _ in Page(failed).tags}


def test_a_browser_shows_a_strip_per_person_and_heat_below_the_first(
    browser: str, tmp_path: Path
) -> None:
    row = row_of(score=0.9, evidence_path="1.jpg")
    row["tracks"] = [{**row["tracks"][0], "track_id": track} for track in (3, 1, 2)]
    row["frames"] += [{**row["frames"][0], "track_id": 1}]
    Image.new("RGB", (224, 3 * 112)).save(tmp_path / "1.jpg")
    path = tmp_path / "report.html"
    path.write_text(html_of([row], tmp_path), encoding="utf-8")
    page = Page(shown_by(browser, path, "#video=1", tmp_path / "profile"))
    shown = [
        (picture["alt"], picture["height"], picture["style"])
        for tag, picture in page.tags
        if tag == "img"
    ]
    assert shown == [
        ("Face of track 3 at 0.50 s, heat map below", "224", "object-position: 0px 0px;"),
        ("Face of track 3 at 7.25 s, heat map below", "224", "object-position: -112px 0px;"),
        ("Face of track 1 at 0.50 s", "112", "object-position: 0px -224px;"),
    ]
