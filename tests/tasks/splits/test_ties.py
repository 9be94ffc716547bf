"""Ties: all that files have in common, by its kind; against networkx and by comparing all pairs."""

import itertools
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import networkx as nx
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelcheck.records import FINGERPRINT_BYTES
from storage.columns import Table
from storage.layout import locate_preprocessed
from storage.schemas import LABEL_COLUMNS, MANIFEST, VIDEOS
from storage.tables import write_table
from tasks.faces.detection.fingerprint import mirror_fingerprints
from tasks.splits.near_duplicates import Likeness
from tasks.splits.ties import Tie, connect_files, find_likenesses, find_ties

File = dict[str, Any]
KINDS = {"group": "group", "identity": "person", "donor": "person", "pair": "pair"}
FEW = st.sampled_from(["0", "1", "2", "3", "a.mp4"])


def file(path: str, video_id: str | None = None, *, root: str = "r", **known: str | None) -> File:
    return {
        **dict.fromkeys(LABEL_COLUMNS),
        "root": root,
        "path": path,
        "video_id": video_id or f"id of {root}/{path}",
        **known,
    }


@st.composite
def linked(draw: st.DrawFn) -> tuple[list[File], list[Likeness]]:
    """Files with few names in few folders, some of them copies; and which videos look alike."""
    places = itertools.product("rs", ("", "real/", "fake/"), ("a.mp4", "b.mp4", "c.mp4"))
    chosen = draw(st.lists(st.sampled_from(list(places)), unique=True, max_size=18))
    names = ["a.mp4", "real/a.mp4", "fake/b.mp4", "other/c.mp4", "gone.mp4", "x/gone.mp4"]
    seldom = st.sampled_from([False, False, False, True])
    files = [
        file(
            folder + name,
            draw(st.none() | st.integers(0, 12).map(str)),
            root=root,
            **{column: draw(FEW) for column in KINDS if draw(seldom)},
            source=draw(st.sampled_from(names)) if draw(seldom) else None,
        )
        for root, folder, name in chosen
    ]
    contents = sorted({each["video_id"] for each in files} | {"in no file"})
    two = st.lists(st.sampled_from(contents), min_size=2, max_size=2, unique=True).map(sorted)
    pairs = draw(st.lists(two, max_size=4)) if len(contents) > 1 else []
    return files, [Likeness(first, second, "frames") for first, second in pairs]


def meant_by(source: str, files: Sequence[File]) -> set[str]:
    """Contents that a source name can mean."""
    exact = {each["video_id"] for each in files if each["path"] == source}
    name = PurePosixPath(source).name
    return exact or {each["video_id"] for each in files if PurePosixPath(each["path"]).name == name}


def graph_of(files: Sequence[File], likenesses: Iterable[Likeness]) -> nx.Graph:
    """Files are joined through nodes for what they have in common."""
    graph = nx.Graph()
    for place, each in enumerate(files):
        graph.add_edge(place, ("content", each["video_id"]))
        for column, kind in KINDS.items():
            if each[column] is not None:
                graph.add_edge(place, (kind, each[column]))
        if each["source"] is not None:
            meant = meant_by(each["source"], files)
            graph.add_edges_from((place, ("content", video)) for video in meant)
            if not meant:
                graph.add_edge(place, ("absent", PurePosixPath(each["source"]).name))
    for pair in likenesses:
        graph.add_edge(("content", pair.first), ("content", pair.second))
    return graph


def shared(files: Sequence[File], *columns: str) -> set[tuple[int, ...]]:
    """Places of the files that have a value of these columns in common."""
    having: dict[str, set[int]] = defaultdict(set)
    for place, each in enumerate(files):
        for column in columns:
            if each[column] is not None:
                having[each[column]].add(place)
    return {tuple(sorted(places)) for places in having.values() if len(places) > 1}


def members_of(ties: Iterable[Tie], kind: str) -> set[tuple[int, ...]]:
    return {tie.members for tie in ties if tie.kind == kind}


@settings(deadline=None, max_examples=100)
@given(linked())
def test_ties_connect_the_components_of_networkx(
    found: tuple[list[File], list[Likeness]],
) -> None:
    files, likenesses = found
    joined = connect_files(len(files), find_ties(files, likenesses))
    truth = {
        frozenset(node for node in component if isinstance(node, int))
        for component in nx.connected_components(graph_of(files, likenesses))
    }
    assert set(map(frozenset, joined.subsets())) == truth - {frozenset()}


@settings(deadline=None, max_examples=100)
@given(linked())
def test_every_tie_is_what_its_files_have_in_common(
    found: tuple[list[File], list[Likeness]],
) -> None:
    files, likenesses = found
    ties = find_ties(files, likenesses)
    assert ties == sorted(ties)
    assert all(len(tie.members) > 1 for tie in ties)
    assert all(list(tie.members) == sorted(set(tie.members)) for tie in ties)
    assert members_of(ties, "content") == shared(files, "video_id")
    assert members_of(ties, "person") == shared(files, "identity", "donor")
    assert members_of(ties, "group") == shared(files, "group")
    assert members_of(ties, "pair") == shared(files, "pair")
    # Where nothing is alike or has a source, there are no other ties.
    bare = find_ties([{**each, "source": None} for each in files])
    assert bare == [tie for tie in ties if tie.kind not in {"source", "looks"}]


@settings(deadline=None, max_examples=100)
@given(found=linked(), shuffle=st.randoms(use_true_random=False))
def test_order_of_files_changes_nothing(
    found: tuple[list[File], list[Likeness]], shuffle: random.Random
) -> None:
    files, likenesses = found

    def named(ties: Iterable[Tie], files: Sequence[File]) -> list[tuple[str, str, list[str]]]:
        return sorted(
            (tie.kind, tie.value, sorted("/".join(place_of(files[m])) for m in tie.members))
            for tie in ties
        )

    before = named(find_ties(files, likenesses), files)
    shuffle.shuffle(files)
    shuffle.shuffle(likenesses)
    assert named(find_ties(files, likenesses), files) == before


def place_of(each: File) -> tuple[str, str]:
    return each["root"], each["path"]


def test_donor_and_identity_name_the_same_people() -> None:
    files = [
        file("a.mp4", identity="alice"),
        file("b.mp4", donor="alice"),
        file("c.mp4", identity="bob", donor="carol"),
        file("d.mp4", donor="carol"),
    ]
    assert find_ties(files) == [Tie("person", "alice", (0, 1)), Tie("person", "carol", (2, 3))]


def test_face_put_on_its_own_person_is_no_tie() -> None:
    assert find_ties([file("a.mp4", identity="alice", donor="alice"), file("b.mp4")]) == []


@pytest.mark.parametrize("columns", list(itertools.combinations(("group", "identity", "pair"), 2)))
def test_same_word_in_two_columns_is_no_tie(columns: tuple[str, str]) -> None:
    files = [file(f"{column}.mp4", **{column: "x"}) for column in columns]
    assert find_ties(files) == []


def test_source_by_its_path_means_one_video_and_by_its_name_all_of_that_name() -> None:
    files = [
        file("one/v.mp4"),
        file("two/v.mp4"),
        file("exact.mp4", source="two/v.mp4"),
        file("vague.mp4", source="v.mp4"),
    ]
    assert find_ties(files) == [
        Tie("source", "two/v.mp4", (1, 2)),
        Tie("source", "v.mp4", (0, 1, 3)),
    ]


def test_source_ties_to_every_copy_of_it() -> None:
    files = [file("v.mp4", "v"), file("copy.mp4", "v"), file("fake.mp4", source="v.mp4")]
    assert find_ties(files) == [
        Tie("content", "copy.mp4", (0, 1)),
        Tie("source", "copy.mp4", (0, 1, 2)),
    ]


def test_chain_of_videos_that_look_alike_is_one_tie() -> None:
    names = "abcdefg"
    files = [file(f"{name}.mp4", name) for name in names]
    pairs = [("b", "c", "frames"), ("a", "b", "faces"), ("e", "g", "faces"), ("b", "c", "faces")]
    likenesses = [Likeness(*pair) for pair in pairs]
    assert find_ties(files, likenesses) == [
        Tie("looks", "a.mp4", (0, 1, 2)),
        Tie("looks", "e.mp4", (4, 6)),
    ]


def test_chain_holds_through_a_video_that_is_in_no_file() -> None:
    files = [file("a.mp4", "a"), file("c.mp4", "c")]
    likenesses = [Likeness("a", "b", "frames"), Likeness("b", "c", "frames")]
    assert members_of(find_ties(files, likenesses), "looks") == {(0, 1)}


def test_nothing_ties_nothing() -> None:
    assert find_ties([]) == []
    assert list(connect_files(0, []).subsets()) == []


def write_rows(path: Path, rows: Sequence[File], kind: Table[Any]) -> None:
    """Write rows of a table; columns that may not be null are blank where a row lacks them."""
    blank: File = {
        field.name: [] if pa.types.is_list(field.type) else "" if field.type == pa.string() else 0
        for field in kind.schema
        if not field.nullable
    }
    write_table(path, [blank | row for row in rows], kind)


def test_fingerprints_are_read_from_both_tables(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def several(number: int) -> list[bytes]:
        return [rng.bytes(FINGERPRINT_BYTES) for _ in range(number)]

    frames, face, shown = several(8), several(3), several(3)
    bytes_NK = np.frombuffer(b"".join(shown), np.uint8).reshape(len(shown), -1)
    flipped = [row.tobytes() for row in mirror_fingerprints(bytes_NK)]
    videos: list[File] = [
        {"video_id": "a", "fingerprints": [*frames, *several(2)]},
        {"video_id": "b", "fingerprints": [*frames[:4], *several(3)]},
        {"video_id": "b", "fingerprints": [*frames[:4], *several(3)]},  # a copy
        {"video_id": "c", "fingerprints": several(5)},
        {"video_id": "d", "fingerprints": None},  # could not be decoded
        {"video_id": None, "fingerprints": None},  # could not be read
    ]
    manifest: list[File] = [
        {"video_id": "a", "fingerprints": []},
        {"video_id": "c", "fingerprints": several(4)},
        # The second sequence of a video counts as the first does.
        {"video_id": "c", "fingerprints": [*face, *shown]},
        {"video_id": "e", "fingerprints": [*several(9), *flipped]},
    ]
    layout = locate_preprocessed(tmp_path, "h")
    write_rows(layout.videos_path, videos, VIDEOS)
    write_rows(layout.manifest_path, manifest, MANIFEST)
    assert find_likenesses(layout) == [
        Likeness("a", "b", "frames"),
        Likeness("c", "e", "faces"),
    ]
