"""Folder layouts of public data sets, on trees of the same shape, and what ``split`` makes of them.

File names and tables follow the data sets' own; the videos are a few bytes.
"""

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelcheck.config import DatasetLayout, SplitSettings
from reelcheck.errors import SettingsError, SourceError, StoreError
from reelcheck.records import InputFile
from storage.layout import locate_preprocessed
from tasks.intake.dataset_layouts import label_by_layout
from tasks.intake.discover import discover, find_files
from tasks.splits.split import assign_splits

METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter")
COMPRESSIONS = ("raw", "c23", "c40")
LAYOUTS: tuple[DatasetLayout, ...] = ("ffpp", "celebdf", "dfdc")
Pair = tuple[str, str]


def write_tree(root: Path, files: Mapping[str, str] | Iterable[str]) -> Path:
    """Files with these contents, or with their own name in them."""
    contents = files if isinstance(files, Mapping) else {path: path for path in files}
    for path, content in contents.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content, encoding="utf-8")
    return root


def labelled(root: Path, name: DatasetLayout) -> dict[str, InputFile]:
    return {file.path: file for file in label_by_layout(find_files(root), name)}


def known(file: InputFile) -> dict[str, Any]:
    """What is known of a file beyond its place."""
    unlabelled = InputFile(root=file.root, path=file.path)
    ours = {"size_bytes", "mtime_ns", "ctime_ns"}
    before, after = asdict(unlabelled), asdict(file)
    return {name: after[name] for name in after if after[name] != before[name] and name not in ours}


def rows_of(files: Iterable[InputFile]) -> list[dict[str, Any]]:
    """Rows as ``split`` reads them; each file has a content of its own."""
    return [asdict(replace(file, video_id=file.path)) | {"has_crops": True} for file in files]


def parts_of(files: Iterable[InputFile], **chosen: Any) -> dict[str, str]:
    rows = assign_splits(rows_of(files), SplitSettings(**chosen))
    return {row["video_id"]: row["split"] for row in rows}


def ffpp_paths(pairs: Sequence[Pair], compressions: Sequence[str] = COMPRESSIONS) -> list[str]:
    """Both directions of each pair by every method, and the originals."""
    directed = [way for one, other in pairs for way in ((one, other), (other, one))]
    return [
        path
        for compression in compressions
        for target, donor in directed
        for path in (
            f"original_sequences/youtube/{compression}/videos/{target}.mp4",
            *(
                f"manipulated_sequences/{method}/{compression}/videos/{target}_{donor}.mp4"
                for method in METHODS
            ),
        )
    ]


def ffpp_pairs(number: int) -> list[Pair]:
    ids = [f"{place:03}" for place in range(2 * number)]
    random.Random(0).shuffle(ids)
    return list(zip(ids[::2], ids[1::2], strict=True))


def write_official(root: Path, parts: Mapping[str, Sequence[Pair]], folder: str = "") -> None:
    write_tree(root, {f"{folder}{part}.json": json.dumps(pairs) for part, pairs in parts.items()})


def test_ffpp_knows_target_donor_source_and_method(tmp_path: Path) -> None:
    write_tree(tmp_path, ffpp_paths([("000", "003")], ["c23"]))
    files = labelled(tmp_path, "ffpp")
    dataset = {"dataset": "FaceForensics++"}
    real = "original_sequences/youtube/c23/videos/000.mp4"
    assert known(files[real]) == {"label": 0, "identity": "000", **dataset}
    for method in METHODS:
        fake = files[f"manipulated_sequences/{method}/c23/videos/000_003.mp4"]
        assert known(fake) == {
            "label": 1,
            "identity": "000",
            "donor": "003",
            "source": real,
            "generator": method,
            **dataset,
        }
    assert len(files) == 12


def test_ffpp_source_is_of_the_same_compression_and_there(tmp_path: Path) -> None:
    write_tree(tmp_path, ffpp_paths(ffpp_pairs(2)))
    files = labelled(tmp_path, "ffpp")
    fakes = [file for file in files.values() if file.label == 1]
    assert len(fakes) == 3 * 4 * len(METHODS)
    for fake in fakes:
        source = files[str(fake.source)]
        assert (source.label, source.identity) == (0, fake.identity)
        assert source.path.split("/")[2] == fake.path.split("/")[2]


def test_ffpp_actors_are_not_the_youtube_videos_of_the_same_numbers(tmp_path: Path) -> None:
    real = "original_sequences/actors/c40/videos/01__exit_phone_room.mp4"
    fake = "manipulated_sequences/DeepFakeDetection/c40/videos/01_02__exit_phone_room__YVGY8LOK.mp4"
    youtube = "original_sequences/youtube/c40/videos/01.mp4"
    write_tree(tmp_path, [real, fake, youtube])
    write_official(tmp_path, {"train": [("01", "02")]})
    files = labelled(tmp_path, "ffpp")
    dataset = {"dataset": "DeepFakeDetection"}
    assert known(files[real]) == {"label": 0, "identity": "actor_01", **dataset}
    assert known(files[fake]) == {
        "label": 1,
        "identity": "actor_01",
        "donor": "actor_02",
        "source": real,
        "generator": "DeepFakeDetection",
        **dataset,
    }
    assert (files[youtube].identity, files[youtube].split) == ("01", "train")


@pytest.mark.parametrize("folder", ["", "splits/"])
def test_ffpp_official_split_survives_split_without_a_leak(tmp_path: Path, folder: str) -> None:
    pairs = ffpp_pairs(10)
    official = {"train": pairs[:6], "val": pairs[6:8], "test": pairs[8:]}
    write_tree(tmp_path, ffpp_paths(pairs))
    write_official(tmp_path, official, folder)
    files = labelled(tmp_path, "ffpp")
    part_of = {name: part for part, some in official.items() for pair in some for name in pair}
    videos = [file for file in files.values() if file.path.endswith(".mp4")]
    parts = parts_of(videos)
    assert len(parts) == 3 * 20 * (1 + len(METHODS))
    for video in videos:
        assert parts[video.path] == video.split == part_of[str(video.identity)]
        assert part_of[video.donor or str(video.identity)] == parts[video.path]


def test_ffpp_without_official_tables_no_face_is_on_two_sides(tmp_path: Path) -> None:
    write_tree(tmp_path, ffpp_paths(ffpp_pairs(20), ["raw", "c40"]))
    files = labelled(tmp_path, "ffpp")
    assert {file.split for file in files.values()} == {None}
    parts = parts_of(files.values())
    assert set(parts.values()) == {"train", "val", "test"}
    assert not crossed_faces(files.values(), parts)
    # Every compression of a video is where the video is.
    for path, part in parts.items():
        assert parts[path.replace("/raw/", "/c40/")] == part
    # Who is seen alone is not enough: the donor's own videos land elsewhere.
    targets = [replace(file, donor=None) for file in files.values()]
    assert crossed_faces(files.values(), parts_of(targets))


def crossed_faces(files: Iterable[InputFile], parts: Mapping[str, str]) -> list[str]:
    """People whose face, as target or as donor, is in two parts."""
    seen: dict[str, set[str]] = {}
    for file in files:
        for face in {file.identity, file.donor} - {None}:
            seen.setdefault(str(face), set()).add(parts[file.path])
    return [face for face, places in seen.items() if len(places) > 1]


@pytest.mark.parametrize(
    "content",
    ["[[", '{"071": "054"}', '[["071"]]', '[["071", 54]]', '["071"]', "null", "[" * 100_000, "\0"],
)
def test_ffpp_table_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    write_tree(tmp_path, ffpp_paths([("071", "054")]))
    write_tree(tmp_path, {"splits/val.json": content})
    with pytest.raises(SourceError, match=r"splits/val\.json") as caught:
        labelled(tmp_path, "ffpp")
    assert "\n" not in str(caught.value)


def test_ffpp_id_in_two_parts_is_refused(tmp_path: Path) -> None:
    write_tree(tmp_path, ffpp_paths([("071", "054")]))
    write_official(tmp_path, {"train": [("071", "054")], "test": [("001", "054")]})
    with pytest.raises(SourceError, match=r"test\.json gives 054 to test, another table to train"):
        labelled(tmp_path, "ffpp")


CELEB = (
    "Celeb-real/id0_0000.mp4",
    "Celeb-real/id1_0002.mp4",
    "Celeb-synthesis/id0_id1_0000.mp4",
    "Celeb-synthesis/id1_id0_0002.mp4",
    "YouTube-real/00000.mp4",
    "YouTube-real/00170.mp4",
)


def test_celebdf_knows_who_is_seen_and_whose_face_it_is(tmp_path: Path) -> None:
    files = labelled(write_tree(tmp_path, CELEB), "celebdf")
    dataset = {"dataset": "Celeb-DF"}
    assert known(files["Celeb-real/id1_0002.mp4"]) == {"label": 0, "identity": "id1", **dataset}
    assert known(files["YouTube-real/00000.mp4"]) == {"label": 0, **dataset}
    assert known(files["Celeb-synthesis/id1_id0_0002.mp4"]) == {
        "label": 1,
        "identity": "id1",
        "donor": "id0",
        "source": "Celeb-real/id1_0002.mp4",
        "generator": "Celeb-synthesis",
        **dataset,
    }


def test_celebdf_official_list_is_test_and_all_else_train(tmp_path: Path) -> None:
    listed = (
        "1 YouTube-real/00170.mp4\r\n0 Celeb-synthesis/id0_id1_0000.mp4\n\n1 Celeb-real/id9_9.mp4\n"
    )
    write_tree(tmp_path, CELEB)
    write_tree(tmp_path, {"List_of_testing_videos.txt": listed, "Celeb-real/notes.txt": "-"})
    files = labelled(tmp_path, "celebdf")
    test = {"YouTube-real/00170.mp4", "Celeb-synthesis/id0_id1_0000.mp4"}
    assert {path: file.split for path, file in files.items() if path in CELEB} == {
        path: "test" if path in test else "train" for path in CELEB
    }
    assert known(files["Celeb-real/notes.txt"]) == {}
    # Its people are in both parts; dividing by people is still possible.
    with pytest.raises(StoreError, match="honour_given=false"):
        parts_of(files.values())


def test_celebdf_divided_anew_keeps_people_together(tmp_path: Path) -> None:
    pairs = [(f"id{number}", f"id{number + 1}") for number in range(0, 40, 2)]
    paths = [
        path
        for one, other in pairs
        for path in (
            f"Celeb-real/{one}_0000.mp4",
            f"Celeb-real/{other}_0001.mp4",
            f"Celeb-synthesis/{one}_{other}_0000.mp4",
        )
    ]
    listed = "".join(f"1 {path}\n" for path in paths if path.startswith("Celeb-real/id0_"))
    write_tree(tmp_path, paths)
    write_tree(tmp_path, {"List_of_testing_videos.txt": listed})
    files = [file for path, file in labelled(tmp_path, "celebdf").items() if path in paths]
    assert not crossed_faces(files, parts_of(files, honour_given=False))


@pytest.mark.parametrize(
    "line",
    [
        "2 YouTube-real/00170.mp4",
        "1 Other/00170.mp4",
        "1",
        "YouTube-real/00170.mp4",
        "1 .",
        "1 Celeb-synthesis/id0_id1_0000.mp4",
        "0 Celeb-real/id0_0000.mp4",
        "0 YouTube-real/00999.mp4",
    ],
)
def test_celebdf_line_that_makes_no_sense_is_named(tmp_path: Path, line: str) -> None:
    write_tree(tmp_path, CELEB)
    listed = f"1 YouTube-real/00000.mp4\n{line}\n"
    write_tree(tmp_path, {"List_of_testing_videos.txt": listed})
    with pytest.raises(SourceError, match=r"List_of_testing_videos\.txt, line 2: "):
        labelled(tmp_path, "celebdf")


def dfdc_part(number: int, splits: Sequence[str] = ("train",)) -> dict[str, str]:
    """One folder: per split a real video, two fakes made of it, and their table."""
    folder = f"dfdc_train_part_{number}"
    table: dict[str, Any] = {}
    for split in splits:
        real = f"r{number}{split}.mp4"
        table[real] = {"label": "REAL", "split": split}
        for letter in "ab":
            fake = {"label": "FAKE", "split": split, "original": real}
            table[f"{letter}{number}{split}.mp4"] = fake
    return {f"{folder}/{name}": name + folder for name in table} | {
        f"{folder}/metadata.json": json.dumps(table)
    }


def test_dfdc_knows_label_and_source_in_the_same_folder(tmp_path: Path) -> None:
    write_tree(tmp_path, dfdc_part(0) | dfdc_part(1) | {"elsewhere/x.mp4": "x"})
    write_tree(tmp_path, {"dfdc_train_part_0/not_in_table.mp4": "x"})
    files = labelled(tmp_path, "dfdc")
    assert known(files["dfdc_train_part_1/r1train.mp4"]) == {"label": 0, "dataset": "DFDC"}
    assert known(files["dfdc_train_part_1/a1train.mp4"]) == {
        "label": 1,
        "source": "dfdc_train_part_1/r1train.mp4",
        "dataset": "DFDC",
    }
    for path in ("elsewhere/x.mp4", "dfdc_train_part_0/not_in_table.mp4"):
        assert known(files[path]) == {}
    assert len(files) == 3 + 3 + 2 + 2


def test_dfdc_split_counts_unless_all_is_train(tmp_path: Path) -> None:
    parts = ("train", "validation", "test")
    for number in range(4):
        write_tree(tmp_path, dfdc_part(number, parts))
    videos = [f for path, f in labelled(tmp_path, "dfdc").items() if path.endswith(".mp4")]
    expected = {"train": "train", "validation": "val", "test": "test"}
    divided = parts_of(videos)
    for video in videos:
        (part,) = (expected[name] for name in parts if name in video.path.split("/")[1])
        assert divided[video.path] == video.split == part


def test_dfdc_folder_at_the_root_and_tables_of_another_kind(tmp_path: Path) -> None:
    table = {"a.mp4": {"label": "FAKE", "split": "odd", "original": None}}
    others = {"x/metadata.json": "[1]", "x/b.mp4": "b", "y/metadata.json": '{"fps": 25}'}
    write_tree(tmp_path, {"metadata.json": json.dumps(table), "a.mp4": "a", **others})
    files = labelled(tmp_path, "dfdc")
    assert known(files["a.mp4"]) == {"label": 1, "dataset": "DFDC"}
    assert [path for path, file in files.items() if file.label is not None] == ["a.mp4"]


@pytest.mark.parametrize(
    "content",
    [
        '{"a.mp4": {"label": "FAKE"',
        '{"a.mp4": {"label": "MAYBE"}}',
        '{"a.mp4": {"label": "FAKE"}, "b.mp4": {}}',
        '{"a.mp4": {"label": "FAKE"}, "b.mp4": 3}',
        '{"a.mp4": {"label": ["FAKE"]}}',
        '{"a.mp4": {"label": "FAKE", "original": 3}}',
        '{"a.mp4": {"label": "FAKE", "split": 3}}',
    ],
)
def test_dfdc_table_that_makes_no_sense_is_named(tmp_path: Path, content: str) -> None:
    write_tree(tmp_path, {"part/a.mp4": "a", "part/metadata.json": content})
    with pytest.raises(SourceError, match=r"part/metadata\.json"):
        labelled(tmp_path, "dfdc")


@pytest.mark.parametrize("name", LAYOUTS)
def test_tree_of_another_shape_is_refused_and_told_what_was_expected(
    tmp_path: Path, name: DatasetLayout
) -> None:
    write_tree(tmp_path, ["real/a.mp4", "videos/c23/000.mp4"])
    with pytest.raises(SourceError, match=f"fits the layout {name}: expected f") as caught:
        labelled(tmp_path, name)
    assert ".mp4" in str(caught.value)


TREES: dict[DatasetLayout, list[str]] = {
    "ffpp": ffpp_paths([("000", "003")]),
    "celebdf": list(CELEB),
}


@settings(deadline=None, max_examples=60)
@given(data=st.data(), name=st.sampled_from(sorted(TREES)))
def test_files_that_the_layout_does_not_know_are_neither_lost_nor_labelled(
    data: st.DataObject, name: DatasetLayout
) -> None:
    fitting = data.draw(st.sampled_from(TREES[name]))
    # A name that is almost right says nothing.
    place = data.draw(st.integers(0, len(fitting) - 1))
    letter = data.draw(st.sampled_from("xX-/"))
    changed = fitting[:place] + letter + fitting[place:]
    odd = [changed, f"{name}/{fitting}", f"{fitting}.txt", fitting.upper()]
    files = [InputFile(root="/nowhere", path=path) for path in [fitting, *odd]]
    found = label_by_layout(files, name)
    assert [file.path for file in found] == [fitting, *odd]
    assert found[0].label is not None
    assert [known(file) for file in found[1:]] == [{}] * 4


def test_discover_takes_labels_from_the_layout_or_a_table_never_both(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "data", CELEB)
    layout = locate_preprocessed(tmp_path / "store", "h")
    files = discover(source, layout, labels=None, exclude=None, dataset_layout="celebdf")
    assert {file.path: file.label for file in files} == {
        path: int("synthesis" in path) for path in CELEB
    }
    assert all(file.video_id for file in files)
    table = tmp_path / "labels.csv"
    table.write_text(f"path,label\n{CELEB[0]},real\n")
    with pytest.raises(SettingsError, match="--labels or --layout"):
        discover(source, layout, labels=table, exclude=None, dataset_layout="celebdf")
