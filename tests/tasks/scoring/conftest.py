"""Models, an inbox as people have it, and requests to score it."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judged_faces import CALIBRATION

from models.metrics.aggregation import AGGREGATIONS
from reelcheck.card import ModelCard
from reelcheck.config import RunSettings
from storage.layout import ModelLayout
from tasks.scoring.score import ScoreRequest


@pytest.fixture(scope="module")
def model(random_model: Path) -> ModelLayout:
    return ModelLayout(random_model)


@pytest.fixture(scope="module")
def inbox(
    tmp_path_factory: pytest.TempPathFactory, synthetic_dataset: Path, faceless_video: Path
) -> Path:
    """Four clips, one of them twice, a video without a face, and what every real folder has."""
    folder = tmp_path_factory.mktemp("inbox")
    clips = sorted((synthetic_dataset / "videos" / "real").glob("*.mp4"))[:4]
    (folder / "a folder").mkdir()
    for number, clip in enumerate(clips):
        shutil.copy(clip, folder / f"clip {number}.mp4")
    shutil.copy(clips[0], folder / "a folder" / "söme cöpy.mp4")
    shutil.copy(faceless_video, folder / "ramp.mp4")
    (folder / "empty.mp4").touch()
    (folder / "notes.mp4").write_text('=not a video, but "text"\n', encoding="utf-8")
    (folder / "cut.mp4").write_bytes(clips[0].read_bytes()[:2000])
    (folder / "gone.mp4").symlink_to(folder / "nowhere")
    return folder


@pytest.fixture(scope="module")
def request_of(inbox: Path, model: ModelLayout) -> Callable[..., ScoreRequest]:
    def make(out: Path, **changes: Any) -> ScoreRequest:
        request = ScoreRequest(
            sources=(str(inbox),), model=model.path, out=out, run=RunSettings(num_workers=2)
        )
        return replace(request, **changes)

    return make


@pytest.fixture(scope="module")
def card(tiny: Any) -> ModelCard:
    preprocessing = tiny.preprocessing.model_copy(update={"crop_pixels": 104, "margin": 1.3})
    return ModelCard(
        weights_sha256="0" * 64,
        detector=tiny.detector,
        training=None,
        preprocessing=preprocessing,
        split_hash=None,
        calibration=CALIBRATION,
        aggregation=AGGREGATIONS[0],
        num_videos={},
        validation={},
        versions={},
    )
