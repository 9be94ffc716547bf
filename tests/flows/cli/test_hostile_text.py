"""File names, reasons and notes of others are shown; nothing obeys them."""

import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harmless import is_harmless
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.cli import printing
from flows.cli.main import _print_error
from reelcheck.status import Status
from reelcheck.visible import spell_invisible
from storage.atomic import write_text
from storage.checkpoints import read_card
from storage.layout import ModelLayout
from storage.outputs import ScoreLayout
from storage.schemas import SCORES
from storage.tables import read_rows, restore_text
from tasks.registry.versions import Version
from tasks.splits.audit import Audit, Leak, LeakedFile

NAMES = (
    "\x1b]0;pwned\x07\x1b[2J.mp4",
    "=cmd|'calc'!A0.mp4",
    "+1.mp4",
    "-1.mp4",
    "@SUM(1).mp4",
    "\t=1.mp4",
    "\r=1.mp4",
    "'=1.mp4",
    "a;=1;.mp4",
    "two\nlines.mp4",
    "\u202egpj.mp4",
    "\u2028.mp4",
    "[red]x[bold].mp4",
    ":smile:.mp4",
    "<img src=x onerror=alert(1)>.mp4",
)
BYTES = b"no text \xff\xfe.mp4"
HOSTILE = st.text("\x1b[2J]0;\x07\x9b\u202e\u2028\n\r\t\udcff [red]:smile:/a\\", max_size=20)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30
)
@given(text=st.sampled_from(NAMES) | HOSTILE)
def test_no_table_prints_orders_to_the_terminal(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row: Any = dict.fromkeys(("score", "verdict", "num_faces")) | {
        "path": text,
        "status": Status.DECODE_ERROR,
        "reason": text,
    }
    rule = {"name": text, "value": 0.5, "limit": text, "passed": True}
    files = (
        LeakedFile(split="train", path=text, label=0),
        LeakedFile(split="test", path=text, label=1),
    )
    leak = Leak(kind="source", value=text, files=files)
    version = Version(
        name=text,
        model_id=text,
        is_champion=False,
        num_train_videos=1,
        validation_auc=None,
        decision=text,
    )
    counts = {"train": {"real": 1, "fake": 1}}
    audit = Audit(
        splits_from="split", leaks=(leak,), counts=counts, num_near_duplicates=0, shortcuts=None
    )
    capsys.readouterr()
    with monkeypatch.context() as wide:
        wide.setattr(printing.console, "_width", 400)
        printing.print_path("store", text)
        printing.print_scores([row])
        printing.print_score(text, row)
        printing.print_versions([version])
        printing.print_gate(
            {"rules": [rule], "promoted": False, "decided_by": text, "reason": text}
        )
        printing.print_audit(audit)
        _print_error(text)
    shown = capsys.readouterr()
    assert all(map(is_harmless, (shown.out + shown.err).split("\n")))
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize("name", NAMES)
def test_names_are_shown_whole_and_as_they_are(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(printing.console, "_width", 400)
    row: Any = dict.fromkeys(("score", "verdict", "num_faces", "reason"))
    printing.print_scores([row | {"path": name, "status": Status.OK}])
    printing.print_path("store", name)
    assert capsys.readouterr().out.count(spell_invisible(name)) == 2


def test_score_of_files_with_hostile_names(
    reelcheck: Callable[..., Any], random_model: Path, tmp_path: Path
) -> None:
    source, out = tmp_path / "in", ScoreLayout(tmp_path / "out")
    source.mkdir()
    for name in NAMES:
        (source / name).write_text(f"no video: {name}")
    Path(os.fsdecode(os.fsencode(source) + b"/" + BYTES)).write_text("no video")
    note = "\x1b]0;pwned\x07\x1b[2J[red]a note"
    model = _copy_with_note(random_model, tmp_path / "model", note)
    for _ in ("first", "again"):
        done = reelcheck("score", source, "--model", model, "--out", out.path)
        assert done.exit_code == 0, done.stderr
        # tqdm draws its bar anew with \r.
        assert all(map(is_harmless, done.stdout.split("\n")))
        assert all(map(is_harmless, done.stderr.replace("\r", "\n").split("\n")))
    exact = {row["path"] for row in read_rows(out.parquet_path, SCORES)}
    assert exact == {*NAMES, "no text \\xff\\xfe.mp4"}
    with out.csv_path.open(encoding="utf-8", newline="") as file:
        cells = [row["path"] for row in csv.DictReader(file)]
    assert {restore_text(cell) for cell in cells} == exact
    assert not any(cell.lstrip()[:1] in set("=+-@") for cell in cells)
    page = out.report_path.read_text(encoding="utf-8")
    assert all(map(is_harmless, page.split("\n")))
    assert "<img src=x" not in page


def test_error_about_a_hostile_name_is_one_line(
    reelcheck: Callable[..., Any], random_model: Path, tmp_path: Path
) -> None:
    for name in ("\x1b[2J", "two\nlines", "\u202egpj", "[red]x[bold]", "\udcff"):
        done = reelcheck("score", tmp_path / name, "--model", random_model, "--out", tmp_path / "o")
        assert done.exit_code == 2
        [line] = done.stderr.splitlines()
        assert line.startswith("error: ")
        assert is_harmless(line)


def _copy_with_note(model: Path, target: Path, note: str) -> Path:
    shutil.copytree(model, target)
    layout = ModelLayout(target)
    card = read_card(layout).model_copy(update={"notes": (note,)})
    write_text(layout.card_path, card.model_dump_json())
    return target
