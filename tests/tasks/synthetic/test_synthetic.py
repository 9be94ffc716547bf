import csv
import os
from collections import defaultdict
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from reelcheck.errors import SettingsError
from tasks.synthetic.clip import render_frames
from tasks.synthetic.dataset import SyntheticSettings, generate_dataset, write_h264
from tasks.synthetic.plan import plan_videos

SETTINGS = SyntheticSettings(num_identities=4, clips_per_identity=1, num_frames=12, height=96)
FAKE_KINDS = ("swap", "mouth", "selfblend")


def read_rows(labels_path):
    with labels_path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.mp4")}


def read_mtimes(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def decode(path):
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return frames, container.streams.video[0].average_rate


def render(kind, num_frames=3, height=192, identity_seed=1):
    frames = render_frames(
        identity_seed=identity_seed,
        clip_seed=7,
        kind=kind,
        donor_seed=2,
        num_frames=num_frames,
        height=height,
    )
    return np.stack(list(frames))


@pytest.fixture(scope="module")
def labels_path(tmp_path_factory):
    return generate_dataset(tmp_path_factory.mktemp("set"), SETTINGS, num_workers=2)


def test_rerun_of_a_complete_set_touches_nothing(labels_path):
    before = read_mtimes(labels_path.parent)
    calls = []
    assert generate_dataset(labels_path.parent, SETTINGS, on_video=lambda: calls.append(1))
    assert read_mtimes(labels_path.parent) == before
    assert not calls


def test_interrupted_run_renders_only_what_is_missing_and_the_same_bytes(labels_path):
    folder, text = labels_path.parent, labels_path.read_bytes()
    files, mtimes = read_files(folder), read_mtimes(folder / "videos")
    lost = min(path for path in mtimes if path.match("fake/*.mp4"))
    lost.unlink()
    labels_path.unlink()
    calls = []
    # One worker instead of two: the content must not depend on it.
    generate_dataset(folder, SETTINGS, num_workers=1, on_video=lambda: calls.append(1))
    assert read_files(folder) == files
    assert labels_path.read_bytes() == text
    kept = {path: time for path, time in read_mtimes(folder / "videos").items() if path.is_file()}
    assert {path for path, time in kept.items() if time != mtimes[path]} == {lost}
    assert len(calls) == len(files)
    assert not list(folder.rglob("*.part"))


def test_folder_of_other_content_is_refused(labels_path, tmp_path):
    other = SyntheticSettings(num_identities=4, clips_per_identity=1, num_frames=12, seed=1)
    before = read_mtimes(labels_path.parent)
    with pytest.raises(SettingsError, match="choose another folder"):
        generate_dataset(labels_path.parent, other)
    assert read_mtimes(labels_path.parent) == before
    (tmp_path / "videos").mkdir()
    with pytest.raises(SettingsError, match="choose another folder"):
        generate_dataset(tmp_path, SETTINGS)


@pytest.mark.parametrize("kwargs", [{"num_identities": 3}, {"height": 97}, {"num_frames": 0}])
def test_settings_that_cannot_be_rendered_are_refused(kwargs):
    with pytest.raises(SettingsError, match=next(iter(kwargs)).partition("_")[0]):
        SyntheticSettings(**kwargs)


def test_table_matches_the_files_and_pairs_each_fake_with_its_real(labels_path):
    rows = read_rows(labels_path)
    assert list(rows[0]) == ["path", "label", "group", "generator", "source"]
    by_path = {row["path"]: row for row in rows}
    assert {Path(path) for path in by_path} == set(read_files(labels_path.parent / "videos"))
    fakes = [row for row in rows if row["label"] == "fake"]
    reals = [row for row in rows if row["label"] == "real"]
    assert len(fakes) == len(reals) == 4
    assert all(row["path"].startswith(row["label"] + "/") for row in rows)
    assert {row["generator"] for row in fakes} == set(FAKE_KINDS)
    assert all(row["generator"] == row["source"] == "" for row in reals)
    assert {row["source"] for row in fakes} == {row["path"] for row in reals}
    assert all(by_path[row["source"]]["group"] == row["group"] for row in fakes)


def test_no_identity_appears_in_two_groups_and_no_two_people_are_alike():
    groups = defaultdict(set)
    for video in plan_videos(SyntheticSettings(num_identities=200, clips_per_identity=3)):
        groups[video.identity_seed].add(video.group)
        groups[video.donor_seed].add(video.group)
        assert video.identity_seed != video.donor_seed
        assert 12 <= video.num_frames <= 18
    assert len(groups) == 200
    assert all(len(names) == 1 for names in groups.values())


def test_written_files_read_back_with_the_planned_length_and_size(labels_path):
    for video in plan_videos(SETTINGS):
        frames, rate = decode(labels_path.parent / "videos" / video.path)
        assert len(frames) == video.num_frames
        assert {frame.shape for frame in frames} == {(96, 128, 3)}
        assert rate == 25


def test_encoding_keeps_the_picture(tmp_path):
    original = render("real")
    write_h264(tmp_path / "clip.mp4", iter(original), fps=30, crf=17)
    frames, rate = decode(tmp_path / "clip.mp4")
    assert rate == Fraction(30)
    assert np.abs(np.stack(frames).astype(int) - original).mean() < 4


def test_failed_encoding_leaves_no_file(tmp_path):
    def broken():
        yield from render("real", num_frames=1)
        raise RuntimeError("camera lost")

    with pytest.raises(RuntimeError, match="camera lost"):
        write_h264(tmp_path / "clip.mp4", broken(), fps=25, crf=20)
    with pytest.raises(ValueError, match="at least one frame"):
        write_h264(tmp_path / "clip.mp4", [], fps=25, crf=20)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", FAKE_KINDS)
def test_twins_differ_inside_the_face_only(kind):
    difference = np.abs(render(kind).astype(int) - render("real")).mean(axis=(0, 3))
    assert difference.shape == (192, 256)
    for rows in (slice(0, 40), slice(-40, None)):
        for columns in (slice(0, 50), slice(-50, None)):
            assert difference[rows, columns].max() == 0
    changed = np.argwhere(difference > 4)
    # A face of this height takes some thousands of pixels; a fake must alter a good part of it.
    assert 400 < len(changed) < 8000
    assert np.all(np.abs(changed.mean(axis=0) - (96, 128)) < 40)


def test_frames_move_and_depend_on_the_identity():
    frames = render("real", num_frames=12).astype(int)
    assert np.abs(frames[11] - frames[0]).mean() > 1
    assert np.abs(render("real", identity_seed=3, num_frames=1)[0] - frames[0]).mean() > 2
    assert np.array_equal(render("real", num_frames=12), frames)


def test_missing_donor_is_refused_before_the_first_frame():
    with pytest.raises(ValueError, match="donor_seed"):
        render_frames(identity_seed=0, clip_seed=0, kind="swap", num_frames=1, height=96)


def test_blazeface_finds_every_face():
    model = os.environ.get("REELCHECK_FACE_MODEL")
    if not model:
        pytest.skip("REELCHECK_FACE_MODEL does not name a BlazeFace .tflite file")
    mp = pytest.importorskip("mediapipe")
    vision = mp.tasks.vision
    options = vision.FaceDetectorOptions(
        base_options=mp.tasks.BaseOptions(model_asset_path=model), min_detection_confidence=0.5
    )
    with vision.FaceDetector.create_from_options(options) as detector:
        for identity_seed in range(4):
            for kind in ("real", *FAKE_KINDS):
                for frame in render(kind, num_frames=2, identity_seed=identity_seed):
                    image = mp.Image(image_format=mp.ImageFormat.SRGB, data=frame)
                    assert len(detector.detect(image).detections) == 1
