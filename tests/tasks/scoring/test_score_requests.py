"""Which files a run takes, and what it refuses before it writes anything."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reelcheck.errors import MismatchError, SourceError, StoreError
from storage.checkpoints import read_card
from storage.layout import ModelLayout
from storage.lock import hold_run_lock
from storage.outputs import ScoreLayout
from tasks.scoring.score import ScoreRequest, score_files

pytestmark = pytest.mark.usefixtures("face_model")


def test_limit_and_sample_choose_files(
    request_of: Callable[..., ScoreRequest], inbox: Path, tmp_path: Path
) -> None:
    bad = (str(inbox / "empty.mp4"), str(inbox / "notes.mp4"), str(inbox / "gone.mp4"))
    request = request_of(tmp_path, sources=bad)
    assert [row["path"] for row in score_files(replace(request, limit=2)).rows] == [
        "empty.mp4",
        "gone.mp4",
    ]
    sampled = score_files(replace(request, sample=1)).rows
    assert len(sampled) == 1
    assert sampled == score_files(replace(request, sample=1)).rows


def test_file_that_is_being_written_waits(
    request_of: Callable[..., ScoreRequest], inbox: Path, tmp_path: Path
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    request = request_of(tmp_path / "out", sources=(str(source),), settled_seconds=60.0)
    assert score_files(request).rows == []
    shutil.copy(inbox / "notes.mp4", source / "old.mp4")
    shutil.copy(inbox / "empty.mp4", source / "new.mp4")
    os.utime(source / "old.mp4", (0, 0))
    assert [row["path"] for row in score_files(request).rows] == ["old.mp4"]


def test_refusals_say_why_and_write_nothing(
    request_of: Callable[..., ScoreRequest], model: ModelLayout, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    other = read_card(model).preprocessing.model_copy(update={"margin": 1.5})
    with pytest.raises(MismatchError, match=r"margin: 1\.3 != 1\.5"):
        score_files(request_of(out, settings=other))
    with pytest.raises(SourceError, match="does not exist"):
        score_files(request_of(out, sources=("nowhere",)))
    with pytest.raises(StoreError, match=r"card\.json"):
        score_files(request_of(out, model=tmp_path))
    assert not out.exists()


def test_output_in_use_is_refused(request_of: Callable[..., ScoreRequest], tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from storage.outputs import ScoreLayout\n"
        "from storage.lock import hold_run_lock\n"
        "with hold_run_lock(ScoreLayout(Path(sys.argv[1]))): print('held', flush=True); input()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(StoreError, match="in use by another run"):
        score_files(request_of(tmp_path))
    holder.communicate("\n")
    with hold_run_lock(ScoreLayout(tmp_path)):
        pass
