"""The page in a real browser: what a visitor brings, and what is shown of it."""

import io
import json
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from storage.layout import ModelLayout
from storage.outputs import ScoreLayout
from storage.schemas import SCORES
from storage.tables import Row, write_table
from tasks.scoring.score import ScoreRequest, score_files
from tasks.scoring.words import format_score

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = [pytest.mark.slow, pytest.mark.prefect]
PATIENCE_MS = 180_000
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
Served = tuple[str, Path]
New = Callable[..., "Page"]


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        yield chromium
        chromium.close()


@pytest.fixture
def new_page(browser: "Browser", served: Served) -> Iterator[New]:
    """The page for one more visitor; it asks nobody but its own server for anything."""
    url, _ = served
    contexts: list[BrowserContext] = []
    foreign: list[str] = []

    def note(address: str) -> None:
        if not address.startswith((url, "data:", "blob:")):
            foreign.append(address)

    def opened(path: str = "", **settings: Any) -> "Page":
        context = browser.new_context(accept_downloads=True, **settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", lambda request: note(request.url))
        page.goto(url + path)
        page.wait_for_selector("h1")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert foreign == []


def bring(page: "Page", *paths: Path) -> None:
    page.wait_for_selector("[data-testid=stFileUploader]")
    page.set_input_files("input[type=file]", [str(path) for path in paths])
    page.wait_for_selector("[data-testid=stProgress]", state="attached")


def verdict(page: "Page") -> str:
    """The text of the card, when all is judged."""
    page.wait_for_function(
        "() => document.querySelector('.rc-card')"
        " && !document.querySelector('[data-testid=stProgress]')",
        timeout=PATIENCE_MS,
    )
    return page.locator(".rc-card").inner_text()


def choose_model(page: "Page", name: str) -> None:
    page.get_by_role("combobox", name=re.compile("Model")).click()
    page.get_by_role("option", name=name, exact=True).click()


def batch_row(path: Path, model: ModelLayout, out: Path) -> Row:
    request = ScoreRequest(sources=(str(path),), model=model.path, out=out)
    [row] = score_files(request).rows
    return row


def downloaded(page: "Page", button: str) -> str:
    with page.expect_download() as download:
        page.get_by_role("button", name=button).click()
    return Path(download.value.path()).read_text(encoding="utf-8")


def test_first_paint_within_three_seconds(new_page: New) -> None:
    new_page()  # the first visitor of a server pays for its imports
    spent = []
    for _ in range(5):
        started = time.monotonic()
        new_page()
        spent.append(time.monotonic() - started)
    # The quickest: what else the machine does only adds to it.
    assert min(spent) < 3


@pytest.mark.parametrize("kind", ["face", "people"])
def test_verdict_is_that_of_the_batch_run(
    kind: str, new_page: New, files: dict[str, Path], model: ModelLayout, tmp_path: Path
) -> None:
    page = new_page()
    bring(page, files[kind])
    card = verdict(page)
    row = batch_row(files[kind], model, tmp_path)
    assert format_score(row["score"]) in card
    told = json.loads(downloaded(page, "Row as JSON"))
    assert (told["score"], told["logit"]) == (row["score"], row["logit"])
    assert told["tracks"] == row["tracks"]
    assert told["path"] == files[kind].name
    assert (
        page.locator(".rc-person").count() == len(row["tracks"]) == (4 if kind == "people" else 1)
    )
    marked = [frame for frame in row["frames"] if frame["is_evidence"]]
    assert page.get_by_alt_text(re.compile("^Face at")).count() == len(marked)
    assert len({frame["track_id"] for frame in marked}) == len(row["tracks"])
    report = downloaded(page, "Report as HTML")
    assert files[kind].name in report
    assert "reelcheck-scratch" not in report


def test_words_are_those_of_the_batch_runs_verdicts(
    new_page: New, synthetic_dataset: Path, trained_model: ModelLayout, tmp_path: Path
) -> None:
    videos = synthetic_dataset / "videos"
    request = ScoreRequest(sources=(str(videos),), model=trained_model.path, out=tmp_path)
    rows = score_files(request).rows
    page = new_page()
    choose_model(page, trained_model.path.name)
    for expected, word in (("fake", "Looks fake"), ("real", "Looks real")):
        row = next(row for row in rows if row["verdict"] == expected)
        bring(page, videos / row["path"])
        card = verdict(page)
        assert word in card
        assert format_score(row["score"]) in card
        # Heat maps are of what may be fake.
        assert bool(page.get_by_alt_text("Heat map").count()) == (expected == "fake")
        page.get_by_role("button", name="Remove").click()
        page.wait_for_selector(".rc-card", state="detached")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("faceless", "None of the frames looked at shows a face"),
        ("corrupt", "damaged or incomplete"),
        ("empty", "neither a video nor a picture"),
        ("program", "neither a video nor a picture"),
        ("picture", "No face was seen on enough frames"),
    ],
)
def test_file_that_cannot_be_judged_gets_a_reason_and_no_number(
    kind: str, said: str, new_page: New, files: dict[str, Path]
) -> None:
    page = new_page()
    bring(page, files[kind])
    card = verdict(page)
    assert "No verdict" in card
    assert said in card
    assert "What you can do" in card
    assert "score" not in card
    assert page.locator("video").count() == 0
    assert files[kind].name in card  # as text, whatever is in it


def test_picture_is_judged_by_a_model_for_pictures(
    new_page: New, files: dict[str, Path], picture_model: ModelLayout, tmp_path: Path
) -> None:
    page = new_page()
    choose_model(page, picture_model.path.name)
    bring(page, files["picture"])
    row = batch_row(files["picture"], picture_model, tmp_path)
    assert format_score(row["score"]) in verdict(page)
    assert page.get_by_alt_text("The picture that was checked").count() == 1


def test_click_and_arrow_keys_on_the_timeline_move_the_player(
    new_page: New, files: dict[str, Path]
) -> None:
    page = new_page()
    bring(page, files["face"])
    verdict(page)
    line = page.get_by_role("slider", name=re.compile("Moment of the video"))
    line.scroll_into_view_if_needed()
    page.wait_for_function("() => document.querySelector('video')?.readyState > 0")
    box = line.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 0.7 * box["width"], box["y"] + 20)
    moment = "() => document.querySelector('video').currentTime"
    page.wait_for_function(f"() => ({moment})() > 0.4")
    clicked = page.evaluate(moment)
    line.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(f"() => ({moment})() < {clicked}")
    page.keyboard.press("Home")
    page.wait_for_function(f"() => ({moment})() < 0.05")


def test_two_visitors_at_once_get_their_own_predictions(
    new_page: New, files: dict[str, Path]
) -> None:
    one, other = new_page(), new_page()
    bring(one, files["face"])
    bring(other, files["faceless"])
    assert "No verdict" in verdict(other)
    assert "No verdict" not in verdict(one)
    assert files["face"].name not in other.content()
    assert files["faceless"].name not in one.content()
    assert one.url != other.url


def test_page_loaded_again_while_it_scores_loses_and_doubles_nothing(
    new_page: New, files: dict[str, Path]
) -> None:
    page = new_page()
    bring(page, files["face"], files["people"])
    page.reload()
    verdict(page)
    page.wait_for_function("() => document.querySelectorAll('[data-testid=stButton]').length >= 3")
    names = page.locator("bdi").all_inner_texts()
    assert names.count(files["people"].name) + names.count(files["face"].name) == 3  # list and card
    page.get_by_role("button", name="Remove").click()
    page.wait_for_function("() => document.querySelectorAll('bdi').length === 1")


def test_own_model_judges_and_says_what_it_is(
    new_page: New, files: dict[str, Path], picture_model: ModelLayout, tmp_path: Path
) -> None:
    archive = tmp_path / "mine.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for path in (picture_model.card_path, picture_model.weights_path):
            opened.write(path, f"mine/{path.name}")
    page = new_page("/model")
    page.set_input_files("input[type=file]", str(archive))
    page.wait_for_selector("text=Taken.")
    own = json.loads(picture_model.card_path.read_text(encoding="utf-8"))["model_id"]
    page.get_by_role("link", name="Check a file").click()
    choose_model(page, f"{own} (yours)")
    bring(page, files["picture"])
    row = batch_row(files["picture"], picture_model, tmp_path / "out")
    assert format_score(row["score"]) in verdict(page)
    page.get_by_text("File and model").click()
    page.wait_for_selector(f"dd:has-text('{own}')")
    page.get_by_role("link", name="Your own model").click()
    page.get_by_text(f"{own} (yours)").click()
    page.get_by_role("button", name="Remove").click()
    page.wait_for_selector("text=Removed.")
    assert page.get_by_text(f"{own} (yours)").count() == 0


def hostile(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("card.json", "{}")
        archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("../../evil", b"x", "leads out of its folder"),
        ("model.pkl", b"\x80\x04.", "no part of a checkpoint folder"),
        ("model.safetensors", bytes(50_000_000), "is the most"),
        ("model.safetensors", b"\x80\x04.", "has version None"),
    ],
    ids=["zip-slip", "pickle", "bomb", "other-card"],
)
def test_hostile_model_is_refused_with_the_reason(
    name: str, content: bytes, said: str, new_page: New, tmp_path: Path
) -> None:
    archive = tmp_path / "evil.zip"
    archive.write_bytes(hostile(name, content))
    page = new_page("/model")
    page.set_input_files("input[type=file]", str(archive))
    page.wait_for_selector("text=Refused")
    assert said in page.get_by_role("alert").inner_text()


def test_one_of_a_hundred_thousand_results_is_found_and_opened(
    new_page: New, served: Served, files: dict[str, Path], model: ModelLayout, tmp_path: Path
) -> None:
    row = batch_row(files["face"], model, tmp_path)
    rows = [{**row, "path": f"camera {n % 7}/{n:06d}.mp4"} for n in range(100_000)]
    write_table(ScoreLayout(served[1]).parquet_path, rows, SCORES)
    page = new_page("/results")
    page.wait_for_selector("text=100,000 files")
    page.get_by_label("Find").fill("099999")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=1 of 100,000 files")
    frame = page.locator("[data-testid=stDataFrame]").bounding_box()
    assert frame is not None
    page.mouse.click(frame["x"] + 16, frame["y"] + 54)
    assert format_score(row["score"]) in verdict(page)
    assert "099999.mp4" in page.locator(".rc-card").inner_text()


@pytest.mark.parametrize("path", ["", "/model", "/results", "/runs"])
def test_page_fits_a_phone(path: str, new_page: New) -> None:
    page = new_page(path, viewport={"width": 390, "height": 844}, has_touch=True)
    page.wait_for_selector(".rc-kicker")
    wider = "() => document.querySelector('[data-testid=stMain]').scrollWidth"
    assert page.evaluate(wider) <= 390
