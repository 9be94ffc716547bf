"""A model, files of every kind, and the page itself."""

import math
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from PIL import Image

from reelcheck.card import Calibration
from reelcheck.config import RunSettings
from reelcheck.page_config import PageSettings
from reelcheck.recipes import load_recipe
from reelcheck.records import RGB
from reelcheck.settings import load_settings, settings_hash
from reelcheck.train_config import TrainSettings
from storage.checkpoints import read_card, save_checkpoint
from storage.layout import ModelLayout
from tasks.scoring.score import ScoreRequest, score_files
from tasks.synthetic.clip import render_frames
from tasks.synthetic.dataset import write_h264

_MAIN = sys.modules["__main__"]


@pytest.fixture(autouse=True)
def _main_module_stays() -> Iterator[None]:
    """Streamlit's test runner leaves its script as ``__main__``, which processes then import."""
    yield
    sys.modules["__main__"] = _MAIN


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, random_model: Path) -> ModelLayout:
    """Random weights, ready to score without torch."""
    folder = tmp_path_factory.mktemp("page-model") / "model"
    return ModelLayout(shutil.copytree(random_model, folder))


@pytest.fixture(scope="session")
def picture_model(
    tmp_path_factory: pytest.TempPathFactory, other_random_model: Path
) -> ModelLayout:
    """The same for still pictures."""
    folder = tmp_path_factory.mktemp("pictures") / "pictures"
    made = ModelLayout(shutil.copytree(other_random_model, folder))
    card = read_card(made)
    preprocessing = card.preprocessing.model_copy(update={"min_sequence_frames": 1})
    changes = {
        "preprocessing": preprocessing,
        "preprocessing_hash": settings_hash(preprocessing),
    }
    save_checkpoint(made, made.weights_path.read_bytes(), card.model_copy(update=changes))
    return made


@pytest.fixture(scope="session")
def trained_model(
    tmp_path_factory: pytest.TempPathFactory,
    prefect_server: None,
    face_model: Path,
    synthetic_dataset: Path,
) -> ModelLayout:
    """Trained on rendered faces; its threshold is moved so that it calls half of them fake.

    Twenty-four clips teach little: left alone, the calibration would abstain everywhere.
    """
    from flows.preprocess import preprocess
    from flows.split import split_store
    from flows.train import train

    folder = tmp_path_factory.mktemp("trained")
    labels = synthetic_dataset / "labels.csv"
    run = RunSettings(num_workers=2)
    preprocess(synthetic_dataset / "videos", folder / "store", labels=labels, run=run)
    split_store(folder / "store")
    training = load_settings(
        TrainSettings,
        section="train",
        overrides=["phases.0.max_epochs=4"],
        base=load_recipe("b3-transformer-fast").train,
    )
    card = train(folder / "store", folder / "trained", settings=training, notes=("rendered",))
    trained = ModelLayout(folder / "trained")
    request = ScoreRequest(
        sources=(str(synthetic_dataset / "videos"),), model=trained.path, out=folder / "scores"
    )
    logits = [row["logit"] for row in score_files(request).rows if row["logit"] is not None]
    middle = 1 / (1 + math.exp(-median(logits)))
    moved = Calibration(temperature=1.0, threshold=middle, real_below=middle, fake_from=middle)
    card = card.model_copy(update={"calibration": moved})
    trained.card_path.write_text(card.model_dump_json(), encoding="utf-8")
    return trained


@pytest.fixture(scope="session")
def files(
    tmp_path_factory: pytest.TempPathFactory, face_video: Path, faceless_video: Path
) -> dict[str, Path]:
    """What a visitor may bring, by what it is."""
    folder = tmp_path_factory.mktemp("brought")
    found = {"face": face_video, "faceless": faceless_video}
    for name, content in {
        "empty": b"",
        "program": b"MZ\x90\x00" + bytes(range(256)) * 40,
        "corrupt": face_video.read_bytes()[:1500],
    }.items():
        found[name] = folder / f"{name}.mp4"
        found[name].write_bytes(content)
    clips = [
        list(render_frames(identity_seed=n, clip_seed=n, kind="real", num_frames=24, height=192))
        for n in range(4)
    ]
    found["people"] = folder / "four people.mp4"
    write_h264(found["people"], map(_in_a_square, *clips), fps=25, crf=20)
    found["picture"] = folder / "<b>picture.png"
    Image.fromarray(clips[0][0]).save(found["picture"])
    return found


@pytest.fixture(scope="session")
def served(
    tmp_path_factory: pytest.TempPathFactory,
    model: ModelLayout,
    picture_model: ModelLayout,
    trained_model: ModelLayout,
) -> Iterator[tuple[str, Path]]:
    """Address of the running page, and the folder that it shows results of."""
    results = tmp_path_factory.mktemp("results")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    models = (model.path, picture_model.path, trained_model.path)
    settings = PageSettings(models=models, results=(results,), max_upload_mb=20, port=port)
    scratch = tmp_path_factory.mktemp("scratch")
    process = subprocess.Popen(
        [sys.executable, "-m", "page", settings.model_dump_json()],
        env=os.environ | {"TMPDIR": str(scratch)},
        stdout=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url, process)
        yield url, results
    finally:
        process.terminate()
        process.wait(60)
    assert not list(scratch.glob("reelcheck-scratch-*")), "a visit's files outlive the server"


def _in_a_square(a: RGB, b: RGB, c: RGB, d: RGB) -> RGB:
    return np.vstack([np.hstack([a, b]), np.hstack([c, d])])


def _wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(3000):
        assert process.poll() is None, "the page's server has ended"
        with (
            suppress(OSError),
            urllib.request.urlopen(f"{url}/_stcore/health", timeout=5) as answer,
        ):
            if answer.status == 200:
                return
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
    raise AssertionError("the page's server does not answer")
