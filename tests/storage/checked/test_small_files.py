"""Names, sums and settings that are not as they were written are refused."""

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from flipped_bits import flip_bits

from reelcheck.config import PreprocessSettings
from reelcheck.errors import DamagedError
from reelcheck.settings import settings_hash
from storage.checked.names import read_names, write_names
from storage.checked.settings import read_preprocessing
from storage.checked.sums import list_sums, require_sum, write_sums
from storage.layout import SUMS, StoreLayout


def test_names_come_back_and_the_first_line_is_the_first_name(tmp_path: Path) -> None:
    path = tmp_path / "champion"
    assert read_names(path) == []
    write_names(path, ["v2", "v1"])
    assert read_names(path) == ["v2", "v1"]
    assert path.read_text(encoding="utf-8").splitlines()[0] == "v2"
    write_names(path, [])
    assert read_names(path) == []


def test_names_with_spaces_come_back(tmp_path: Path) -> None:
    write_names(tmp_path / "names", ["model v2", "a"])
    assert read_names(tmp_path / "names") == ["model v2", "a"]


def test_every_flipped_bit_of_names_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "champion"
    write_names(path, ["v2", "v1"])
    for _ in flip_bits(path):
        with pytest.raises(DamagedError, match="champion is not as it was written"):
            read_names(path)


@pytest.mark.parametrize("content", [b"", b"v1\n", b"v1"])
def test_names_cut_or_written_by_hand_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "champion"
    path.write_bytes(content)
    with pytest.raises(DamagedError):
        read_names(path)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "plots" / "a picture.png"
    path.parent.mkdir()
    path.write_bytes(b"picture")
    write_sums(tmp_path, (path, tmp_path / "never written"))
    return path


def test_sums_name_the_file_that_has_changed(tmp_path: Path, report: Path) -> None:
    assert list_sums(tmp_path) == [report]
    require_sum(tmp_path, report)
    for change in (lambda: report.write_bytes(b"Picture"), report.unlink):
        change()
        with pytest.raises(DamagedError, match=r"a picture\.png is missing, or not as"):
            require_sum(tmp_path, report)


def test_sums_of_files_that_were_not_written_again_stay(tmp_path: Path, report: Path) -> None:
    report.write_bytes(b"rotten")
    (tmp_path / "b.csv").write_bytes(b"1")
    write_sums(tmp_path, (tmp_path / "b.csv",))
    require_sum(tmp_path, tmp_path / "b.csv")
    with pytest.raises(DamagedError):
        require_sum(tmp_path, report)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_sums_are_those_of_sha256sum(tmp_path: Path, report: Path) -> None:
    command = ["sha256sum", "--check", "--strict", SUMS]
    assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode == 0
    report.write_bytes(b"other")
    assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode == 1


def require_all_sums(folder: Path) -> None:
    for path in list_sums(folder):
        require_sum(folder, path)


def test_every_flipped_bit_of_sums_is_noticed(tmp_path: Path, report: Path) -> None:
    assert report.exists()
    for _ in flip_bits(tmp_path / SUMS):
        with pytest.raises(DamagedError):
            require_all_sums(tmp_path)


def test_settings_are_those_that_the_folder_is_named_after(tmp_path: Path) -> None:
    settings = PreprocessSettings(crop_pixels=32)
    layout = StoreLayout(tmp_path / settings_hash(settings))
    layout.path.mkdir()
    layout.settings_path.write_text(settings.model_dump_json(indent=1), encoding="utf-8")
    assert read_preprocessing(layout) == settings
    num_same = 0
    for _ in flip_bits(layout.settings_path):
        with suppress(DamagedError):
            assert read_preprocessing(layout) == settings
            num_same += 1
    assert num_same < 20  # white space
