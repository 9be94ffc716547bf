"""Objects of a store as files to score."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from reelcheck.errors import SourceError
from reelcheck.status import Status
from tasks.remote import fetched, is_url


@pytest.fixture
def store() -> Iterator[fsspec.AbstractFileSystem]:
    memory = fsspec.filesystem("memory")
    memory.pipe({"/bucket/in/a.mp4": b"abc", "/bucket/in/sub/b c.mp4": b"defg", "/other": b""})
    yield memory
    memory.rm("/", recursive=True)


@pytest.mark.parametrize("url", ["memory://bucket/in", "memory://bucket/in/"])
def test_objects_below_a_url_become_files_under_their_names(
    store: fsspec.AbstractFileSystem, tmp_path: Path, url: str
) -> None:
    files = fetched(url, tmp_path)
    assert [(f.path, f.size_bytes, f.status) for f in files] == [
        ("a.mp4", 3, None),
        ("sub/b c.mp4", 4, None),
    ]
    assert [(Path(f.root) / f.path).read_bytes() for f in files] == [b"abc", b"defg"]
    assert all(Path(f.root).parent == tmp_path for f in files)


def test_one_object_is_one_file(store: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    [file] = fetched("memory://bucket/in/a.mp4", tmp_path)
    assert file.path == "a.mp4"
    assert (Path(file.root) / file.path).read_bytes() == b"abc"


def test_what_is_there_is_not_fetched_again(
    store: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    before = fetched("memory://bucket/in", tmp_path)
    store.pipe("/bucket/in/c.mp4", b"new")
    store.pipe("/bucket/in/a.mp4", b"longer")
    after = {file.path: file for file in fetched("memory://bucket/in", tmp_path)}
    assert after["sub/b c.mp4"] == before[1]
    assert (Path(after["a.mp4"].root) / "a.mp4").read_bytes() == b"longer"
    assert after["c.mp4"].size_bytes == 3


def test_object_that_cannot_be_fetched_is_a_row(
    store: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get_file = type(store).get_file

    def broken(self: fsspec.AbstractFileSystem, name: str, target: str) -> None:
        if name.endswith("a.mp4"):
            raise ConnectionResetError("gone\naway")
        get_file(self, name, target)

    monkeypatch.setattr(type(store), "get_file", broken)
    first, second = fetched("memory://bucket/in", tmp_path)
    assert (first.path, first.status, second.status) == ("a.mp4", Status.UNREADABLE, None)
    assert first.reason == "cannot be fetched: ConnectionResetError: gone away"
    assert not list(tmp_path.rglob("*.tmp"))


def test_name_that_leads_out_of_the_folder_is_a_row_and_no_file(
    store: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    store.store["/bucket/in/../../../evil"] = store.store["/bucket/in/a.mp4"]
    files = {file.path: file for file in fetched("memory://bucket/in", tmp_path / "to")}
    evil = files["../../../evil"]
    assert (evil.status, evil.reason) == (Status.UNREADABLE, "its name leads out of its folder")
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"a.mp4", "b c.mp4"}


@pytest.mark.parametrize("url", ["memory://nowhere", "unknown://x/y"])
def test_url_of_nothing_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(SourceError, match=url):
        fetched(url, tmp_path)
    assert not list(tmp_path.iterdir())


def test_file_of_a_web_server_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "a.mp4").write_bytes(b"abc")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        [file] = fetched(f"http://127.0.0.1:{server.server_port}/a.mp4", tmp_path / "to")
        server.shutdown()
    assert file.status is None
    assert (Path(file.root) / file.path).read_bytes() == b"abc"


def test_urls_are_told_from_paths() -> None:
    assert is_url("s3://bucket/in")
    assert not any(map(is_url, ("in/a.mp4", "@list.txt", "C:/in", "in/**/*.mp4")))
