"""The report in Chromium: its script has run, and no text of a row has become one."""

import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from report_pages import HOSTILE, Page, html_of, page_of, row_of, write_evidence


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
