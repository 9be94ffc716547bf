"""The two tables that everybody reads: one row per file, one per crop sequence."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reelcheck.records import InputFile
from reelcheck.status import Status
from storage.layout import StoreLayout, locate_preprocessed
from storage.schemas import MANIFEST, SEQUENCES, VIDEO_RESULTS, VIDEOS
from storage.tables import read_rows, write_table
from tasks.intake.discover import discover
from tasks.intake.shards import plan_shards
from tasks.preprocessing.collect import collect_tables
from tasks.splits.ties import connect_files, find_ties


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def layout(tmp_path: Path) -> StoreLayout:
    return locate_preprocessed(tmp_path / "store", "hash")


def fill(folder: Path, contents: Mapping[str, bytes]) -> Path:
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def finish_shards(files: list[InputFile], layout: StoreLayout) -> None:
    """What extraction leaves: contents that begin with `face` are ok, others have no face."""
    for shard in plan_shards(files, layout, shard_size=2):
        contents = [Path(path).read_bytes() for path in shard.locations]
        ok = [content.startswith(b"face") for content in contents]
        sequences = [
            {
                "sequence_id": f"{video_id[:16]}-00-{part:02}",
                "video_id": video_id,
                "track_id": 0,
                "shard": shard.name,
                "crop_file": 0,
                "crop_row": part,
                "num_frames": 1,
                "frame_indices": [part],
                "pts_seconds": [0.0],
                "boxes_xyxy": [[0.0, 0.0, 1.0, 1.0]],
                "confidences": [1.0],
                "sharpness": [100.0],
                "brightness": [120.0],
                "keypoints_xy": [],
                "fingerprints": [],
                "face_pixels": 50.0,
            }
            for video_id, has_face in zip(shard.video_ids, ok, strict=True)
            if has_face
            for part in range(2)
        ]
        write_table(layout.shard_sequences_path(shard.name), sequences, SEQUENCES)
        results = [
            {
                "video_id": video_id,
                "status": "ok" if has_face else "no_face",
                "reason": None if has_face else "no face",
                "codec": "h264",
            }
            for video_id, has_face in zip(shard.video_ids, ok, strict=True)
        ]
        write_table(layout.shard_videos_path(shard.name), results, VIDEO_RESULTS)


def run(source: Path, layout: StoreLayout, labels: str | None = None) -> dict[str, int]:
    table = None
    if labels is not None:
        table = source.parent / "labels.csv"
        table.write_text(labels, encoding="utf-8")
    files = discover(source, layout, labels=table, exclude=None)
    finish_shards(files, layout)
    return collect_tables(files, layout)


def videos_by_path(layout: StoreLayout) -> dict[str, dict[str, Any]]:
    rows = read_rows(layout.videos_path, VIDEOS)
    assert len({(row["root"], row["path"]) for row in rows}) == len(rows)
    return {row["path"]: row for row in rows}


def labels_by_content(layout: StoreLayout) -> dict[str, int | None]:
    return {row["video_id"]: row["label"] for row in read_rows(layout.manifest_path, MANIFEST)}


def test_collect_one_row_per_file_whatever_became_of_it(
    tmp_path: Path, layout: StoreLayout
) -> None:
    contents = {"a.mp4": b"face 1", "copy of a.mp4": b"face 1", "b/c.mp4": b"none"}
    source = fill(tmp_path / "videos", contents)
    (source / "link.mp4").symlink_to("nowhere")
    counts = run(source, layout, "path,label\na.mp4,real\ngone.mp4,fake\n")
    rows = videos_by_path(layout)
    assert {path: row["status"] for path, row in rows.items()} == {
        "a.mp4": "ok",
        "copy of a.mp4": "ok",
        "b/c.mp4": "no_face",
        "link.mp4": "unreadable",
        "gone.mp4": "missing",
    }
    assert counts == {"missing": 1, "no_face": 1, "ok": 2, "unreadable": 1}
    assert list(counts) == sorted(counts)
    for path, content in contents.items():
        assert rows[path]["video_id"] == sha256(content)
        assert rows[path]["size_bytes"] == len(content)
        assert rows[path]["codec"] == "h264"
    for row in rows.values():
        assert (row["reason"] is None) == (row["status"] == "ok")
    assert rows["gone.mp4"]["label"] == 1


def test_collect_manifest_has_each_sequence_once_with_labels(
    tmp_path: Path, layout: StoreLayout
) -> None:
    contents = {"b.mp4": b"face 1", "a.mp4": b"face 1", "c.mp4": b"face 2", "d.mp4": b"none"}
    source = fill(tmp_path / "videos", contents)
    run(source, layout, "path,label,group\nb.mp4,fake,g\nd.mp4,real,\n")
    rows = read_rows(layout.manifest_path, MANIFEST)
    expected = {f"{sha256(c)[:16]}-00-{part:02}" for c in (b"face 1", b"face 2") for part in (0, 1)}
    assert [row["sequence_id"] for row in rows] == sorted(expected)
    by_content = {row["video_id"]: row for row in rows}
    first, second = by_content[sha256(b"face 1")], by_content[sha256(b"face 2")]
    assert (first["path"], first["label"], first["group"]) == ("a.mp4", 1, "g")
    assert (second["path"], second["label"], second["group"]) == ("c.mp4", None, None)


def test_collect_twice_gives_the_same_bytes(tmp_path: Path, layout: StoreLayout) -> None:
    source = fill(tmp_path / "videos", {"b.mp4": b"face 1", "a.mp4": b"none", "c.mp4": b"face 2"})
    first_counts = run(source, layout)
    first = [layout.videos_path.read_bytes(), layout.manifest_path.read_bytes()]
    assert run(source, layout) == first_counts
    assert [layout.videos_path.read_bytes(), layout.manifest_path.read_bytes()] == first


def test_collect_copies_with_different_labels_lose_the_label_with_a_warning(
    tmp_path: Path, layout: StoreLayout, caplog: pytest.LogCaptureFixture
) -> None:
    contents = {"real/a.mp4": b"face 1", "fake/b.mp4": b"face 1", "fake/c.mp4": b"face 2"}
    source = fill(tmp_path / "videos", contents)
    with caplog.at_level(logging.WARNING):
        run(source, layout)
    assert labels_by_content(layout) == {sha256(b"face 1"): None, sha256(b"face 2"): 1}
    (message,) = (r.getMessage() for r in caplog.records if r.name == "tasks.preprocessing.collect")
    assert "fake/b.mp4" in message
    assert "real/a.mp4" in message
    rows = videos_by_path(layout)
    assert [rows[path]["label"] for path in contents] == [0, 1, 1]


def test_collect_copies_with_the_same_label_keep_it_without_a_warning(
    tmp_path: Path, layout: StoreLayout, caplog: pytest.LogCaptureFixture
) -> None:
    source = fill(tmp_path / "videos", {"fake/b.mp4": b"face 1", "deepfake/c.mp4": b"face 1"})
    with caplog.at_level(logging.WARNING):
        run(source, layout)
    assert labels_by_content(layout) == {sha256(b"face 1"): 1}
    assert not [record for record in caplog.records if record.name == "tasks.preprocessing.collect"]


def test_collect_third_copy_does_not_bring_a_lost_label_back(
    tmp_path: Path, layout: StoreLayout
) -> None:
    contents = dict.fromkeys(["a/fake/v.mp4", "b/real/v.mp4", "c/fake/v.mp4"], b"face 1")
    run(fill(tmp_path / "videos", contents), layout)
    assert labels_by_content(layout) == {sha256(b"face 1"): None}


def connected(layout: StoreLayout) -> bool:
    """Whether the contents that have crops are all one component."""
    rows = [row for row in read_rows(layout.videos_path, VIDEOS) if row["status"] == "ok"]
    assert len({row["video_id"] for row in rows}) > 1
    return connect_files(len(rows), find_ties(rows)).n_subsets == 1


def test_collect_copies_in_two_groups_keep_both_links(tmp_path: Path, layout: StoreLayout) -> None:
    contents = {"a.mp4": b"face 1", "copy.mp4": b"face 1", "x.mp4": b"face 2", "y.mp4": b"face 3"}
    labels = "path,label,group\na.mp4,real,g\ncopy.mp4,real,h\nx.mp4,real,g\ny.mp4,fake,h\n"
    run(fill(tmp_path / "videos", contents), layout, labels)
    assert connected(layout)


def test_collect_source_that_names_a_copy_links_to_its_content(
    tmp_path: Path, layout: StoreLayout
) -> None:
    contents = {"a.mp4": b"face 1", "copy.mp4": b"face 1", "fake.mp4": b"face 2"}
    labels = "path,label,source\na.mp4,real,\ncopy.mp4,real,\nfake.mp4,fake,copy.mp4\n"
    run(fill(tmp_path / "videos", contents), layout, labels)
    assert connected(layout)


def test_collect_a_single_file_leaves_the_rows_of_its_neighbours(
    tmp_path: Path, layout: StoreLayout
) -> None:
    contents = {"a.mp4": b"face 1", "b.mp4": b"face 2"}
    source = fill(tmp_path / "videos", contents)
    run(source, layout, "path,label\na.mp4,real\nb.mp4,fake\n")
    before = videos_by_path(layout)
    one = [
        replace(file, label=0)
        for file in discover(source / "a.mp4", layout, labels=None, exclude=None)
    ]
    collect_tables(one, layout, is_complete=False)
    assert videos_by_path(layout) == before


def test_collect_rows_of_gone_files_are_dropped(tmp_path: Path, layout: StoreLayout) -> None:
    source = fill(tmp_path / "videos", {"a.mp4": b"face 1", "b.mp4": b"face 2", "c.mp4": b"none"})
    run(source, layout)
    (source / "a.mp4").unlink()
    assert run(source, layout) == {"no_face": 1, "ok": 1}
    assert set(videos_by_path(layout)) == {"b.mp4", "c.mp4"}
    assert set(labels_by_content(layout)) == {sha256(b"face 2")}


def test_collect_changed_file_is_its_new_content(tmp_path: Path, layout: StoreLayout) -> None:
    source = fill(tmp_path / "videos", {"a.mp4": b"face 1", "b.mp4": b"face 2"})
    run(source, layout)
    (source / "a.mp4").write_bytes(b"none any more")
    run(source, layout)
    assert videos_by_path(layout)["a.mp4"]["status"] == Status.NO_FACE
    assert set(labels_by_content(layout)) == {sha256(b"face 2")}


def test_collect_file_that_comes_back_needs_no_new_work(
    tmp_path: Path, layout: StoreLayout
) -> None:
    source = fill(tmp_path / "videos", {"a.mp4": b"face 1", "b.mp4": b"face 2"})
    run(source, layout)
    before = layout.manifest_path.read_bytes()
    (source / "a.mp4").rename(tmp_path / "a.mp4")
    run(source, layout)
    (tmp_path / "a.mp4").rename(source / "a.mp4")
    assert (
        plan_shards(discover(source, layout, labels=None, exclude=None), layout, shard_size=1) == ()
    )
    run(source, layout)
    assert layout.manifest_path.read_bytes() == before


def test_collect_rows_of_other_roots_are_kept(tmp_path: Path, layout: StoreLayout) -> None:
    one = fill(tmp_path / "real", {"a.mp4": b"face 1"})
    two = fill(tmp_path / "fake", {"a.mp4": b"face 2", "b.mp4": b"none"})
    run(one, layout)
    assert run(two, layout) == {"no_face": 1, "ok": 1}
    rows = read_rows(layout.videos_path, VIDEOS)
    assert [(row["root"], row["path"]) for row in rows] == [
        (str(two), "a.mp4"),
        (str(two), "b.mp4"),
        (str(one), "a.mp4"),
    ]
    assert labels_by_content(layout) == {sha256(b"face 1"): 0, sha256(b"face 2"): 1}


@pytest.mark.parametrize("failed_shard", ["000", "zzz"])
def test_collect_later_success_replaces_a_defect_of_ours(
    tmp_path: Path, layout: StoreLayout, failed_shard: str
) -> None:
    source = fill(tmp_path / "videos", {"a.mp4": b"face 1"})
    row = {"video_id": sha256(b"face 1"), "status": "internal_error", "reason": "a defect"}
    write_table(layout.shard_videos_path(failed_shard), [row], VIDEO_RESULTS)
    write_table(layout.shard_sequences_path(failed_shard), [], SEQUENCES)
    assert run(source, layout) == {"ok": 1}
    assert set(labels_by_content(layout)) == {sha256(b"face 1")}


def test_collect_sequences_are_those_of_the_result_that_won(
    tmp_path: Path, layout: StoreLayout
) -> None:
    source = fill(tmp_path / "videos", {"a.mp4": b"face 1"})
    run(source, layout)
    before = layout.manifest_path.read_bytes()
    (shard,) = layout.done_shards()
    # A newer shard failed on the same content, and yet left sequences with the same names.
    rows = read_rows(layout.shard_sequences_path(shard), SEQUENCES)
    others = [{**row, "shard": "zzz", "crop_row": 7} for row in rows]
    write_table(layout.shard_sequences_path("zzz"), others, SEQUENCES)
    failed = [{"video_id": sha256(b"face 1"), "status": "timeout", "reason": "slow"}]
    write_table(layout.shard_videos_path("zzz"), failed, VIDEO_RESULTS)
    assert run(source, layout) == {"ok": 1}
    assert layout.manifest_path.read_bytes() == before


def test_collect_label_corrected_later_replaces_the_old(
    tmp_path: Path, layout: StoreLayout
) -> None:
    source = fill(tmp_path / "videos", {"a.mp4": b"face 1"})
    run(source, layout, "path,label\na.mp4,real\n")
    run(source, layout, "path,label\na.mp4,fake\n")
    assert labels_by_content(layout) == {sha256(b"face 1"): 1}
