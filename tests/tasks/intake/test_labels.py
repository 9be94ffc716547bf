"""Labels from tables as people write them, and from folder names."""

import csv
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelcheck.errors import SourceError
from reelcheck.records import InputFile
from reelcheck.status import Status
from tasks.intake.labels import label_files, label_of_folders, read_labels, split_of_folders

NAMED = ("group", "identity", "donor", "source", "pair", "generator", "dataset")
OPTIONAL = (*NAMED, "date")
SPLITS = ("train", "val", "valid", "validation", "test")
NO_OPTIONAL: dict[str, Any] = dict.fromkeys((*OPTIONAL, "split"))
NAMES = st.from_regex(r"[a-zé视][a-z0-9é视 _.,\"-]{0,10}[a-z0-9]", fullmatch=True)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
ROWS = st.dictionaries(
    PATHS,
    st.tuples(
        st.sampled_from(["real", "fake", "deepfake", "0", "1", "Real", "FAKE", " DeepFake "]),
        st.fixed_dictionaries(
            {
                **{name: st.none() | NAMES for name in NAMED},
                "date": st.none() | st.dates().map(str),
            }
        ),
        st.none() | st.sampled_from(SPLITS),
    ),
    max_size=6,
)
TRUTH = {"real": 0, "0": 0, "fake": 1, "deepfake": 1, "1": 1}


def write_labels(folder: Path, text: str | bytes) -> Path:
    path = folder / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def input_file(path: str, root: str = "/data") -> InputFile:
    return InputFile(root=root, path=path)


@settings(deadline=None, max_examples=50)
@given(
    rows=ROWS,
    ways=st.sets(st.sampled_from(["byte order mark", "upper", "backslashes", "CRLF"])),
    order=st.permutations(["path", "label", *OPTIONAL, "split", "remark"]),
)
def test_labels_written_in_any_usual_way_are_read_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    rows: dict[str, tuple[str, dict[str, str | None], str | None]],
    ways: set[str],
    order: list[str],
) -> None:
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    encoding = "utf-8-sig" if "byte order mark" in ways else "utf-8"
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n" if "CRLF" in ways else "\n")
        writer.writerow([f" {name.upper()} " if "upper" in ways else name for name in order])
        for name, (label, optional, split) in rows.items():
            shown = name.replace("/", "\\") if "backslashes" in ways else name
            written = split.upper() if split and "upper" in ways else split
            values = {"path": shown, "label": label, "remark": "x", **optional, "split": written}
            writer.writerow([values[column] or "" for column in order])
    assert read_labels(path) == {
        name: {
            "label": TRUTH[label.strip().lower()],
            **optional,
            "split": "val" if split and split.startswith("val") else split,
        }
        for name, (label, optional, split) in rows.items()
    }


def test_labels_only_path_and_label_are_needed(tmp_path: Path) -> None:
    path = write_labels(tmp_path, "label,path\nfake,./a//b.mp4\n")
    assert read_labels(path) == {"a/b.mp4": {"label": 1, **NO_OPTIONAL}}


def test_labels_short_lines_and_empty_lines_are_tolerated(tmp_path: Path) -> None:
    path = write_labels(tmp_path, "path,label,group\na.mp4,real\n\nb.mp4,fake,g\n")
    assert {name: row["group"] for name, row in read_labels(path).items()} == {
        "a.mp4": None,
        "b.mp4": "g",
    }


@pytest.mark.parametrize(
    ("header", "missing"),
    [
        ("path,group", "label"),
        ("file,label", "path"),
        ("file,kind", "label and path"),
        ("", "path"),
    ],
)
def test_labels_missing_column_is_named(tmp_path: Path, header: str, missing: str) -> None:
    path = write_labels(tmp_path, f"{header}\na.mp4,real\n" if header else "")
    with pytest.raises(SourceError, match=f"lacks the column .*{missing}") as caught:
        read_labels(path)
    assert "path,label" in str(caught.value)


@pytest.mark.parametrize("label", ["maybe", "", "2", "true"])
def test_labels_unknown_label_names_line_value_and_choices(tmp_path: Path, label: str) -> None:
    path = write_labels(tmp_path, f"path,label\na.mp4,real\nb.mp4,{label}\nc.mp4,fake\n")
    with pytest.raises(SourceError, match="line 3") as caught:
        read_labels(path)
    assert repr(label) in str(caught.value)
    assert "real, fake, deepfake, 0, 1" in str(caught.value)


@pytest.mark.parametrize("split", ["dev", "0", "training"])
def test_labels_unknown_split_names_line_value_and_choices(tmp_path: Path, split: str) -> None:
    path = write_labels(tmp_path, f"path,label,split\na.mp4,real,\nb.mp4,fake,{split}\n")
    with pytest.raises(SourceError, match="line 3") as caught:
        read_labels(path)
    assert repr(split) in str(caught.value)
    assert ", ".join(SPLITS) in str(caught.value)


def test_labels_empty_path_names_the_line(tmp_path: Path) -> None:
    path = write_labels(tmp_path, "path,label\n ,real\n")
    with pytest.raises(SourceError, match="line 2: the path is empty"):
        read_labels(path)


@pytest.mark.parametrize("second", ["a.mp4,fake,", "a.mp4,real,h", ".\\a.mp4,1,"])
def test_labels_contradictory_rows_for_one_path_are_refused(tmp_path: Path, second: str) -> None:
    path = write_labels(tmp_path, f"path,label,group\na.mp4,real,\n{second}\n")
    with pytest.raises(SourceError, match=r"two different rows for 'a\.mp4'"):
        read_labels(path)


def test_labels_same_row_twice_is_harmless(tmp_path: Path) -> None:
    path = write_labels(tmp_path, "path,label\na.mp4,real\na.mp4,0\n")
    assert read_labels(path) == {"a.mp4": {"label": 0, **NO_OPTIONAL}}


@pytest.mark.parametrize(
    "content",
    [b"\x00\x01\xff\xfe" * 50, b"path,label\n\xff.mp4,real\n", b'path,label\n"a.mp4,real\n'],
    ids=["binary", "not UTF-8", "open quote"],
)
def test_labels_unreadable_table_is_named(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SourceError, match=r"cannot read the labels table .*labels\.csv"):
        read_labels(write_labels(tmp_path, content))


@pytest.mark.parametrize("name", ["absent.csv", "."])
def test_labels_table_that_is_no_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match="cannot read the labels table"):
        read_labels(tmp_path / name)


def test_label_files_absent_file_becomes_a_missing_row(tmp_path: Path) -> None:
    table = write_labels(tmp_path, "path,label,group\na.mp4,real,g\ngone/b.mp4,fake,h\n")
    files = [input_file("a.mp4"), input_file("c.mp4")]
    labelled = label_files(files, table)
    assert labelled[:2] == [
        InputFile(root="/data", path="a.mp4", label=0, group="g"),
        input_file("c.mp4"),
    ]
    (missing,) = labelled[2:]
    assert (missing.root, missing.path, missing.status) == ("/data", "gone/b.mp4", Status.MISSING)
    assert (missing.label, missing.group, missing.video_id) == (1, "h", None)
    assert "labels.csv" in (missing.reason or "")


def test_label_files_table_of_another_folder_is_refused(tmp_path: Path) -> None:
    table = write_labels(tmp_path, "path,label\nvideos/a.mp4,real\n")
    with pytest.raises(SourceError, match=r"none of the 1 paths .*'videos/a\.mp4'.*relative"):
        label_files([input_file("a.mp4")], table)


def test_label_files_table_without_rows_labels_nothing(tmp_path: Path) -> None:
    files = [input_file("a.mp4")]
    assert label_files(files, write_labels(tmp_path, "path,label\n")) == files


def test_label_files_table_given_folder_names_do_not_count(tmp_path: Path) -> None:
    table = write_labels(tmp_path, "path,label\nfake/a.mp4,real\n")
    files = label_files([input_file("fake/a.mp4"), input_file("fake/b.mp4")], table)
    assert [file.label for file in files] == [0, None]


@pytest.mark.parametrize(
    ("root", "path", "label"),
    [
        ("/data", "real/a.mp4", 0),
        ("/data", "fake/a.mp4", 1),
        ("/data", "DeepFake/a.mp4", 1),
        ("/data", "REAL/x/y/a.mp4", 0),
        ("/data", "real/x/fake/a.mp4", 1),
        ("/data", "fake/Real/x/a.mp4", 0),
        ("/data/fake", "a.mp4", 1),
        ("/data/fake", "real/a.mp4", 0),
        ("/real/data", "a.mp4", None),
        ("/data", "real", None),
        ("/data", "fake.mp4", None),
        ("/data", "realistic/a.mp4", None),
        ("/data", "a.mp4", None),
    ],
)
def test_label_of_folders_nearest_named_folder_wins(
    root: str, path: str, label: int | None
) -> None:
    assert label_of_folders(input_file(path, root)) == label
    assert label_files([input_file(path, root)], None)[0].label == label


@given(st.lists(st.sampled_from(["real", "fake", "a", "b"]), max_size=6))
def test_label_of_folders_is_that_of_the_last_named_one(folders: list[str]) -> None:
    named = [folder for folder in folders if folder in {"real", "fake"}]
    expected = {"real": 0, "fake": 1}[named[-1]] if named else None
    assert label_of_folders(input_file("/".join([*folders, "v.mp4"]))) == expected


@pytest.mark.parametrize(
    ("root", "path", "split"),
    [
        ("/data", "train/real/a.jpg", "train"),
        ("/data", "real/Train/a.jpg", "train"),
        ("/data", "VAL/x/fake/a.mp4", "val"),
        ("/data", "valid/a.mp4", "val"),
        ("/data", "Validation/real/a.mp4", "val"),
        ("/data", "train/x/test/a.mp4", "test"),
        ("/data/Test", "real/a.mp4", "test"),
        ("/data/test", "train/a.mp4", "train"),
        ("/test/data", "real/a.mp4", None),
        ("/data", "real/test", None),
        ("/data", "training/real/a.mp4", None),
        ("/data", "Real/a.mp4", None),
    ],
)
def test_split_of_folders_nearest_named_folder_wins(
    tmp_path: Path, root: str, path: str, split: str | None
) -> None:
    file = input_file(path, root)
    assert split_of_folders(file) == split
    assert label_files([file], None)[0].split == split
    # With a table, folders say nothing.
    table = write_labels(tmp_path, f"path,label\n{path},real\n")
    assert label_files([file], table)[0].split is None


def test_single_file_says_nothing_of_the_others_in_the_table(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("path,label\na.mp4,real\nb.mp4,fake\n")
    one = [InputFile(root="/videos", path="a.mp4")]
    assert [file.path for file in label_files(one, table, is_complete=False)] == ["a.mp4"]
    unknown = [InputFile(root="/videos", path="c.mp4")]
    assert label_files(unknown, table, is_complete=False) == unknown
