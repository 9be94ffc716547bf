"""The audit of a store: what it finds, and that what it writes says the same."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from models.metrics.metrics import Interval
from reelcheck.errors import StoreError
from storage.checked.documents import read_document
from storage.layout import SUMS, StoreLayout
from storage.schemas import MANIFEST, SPLIT, VIDEOS
from storage.tables import Row, read_rows, write_table
from tasks.splits.audit import (
    CONTRADICTION,
    EDITS_COVERED,
    EDITS_NOT_COVERED,
    Audit,
    Leak,
    LeakedFile,
    audit,
    list_leaked_files,
)
from tasks.splits.audit_plot import draw_audit
from tasks.splits.shortcuts import COLUMNS, Shortcuts
from tasks.splits.split import LEFT_OUT

pytestmark = pytest.mark.usefixtures("few_trees")

Change = Callable[[Row], dict[str, Any]]
COUNTS = {
    "train": {"real": 4, "fake": 4},
    "val": {"real": 2, "fake": 2},
    "test": {"real": 3, "fake": 3},
}
"""Videos of the store ``three_parts``."""


@pytest.fixture
def layout(tmp_path: Path, tiny: Any) -> StoreLayout:
    """A split store without a leak; each fake has its real video as its source."""
    found = tiny.write_store(tmp_path / "store", tiny.three_parts())
    assert isinstance(found, StoreLayout)
    return found


def rewrite(layout: StoreLayout, change: Change) -> None:
    """Change columns of the table of files."""
    rows = read_rows(layout.videos_path, VIDEOS)
    write_table(layout.videos_path, [row | change(row) for row in rows], VIDEOS)


def add(layout: StoreLayout, *rows: Row) -> None:
    """More files of contents that are there or not."""
    known = read_rows(layout.videos_path, VIDEOS)
    write_table(layout.videos_path, [*known, *rows], VIDEOS)


def row_of(layout: StoreLayout, path: str) -> Row:
    [found] = [row for row in read_rows(layout.videos_path, VIDEOS) if row["path"] == path]
    return found


def people(**of: str) -> Change:
    """Identity by file, ``/`` being written ``__``."""
    names = {f"{key.replace('__', '/')}.mp4": name for key, name in of.items()}
    return lambda row: {"identity": names.get(row["path"])}


def drop_split(layout: StoreLayout) -> None:
    layout.split_path.unlink()


def move(layout: StoreLayout, path: str, split: str) -> None:
    """Move one video to another split."""
    moved = row_of(layout, path)["video_id"]
    rows = read_rows(layout.split_path, SPLIT)
    rows = [row | ({"split": split} if row["video_id"] == moved else {}) for row in rows]
    write_table(layout.split_path, rows, SPLIT)


def run(layout: StoreLayout) -> Audit:
    found = audit(layout)
    assert isinstance(found, Audit)
    return found


def leaked(found: Audit) -> list[tuple[str, str, list[tuple[str, str]]]]:
    return [
        (leak.kind, leak.value, [(file.split, file.path) for file in leak.files])
        for leak in found.leaks
    ]


def test_clean_store_is_clean(layout: StoreLayout) -> None:
    found = run(layout)
    assert found.is_clean
    assert found.leaks == ()
    assert found.splits_from == "split"
    assert found.counts == COUNTS
    assert found.unbalanced == ()
    assert found.num_near_duplicates == 0
    assert found.shortcuts is not None
    assert found.shortcuts.verdict == "ok"


def test_written_files_say_the_same_as_the_record(layout: StoreLayout) -> None:
    rewrite(layout, people(train__real_0="alice", test__real_1="alice"))
    found = run(layout)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    text = layout.audit_path.read_text(encoding="utf-8")
    written = json.loads(text, parse_constant=refuse)
    assert found.shortcuts is not None
    assert written == read_document(layout.audit_path) | {"checksum": written["checksum"]}
    assert read_document(layout.audit_path) == {
        "splits_from": "split",
        "leaks": [
            {
                "kind": "person",
                "value": "alice",
                "files": [
                    {"split": "train", "path": "/videos/train/real_0.mp4", "label": 0},
                    {"split": "test", "path": "/videos/test/real_1.mp4", "label": 0},
                ],
            }
        ],
        "counts": COUNTS,
        "num_near_duplicates": 0,
        "shortcuts": {
            "auc": dict(zip(("value", "low", "high"), found.shortcuts.auc, strict=True)),
            "by_column": dict(found.shortcuts.by_column),
            "file_name": found.shortcuts.file_name,
            "verdict": "ok",
        },
        "edits_covered": list(EDITS_COVERED),
        "edits_not_covered": list(EDITS_NOT_COVERED),
        "unbalanced": [],
        "is_clean": False,
    }
    with layout.audit_leaks_path.open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == list_leaked_files(found.leaks)
    with Image.open(layout.audit_plot_path) as picture:
        assert picture.format == "PNG"
        assert picture.width == 1200
        picture.load()


def test_without_a_leak_the_table_has_its_header(layout: StoreLayout) -> None:
    run(layout)
    header = "leak,kind,value,split,label,path\n"
    assert layout.audit_leaks_path.read_text(encoding="utf-8") == header


def test_again_gives_the_same_bytes_and_changes_no_table(layout: StoreLayout) -> None:
    def contents() -> dict[str, bytes]:
        files = [path for path in layout.path.rglob("*") if path.is_file()]
        return {path.relative_to(layout.path).as_posix(): path.read_bytes() for path in files}

    rewrite(layout, people(train__real_0="alice", test__real_1="alice"))
    before = contents()
    run(layout)
    once = contents()
    assert once.keys() - before.keys() == {"audit.json", "audit.csv", "audit.png", SUMS, "lock"}
    assert {name: once[name] for name in before} == before
    run(layout)
    assert contents() == once


def test_leaks_of_given_splits_are_found_where_there_is_no_split(layout: StoreLayout) -> None:
    drop_split(layout)
    rewrite(layout, lambda row: {"split": row["path"].split("/")[0]})
    found = run(layout)
    assert (found.splits_from, found.leaks, found.counts) == ("given", (), COUNTS)
    rewrite(layout, people(train__fake_0="x", val__real_0="x"))
    files = [("train", "/videos/train/fake_0.mp4"), ("val", "/videos/val/real_0.mp4")]
    assert leaked(run(layout)) == [("person", "x", files)]
    # What labels give does not matter once there is a split.
    copy = row_of(layout, "val/real_0.mp4") | {"path": "test/copy.mp4", "split": "test"}
    add(layout, copy)
    found = run(layout)
    assert [kind for kind, _, _ in leaked(found)] == ["content", "person", "source"]
    assert ("test", "/videos/test/copy.mp4") in leaked(found)[0][2]


def test_store_without_splits_has_nothing_to_leak_between(layout: StoreLayout) -> None:
    drop_split(layout)
    rewrite(layout, lambda _: {"identity": "all the same"})
    found = run(layout)
    assert (found.splits_from, found.leaks) == ("none", ())
    assert found.counts == {"none": {"real": 9, "fake": 9}}
    assert found.unbalanced == ()
    assert found.shortcuts is None
    assert found.is_clean
    assert json.loads(layout.audit_path.read_text(encoding="utf-8"))["shortcuts"] is None
    with Image.open(layout.audit_plot_path) as picture:
        assert picture.width == 1200


def test_copies_with_opposite_labels_are_named_whatever_their_splits(layout: StoreLayout) -> None:
    copy = {**row_of(layout, "train/real_0.mp4"), "path": "copy.mp4", "label": 1, "source": None}
    add(layout, copy)
    found = run(layout)
    assert not found.is_clean
    assert (CONTRADICTION, "copy.mp4") in [(leak.kind, leak.value) for leak in found.leaks]
    [files] = [leak.files for leak in found.leaks if leak.kind == CONTRADICTION]
    assert {(file.path, file.label) for file in files} == {
        ("/videos/train/real_0.mp4", 0),
        ("/videos/copy.mp4", 1),
    }


def test_video_that_is_left_out_leaks_nothing(layout: StoreLayout) -> None:
    rewrite(layout, people(train__real_0="alice", test__real_1="alice"))
    move(layout, "test/real_1.mp4", LEFT_OUT)
    found = run(layout)
    assert leaked(found) == []
    assert found.counts["none"] == {"real": 1, "fake": 0}
    # Videos that are left out are in no split, and no split is unbalanced by them.
    assert "none" not in found.unbalanced


@pytest.mark.parametrize("changed", [{"label": None}, {"status": "missing"}])
def test_file_that_nobody_is_tested_on_leaks_nothing(
    layout: StoreLayout, changed: dict[str, Any]
) -> None:
    rewrite(layout, people(train__real_0="alice", test__real_1="alice"))
    assert len(run(layout).leaks) == 1
    rewrite(layout, lambda row: changed if row["path"] == "test/real_1.mp4" else {})
    assert run(layout).leaks == ()


def test_fakes_of_a_source_that_is_missing_leak(layout: StoreLayout) -> None:
    fakes = {"train/fake_0.mp4", "val/fake_1.mp4"}
    rewrite(layout, lambda row: {"source": "gone.mp4"} if row["path"] in fakes else {})
    missing = dict.fromkeys(row_of(layout, "train/real_0.mp4")) | {
        "root": "/videos",
        "path": "gone.mp4",
        "status": "missing",
        "label": 0,
    }
    expected = [("source", "gone.mp4", [(p.split("/")[0], f"/videos/{p}") for p in sorted(fakes)])]
    assert leaked(run(layout)) == expected
    add(layout, missing)
    assert leaked(run(layout)) == expected


def test_video_without_crops_leaks_and_is_not_counted(layout: StoreLayout) -> None:
    rewrite(layout, people(train__real_0="alice", test__real_1="alice"))
    gone = row_of(layout, "train/real_0.mp4")["video_id"]
    rows = read_rows(layout.manifest_path, MANIFEST)
    write_table(layout.manifest_path, [r for r in rows if r["video_id"] != gone], MANIFEST)
    found = run(layout)
    assert len(found.leaks) == 1
    assert found.counts["train"] == {"real": 3, "fake": 4}


@pytest.mark.parametrize(
    ("counts", "unbalanced"),
    [
        ({"train": (40, 40), "test": (9, 9)}, ()),
        ({"train": (40, 40), "test": (10, 18)}, ()),
        ({"train": (40, 40), "test": (3, 9)}, ("test",)),
        ({"train": (80, 20), "val": (8, 2), "test": (5, 5)}, ("test",)),
        ({"train": (40, 40), "val": (0, 3), "test": (2, 0)}, ("val", "test")),
        ({"train": (40, 40), "none": (0, 3)}, ()),
    ],
)
def test_split_with_another_share_of_fakes_is_named(
    counts: dict[str, tuple[int, int]], unbalanced: tuple[str, ...]
) -> None:
    named = {split: {"real": real, "fake": fake} for split, (real, fake) in counts.items()}
    found = Audit(
        splits_from="given", leaks=(), counts=named, num_near_duplicates=0, shortcuts=None
    )
    assert found.unbalanced == unbalanced
    assert found.is_clean


@pytest.mark.parametrize(
    ("low", "is_leaking", "is_clean"),
    [(0.4, False, True), (0.7, False, False), (0.4, True, False), (None, True, False)],
)
def test_store_is_clean_without_leaks_and_shortcuts(
    low: float | None, *, is_leaking: bool, is_clean: bool
) -> None:
    file = LeakedFile(split="test", path="a.mp4", label=0)
    found = Audit(
        splits_from="split",
        leaks=(Leak(kind="looks", value="a.mp4", files=(file,)),) if is_leaking else (),
        counts={},
        num_near_duplicates=0,
        shortcuts=None if low is None else shortcuts(Interval(0.8, low, 0.9)),
    )
    assert found.is_clean is is_clean


def shortcuts(auc: Interval) -> Shortcuts:
    by_column = {name: 1 - place / 10 for place, name in enumerate(COLUMNS)}
    return Shortcuts(auc=auc, by_column=by_column, file_name=0.5)


def test_store_without_labels_says_how_to_give_them(layout: StoreLayout) -> None:
    rows = read_rows(layout.manifest_path, MANIFEST)
    write_table(layout.manifest_path, [row | {"label": None} for row in rows], MANIFEST)
    with pytest.raises(StoreError, match="--labels CSV"):
        run(layout)
    assert not layout.audit_path.exists()


@pytest.mark.parametrize(
    "auc", [Interval(1.0, 1.0, 1.0), Interval(0.61, 0.4, 0.8), Interval(0.02, 0.0, 0.3), None]
)
@pytest.mark.parametrize(
    "counts", [COUNTS, {"none": {"real": 123_456, "fake": 0}}, COUNTS | {"none": COUNTS["val"]}]
)
def test_picture_is_readable(
    require_readable: Callable[[Callable[[Path], None]], None],
    auc: Interval | None,
    counts: dict[str, dict[str, int]],
) -> None:
    found = None if auc is None else shortcuts(auc)
    require_readable(lambda path: draw_audit(path, counts=counts, shortcuts=found))
