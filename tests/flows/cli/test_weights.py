"""Weights of others from the command line: the catalogue, and its names where a model is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.network.detector import Detector
from reelcheck.weights.catalogue import load_catalogue
from storage.hashing import sha256_of
from storage.layout import ModelLayout

Command = Callable[..., Any]


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def backbone_file(tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of the tiny backbone, which the catalogue calls ``efficientnet-b0``."""
    file = tmp_path / "weights.pth"
    torch.save(Detector(tiny.detector).backbone.state_dict(), file)
    catalogue = load_catalogue()
    changes = {"backbone": tiny.detector.backbone, "sha256": sha256_of(file)}
    known = catalogue["efficientnet-b0"].model_copy(update=changes)
    monkeypatch.setitem(catalogue, "efficientnet-b0", known)
    return file


def test_list_has_every_name_and_tells_what_is_cached(
    reelcheck: Command, backbone_file: Path
) -> None:
    result = reelcheck("weights", "list")
    assert result.exit_code == 0
    for name in load_catalogue():
        assert f"│ {name} " in result.stdout
    assert "│ yes " not in result.stdout
    assert reelcheck("weights", "fetch", "efficientnet-b0", "--from", backbone_file).exit_code == 0
    (line,) = [
        line for line in reelcheck("weights", "list").stdout.splitlines() if "│ yes " in line
    ]
    assert "│ efficientnet-b0 " in line


def test_show_tells_origin_licence_and_hash(reelcheck: Command) -> None:
    result = reelcheck("weights", "show", "dfbench-xception")
    assert result.exit_code == 0
    text = "".join(result.stdout.split())
    assert "CCBY-NC4.0" in text
    assert "releases/download/v1.0.1/xception_best.pth" in text
    assert "github.com/SCLBD/DeepfakeBench" in text


def test_fetched_backbone_is_what_training_starts_from(
    reelcheck: Command, backbone_file: Path
) -> None:
    result = reelcheck("weights", "fetch", "efficientnet-b0", "--from", backbone_file)
    assert result.exit_code == 0, result.stderr
    assert "licence: Apache-2.0 (commercial use: allowed)" in result.stdout
    place = Path(result.stdout.partition("backbone: ")[2].strip())
    assert ModelLayout(place).weights_path.exists()
    shown = reelcheck("weights", "show", "efficientnet-b0")
    assert f"in the cache: {place}" in shown.stdout


def test_wrong_file_is_one_line(reelcheck: Command, backbone_file: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"other")
    result = reelcheck("weights", "fetch", "efficientnet-b0", "--from", tmp_path / "other")
    assert result.exit_code == 4
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: efficientnet-b0: the file has")


def test_name_of_the_catalogue_is_a_model_once_it_is_fetched(
    reelcheck: Command, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name stands for its folder in the cache; a folder of that name goes before it."""
    missing = reelcheck("export", "--model", "dfbench-xception", "--out", tmp_path / "m.onnx")
    assert missing.exit_code == 2
    assert "--accept-licence" in missing.stderr
    cached = tmp_path / "cache" / "reelcheck" / "weights" / "dfbench-xception" / "dfbench-xception"
    tiny.save_model(cached)
    seen: list[Path] = []
    monkeypatch.setattr(
        "tasks.checkpoints.export.export_model", lambda layout, out: seen.append(layout.path)
    )
    reelcheck("export", "--model", "dfbench-xception", "--out", tmp_path / "m.onnx")
    assert seen == [cached]
    monkeypatch.chdir(tmp_path)
    Path("dfbench-xception").mkdir()
    result = reelcheck("export", "--model", "dfbench-xception", "--out", tmp_path / "m.onnx")
    assert "dfbench-xception holds no model" in result.stderr
