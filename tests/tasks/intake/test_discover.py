"""Finding files: nothing is lost, nothing odd is opened, nothing is hashed twice."""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from reelcheck.errors import SourceError
from reelcheck.records import InputFile
from reelcheck.status import Status
from storage.layout import StoreLayout, locate_preprocessed
from storage.schemas import VIDEO_RESULTS, VIDEOS
from storage.tables import write_table
from tasks.intake.discover import discover, find_files
from tasks.intake.shards import plan_shards

NOBODY = 65534


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def run_discover(
    source: Path,
    layout: StoreLayout | None = None,
    *,
    labels: Path | None = None,
    exclude: Path | None = None,
) -> list[InputFile]:
    layout = layout or locate_preprocessed(source.parent / "store", "hash")
    return discover(source, layout, labels=labels, exclude=exclude)


def fill(folder: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def remember(layout: StoreLayout, files: Sequence[InputFile]) -> None:
    """The table of an earlier run."""
    write_table(layout.videos_path, [{"status": "ok", **_known(file)} for file in files], VIDEOS)


def _known(file: InputFile) -> dict[str, object]:
    return {key: value for key, value in asdict(file).items() if value is not None}


@pytest.fixture
def as_plain_user() -> Iterator[None]:
    """Root may read everything, so while the test runs root becomes somebody else."""
    if not hasattr(os, "geteuid"):
        pytest.skip("no user ids here")
    user = os.geteuid()
    if user != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


NAMES = {
    "umlaut and CJK": "ä视频🎬.mp4",
    "spaces and quotes": " a 'b' \"c\" .mp4",
    "leading dash": "-rf.mp4",
    "newline": "a\nb.mp4",
    "hidden": ".a.mp4",
    "no extension": "video",
    "two hundred and fifty-five bytes": "x" * 251 + ".mp4",
    "percent pattern": "%03d.mp4",
    "colon": "http:a.mp4",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_discover_awkward_name_is_kept(tmp_path: Path, name: str) -> None:
    source = fill(tmp_path / "videos", {f"sub/{name}": b"x"})
    (file,) = run_discover(source)
    assert (file.root, file.path) == (str(source), f"sub/{name}")
    assert (file.video_id, file.size_bytes, file.status) == (sha256(b"x"), 1, None)


def test_discover_order_is_by_path_and_independent_of_creation(tmp_path: Path) -> None:
    names = ["b/z.mp4", "a.mp4", "b/a.mp4", "B.mp4", "ä.mp4"]
    one = fill(tmp_path / "one", dict.fromkeys(names, b"x"))
    two = fill(tmp_path / "two", dict.fromkeys(reversed(names), b"x"))
    found = [file.path for file in run_discover(one)]
    assert sorted(found) == sorted(names)
    assert [file.path for file in run_discover(two)] == found


def test_discover_single_file_is_relative_to_its_folder(tmp_path: Path) -> None:
    fill(tmp_path, {"a.mp4": b"x", "b.mp4": b"y"})
    (file,) = run_discover(tmp_path / "b.mp4")
    assert (file.root, file.path, file.video_id) == (str(tmp_path), "b.mp4", sha256(b"y"))


def test_discover_relative_source_gives_absolute_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, {"videos/a.mp4": b"x"})
    monkeypatch.chdir(tmp_path)
    (file,) = run_discover(Path("videos"))
    assert file.root == str(tmp_path / "videos")


def test_discover_loop_of_links_ends(tmp_path: Path) -> None:
    source = fill(tmp_path / "videos", {"sub/a.mp4": b"x"})
    (source / "sub" / "loop").symlink_to(source)
    video, link = run_discover(source)
    assert (video.path, video.status) == ("sub/a.mp4", None)
    assert (link.path, link.status) == ("sub/loop", Status.UNREADABLE)
    assert link.reason == "a link to a folder, not followed"


def test_discover_output_folder_as_source_is_refused(tmp_path: Path) -> None:
    source = fill(tmp_path / "videos", {"a.mp4": b"x"})
    with pytest.raises(SourceError, match="both the source and the output"):
        run_discover(source, exclude=source)


def test_discover_link_to_a_file_is_followed(tmp_path: Path) -> None:
    fill(tmp_path, {"elsewhere/a.mp4": b"x"})
    source = tmp_path / "videos"
    source.mkdir()
    (source / "link.mp4").symlink_to(tmp_path / "elsewhere" / "a.mp4")
    (file,) = run_discover(source)
    assert (file.path, file.video_id) == ("link.mp4", sha256(b"x"))


@pytest.mark.parametrize("target", ["nowhere.mp4", "link.mp4"], ids=["dangling", "to itself"])
def test_discover_link_that_leads_nowhere_is_unreadable(tmp_path: Path, target: str) -> None:
    source = fill(tmp_path / "videos", {"a.mp4": b"x"})
    (source / "link.mp4").symlink_to(target)
    _, link = run_discover(source)
    assert (link.path, link.status, link.video_id) == ("link.mp4", Status.UNREADABLE, None)
    assert "cannot be read" in (link.reason or "")


@pytest.mark.timeout(20)
def test_discover_named_pipe_is_reported_not_opened(tmp_path: Path) -> None:
    # Opening it for reading would wait for a writer for ever.
    source = fill(tmp_path / "videos", {"a.mp4": b"x"})
    os.mkfifo(source / "pipe.mp4")
    (source / "link.mp4").symlink_to("pipe.mp4")
    _, link, pipe = run_discover(source)
    for file in (link, pipe):
        assert (file.status, file.reason) == (Status.UNREADABLE, "not a regular file")
        assert file.video_id is None


@pytest.mark.timeout(20)
def test_discover_named_pipe_as_source_is_reported(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (file,) = run_discover(tmp_path / "pipe.mp4")
    assert file.status is Status.UNREADABLE


@pytest.mark.usefixtures("as_plain_user")
def test_discover_file_without_permission_is_unreadable() -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = fill(Path(folder), {"a.mp4": b"x", "b.mp4": b"y"})
        (source / "a.mp4").chmod(0)
        closed, opened = run_discover(source)
    assert (closed.path, closed.status) == ("a.mp4", Status.UNREADABLE)
    assert closed.reason == "cannot be read: Permission denied"
    assert (opened.path, opened.video_id) == ("b.mp4", sha256(b"y"))


@pytest.mark.usefixtures("as_plain_user")
def test_discover_folder_without_permission_is_not_passed_over() -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = fill(Path(folder), {"a.mp4": b"x", "closed/b.mp4": b"y"})
        (source / "closed").chmod(0)
        try:
            paths = [file.path for file in run_discover(source)]
        finally:
            (source / "closed").chmod(0o755)
    assert any(path.startswith("closed") for path in paths)


def test_discover_name_that_is_not_utf8_can_be_stored(tmp_path: Path) -> None:
    source = fill(tmp_path / "videos", {os.fsdecode(b"caf\xe9.mp4"): b"x"})
    files = run_discover(source)
    remember(locate_preprocessed(tmp_path / "store", "hash"), files)


def test_discover_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nowhere does not exist"):
        run_discover(tmp_path / "nowhere")


def test_discover_empty_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "videos" / "empty").mkdir(parents=True)
    with pytest.raises(SourceError, match="videos holds no files"):
        run_discover(tmp_path / "videos")


def test_discover_own_output_inside_the_source_is_left_out(tmp_path: Path) -> None:
    contents = {"a.mp4": b"x", "out/b.mp4": b"y", "sub/out/c.mp4": b"z", "out2/d.mp4": b"w"}
    source = fill(tmp_path / "videos", contents)
    found = [file.path for file in run_discover(source, exclude=source / "out")]
    assert found == ["a.mp4", "out2/d.mp4", "sub/out/c.mp4"]


def test_discover_relative_output_folder_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, {"a.mp4": b"x", "out/b.mp4": b"y"})
    monkeypatch.chdir(tmp_path)
    assert [file.path for file in run_discover(Path(), exclude=Path("out"))] == ["a.mp4"]


@pytest.mark.parametrize("way", ["dots", "link"])
def test_discover_output_folder_named_another_way_is_left_out(tmp_path: Path, way: str) -> None:
    source = fill(tmp_path / "videos", {"a.mp4": b"x", "out/b.mp4": b"y"})
    (tmp_path / "link").symlink_to(source)
    exclude = tmp_path / "link" / "out" if way == "link" else source / ".." / "videos" / "out"
    assert exclude.samefile(source / "out")
    assert [file.path for file in run_discover(source, exclude=exclude)] == ["a.mp4"]


def test_discover_labels_are_put_on_the_files(tmp_path: Path) -> None:
    source = fill(tmp_path / "videos", {"a.mp4": b"x", "fake/b.mp4": b"y"})
    table = tmp_path / "labels.csv"
    table.write_text("path,label\na.mp4,fake\ngone.mp4,real\n", encoding="utf-8")
    found = {file.path: (file.label, file.status) for file in run_discover(source, labels=table)}
    assert found == {
        "a.mp4": (1, None),
        "fake/b.mp4": (None, None),
        "gone.mp4": (0, Status.MISSING),
    }
    assert [file.label for file in run_discover(source)] == [None, 1]


def test_discover_file_of_same_size_and_time_is_not_hashed_again(tmp_path: Path) -> None:
    source, layout = (
        fill(tmp_path / "videos", {"a.mp4": b"old"}),
        locate_preprocessed(tmp_path, "h"),
    )
    [first] = run_discover(source, layout)
    # The name shows that nothing was read.
    remember(layout, [replace(first, video_id="as it was")])
    assert [file.video_id for file in run_discover(source, layout)] == ["as it was"]


def test_discover_file_whose_time_was_set_back_is_hashed_again(tmp_path: Path) -> None:
    source = fill(tmp_path / "videos", {"a.mp4": b"old"})
    layout = locate_preprocessed(tmp_path, "h")
    remember(layout, run_discover(source, layout))
    info = (source / "a.mp4").stat()
    (source / "a.mp4").write_bytes(b"new")
    os.utime(source / "a.mp4", ns=(info.st_atime_ns, info.st_mtime_ns))
    assert (source / "a.mp4").stat().st_mtime_ns == info.st_mtime_ns
    assert [file.video_id for file in run_discover(source, layout)] == [sha256(b"new")]


@pytest.mark.parametrize("status", ["unreadable", "internal_error"])
def test_discover_what_could_not_be_read_is_hashed_again(tmp_path: Path, status: str) -> None:
    source = fill(tmp_path / "videos", {"a.mp4": b"x"})
    layout = locate_preprocessed(tmp_path, "h")
    [file] = run_discover(source, layout)
    rows = [{**_known(file), "video_id": "another", "status": status}]
    write_table(layout.videos_path, rows, VIDEOS)
    assert [file.video_id for file in run_discover(source, layout)] == [sha256(b"x")]


def test_discover_file_of_no_bytes_is_told_without_being_opened(tmp_path: Path) -> None:
    # In /proc every file has this size, and some can be read without end.
    source = fill(tmp_path / "videos", {"a.mp4": b""})
    if Path("/proc/self/mountinfo").is_file():
        (source / "proc.mp4").symlink_to("/proc/self/mountinfo")
    for file in run_discover(source):
        assert (file.status, file.reason) == (Status.UNSUPPORTED, "empty file (0 bytes)")
        assert file.video_id is None


@pytest.mark.parametrize(("content", "shift_ns"), [(b"new", 1), (b"longer", 0)])
def test_discover_changed_file_is_hashed_again(
    tmp_path: Path, content: bytes, shift_ns: int
) -> None:
    source, layout = (
        fill(tmp_path / "videos", {"a.mp4": b"old"}),
        locate_preprocessed(tmp_path, "h"),
    )
    remember(layout, run_discover(source, layout))
    info = (source / "a.mp4").stat()
    (source / "a.mp4").write_bytes(content)
    os.utime(source / "a.mp4", ns=(info.st_atime_ns, info.st_mtime_ns + shift_ns))
    (file,) = run_discover(source, layout)
    assert file.video_id == sha256(content)


def test_discover_what_is_known_of_another_root_is_not_used(tmp_path: Path) -> None:
    layout = locate_preprocessed(tmp_path, "h")
    one = fill(tmp_path / "one", {"a.mp4": b"old"})
    two = fill(tmp_path / "two", {"a.mp4": b"new"})
    info = (one / "a.mp4").stat()
    os.utime(two / "a.mp4", ns=(info.st_atime_ns, info.st_mtime_ns))
    remember(layout, run_discover(one, layout))
    assert run_discover(two, layout)[0].video_id == sha256(b"new")


def test_plan_shards_same_content_twice_is_one_entry(tmp_path: Path) -> None:
    source = fill(tmp_path / "videos", {"a.mp4": b"x", "b/copy.mp4": b"x", "c.mp4": b"y"})
    (shard,) = plan_shards(run_discover(source), locate_preprocessed(tmp_path, "h"), shard_size=64)
    assert dict(zip(shard.video_ids, shard.locations, strict=True)) == {
        sha256(b"x"): str(source / "a.mp4"),
        sha256(b"y"): str(source / "c.mp4"),
    }


def test_plan_shards_files_that_cannot_be_read_are_in_none(tmp_path: Path) -> None:
    source = fill(tmp_path / "videos", {"a.mp4": b"x"})
    (source / "link.mp4").symlink_to("nowhere")
    (shard,) = plan_shards(find_and_name(source), locate_preprocessed(tmp_path, "h"), shard_size=64)
    assert shard.locations == (str(source / "a.mp4"),)


def test_plan_shards_what_a_defect_of_ours_stopped_is_tried_again(tmp_path: Path) -> None:
    layout = locate_preprocessed(tmp_path, "h")
    source = fill(tmp_path / "videos", {"a.mp4": b"x", "b.mp4": b"y", "c.mp4": b"z"})
    statuses = {sha256(b"x"): "internal_error", sha256(b"y"): "decode_error"}
    rows = [{"video_id": video_id, "status": status} for video_id, status in statuses.items()]
    write_table(layout.shard_videos_path("done"), rows, VIDEO_RESULTS)
    (shard,) = plan_shards(run_discover(source), layout, shard_size=64)
    assert set(shard.locations) == {str(source / "a.mp4"), str(source / "c.mp4")}


def failing(source: Path) -> dict[str, str]:
    """One content for every status that a shard may hold; the name is the status."""
    names = [status for status in Status if status is not Status.MISSING]
    fill(source, {f"{name}.mp4": name.encode() for name in names})
    return {sha256(name.encode()): str(name) for name in names}


@pytest.mark.parametrize(
    ("retry_failed", "wanted"),
    [
        (False, {"internal_error", "unreadable"}),
        (True, {"internal_error", "unreadable", "decode_error", "timeout", "out_of_memory"}),
    ],
)
def test_plan_shards_failures_are_tried_again_when_it_is_asked_for(
    tmp_path: Path, retry_failed: bool, wanted: set[str]
) -> None:
    layout, source = locate_preprocessed(tmp_path, "h"), tmp_path / "videos"
    rows = [{"video_id": key, "status": value} for key, value in failing(source).items()]
    write_table(layout.shard_videos_path("done"), rows, VIDEO_RESULTS)
    files = run_discover(source, layout)
    (shard,) = plan_shards(files, layout, shard_size=64, retry_failed=retry_failed)
    assert {Path(path).stem for path in shard.locations} == wanted


def find_and_name(source: Path) -> list[InputFile]:
    assert [file.video_id for file in find_files(source)] == [None, None]
    return run_discover(source)
