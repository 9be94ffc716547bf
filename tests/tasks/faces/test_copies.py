"""Edited copies of rendered clips are found, and strangers are not tied."""

import shutil
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from reelcheck.config import PreprocessSettings
from reelcheck.records import VideoResult
from storage.crops import CropWriter, row_of_sequence
from storage.layout import StoreLayout, locate_preprocessed
from storage.schemas import MANIFEST
from storage.tables import read_table, write_table
from tasks.faces.detection.aligned import MAX_CROPS
from tasks.faces.detection.detect import FaceDetector
from tasks.faces.video import add_fingerprints, extract_video
from tasks.splits.confirm import confirm_pairs
from tasks.splits.near_duplicates import Pair, find_near_duplicates
from tasks.synthetic.clip import render_frames
from tasks.synthetic.dataset import write_h264

Picture = NDArray[np.uint8]
Edit = Callable[[Picture], Picture]
HEIGHT = 240


def turn(degrees: float) -> Edit:
    def edit(picture: Picture) -> Picture:
        height, width = picture.shape[:2]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
        return np.asarray(cv2.warpAffine(picture, matrix, (width, height)), np.uint8)

    return edit


def zoom(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    return picture[height // 10 : height * 9 // 10, width // 8 : width * 7 // 8]


def set_into_another(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    behind = np.random.default_rng(0).integers(60, 100, (2 * height, 2 * width, 3), np.uint8)
    behind[-height - 20 : -20, -width - 30 : -30] = picture
    return behind


def cover(picture: Picture) -> Picture:
    covered = picture.copy()
    covered[-len(picture) // 8 :] = (255, 255, 0)
    return covered


def mirror_and_turn(picture: Picture) -> Picture:
    return turn(-8)(np.ascontiguousarray(picture[:, ::-1]))


EDITS: dict[str, Edit] = {
    "as it is": lambda picture: picture,
    "turned by 5": turn(5),
    "turned by 15": turn(15),
    "zoom": zoom,
    "picture in picture": set_into_another,
    "banner": cover,
    "mirrored and turned": mirror_and_turn,
}
PEOPLE = range(6)
COPIED = (0, 3)


@pytest.fixture(scope="module")
def results(
    tmp_path_factory: pytest.TempPathFactory, detector: FaceDetector
) -> dict[str, VideoResult]:
    """Clips of some people by name, and of two of them the edited copies."""
    folder, found = tmp_path_factory.mktemp("copies"), {}
    for person in PEOPLE:
        frames = list(
            render_frames(
                identity_seed=person, clip_seed=person, kind="real", num_frames=24, height=HEIGHT
            )
        )
        for name, edit in EDITS.items() if person in COPIED else [("as it is", EDITS["as it is"])]:
            path = folder / f"{person} {name}.mp4"
            edited = map(edit, frames)
            write_h264(
                path, (picture[: len(picture) // 2 * 2] for picture in edited), fps=25, crf=23
            )
            found[path.stem] = add_fingerprints(
                extract_video(path, path.stem, PreprocessSettings(), detector), detector
            )
    return found


@pytest.fixture(scope="module")
def layout(
    results: dict[str, VideoResult], tmp_path_factory: pytest.TempPathFactory
) -> StoreLayout:
    """A store with the crops of all clips, without its table of files."""
    found = locate_preprocessed(tmp_path_factory.mktemp("store"), "h")
    found.shards_dir.mkdir(parents=True)
    rows = []
    blank = dict.fromkeys(MANIFEST.names)
    with CropWriter(lambda number: found.crops_path("s", number)) as crops:
        for sequence in (s for result in results.values() for s in result.sequences):
            crop_file, crop_row = crops.append(sequence)
            row = row_of_sequence(sequence, shard="s", crop_file=crop_file, crop_row=crop_row)
            rows.append(blank | {"path": sequence.video_id} | row)
    write_table(found.manifest_path, rows, MANIFEST)
    return found


def find_alike(layout: StoreLayout) -> set[Pair]:
    """Pairs of clips with like faces; frames do not count."""
    faces = read_table(layout.manifest_path, MANIFEST, columns=("video_id", "fingerprints"))
    found = find_near_duplicates(
        faces.slice(0, 0), faces, confirm=lambda pairs: confirm_pairs(layout, pairs)
    )
    return {(first, second) for first, second, _ in found}


@pytest.fixture(scope="module")
def alike(layout: StoreLayout) -> set[Pair]:
    return find_alike(layout)


@pytest.mark.parametrize("edit", [name for name in EDITS if name != "as it is"])
@pytest.mark.parametrize("person", COPIED)
def test_edited_copy_is_found(alike: set[Pair], person: int, edit: str) -> None:
    assert tuple(sorted((f"{person} as it is", f"{person} {edit}"))) in alike


def test_strangers_are_not_alike(alike: set[Pair], results: dict[str, VideoResult]) -> None:
    assert len(list(combinations(results, 2))) > len(alike)
    assert [pair for pair in alike if pair[0][0] != pair[1][0]] == []


def test_fingerprints_are_few(results: dict[str, VideoResult]) -> None:
    for result in results.values():
        for sequence in result.sequences:
            assert MAX_CROPS <= len(sequence.fingerprints) <= 2 * MAX_CROPS


def test_crops_tell_copies_from_strangers(layout: StoreLayout) -> None:
    copies = [(f"{person} as it is", f"{person} {edit}") for person in COPIED for edit in EDITS]
    strangers = [(f"{one} as it is", f"{other} as it is") for one, other in combinations(PEOPLE, 2)]
    assert confirm_pairs(layout, [*copies, *strangers]) == copies


def test_what_has_no_crops_is_confirmed_by_nothing(layout: StoreLayout, tmp_path: Path) -> None:
    without = locate_preprocessed(tmp_path, "h")
    without.path.mkdir(parents=True)
    shutil.copy(layout.manifest_path, without.manifest_path)
    assert confirm_pairs(without, [("0 as it is", "0 turned by 5")]) == []
    assert find_alike(without) <= find_alike(layout)
