"""Shortcuts: metadata that tells the label is found, named and measured on groups held out."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from models.metrics.metrics import Interval
from tasks.splits import shortcuts
from tasks.splits.shortcuts import (
    COLUMNS,
    FAIL_FROM,
    WARN_FROM,
    Shortcuts,
    find_shortcuts,
    make_metadata_table,
)

pytestmark = pytest.mark.usefixtures("few_trees")

Row = dict[str, Any]
NUM_VIDEOS = 48
LABELS = np.arange(NUM_VIDEOS) % 2
GROUPS = np.arange(NUM_VIDEOS) // 2
PATHS = [f"videos/{number:03}.mp4" for number in range(NUM_VIDEOS)]


def video(number: int, **known: object) -> Row:
    """A row of the table of files."""
    return {
        "video_id": f"v{number:03}",
        "path": PATHS[number],
        "codec": "h264",
        "container": "mp4",
        "width": 640,
        "height": 480,
        "num_frames": 100,
        "size_bytes": 400_000,
        "average_fps": 25.0,
        "duration_seconds": 4.0,
        **known,
    }


def table_of(**known: Callable[[int], object]) -> pd.DataFrame:
    """Metadata of videos that differ only in what is given, by number."""
    numbers = range(NUM_VIDEOS)
    videos = [video(n, **{name: value(n) for name, value in known.items()}) for n in numbers]
    faces = [{"video_id": f"v{n:03}", "face_pixels": 50.0} for n in numbers]
    return make_metadata_table(pd.DataFrame(videos), pd.DataFrame(faces))


def found_in(table: pd.DataFrame, paths: list[str] = PATHS) -> Shortcuts:
    found = find_shortcuts(table, LABELS, GROUPS, paths)
    assert found is not None
    return found


def noise(seed: int) -> Callable[[int], int]:
    values = np.random.default_rng(seed).integers(300_000, 500_000, NUM_VIDEOS).tolist()
    return lambda number: values[number]


def test_table_has_one_row_for_each_content_with_crops() -> None:
    videos = [
        video(0, width=320, height=200, num_frames=50, size_bytes=1_000_000),
        video(0, container="of a copy"),
        video(1, codec=None, average_fps=None),
        video(2),
        video(3, video_id=None, codec=None),
        video(4, video_id=None, codec=None),
    ]
    sizes = {"v000": (40.0, 70.0, 60.0), "v001": (33.0,)}
    manifest = [{"video_id": v, "face_pixels": size} for v, own in sizes.items() for size in own]
    table = make_metadata_table(pd.DataFrame(videos), pd.DataFrame(manifest))
    assert list(table.index) == ["v000", "v001"]
    assert tuple(table.columns) == COLUMNS
    first = table.loc["v000"]
    assert first["face_pixels"] == 70
    assert first["bits_per_pixel"] == pytest.approx(8e6 / (320 * 200 * 50), rel=0.1)
    assert (first["codec"], first["container"]) == ("h264", "mp4")
    assert table["codec"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("codec", ("h264", "hevc")),
        ("container", ("mp4", "matroska")),
        ("codec", ("h264", None)),
        ("width", (640, 642)),
        ("height", (480, None)),
        ("average_fps", (25.0, 29.97)),
        ("duration_seconds", (4.0, 4.5)),
    ],
)
def test_column_that_tells_the_label_fails_and_is_named(
    column: str, values: tuple[object, object]
) -> None:
    found = found_in(table_of(**{column: lambda n: values[n % 2]}, size_bytes=noise(0)))
    assert found.verdict == "fail"
    assert found.auc == (1.0, 1.0, 1.0)
    assert found.by_column[column] == 1.0
    # Width and height give the bits of a pixel, too; columns of the same AUC stay in order.
    assert next(iter(found.by_column)) in {column, "bits_per_pixel"}
    assert list(found.by_column.values()) == sorted(found.by_column.values(), reverse=True)
    assert found.by_column.keys() == set(COLUMNS)


def test_size_of_a_file_tells_by_its_bits_per_pixel() -> None:
    # Long videos have large files: only what a pixel takes tells.
    def frames(n: int) -> int:
        return 50 + 37 * (n // 2)

    sizes = table_of(
        num_frames=frames, size_bytes=lambda n: frames(n) * (4_000 if n % 2 else 12_000) + n
    )
    found = found_in(sizes)
    assert found.verdict == "fail"
    assert next(iter(found.by_column)) == "bits_per_pixel"
    assert found.by_column["bits_per_pixel"] == 1.0
    assert max(list(found.by_column.values())[1:]) < WARN_FROM


def test_difference_that_no_rate_control_keeps_to_tells_nothing() -> None:
    few_bytes = noise(0)
    table = table_of(size_bytes=lambda n: 1_000_000 + 3000 * (n % 2) + few_bytes(n) % 100)
    assert found_in(table).auc.value < 0.75
    table = table_of(size_bytes=lambda n: 1_000_000 + 300_000 * (n % 2) + few_bytes(n) % 100)
    assert found_in(table).auc.value == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_noise_tells_nothing(seed: int) -> None:
    found = found_in(table_of(size_bytes=noise(seed)))
    assert found.verdict != "fail"
    assert found.auc.low < 0.5
    # What is the same for all says nothing at all.
    assert {auc for name, auc in found.by_column.items() if name != "bits_per_pixel"} == {0.5}
    assert found.by_column["bits_per_pixel"] == pytest.approx(found.auc.value)


def test_what_is_known_of_a_group_does_not_tell_the_label_of_others() -> None:
    # Each group has its own length and one label. Seen in training, its other videos would be told.
    rng = np.random.default_rng(1)
    labels, lengths = rng.permutation(np.arange(24) % 2), rng.permutation(24) + 4.0
    groups = np.repeat(np.arange(24), 2)
    table = table_of(duration_seconds=lambda n: lengths[n // 2])
    found = find_shortcuts(table, labels[groups], groups, PATHS)
    assert found is not None
    assert found.verdict != "fail"
    alone = find_shortcuts(table, labels[groups], np.arange(NUM_VIDEOS), PATHS)
    assert alone is not None
    assert alone.auc.value > found.auc.value + 0.2


@pytest.mark.parametrize(
    "name", ["{kind}_{n}.mp4", "{n}{kind}.mp4", "{n}.{ending}"], ids=["word", "tail", "ending"]
)
def test_file_name_that_tells_the_label_is_told_but_fails_nothing(name: str) -> None:
    paths = [
        f"videos/{name.format(n=n, kind=('clip', 'swap')[n % 2], ending=('mp4', 'avi')[n % 2])}"
        for n in range(NUM_VIDEOS)
    ]
    found = found_in(table_of(), paths)
    assert found.file_name == 1.0
    assert found.auc == (0.5, 0.5, 0.5)
    assert found.verdict == "ok"


def test_folder_of_a_file_is_not_its_name() -> None:
    paths = [f"{('real', 'fake')[n % 2]}/{n // 2}.mp4" for n in range(NUM_VIDEOS)]
    assert found_in(table_of(), paths).file_name == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("value", [None, 0])
@pytest.mark.parametrize(
    "column", ["codec", "container", "width", "height", "num_frames", "size_bytes", "average_fps"]
)
def test_what_is_unknown_or_zero_for_all_says_nothing(column: str, value: int | None) -> None:
    found = found_in(table_of(**{column: lambda _: value}))
    assert found.auc == (0.5, 0.5, 0.5)
    assert np.isfinite(list(found.by_column.values())).all()


def test_still_pictures_have_neither_rate_nor_duration() -> None:
    stills = {"average_fps": None, "duration_seconds": None, "num_frames": 1}
    table = table_of(**{name: lambda _, v=value: v for name, value in stills.items()})
    found = found_in(table)
    assert found.verdict == "ok"
    mixed = table_of(average_fps=lambda n: None if n % 2 else 25.0)
    assert found_in(mixed).by_column["average_fps"] == 1.0


def by_hand(
    table: pd.DataFrame, labels: NDArray[np.int64], groups: NDArray[np.int64], seed: int
) -> float:
    """Cross-validation spelled out."""
    scores = np.full(len(table), np.nan)
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    for fitted, held_out in folds.split(table, labels, groups):
        assert set(groups[fitted]).isdisjoint(groups[held_out])
        model = shortcuts.make_metadata_model(len(table)).fit(table.iloc[fitted], labels[fitted])
        scores[held_out] = model.predict_proba(table.iloc[held_out])[:, 1]
    return float(roc_auc_score(labels, scores))


@pytest.mark.parametrize("seed", [0, 1])
def test_auc_is_that_of_a_cross_validation_by_hand(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.normal(400_000, 40_000, NUM_VIDEOS) + 40_000 * LABELS
    widths = rng.choice([320, 640], NUM_VIDEOS)
    table = table_of(
        size_bytes=lambda n: int(sizes[n]),
        width=lambda n: int(widths[n]),
        codec=lambda n: "hevc" if widths[n - 1] == 320 else "h264",
    )
    found = find_shortcuts(table, LABELS, GROUPS, PATHS, seed=seed)
    assert found is not None
    assert found.auc.value == pytest.approx(by_hand(table, LABELS, GROUPS, seed))
    assert 0.5 < found.auc.value < 1
    assert found.auc.low < found.auc.value < found.auc.high
    for name in ("codec", "width", "bits_per_pixel"):
        expected = by_hand(table[[name]], LABELS, GROUPS, seed)
        assert found.by_column[name] == pytest.approx(expected)
    assert find_shortcuts(table, LABELS, GROUPS, PATHS, seed=seed) == found


@pytest.mark.parametrize(
    ("labels", "groups"),
    [
        ([0] * 8, range(8)),
        ([0, 1] * 4, [0] * 8),
        ([0] * 4 + [1] * 4, [*range(4), 9, 9, 9, 9]),
        # Two groups hold all real videos, and both are held out together.
        ([1, 1, 1, 1, 0, 0, 1, 0], [2, 3, 2, 0, 1, 3, 3, 1]),
    ],
    ids=["one label", "one group", "one group of fakes", "uneven groups"],
)
def test_too_few_groups_to_hold_any_out_give_nothing(labels: list[int], groups: Any) -> None:
    table = table_of().iloc[:8]
    assert find_shortcuts(table, np.array(labels), np.array(groups), PATHS[:8]) is None


@settings(deadline=None, max_examples=12)
@given(
    known=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 7)), min_size=4, max_size=20),
    seed=st.integers(0, 3),
)
def test_few_videos_of_uneven_groups_give_a_figure_or_nothing(
    known: list[tuple[int, int]], seed: int
) -> None:
    labels, groups = (np.array(values) for values in zip(*known, strict=True))
    assume(0 < labels.sum() < len(labels))
    table = table_of().iloc[: len(labels)][["codec"]]
    found = find_shortcuts(table, labels, groups, PATHS[: len(labels)], seed=seed)
    if found is not None:
        # The same for all; only which labels the other folds have can differ, and misleads.
        assert found.auc.value <= 0.5
        assert 0 <= found.auc.low <= found.auc.high <= 1
        assert found.by_column == {"codec": found.auc.value}


@given(
    value=st.floats(0, 1),
    low=st.floats(0, 1),
)
def test_verdict_goes_by_the_auc_and_chance_fails_nobody(value: float, low: float) -> None:
    assume(low <= value)
    found = Shortcuts(auc=Interval(value, low, 1.0), by_column={}, file_name=1.0)
    if value < WARN_FROM:
        assert found.verdict == "ok"
    elif value < FAIL_FROM or low <= 0.5:
        assert found.verdict == "warn"
    else:
        assert found.verdict == "fail"
