"""An evaluation on another store knows copies of what the model has learned from by their looks."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reelcheck.errors import MismatchError
from reelcheck.records import FINGERPRINT_BYTES
from storage.checkpoints import read_card
from storage.layout import ModelLayout, StoreLayout
from storage.schemas import LEARNED, MANIFEST
from storage.tables import read_rows, write_table
from tasks.evaluation.unseen import read_known_videos, require_unseen
from tasks.faces.detection.fingerprint import mirror_fingerprints

RNG = np.random.default_rng(0)
FACE = RNG.bytes(FINGERPRINT_BYTES)


@pytest.fixture
def model(tmp_path: Path, tiny: Any) -> ModelLayout:
    """Has learned from one face, in a store that is not here any more."""
    own = tiny.write_store(tmp_path / "own", tiny.three_parts())
    model = tiny.save_model(tmp_path / "model")
    shutil.copy(own.split_path, model.split_path)
    learned = {"video_id": "v", "component": "v", "frames": [], "faces": [FACE]}
    write_table(model.learned_path, [learned], LEARNED)
    return model


def other_store(folder: Path, tiny: Any, fingerprint: bytes) -> StoreLayout:
    """Other videos, one of which shows a face with this fingerprint."""
    clips = [tiny.Clip(path=f"other/{n}.mp4", label=n % 2, part="test") for n in range(4)]
    layout: StoreLayout = tiny.write_store(folder, clips)
    rows = read_rows(layout.manifest_path, MANIFEST)
    for row in rows:
        is_copy = row["path"] == "other/2.mp4"
        row["fingerprints"] = [fingerprint if is_copy else RNG.bytes(FINGERPRINT_BYTES)]
    write_table(layout.manifest_path, rows, MANIFEST)
    return layout


def changed(num_bits: int) -> bytes:
    bits = np.unpackbits(np.frombuffer(FACE, np.uint8))
    bits[:num_bits] ^= 1
    return np.packbits(bits).tobytes()


MIRRORED = mirror_fingerprints(np.frombuffer(FACE, np.uint8)[None])[0].tobytes()


@pytest.mark.parametrize("copy", [FACE, changed(20), MIRRORED], ids=["same", "near", "mirrored"])
def test_copy_of_a_learned_face_is_refused(
    tmp_path: Path, tiny: Any, model: ModelLayout, copy: bytes
) -> None:
    layout = other_store(tmp_path / "other", tiny, copy)
    known = read_known_videos(layout, split="test")
    with pytest.raises(MismatchError, match=r"1 of these videos.*copies.*other/2\.mp4"):
        require_unseen(known, layout, model, read_card(model))


def test_other_faces_are_not(tmp_path: Path, tiny: Any, model: ModelLayout) -> None:
    layout = other_store(tmp_path / "other", tiny, changed(100))
    require_unseen(read_known_videos(layout, split="test"), layout, model, read_card(model))
