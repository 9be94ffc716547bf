"""The face detector's weights: found, fetched, verified, or a message that helps."""

import hashlib
from pathlib import Path

import pytest
from wheels import write_wheel

from reelcheck.config import FULL_RANGE_SHA256
from reelcheck.errors import FaceModelError
from storage.hashing import sha256_of
from tasks.faces.detection.weights import (
    find_configured_face_model,
    find_face_model,
    hash_configured_face_model,
)

VARIABLE = "REELCHECK_FACE_MODEL"
TAG = "cp311-cp311-manylinux_2_28_x86_64"
WHEEL = f"mediapipe-0.10.21-{TAG}.whl"
MEMBER = "mediapipe/modules/face_detection/face_detection_full_range_sparse.tflite"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all pip can reach, with an empty cache and nothing configured."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    return folder


def write_face_wheel(index: Path, model: bytes) -> None:
    write_wheel(index, "mediapipe", {MEMBER: model}, version="0.10.21", tag=TAG)


def cached_files(index: Path) -> list[Path]:
    return [path for path in (index.parent / "cache").rglob("*") if path.is_file()]


def test_find_variable_names_the_file_that_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"weights")
    monkeypatch.setenv(VARIABLE, str(path))
    expected = hashlib.sha256(b"weights").hexdigest()
    assert find_configured_face_model() == path
    assert hash_configured_face_model() == expected
    assert find_face_model(expected) == path


def test_find_variable_names_another_model_than_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"weights")
    monkeypatch.setenv(VARIABLE, str(path))
    with pytest.raises(FaceModelError, match=VARIABLE) as caught:
        find_face_model(FULL_RANGE_SHA256)
    assert str(path) in str(caught.value)
    assert FULL_RANGE_SHA256[:12] in str(caught.value)


@pytest.mark.parametrize("name", ["absent.tflite", "."])
def test_find_variable_names_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / name))
    with pytest.raises(FaceModelError, match=f"{VARIABLE} names .* which is not a file"):
        find_face_model(FULL_RANGE_SHA256)


@pytest.mark.parametrize("value", [None, ""])
def test_configured_nothing_is_the_default_model(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    assert find_configured_face_model() is None
    assert hash_configured_face_model() == FULL_RANGE_SHA256


def test_find_neither_cached_nor_fetchable_names_both_remedies(index: Path) -> None:
    with pytest.raises(FaceModelError) as caught:
        find_face_model(FULL_RANGE_SHA256)
    message = str(caught.value)
    assert "\n" not in message
    assert "connect to a package index" in message
    assert "mediapipe==0.10.21" in message
    assert VARIABLE in message
    assert "face_detection_full_range_sparse.tflite" in message
    assert cached_files(index) == []


def test_find_wheel_with_another_model_is_refused_and_not_kept(index: Path) -> None:
    write_face_wheel(index, b"not the model")
    with pytest.raises(FaceModelError, match="does not hold the expected face model"):
        find_face_model(FULL_RANGE_SHA256)
    assert cached_files(index) == []


def test_find_fetches_once_and_repairs_a_damaged_cache(index: Path, face_model: Path) -> None:
    if sha256_of(face_model) != FULL_RANGE_SHA256:
        pytest.skip("another face model is configured here")
    write_face_wheel(index, face_model.read_bytes())
    found = find_face_model(FULL_RANGE_SHA256)
    assert found.read_bytes() == face_model.read_bytes()
    assert cached_files(index) == [found]
    found.write_bytes(b"damaged")
    assert sha256_of(find_face_model(FULL_RANGE_SHA256)) == FULL_RANGE_SHA256
    (index / WHEEL).unlink()
    assert find_face_model(FULL_RANGE_SHA256) == found


def test_find_cached_default_is_not_another_model(index: Path, face_model: Path) -> None:
    if sha256_of(face_model) != FULL_RANGE_SHA256:
        pytest.skip("another face model is configured here")
    write_face_wheel(index, face_model.read_bytes())
    with pytest.raises(FaceModelError, match=VARIABLE):
        find_face_model("0" * 64)
