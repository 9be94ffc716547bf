"""A store, a model and a scoring output, small and whole."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from reelcheck.config import RunSettings
from storage.checked.documents import write_document
from storage.checked.names import write_names
from storage.checked.sums import write_sums
from storage.layout import ModelLayout, RegistryLayout, StoreLayout
from tasks.scoring.score import ScoreRequest, score_files


@pytest.fixture(scope="session")
def written(
    tmp_path_factory: pytest.TempPathFactory,
    tiny: Any,
    random_model: Path,
    face_video: Path,
    faceless_video: Path,
    face_model: Path,
) -> Path:
    """A folder of a store, a registry of one model, and an output."""
    assert face_model.exists()
    folder = tmp_path_factory.mktemp("written")
    layout: StoreLayout = tiny.write_store(folder / "store", tiny.three_parts())
    write_document(layout.summary_path, {"num_videos": 18})
    registry = RegistryLayout(folder / "models")
    model = ModelLayout(shutil.copytree(random_model, registry.version("v1").path))
    write_document(model.gate_path, {"promoted": True, "reason": "it is better"})
    write_names(registry.champion_path, ["v1"])
    write_document(layout.audit_path, {"leaks": 0})
    layout.audit_leaks_path.write_text("kind,path\n", encoding="utf-8")
    layout.audit_plot_path.write_bytes(bytes(range(256)))
    write_sums(layout.path, (layout.audit_leaks_path, layout.audit_plot_path))
    inbox = folder / "inbox"
    inbox.mkdir()
    for video in (face_video, faceless_video):
        shutil.copy(video, inbox)
    request = ScoreRequest(
        sources=(str(inbox),),
        model=model.path,
        out=folder / "scores",
        run=RunSettings(num_workers=1),
    )
    score_files(request)
    return folder


@pytest.fixture
def place(tmp_path: Path, written: Path) -> Path:
    """A copy, to be damaged."""
    return shutil.copytree(written, tmp_path / "place")
