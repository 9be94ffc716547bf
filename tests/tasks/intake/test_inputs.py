"""What is named is found, once; what is not there is told, as an error or as a row."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelcheck.errors import SourceError
from reelcheck.records import InputFile
from reelcheck.status import Status
from tasks.intake.inputs import find_inputs, keep_settled, sample_files


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def found(*sources: Path | str, exclude: Path | None = None) -> list[Path]:
    """Full paths."""
    files = find_inputs([str(source) for source in sources], exclude=exclude)
    assert files == sorted(files, key=lambda file: (file.root, file.path))
    return [Path(file.root) / file.path for file in files]


def names(paths: Sequence[Path], folder: Path) -> set[str]:
    assert len(set(paths)) == len(paths)
    return {path.relative_to(folder).as_posix() for path in paths}


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    return fill(tmp_path / "inbox", "a.mp4", "b.mkv", "sub/c.mp4", "sub/deep/d.mp4", "sub/note.txt")


def test_folder_is_searched_through(inbox: Path) -> None:
    files = find_inputs([str(inbox)])
    expected = ["a.mp4", "b.mkv", "sub/c.mp4", "sub/deep/d.mp4", "sub/note.txt"]
    assert [(file.root, file.path) for file in files] == [(str(inbox), name) for name in expected]
    assert {(file.size_bytes, file.status, file.video_id) for file in files} == {(1, None, None)}


def test_file_is_found_beside_others(inbox: Path) -> None:
    [file] = find_inputs([str(inbox / "sub" / "c.mp4")])
    assert (file.root, file.path) == (str(inbox / "sub"), "c.mp4")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.mp4", {"a.mp4"}),
        ("*", {"a.mp4", "b.mkv"}),
        ("?.m*", {"a.mp4", "b.mkv"}),
        ("[ab].mp4", {"a.mp4"}),
        ("*/*.mp4", {"sub/c.mp4"}),
        ("s*/deep/*", {"sub/deep/d.mp4"}),
        ("**/*.mp4", {"a.mp4", "sub/c.mp4", "sub/deep/d.mp4"}),
        ("sub/**/*.mp4", {"sub/c.mp4", "sub/deep/d.mp4"}),
        ("**", {"a.mp4", "b.mkv", "sub/c.mp4", "sub/deep/d.mp4", "sub/note.txt"}),
        ("sub/**", {"sub/c.mp4", "sub/deep/d.mp4", "sub/note.txt"}),
        ("sub/../*.mkv", {"b.mkv"}),
    ],
)
@pytest.mark.parametrize("is_absolute", [True, False])
def test_pattern_names_the_files_that_match(
    inbox: Path,
    monkeypatch: pytest.MonkeyPatch,
    pattern: str,
    expected: set[str],
    is_absolute: bool,
) -> None:
    monkeypatch.chdir(inbox)
    assert names(found(inbox / pattern if is_absolute else pattern), inbox) == expected


def test_characters_of_patterns_may_stand_in_real_names(tmp_path: Path) -> None:
    folder = fill(tmp_path, "[2024] *what*?/a[1].mp4", "[2024] *what*?/b.mp4", "2/a1.mp4")
    real = folder / "[2024] *what*?"
    assert names(found(real), real) == {"a[1].mp4", "b.mp4"}
    assert names(found(real / "a[1].mp4"), real) == {"a[1].mp4"}
    assert names(found(real / "*.mp4"), real) == {"a[1].mp4", "b.mp4"}


def test_folders_that_match_a_pattern_are_not_searched(inbox: Path) -> None:
    fill(inbox / "x.mp4", "inside.mp4")
    assert names(found(inbox / "*.mp4"), inbox) == {"a.mp4"}


def test_output_of_our_own_is_left_out(inbox: Path) -> None:
    out = fill(inbox / "out", "evidence/a.jpg", "scores.csv")
    everything = {"a.mp4", "b.mkv", "sub/c.mp4", "sub/deep/d.mp4", "sub/note.txt"}
    assert names(found(inbox, exclude=out), inbox) == everything
    assert names(found(inbox / "**" / "*", exclude=out), inbox) == everything
    (inbox / "list.txt").write_text(".\n", encoding="utf-8")
    assert names(found(f"@{inbox}/list.txt", exclude=out), inbox) == {*everything, "list.txt"}


def test_list_is_relative_to_its_own_folder(
    inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = fill(tmp_path / "elsewhere", "e.mp4")
    lines = ["a.mp4", "", "  \t", "sub", str(elsewhere / "e.mp4"), "../elsewhere/e.mp4", "gone.mp4"]
    (inbox / "list.txt").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.chdir(elsewhere)
    files = find_inputs(["@../inbox/list.txt"])
    missing = [file for file in files if file.status is not None]
    assert [(f.root, f.path, f.status) for f in missing] == [
        (str(inbox), "gone.mp4", Status.MISSING)
    ]
    assert missing[0].reason == "list.txt names it, but it is not there"
    rest = [Path(file.root) / file.path for file in files if file.status is None]
    assert names(rest, tmp_path) == {
        "inbox/a.mp4",
        "inbox/sub/c.mp4",
        "inbox/sub/deep/d.mp4",
        "inbox/sub/note.txt",
        "elsewhere/e.mp4",
    }


AWKWARD = [
    "ä视频🎬.mp4",
    " a 'b' \"c\" .mp4 ",
    "x" * 251 + ".mp4",
    "line\u2028separator\x85.mp4",
    "@at.mp4",
    "#hash.mp4",
    "[1].mp4",
]


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_awkward_names_are_found_by_every_way(tmp_path: Path, name: str, newline: str) -> None:
    folder = fill(tmp_path / "videos", name)
    with (tmp_path / "list.txt").open("w", encoding="utf-8", newline=newline) as file:
        file.write(f"videos/{name}\nvideos/{name}\n")
    for source in (folder, folder / name, folder / "*", f"@{tmp_path}/list.txt"):
        assert found(source) == [folder / name]


def test_list_may_begin_with_a_byte_order_mark(inbox: Path) -> None:
    (inbox / "list.txt").write_text("a.mp4\n", encoding="utf-8-sig")
    assert names(found(f"@{inbox}/list.txt"), inbox) == {"a.mp4"}


@pytest.mark.parametrize("line", ["x" * 300, "no/such/folder/a.mp4", "a.mp4/b.mp4", "a\0b"])
def test_whatever_a_list_names_is_no_more_than_a_row(inbox: Path, line: str) -> None:
    (inbox / "list.txt").write_text(f"{line}\na.mp4\n", encoding="utf-8")
    files = {file.path: file.status for file in find_inputs([f"@{inbox}/list.txt"])}
    assert files == {"a.mp4": None, line: Status.MISSING}


@pytest.mark.parametrize("source", ["inbox", "inbox/*", "@list.txt", "inbox/broken.mp4"])
def test_broken_link_is_a_row(inbox: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    (inbox / "broken.mp4").symlink_to("nowhere.mp4")
    (inbox.parent / "list.txt").write_text("inbox/broken.mp4", encoding="utf-8")
    monkeypatch.chdir(inbox.parent)
    statuses = {Path(file.path).name: file.status for file in find_inputs([source])}
    assert statuses["broken.mp4"] == Status.UNREADABLE


def test_links_to_folders_are_not_followed_so_loops_end(inbox: Path) -> None:
    # With two of them, following doubles the work at each of forty levels.
    for name in ("one", "two"):
        (inbox / "sub" / name).symlink_to(inbox)
    (inbox / "itself").symlink_to("itself")
    everything = {"a.mp4", "b.mkv", "sub/c.mp4", "sub/deep/d.mp4", "sub/note.txt", "itself"}
    assert names(found(inbox / "**"), inbox) == everything
    assert names(found(inbox), inbox) == everything | {"sub/one", "sub/two"}
    assert names(found(inbox / "**" / "*.mp4"), inbox) == {
        "a.mp4",
        "sub/c.mp4",
        "sub/deep/d.mp4",
    }


def test_file_named_in_several_ways_is_found_once(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (inbox.parent / "list.txt").write_text("inbox/a.mp4\n./inbox/../inbox/a.mp4", encoding="utf-8")
    (inbox.parent / "way").symlink_to(inbox)
    monkeypatch.chdir(inbox)
    sources = ["a.mp4", str(inbox / "a.mp4"), "./*.mp4", "../inbox/a.mp4", "@../list.txt"]
    assert found(*sources, "../way/a.mp4", "../way/*.mp4", "../way/**/a.mp4") == [inbox / "a.mp4"]
    assert len(found(".", "..", *sources)) == len(found("..")) == 7


def test_order_of_sources_changes_nothing(inbox: Path) -> None:
    sources = [str(inbox / "sub"), str(inbox / "a.mp4"), str(inbox / "*.mkv")]
    assert find_inputs(sources) == find_inputs(sources[::-1])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "nowhere does not exist"),
        ("nowhere.mp4", "does not exist"),
        ("", "does not exist"),
        ("x" * 300, "does not exist"),
        ("inbox/*.avi", r"nothing matches inbox/\*\.avi"),
        ("nowhere/**/*.mp4", "nothing matches"),
        ("[" + "x" * 300 + "]*", "nothing matches"),
        ("inbox/[a].mkv", "nothing matches"),
        ("inbox/a.mp4/*", "nothing matches"),
        ("empty", "empty holds no files"),
        ("@nowhere.txt", "list nowhere.txt cannot be read"),
        ("@inbox", "cannot be read"),
        ("@picture.jpg", "cannot be read"),
        ("@blank.txt", "holds no files"),
    ],
)
def test_source_that_names_nothing_is_refused_in_one_line(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    monkeypatch.chdir(inbox.parent)
    Path("empty").mkdir()
    Path("picture.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    Path("blank.txt").write_text("\n \n", encoding="utf-8")
    with pytest.raises(SourceError, match=message) as caught:
        find_inputs([source])
    assert "\n" not in str(caught.value)


def test_one_bad_source_among_good_ones_is_refused(inbox: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        find_inputs([str(inbox), str(inbox / "gone.mp4")])


def test_nothing_yet_is_no_error_where_it_may_be(tmp_path: Path) -> None:
    sources = [str(tmp_path), str(tmp_path / "*.mp4")]
    assert find_inputs(sources, may_be_empty=True) == []
    with pytest.raises(SourceError, match="does not exist"):
        find_inputs([str(tmp_path / "gone")], may_be_empty=True)


FILES = st.lists(
    st.builds(
        InputFile,
        root=st.sampled_from(["/a", "/b"]),
        path=st.sampled_from("abcd")
        | st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    ),
    max_size=30,
    unique_by=lambda file: (file.root, file.path),
)


@settings(deadline=None)
@given(files=FILES, num_files=st.integers(0, 40), data=st.data())
def test_sample_is_the_same_whatever_the_order(
    files: list[InputFile], num_files: int, data: st.DataObject
) -> None:
    chosen = sample_files(files, num_files=num_files)
    assert len(chosen) == min(num_files, len(files))
    assert chosen == sorted(chosen, key=lambda file: (file.root, file.path))
    assert {(f.root, f.path) for f in chosen} <= {(f.root, f.path) for f in files}
    shuffled = data.draw(st.permutations(files))
    assert sample_files(shuffled, num_files=num_files) == chosen
    # A larger sample holds the smaller one.
    assert set(chosen) <= set(sample_files(files, num_files=num_files + 1))


def test_sample_of_files_of_one_name_is_the_same_whatever_the_order() -> None:
    files = [InputFile(root=root, path="a.mp4") for root in ("/a", "/b")]
    assert sample_files(files, num_files=1) == sample_files(files[::-1], num_files=1)


def test_sample_is_spread_over_the_files() -> None:
    files = [InputFile(root="/a", path=f"{n:04d}.mp4") for n in range(1000)]
    places = [int(file.path[:4]) for file in sample_files(files, num_files=200)]
    # Of 200 by chance 50 are expected in each quarter, with a standard deviation below 6.
    for start in range(0, 1000, 250):
        assert 25 < sum(start <= place < start + 250 for place in places) < 75


def test_files_written_to_just_now_are_left_out(inbox: Path) -> None:
    now = time.time()
    ages = {"a.mp4": 0, "b.mkv": 50, "sub/c.mp4": 70, "sub/note.txt": 1e6, "sub/deep/d.mp4": -1e6}
    for name, age in ages.items():
        os.utime(inbox / name, (now - age, now - age))
    (inbox / "broken.mp4").symlink_to("nowhere")
    files = find_inputs([str(inbox)])
    # A time far ahead is a wrong clock, not a file that is being written.
    shown = {"broken.mp4", "sub/c.mp4", "sub/note.txt", "sub/deep/d.mp4"}
    assert {file.path for file in keep_settled(files, seconds=60)} == shown
    assert keep_settled(files, seconds=0) == files


def test_files_of_one_name_are_told_apart_in_patterns_and_lists(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.mp4").write_bytes(b"x")
    (tmp_path / "list.txt").write_text("a/x.mp4\nb\n", encoding="utf-8")
    expected = [(str(tmp_path), "a/x.mp4"), (str(tmp_path), "b/x.mp4")]
    for source in (str(tmp_path / "*/x.mp4"), f"@{tmp_path / 'list.txt'}"):
        assert [(file.root, file.path) for file in find_inputs([source])] == expected
