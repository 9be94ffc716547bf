"""``reelcheck audit``: planted leaks and shortcuts are found in rendered videos, and named."""

import csv
import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from flows.preprocess import preprocess
from reelcheck.config import RunSettings
from reelcheck.records import RGB
from storage.layout import StoreLayout, find_preprocessed
from storage.schemas import LABEL_COLUMNS, SPLIT, VIDEOS
from storage.tables import Row, read_rows
from tasks.splits.audit import EDITS_COVERED, EDITS_NOT_COVERED
from tasks.splits.split import LEFT_OUT
from tasks.synthetic.clip import render_frames
from tasks.synthetic.dataset import write_h264

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.usefixtures("prefect_server", "face_model", "few_trees"),
]

Command = Callable[..., Any]
"""Runs of the command line, which give exit code, stdout and stderr."""
Labels = dict[str, dict[str, str]]
"""Path -> what the labels table says of that file."""
RUN = RunSettings(num_workers=2)
ORIGINAL = "long/original.mp4"
COPIED, REENCODED, CUT = "planted/copied.mp4", "planted/reencoded.mp4", "planted/cut.mp4"
TRAINED, TESTED = "real/id000_clip00.mp4", "real/id010_clip00.mp4"
TRAINED_FAKE, TESTED_FAKE = "fake/id000_clip00_swap.mp4", "fake/id010_clip00_mouth.mp4"
PARTS = {"pair004": "val", "pair005": "test"}
"""Where pairs of people are that are not in train."""


@dataclass(frozen=True)
class Studio:
    """Videos, among them copies of one of them, and a store of all."""

    videos: Path
    store: Path
    labels: Labels
    """Of a set without a leak; it does not name the copies."""

    @property
    def layout(self) -> StoreLayout:
        return find_preprocessed(self.store)

    def relabel(self, labels: Labels) -> None:
        """Another labels table: only the tables of the store are made anew."""
        path = self.store.parent / f"{self.store.name}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ("path", *LABEL_COLUMNS))
            writer.writeheader()
            writer.writerows({"path": name, **row} for name, row in labels.items())
        again = preprocess(self.videos, self.store, labels=path, run=RUN)
        assert again.num_videos == 0

    def copy(self, store: Path) -> "Studio":
        """The same videos with a store of its own."""
        shutil.copytree(self.store, store)
        return Studio(self.videos, store, self.labels)

    def leaks(self) -> dict[str, set[frozenset[tuple[str, str]]]]:
        """What ``audit.csv`` names: kind -> files of each leak, as path and part."""
        with self.layout.audit_leaks_path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        files: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
        for row in rows:
            path = Path(row["path"]).relative_to(self.videos.resolve()).as_posix()
            files[row["kind"], row["value"]].add((path, row["split"]))
        found: dict[str, set[frozenset[tuple[str, str]]]] = defaultdict(set)
        for (kind, _), members in files.items():
            found[kind].add(frozenset(members))
        return found


def changed(labels: Labels, changes: Labels) -> Labels:
    """The labels with some columns of some files changed, or with more files."""
    return {**labels, **{name: labels.get(name, {}) | row for name, row in changes.items()}}


def frames_of(path: Path) -> list[RGB]:
    with av.open(str(path)) as container:
        frames = container.decode(video=0)
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in frames]


def encode(path: Path, pictures: Sequence[NDArray[Any]], *, crf: int, key_frame_every: int) -> None:
    with av.open(str(path), "w") as container:
        options = {"crf": str(crf), "g": str(key_frame_every), "threads": "1"}
        stream = container.add_stream("libx264", rate=Fraction(25), options=options)
        stream.pix_fmt = "yuv420p"
        stream.height, stream.width = pictures[0].shape[:2]
        for pixels in pictures:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def plant(videos: Path) -> None:
    """One more person, longer than is sampled, and three copies of the video."""
    for name in (ORIGINAL, COPIED):
        (videos / name).parent.mkdir()
    frames = render_frames(identity_seed=77, clip_seed=78, kind="real", num_frames=90, height=192)
    write_h264(videos / ORIGINAL, frames, fps=25, crf=18)
    shutil.copy(videos / ORIGINAL, videos / COPIED)
    pictures = frames_of(videos / ORIGINAL)
    half = [cv2.resize(each, (128, 96), interpolation=cv2.INTER_AREA) for each in pictures]
    encode(videos / REENCODED, half, crf=30, key_frame_every=11)
    # The middle, where the face is: 154 of 256 x 192 pixels.
    mirrored = [cv2.resize(each[8:162, 51:205][:, ::-1], (240, 240)) for each in pictures]
    encode(videos / CUT, mirrored, crf=26, key_frame_every=7)


@pytest.fixture(scope="module")
def studio(
    tmp_path_factory: pytest.TempPathFactory,
    prefect_server: None,
    face_model: Path,
    synthetic_dataset: Path,
) -> Studio:
    folder = tmp_path_factory.mktemp("studio")
    shutil.copytree(synthetic_dataset / "videos", folder / "videos")
    plant(folder / "videos")
    with (synthetic_dataset / "labels.csv").open(encoding="utf-8", newline="") as file:
        labels = {
            row.pop("path"): {**row, "split": PARTS.get(row["group"], "train")}
            for row in csv.DictReader(file)
        }
    labels[ORIGINAL] = {"label": "real", "split": "train"}
    counts = preprocess(folder / "videos", folder / "store", run=RUN).counts
    assert counts == {"ok": 28}
    return Studio(folder / "videos", folder / "store", labels)


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths of temporary folders are long; what is printed is not folded."""
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def audit(reelcheck: Command) -> Callable[[Studio], Any]:
    """What ``reelcheck audit`` gives for a studio's store, after its files were looked at."""

    def run(studio: Studio) -> Any:
        result = reelcheck("audit", studio.store)
        assert result.stderr == ""
        written = json.loads(studio.layout.audit_path.read_text(encoding="utf-8"))
        assert written["is_clean"] == (result.exit_code == 0)
        # Nothing but leaks is what it fails for.
        assert written["shortcuts"]["verdict"] != "fail"
        return result

    return run


def in_test(name: str) -> Labels:
    return {name: {"label": "real", "split": "test"}}


LEAKS: dict[str, tuple[Labels, str, set[tuple[str, str]]]] = {
    "identity": (
        {TRAINED: {"identity": "alice"}, TESTED: {"identity": "alice"}},
        "person",
        {(TRAINED, "train"), (TESTED, "test")},
    ),
    "donor": (
        {TRAINED_FAKE: {"donor": "alice"}, TESTED: {"identity": "alice"}},
        "person",
        {(TRAINED_FAKE, "train"), (TESTED, "test")},
    ),
    "source in another part": (
        {TRAINED_FAKE: {"source": TESTED}},
        "source",
        {(TRAINED_FAKE, "train"), (TESTED, "test"), (TESTED_FAKE, "test")},
    ),
    "source that is not there": (
        {TRAINED_FAKE: {"source": "a/gone.mp4"}, TESTED_FAKE: {"source": "b/gone.mp4"}},
        "source",
        {(TRAINED_FAKE, "train"), (TESTED_FAKE, "test")},
    ),
    "copied file": (in_test(COPIED), "content", {(ORIGINAL, "train"), (COPIED, "test")}),
    "re-encoded copy": (in_test(REENCODED), "looks", {(ORIGINAL, "train"), (REENCODED, "test")}),
    "mirrored cut-out": (in_test(CUT), "looks", {(ORIGINAL, "train"), (CUT, "test")}),
}
"""What is planted, and the leak that is to be named: its kind and its files with their parts."""


@pytest.mark.parametrize("name", LEAKS)
def test_planted_leak_alone_is_named_with_exit_code_2(
    studio: Studio, audit: Callable[[Studio], Any], name: str
) -> None:
    planted, kind, files = LEAKS[name]
    studio.relabel(changed(studio.labels, planted))
    result = audit(studio)
    assert result.exit_code == 2
    leaks = studio.leaks()
    assert leaks[kind] == {frozenset(files)}
    # A copied file looks like its original, too.
    assert set().union(*leaks.values()) == {frozenset(files)}
    assert f"{len(leaks)} leaks" in result.stdout
    assert "no leak" not in result.stdout
    rows = [[cell.strip() for cell in line.split("│")] for line in result.stdout.splitlines()]
    for path, part in files:
        shown = str(studio.videos.resolve() / path)
        assert (kind, part) in {(row[2], row[4]) for row in rows if shown in row}
    assert str(studio.layout.audit_leaks_path) in result.stdout


def test_same_things_within_one_part_are_no_leak(
    studio: Studio, audit: Callable[[Studio], Any]
) -> None:
    others = ("real/id001_clip00.mp4", "real/id002_clip00.mp4", "real/id003_clip00.mp4")
    people = {name: {"identity": "alice"} for name in (TRAINED, others[1])}
    fakes = {TRAINED_FAKE: {"donor": "alice", "source": others[2]}}
    copies = {name: {"label": "real", "split": "train"} for name in (COPIED, REENCODED, CUT)}
    studio.relabel(changed(studio.labels, people | fakes | copies))
    result = audit(studio)
    assert result.exit_code == 0
    printed = " ".join(result.stdout.split())
    assert "no leak found: nothing that two splits have in common." in printed
    assert all(edit in printed for edit in (*EDITS_COVERED, *EDITS_NOT_COVERED))
    assert studio.leaks() == {}
    assert str(studio.layout.audit_leaks_path) not in result.stdout
    assert str(studio.layout.audit_plot_path) in result.stdout


def test_store_without_parts_says_so(studio: Studio, audit: Callable[[Studio], Any]) -> None:
    tied = {name: {"identity": "alice"} for name in (TRAINED, TESTED)}
    labels = changed(studio.labels, tied)
    studio.relabel({name: {**row, "split": ""} for name, row in labels.items()})
    result = audit(studio)
    assert result.exit_code == 0
    assert "no video is in a split yet" in result.stdout
    assert "reelcheck split" in result.stdout
    assert studio.leaks() == {}


def test_copy_without_a_label_leaks_nothing(studio: Studio, audit: Callable[[Studio], Any]) -> None:
    # It is in the store all the time, but nobody trains or tests on it.
    studio.relabel(studio.labels)
    assert {COPIED, REENCODED, CUT} <= {row["path"] for row in rows_of(studio.layout)}
    assert audit(studio).exit_code == 0


def rows_of(layout: StoreLayout) -> list[Row]:
    return read_rows(layout.videos_path, VIDEOS)


def parts_of(layout: StoreLayout) -> dict[str, str]:
    """Path -> part, by the split."""
    part_of = {row["video_id"]: row["split"] for row in read_rows(layout.split_path, SPLIT)}
    return {
        row["path"]: part_of[row["video_id"]]
        for row in rows_of(layout)
        if row["video_id"] in part_of and row["label"] is not None
    }


def test_leak_that_is_learned_of_after_the_split_is_found_and_mended_by_splitting_again(
    studio: Studio, audit: Callable[[Studio], Any], reelcheck: Command, tmp_path: Path
) -> None:
    own = studio.copy(tmp_path / "store")
    labels = {name: {**row, "split": ""} for name, row in studio.labels.items()}
    own.relabel(labels)
    split = ("split", own.store, "--set", "test_fraction=0.3")
    assert reelcheck(*split).exit_code == 0
    assert audit(own).exit_code == 0
    before = parts_of(own.layout)
    trained, tested = (
        min(name for name, part in before.items() if part == wanted and name.startswith("real"))
        for wanted in ("train", "test")
    )
    own.relabel(changed(labels, {name: {"identity": "alice"} for name in (trained, tested)}))
    result = audit(own)
    assert result.exit_code == 2
    assert own.leaks() == {"person": {frozenset({(trained, "train"), (tested, "test")})}}
    assert reelcheck(*split).exit_code == 0
    assert parts_of(own.layout) == {**before, tested: LEFT_OUT}
    result = audit(own)
    assert result.exit_code == 0
    assert "no leak" in result.stdout


def test_parts_of_the_split_count_and_not_those_that_labels_give(
    studio: Studio, audit: Callable[[Studio], Any], reelcheck: Command, tmp_path: Path
) -> None:
    own = studio.copy(tmp_path / "store")
    own.relabel(studio.labels)
    assert reelcheck("split", own.store).exit_code == 0
    moved = PARTS | {"pair004": "test", "pair005": "val"}
    given = {
        name: {**row, "split": moved.get(row.get("group", ""), "train")}
        for name, row in studio.labels.items()
    }
    own.relabel(changed(given, {ORIGINAL: {"identity": "alice"}, TESTED: {"identity": "alice"}}))
    assert audit(own).exit_code == 2
    assert own.leaks() == {"person": {frozenset({(ORIGINAL, "train"), (TESTED, "test")})}}


@pytest.fixture(scope="module")
def told_by_compression(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 people, each once real and once fake: the same pictures, but fakes are coarser."""
    folder = tmp_path_factory.mktemp("compression") / "videos"
    for label in ("real", "fake"):
        (folder / label).mkdir(parents=True)
    for person in range(12):
        frames = list(
            render_frames(
                identity_seed=100 + person,
                clip_seed=person,
                kind="real",
                num_frames=25,
                height=160,
            )
        )
        for label, crf in (("real", 18), ("fake", 35)):
            write_h264(folder / label / f"{person}.mp4", frames, fps=25, crf=crf)
    return folder


@pytest.mark.slow
def test_compression_that_tells_the_label_fails_and_normalised_videos_pass(
    told_by_compression: Path, reelcheck: Command, tmp_path: Path
) -> None:
    store, same, again = (tmp_path / name for name in ("store", "same", "again"))
    workers = ("--workers", 2)
    assert reelcheck("preprocess", told_by_compression, "--store", store, *workers).exit_code == 0
    result = reelcheck("audit", store)
    assert result.exit_code == 2
    assert "shortcut: bits_per_pixel gives the label away" in result.stdout
    assert "reelcheck normalise" in result.stdout
    found = shortcuts_of(store)
    assert found["verdict"] == "fail"
    assert next(iter(found["by_column"])) == "bits_per_pixel"
    assert found["by_column"]["bits_per_pixel"] > 0.95
    # All else is alike, and so are the file names.
    others = [auc for name, auc in found["by_column"].items() if name != "bits_per_pixel"]
    assert max(*others, found["file_name"]) < 0.7

    assert reelcheck("normalise", told_by_compression, "--out", same, *workers).exit_code == 0
    assert reelcheck("preprocess", same, "--store", again, *workers).exit_code == 0
    result = reelcheck("audit", again)
    assert result.exit_code == 0, result.stdout
    assert "gives the label away" not in result.stdout
    assert shortcuts_of(again)["auc"]["value"] < 0.75


def shortcuts_of(store: Path) -> dict[str, Any]:
    text = find_preprocessed(store).audit_path.read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)["shortcuts"]
    return found


def test_help_says_what_makes_it_fail(reelcheck: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = reelcheck("audit", "--help")
    assert result.exit_code == 0
    for words in ("Exit code 2", "audit.csv", "reelcheck audit store/"):
        assert words in result.stdout


@pytest.mark.parametrize("is_there", [True, False], ids=["unlabelled", "no store"])
def test_store_that_cannot_be_audited_gives_one_line(
    reelcheck: Command, tmp_path: Path, tiny: Any, *, is_there: bool
) -> None:
    if is_there:
        tiny.write_store(tmp_path / "store", [tiny.Clip(path="a.mp4", label=None)])
    result = reelcheck("audit", tmp_path / "store")
    assert (result.exit_code, result.stdout) == (2, "")
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert ("--labels CSV" if is_there else "reelcheck preprocess") in line
