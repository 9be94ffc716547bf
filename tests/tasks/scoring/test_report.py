"""The page says what the table says, and whatever a file is called stays text."""

import base64
import hashlib
import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from report_pages import (
    CALIBRATION,
    HOSTILE,
    card_of,
    html_of,
    page_of,
    row_of,
    write_evidence,
)

from reelcheck.status import Status
from storage.schemas import SCORES
from tasks.scoring.report import render_report

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
        (0.3, 0.61, "Fake from a score of 0.610 on, real below 0.300; otherwise inconclusive"),
        (0.43, 0.43, "Fake from a score of 0.430 on, real below it."),
        (0.0, 0.61, "Fake from a score of 0.610 on, never real; otherwise inconclusive"),
        (0.3, math.nextafter(1, 2), "Never fake, real below 0.300; otherwise inconclusive"),
        (0.0, math.nextafter(1, 2), "Every video is inconclusive"),
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
