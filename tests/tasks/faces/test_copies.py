"""Edited copies of rendered clips are found, and strangers are not tied."""

from collections.abc import Callable
from itertools import combinations

import cv2
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from reelcheck.config import PreprocessSettings
from reelcheck.records import FINGERPRINT_BYTES, Keypoints, VideoResult
from tasks.faces.decoding.plan import space_evenly
from tasks.faces.detection.aligned import MAX_CROPS
from tasks.faces.detection.detect import FaceDetector
from tasks.faces.video import extract_video
from tasks.splits.confirm import AlignedFaces, describe_faces, show_same_face
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
            found[path.stem] = extract_video(path, path.stem, PreprocessSettings(), detector)
    return found


@pytest.fixture(scope="module")
def alike(results: dict[str, VideoResult]) -> set[Pair]:
    """Pairs of clips with like faces; frames do not count."""

    def describe(name: str) -> AlignedFaces:
        return describe_faces(
            (
                sequence.crops_THWC[index],
                Keypoints(*np.reshape(sequence.keypoints_xy[index], (6, 2)).tolist()),
            )
            for sequence in results[name].sequences
            for index in space_evenly(sequence.num_frames, MAX_CROPS)
        )

    def confirm(pairs: list[Pair]) -> list[Pair]:
        return [pair for pair in pairs if show_same_face(*map(describe, pair))]

    names = list(results)
    hashes = [
        [seen for sequence in results[name].sequences for seen in sequence.fingerprints]
        for name in names
    ]
    lists = pa.array(hashes, pa.list_(pa.binary(FINGERPRINT_BYTES)))
    faces = pa.table({"video_id": names, "fingerprints": lists})
    found = find_near_duplicates(faces.slice(0, 0), faces, confirm=confirm)
    return {(first, second) for first, second, _ in found}


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
