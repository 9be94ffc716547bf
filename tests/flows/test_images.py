"""A tree of pictures, as image data sets come: preprocess, train by a recipe, evaluate, score."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from reelcheck.recipes import load_recipe
from reelcheck.settings import settings_hash
from storage.checkpoints import read_card
from storage.layout import ModelLayout, StoreLayout, find_preprocessed
from storage.outputs import ScoreLayout
from storage.schemas import MANIFEST, SPLIT, VIDEOS
from storage.tables import read_metadata, read_rows
from tasks.faces.detection.weights import hash_configured_face_model
from tasks.synthetic.clip import render_frames

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_server", "face_model")]

Command = Callable[..., Any]
RECIPE = "b0-phases-fast"
NUM_PEOPLE = {"train": 4, "val": 2, "test": 2}


@dataclass(frozen=True)
class Tree:
    """Where the pictures lie, and what was made of them."""

    source: Path
    store: Path
    model: Path

    @property
    def layout(self) -> StoreLayout:
        return find_preprocessed(self.store)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """part/label/person: PNG and JPEG, of one size and of others."""
    folder = tmp_path_factory.mktemp("pictures")
    person = 0
    for part, num_people in NUM_PEOPLE.items():
        for _ in range(num_people):
            person += 1
            for kind, label in (("real", "real"), ("swap", "fake")):
                path = folder / part / label / f"{person}.{'png' if person % 2 else 'jpg'}"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture(person, kind, height=160 + 16 * person).save(path)
    return folder


def picture(person: int, kind: Any, *, height: int) -> Image.Image:
    (frame,) = render_frames(
        identity_seed=person,
        clip_seed=person,
        kind=kind,
        donor_seed=person + 100,
        num_frames=1,
        height=height,
    )
    return Image.fromarray(frame)


@pytest.fixture
def tree(source: Path, reelcheck: Command, tmp_path: Path) -> Tree:
    """All commands up to a trained model."""
    tree = Tree(source, tmp_path / "store", tmp_path / "model")
    result = reelcheck("preprocess", source, "--store", tree.store, "--recipe", RECIPE)
    assert result.exit_code == 0, result.stderr
    short = [
        argument
        for phase in range(3)
        for argument in ("--set", f"phases.{phase}.max_epochs={1 + phase // 2}")
    ]
    result = reelcheck("train", tree.store, "--out", tree.model, "--recipe", RECIPE, *short)
    assert result.exit_code == 0, result.stderr
    return tree


def test_pictures_are_learned_from_and_scored_in_one_table_with_a_video(
    tree: Tree, reelcheck: Command, face_video: Path, tmp_path: Path
) -> None:
    require_whole_pictures(tree)
    require_given_parts(tree)
    card = read_card(ModelLayout(tree.model))
    assert [phase.phase for phase in card.phases] == [1, 2, 3]
    assert card.num_videos == {
        part: {"real": number, "fake": number} for part, number in NUM_PEOPLE.items()
    }
    result = reelcheck("evaluate", tree.store, "--model", tree.model)
    assert result.exit_code == 0, result.stderr
    split_hash = read_metadata(tree.layout.split_path)["split_hash"]
    path = ModelLayout(tree.model).evaluation("test", split_hash).evaluation_path
    found = json.loads(path.read_text(encoding="utf-8"))
    assert (found["num_videos"], found["coverage"]) == (4, 1.0)
    # Of pictures no frame rate is known; the rest is compared with all the same.
    assert "metadata" in {row["name"] for row in found["baselines"]}
    inbox = tmp_path / "inbox"
    shutil.copytree(tree.source / "test", inbox)
    shutil.copy(face_video, inbox / "clip.mp4")
    (inbox / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing else")
    result = reelcheck("score", inbox, "--model", tree.model, "--out", tmp_path / "scores")
    assert result.exit_code == 0, result.stderr
    with ScoreLayout(tmp_path / "scores").csv_path.open(encoding="utf-8", newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    files = {p.relative_to(inbox).as_posix() for p in inbox.rglob("*") if p.is_file()}
    assert rows.keys() == files
    broken = rows.pop("broken.png")
    assert broken["status"] in {"decode_error", "unsupported"}
    assert (broken["score"], broken["verdict"], broken["logit"]) == ("", "", "")
    assert broken["reason"]
    for path, row in rows.items():
        assert row["status"] == "ok"
        assert 0 <= float(row["score"]) <= 1
        assert int(row["num_frames_used"]) == (24 if path == "clip.mp4" else 1)


def require_whole_pictures(tree: Tree) -> None:
    """Every picture is one sequence of one frame, all of it, under the recipe's preprocessing."""
    detector = {"face_model_sha256": hash_configured_face_model()}
    wanted = load_recipe(RECIPE).preprocess.model_copy(update=detector)
    assert tree.layout.preprocessing_hash == settings_hash(wanted)
    rows = read_rows(tree.layout.manifest_path, MANIFEST)
    sizes = {
        row["path"]: (row["width"], row["height"])
        for row in read_rows(tree.layout.videos_path, VIDEOS)
    }
    assert sorted(row["path"] for row in rows) == sorted(sizes)
    assert len(rows) == 2 * sum(NUM_PEOPLE.values())
    for row in rows:
        assert row["num_frames"] == 1
        assert row["boxes_xyxy"] == [[0, 0, *sizes[row["path"]]]]


def require_given_parts(tree: Tree) -> None:
    """The folders named train, val and test are the split."""
    part_of = {row["video_id"]: row["split"] for row in read_rows(tree.layout.split_path, SPLIT)}
    for row in read_rows(tree.layout.manifest_path, MANIFEST):
        part, label, _ = row["path"].split("/")
        assert part_of[row["video_id"]] == part
        assert row["label"] == int(label == "fake")
