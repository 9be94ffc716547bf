"""An evaluation says of a table what scikit-learn and counting say of its rows."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from models.metrics.evaluation import evaluate_table
from models.metrics.metrics import bootstrap_auc, bootstrap_metrics, compute_metrics
from reelcheck.card import Calibration

CALIBRATION = Calibration(temperature=1.0, threshold=0.46, real_below=0.3, fake_from=0.6)
VIDEOS = st.fixed_dictionaries(
    {
        "label": st.integers(0, 1),
        "score": st.none() | st.integers(0, 20).map(lambda n: n / 20),
        "group": st.sampled_from(["ann", "bob", "cid", None]),
        "generator": st.sampled_from(["blend", "neural", None]),
        "dataset": st.sampled_from(["one", None]),
        "codec": st.sampled_from(["h264", "vp9"]),
        "face_pixels": st.none() | st.floats(20, 400),
        "frame_scores": st.lists(st.floats(0, 1), max_size=3),
    }
)
ROWS = st.lists(VIDEOS, max_size=25)


def table_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows with what they leave out; those without a score have failed."""
    defaults = dict.fromkeys(("group", "generator", "dataset", "codec", "face_pixels"))
    rows = [
        {"video_id": f"v{n:03d}", "frame_scores": [], **defaults, "score": None, **row}
        for n, row in enumerate(rows)
    ]
    rows = [{"status": "no_face" if row["score"] is None else "ok", **row} for row in rows]
    names = ("video_id", "label", "status", "score", "frame_scores", *defaults)
    return pd.DataFrame(rows, columns=list(names))


def videos(count: int, *, num_failed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(count)
    return [
        {
            "label": n % 2,
            "score": None if n < num_failed else float(rng.beta(1 + n % 2, 2 - n % 2)),
            "group": f"person {n // 3}",
            "generator": ("blend", "neural")[n // 2 % 2] if n % 2 else None,
            "dataset": ("one", "two")[n // 4 % 2],
            "codec": "h264",
            "face_pixels": float(rng.uniform(30, 300)),
            "frame_scores": rng.uniform(0, 1, n % 4).tolist(),
        }
        for n in range(count)
    ]


@settings(max_examples=12)
@given(rows=ROWS, order=st.randoms(use_true_random=False))
def test_order_of_rows_changes_nothing_and_json_holds_it_all(
    rows: list[dict[str, Any]], order: Any
) -> None:
    table = table_of(rows)
    found = evaluate_table(table, CALIBRATION, num_draws=20)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    places = list(range(len(rows)))
    order.shuffle(places)
    assert evaluate_table(table.iloc[places], CALIBRATION, num_draws=20) == found


@settings(max_examples=12)
@given(rows=ROWS)
def test_metrics_are_of_scored_videos_and_reasons_of_what_is_undefined(
    rows: list[dict[str, Any]],
) -> None:
    found = evaluate_table(table_of(rows), CALIBRATION, num_draws=5)
    scored = [row for row in rows if row["score"] is not None]
    assert (found["num_videos"], found["num_scored"]) == (len(rows), len(scored))
    assert found["coverage"] == (len(scored) / len(rows) if rows else None)
    counts = {"ok": len(scored), "no_face": len(rows) - len(scored)}
    assert found["statuses"] == {name: count for name, count in counts.items() if count}
    scores = np.array([row["score"] for row in scored], dtype=float)
    labels = np.array([row["label"] for row in scored], dtype=np.int64)
    expected = compute_metrics(scores, labels, CALIBRATION)
    assert found["metrics"] == pytest.approx(expected, abs=1e-9)
    assert set(found["undefined"]) == {name for name, each in expected.items() if each is None}


def test_intervals_are_those_of_the_groups() -> None:
    rows = videos(60)
    table = table_of(rows)
    found = evaluate_table(table, CALIBRATION, num_draws=50, seed=3)["intervals"]
    columns = (table["score"].to_numpy(), table["label"].to_numpy(), table["group"].to_numpy())
    expected = bootstrap_metrics(*columns, CALIBRATION, num_draws=50, seed=3)
    assert found == {name: [each.low, each.high] for name, each in expected.items()}
    alone = evaluate_table(table.assign(group=None), CALIBRATION, num_draws=50, seed=3)
    assert alone["intervals"] != found
    named = table.assign(group=table["video_id"])
    assert evaluate_table(named, CALIBRATION, num_draws=50, seed=3) == alone


@settings(max_examples=12)
@given(rows=ROWS.filter(lambda rows: len({row["label"] for row in rows}) == 2))
def test_failed_videos_count_as_wrong_as_can_be(rows: list[dict[str, Any]]) -> None:
    labels = [row["label"] for row in rows]
    worst = {1: -1.0, 0: 2.0}
    scores = [worst[row["label"]] if row["score"] is None else row["score"] for row in rows]
    called = [score >= 0.46 for score in scores]
    found = evaluate_table(table_of(rows), CALIBRATION, num_draws=2)["failed_as_wrong"]
    assert found == pytest.approx(
        {
            "auc": sk.roc_auc_score(labels, scores),
            "accuracy": sk.accuracy_score(labels, called),
            "balanced_accuracy": sk.balanced_accuracy_score(labels, called),
        },
        abs=1e-9,
    )


def test_failures_can_only_make_the_worst_case_worse() -> None:
    found = evaluate_table(table_of(videos(60, num_failed=7)), CALIBRATION, num_draws=2)
    for name, value in found["failed_as_wrong"].items():
        assert value < found["metrics"][name]
    whole = evaluate_table(table_of(videos(60)), CALIBRATION, num_draws=2)
    assert whole["failed_as_wrong"] == {
        name: whole["metrics"][name] for name in whole["failed_as_wrong"]
    }


def test_each_frame_bears_the_label_of_its_video() -> None:
    rows = videos(40, num_failed=3)
    scored = [row for row in rows if row["score"] is not None]
    labels = [row["label"] for row in scored for _ in row["frame_scores"]]
    scores = [score for row in scored for score in row["frame_scores"]]
    found = evaluate_table(table_of(rows), CALIBRATION, num_draws=2)["frames"]
    assert found == {
        "num_frames": len(scores),
        "auc": pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-9),
        "average_precision": pytest.approx(sk.average_precision_score(labels, scores), abs=1e-9),
    }


def test_false_alarms_are_counted_among_reals_alone() -> None:
    rows = videos(60)
    reals = [row["score"] >= 0.46 for row in rows if row["label"] == 0]
    found = evaluate_table(table_of(rows), CALIBRATION)["false_alarms"]
    assert (found["num_real"], found["share"]) == (30, sum(reals) / 30)
    assert 0 <= found["low"] < found["share"] < found["high"] <= 1
    none = [{**row, "score": 0.1} for row in rows]
    calm = evaluate_table(table_of(none), CALIBRATION)["false_alarms"]
    assert (calm["share"], calm["low"]) == (0, 0)
    assert calm["high"] > 0.1
    fakes = [row for row in rows if row["label"]]
    empty = {"num_real": 0, "share": None, "low": None, "high": None}
    assert evaluate_table(table_of(fakes), CALIBRATION)["false_alarms"] == empty


def test_each_generator_is_held_against_all_reals() -> None:
    rows = videos(60)
    rows[1]["generator"] = None
    table = table_of(rows)
    found = evaluate_table(table, CALIBRATION, num_draws=30)["by"]["generator"]
    assert [each["name"] for each in found] == ["blend", "neural", "unknown"]
    for each in found:
        is_kind = table["generator"].fillna("unknown") == each["name"]
        chosen = table[(table["label"] == 0) | is_kind]
        fakes, reals = (chosen[chosen["label"] == label]["score"] for label in (1, 0))
        assert (each["num_fake"], each["num_real"]) == (len(fakes), 30)
        assert each["tpr"] == (fakes >= 0.46).mean()
        assert each["fpr"] == (reals >= 0.46).mean()
        columns = [chosen[name].to_numpy() for name in ("score", "label", "group")]
        interval = bootstrap_auc(*columns, num_draws=30, seed=0)
        assert interval is not None
        assert [each[name] for name in ("auc", "low", "high")] == pytest.approx(list(interval))


def test_videos_of_one_name_by_two_generators_stay_two_videos() -> None:
    rows = [
        {"label": 1, "score": 0.9, "generator": "blend"},
        {"label": 1, "score": 0.2, "generator": "neural"},
        {"label": 0, "score": 0.4},
    ]
    table = table_of(rows).assign(path=["a/0001.mp4", "b/0001.mp4", "real/0001.mp4"])
    table["group"] = "0001"
    found = evaluate_table(table, CALIBRATION, num_draws=2)
    assert found["num_scored"] == 3
    aucs = {each["name"]: each["auc"] for each in found["by"]["generator"]}
    assert aucs == {"blend": 1.0, "neural": 0.0}


@pytest.mark.parametrize("kind", ["dataset", "codec"])
def test_slices_hold_their_own_reals_and_fakes(kind: str) -> None:
    rows = videos(24)
    for row in rows[:5]:
        row[kind] = None
    rows[5][kind] = "zeta"
    table = table_of(rows)
    found = evaluate_table(table, CALIBRATION, num_draws=5)["by"][kind]
    names = table[kind].fillna("unknown")
    assert [each["name"] for each in found] == [*sorted(set(names) - {"unknown"}), "unknown"]
    for each in found:
        labels = table["label"][names == each["name"]]
        assert (each["num_real"], each["num_fake"]) == ((labels == 0).sum(), (labels == 1).sum())
    [single] = [each for each in found if each["name"] == "zeta"]
    undefined = {"auc": None, "low": None, "high": None, "fpr": None}
    assert {name: single[name] for name in undefined} == undefined


def test_faces_are_told_apart_by_size() -> None:
    sizes = [47.9, 48.0, 95.9, 96.0, 191.9, 192.0, 5000.0, None]
    rows = [{"label": n % 2, "score": 0.5, "face_pixels": size} for n, size in enumerate(sizes)]
    found = evaluate_table(table_of(rows), CALIBRATION, num_draws=2)["by"]["face_pixels"]
    counts = [(each["name"], each["num_real"] + each["num_fake"]) for each in found]
    assert counts == [("<48", 1), ("48-96", 2), ("96-192", 2), (">=192", 2), ("unknown", 1)]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"video_id": "v000"}, "v000 is there twice"),
        ({"score": 1.01}, r"v001 has a score outside \[0, 1\]"),
        ({"score": -0.01}, r"v001 has a score outside \[0, 1\]"),
        ({"status": "timeout"}, "v001 has failed and yet has a score"),
        ({"score": None, "status": "ok"}, "v001 has not failed and yet has no score"),
        ({"label": 2}, "v001 has a label that is neither 0 nor 1"),
    ],
)
def test_table_that_contradicts_itself_is_refused(changes: dict[str, Any], problem: str) -> None:
    rows = videos(3)
    rows[1] |= changes
    with pytest.raises(ValueError, match=problem):
        evaluate_table(table_of(rows), CALIBRATION)
