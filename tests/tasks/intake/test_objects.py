"""Objects of a store and of a web server as input files: found, named by content, fetched."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from reelcheck.config import PreprocessSettings, RunSettings
from reelcheck.errors import SourceError
from reelcheck.records import InputFile, VideoResult
from reelcheck.status import Status
from storage.hashing import sha256_of
from storage.layout import locate_preprocessed
from storage.object_store.objects import ObjectFolder
from tasks.intake.contents import hash_contents
from tasks.intake.discover import discover, find_files, identify
from tasks.intake.shards import make_shards
from tasks.preprocessing.decode_pool import DecodePool


@pytest.fixture
def bucket(s3_bucket: str) -> str:
    """A bucket with two videos and an object beside them."""
    folder = ObjectFolder(s3_bucket)
    for name, content in {"in/a.mp4": b"abc", "in/sub/b c.mp4": b"defg", "other": b""}.items():
        folder.write(name, content)
    return s3_bucket


@pytest.fixture
def web_server(tmp_path: Path) -> Iterator[str]:
    """Serves the folder ``served``."""
    (tmp_path / "served").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("ending", ["", "/"])
def test_objects_below_a_url_are_files_under_their_names(bucket: str, ending: str) -> None:
    files = identify(find_files(f"{bucket}/in{ending}"), ())
    assert [(f.root, f.path, f.size_bytes, f.video_id, f.status) for f in files] == [
        (f"{bucket}/in", name, len(content), hashlib.sha256(content).hexdigest(), None)
        for name, content in {"a.mp4": b"abc", "sub/b c.mp4": b"defg"}.items()
    ]
    assert all(file.mtime_ns for file in files)


def test_one_object_is_one_file(bucket: str) -> None:
    [file] = find_files(f"{bucket}/in/a.mp4")
    assert (file.root, file.path) == (f"{bucket}/in", "a.mp4")


def test_what_has_not_changed_is_not_read_again(bucket: str) -> None:
    first = identify(find_files(f"{bucket}/in"), ())
    known = [{**_row(file), "video_id": "as it was"} for file in first]
    assert {f.video_id for f in identify(find_files(f"{bucket}/in"), known)} == {"as it was"}
    ObjectFolder(bucket).write("in/a.mp4", b"longer")
    after = identify(find_files(f"{bucket}/in"), known)
    assert after[0].video_id == hashlib.sha256(b"longer").hexdigest()
    assert after[1].video_id == "as it was"


def test_what_a_web_server_sends_is_always_read(web_server: str, tmp_path: Path) -> None:
    (tmp_path / "served" / "a.mp4").write_bytes(b"abc")
    read = partial(hash_contents, run=RunSettings(allow_private_addresses=True))
    [file] = identify(find_files(f"{web_server}/a.mp4"), (), hash_files=read)
    assert (file.root, file.path, file.size_bytes) == (web_server, "a.mp4", 3)
    (tmp_path / "served" / "a.mp4").write_bytes(b"xyz")
    [again] = identify(find_files(f"{web_server}/a.mp4"), [_row(file)], hash_files=read)
    assert again.video_id == hashlib.sha256(b"xyz").hexdigest()


def test_url_of_nothing_is_refused(bucket: str) -> None:
    chained = f"{bucket}/in::file:///etc"
    elsewhere = ("unknown://x/y", "file:///etc/passwd", "memory://a", "https://example.org/")
    for url in (f"{bucket}/nothing/here", "s3://no-such-bucket/in", *elsewhere, chained):
        with pytest.raises(SourceError, match=url):
            find_files(url)


def test_labels_come_from_the_folders_of_a_bucket(bucket: str, tmp_path: Path) -> None:
    for name in ("set/real/a.mp4", "set/fake/b.mp4"):
        ObjectFolder(bucket).write(name, name.encode())
    layout = locate_preprocessed(tmp_path, "h")
    files = discover(f"{bucket}/set", layout, labels=None, exclude=None)
    assert [(file.path, file.label) for file in files] == [("fake/b.mp4", 1), ("real/a.mp4", 0)]


def results_of(files: list[InputFile], face_model: Path) -> dict[str, VideoResult]:
    settings = PreprocessSettings(face_model_sha256=sha256_of(face_model))
    shards = make_shards(
        {file.video_id or "": f"{file.root}/{file.path}" for file in files}, shard_size=8
    )
    with DecodePool(shards, settings, RunSettings(num_workers=1)) as pool:
        return {result.video_id: result for shard in shards for result in pool.results(shard)}


def test_videos_of_a_bucket_give_what_their_files_give(
    s3_bucket: str, face_video: Path, face_model: Path, tmp_path: Path
) -> None:
    ObjectFolder(s3_bucket).put("in/söme face.mp4", face_video)
    there = identify(find_files(f"{s3_bucket}/in"), ())
    here = discover(face_video, locate_preprocessed(tmp_path, "h"), labels=None, exclude=None)
    [(video_id, remote)] = results_of(there, face_model).items()
    local = results_of(here, face_model)[video_id]
    assert remote.status == Status.OK
    assert [s.crops_THWC.tobytes() for s in remote.sequences] == [
        s.crops_THWC.tobytes() for s in local.sequences
    ]


def test_object_that_is_gone_or_another_is_a_row(
    s3_bucket: str, face_video: Path, face_model: Path
) -> None:
    folder = ObjectFolder(s3_bucket)
    folder.put("in/changed.mp4", face_video)
    folder.write("in/gone.mp4", b"soon")
    changed, gone = identify(find_files(f"{s3_bucket}/in"), ())
    folder.write("in/changed.mp4", b"another")
    folder.remove(["in/gone.mp4"])
    results = results_of([changed, gone], face_model)
    assert {result.status for result in results.values()} == {Status.UNREADABLE}
    assert results[changed.video_id or ""].reason == "it has changed since it was listed; run again"
    assert "cannot be fetched" in (results[gone.video_id or ""].reason or "")


def _row(file: InputFile) -> dict[str, object]:
    names = ("root", "path", "size_bytes", "mtime_ns", "ctime_ns", "video_id")
    return {"status": "ok", **{name: getattr(file, name) for name in names}}
