"""Rendered videos after a perturbation: what changes, what must not, and what is redone."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from models.interop.runtime import Runtime
from reelcheck.card import ModelCard
from reelcheck.config import RunSettings
from reelcheck.errors import SettingsError
from reelcheck.perturbations import (
    DEFAULT_PERTURBATIONS,
    Perturbation,
    parse_perturbation,
    parse_perturbations,
)
from reelcheck.status import Status
from storage.checkpoints import read_card
from storage.layout import ModelLayout
from storage.outputs import EvaluationLayout
from storage.schemas import EVALUATED, VIDEOS
from storage.tables import Row, read_rows, write_table
from tasks.checkpoints.runtimes import open_runtime
from tasks.evaluation.predictions import predict_rows
from tasks.evaluation.robustness import (
    find_worst_case,
    load_or_predict_perturbed,
    measure_robustness,
    write_robustness,
)
from tasks.intake.discover import find_files, identify
from tasks.intake.shards import find_contents, make_shards
from tasks.preprocessing.decode_pool import DecodePool

RUN = RunSettings(num_workers=1)
KEY = {"model_id": "m", "evaluated": "e"}
REMUX, BLUR = Perturbation("remux"), Perturbation("blur", 3)


@dataclass(frozen=True)
class Videos:
    """What a test split would know of its videos, and the model."""

    known: dict[str, Row]
    card: ModelCard
    runtime: Runtime

    def after(self, perturbation: Perturbation, output: EvaluationLayout) -> list[Row]:
        return load_or_predict_perturbed(
            perturbation, self.known, self.card, self.runtime, output, run=RUN, key=KEY
        )


@pytest.fixture(scope="module")
def model(random_model: Path) -> ModelLayout:
    return ModelLayout(random_model)


@pytest.fixture(scope="module")
def source(
    tmp_path_factory: pytest.TempPathFactory, synthetic_dataset: Path, faceless_video: Path
) -> Path:
    """Two real clips, two fakes, and a fake without a face."""
    folder = tmp_path_factory.mktemp("source")
    for label in ("real", "fake"):
        for clip in sorted((synthetic_dataset / "videos" / label).glob("*.mp4"))[:2]:
            shutil.copy2(clip, folder / f"{label} {clip.name}")
    shutil.copy2(faceless_video, folder / "fake ramp.mp4")
    return folder


def known_of(source: Path) -> dict[str, Row]:
    files = identify(find_files(source), [])
    return {
        str(file.video_id): {
            **dict.fromkeys(VIDEOS.names),
            **asdict(file),
            "status": "ok",
            "component": file.path,
            "label": int(file.path.startswith("fake")),
        }
        for file in sorted(files, key=lambda file: str(file.video_id))
    }


@pytest.fixture(scope="module")
def videos(face_model: Path, source: Path, model: ModelLayout) -> Videos:
    return Videos(known_of(source), read_card(model), open_runtime(model))


@pytest.fixture(scope="module")
def before(videos: Videos, source: Path) -> list[Row]:
    """The answers on the videos as they are."""
    shards = make_shards(find_contents(identify(find_files(source), [])), shard_size=2)
    with DecodePool(shards, videos.card.preprocessing, RUN) as pool:
        results = [result for shard in shards for result in pool.results(shard)]
    return predict_rows(results, videos.known, videos.card, videos.runtime, on_row=lambda: None)


def measured(perturbation: Perturbation, before: list[Row], after: list[Row]) -> Row:
    return measure_robustness(perturbation, before, after, threshold=0.5)


def test_another_container_changes_no_prediction_at_all(
    videos: Videos, before: list[Row], tmp_path: Path
) -> None:
    after = videos.after(REMUX, EvaluationLayout(tmp_path))
    row = measured(REMUX, before, after)
    assert (row["largest_logit_change"], row["real_logit_shift"], row["auc_change"]) == (0, 0, 0)
    assert [r["status"] for r in after] == [r["status"] for r in before]
    assert {r["container"] for r in after} != {r["container"] for r in before}


def test_blur_changes_predictions_and_labels_stay(
    videos: Videos, before: list[Row], tmp_path: Path
) -> None:
    after = videos.after(BLUR, EvaluationLayout(tmp_path))
    assert [row["video_id"] for row in after] == list(videos.known)
    row = measured(BLUR, before, after)
    assert row["largest_logit_change"] > 0
    assert row["coverage"] == sum(r["status"] == "ok" for r in after) / 5
    for answer in after:
        known = videos.known[answer["video_id"]]
        assert (answer["path"], answer["label"]) == (known["path"], known["label"])
    ramp = next(answer for answer in after if answer["path"] == "fake ramp.mp4")
    assert (ramp["status"], ramp["score"], ramp["logit"]) == ("no_face", None, None)


class NoPool:
    """Stands where decoding would begin."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise AssertionError("nothing was to be decoded")


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.evaluation.robustness.DecodePool", NoPool)


def stored(output: EvaluationLayout, rows: Sequence[Row], perturbation: Perturbation) -> Path:
    """The table of an earlier run."""
    path = output.perturbed_path(perturbation.name)
    metadata = {**KEY, "perturbation": perturbation.name}
    write_table(path, rows, EVALUATED, metadata=metadata)
    return path


@pytest.mark.usefixtures("no_decoding")
def test_finished_table_is_read_and_nothing_decoded(
    videos: Videos, before: list[Row], tmp_path: Path
) -> None:
    output = EvaluationLayout(tmp_path)
    path = stored(output, before, REMUX)
    time = path.stat().st_mtime_ns
    assert videos.after(REMUX, output) == before
    assert path.stat().st_mtime_ns == time
    # Another one's table is not this one's.
    with pytest.raises(AssertionError, match="nothing was to be decoded"):
        videos.after(BLUR, output)


@pytest.mark.usefixtures("no_decoding")
@pytest.mark.parametrize("changed", ["model_id", "evaluated"])
def test_table_of_another_model_or_of_other_labels_is_made_again(
    videos: Videos, before: list[Row], tmp_path: Path, changed: str
) -> None:
    output = EvaluationLayout(tmp_path)
    path = output.perturbed_path(REMUX.name)
    metadata = {**KEY, "perturbation": REMUX.name, changed: "another"}
    write_table(path, before, EVALUATED, metadata=metadata)
    with pytest.raises(AssertionError, match="nothing was to be decoded"):
        videos.after(REMUX, output)


def test_file_that_is_gone_or_changed_is_missing_until_it_is_back(
    videos: Videos, source: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(source, tmp_path / "source")
    known = known_of(folder)
    assert known.keys() == videos.known.keys()
    here = Videos(known, videos.card, videos.runtime)
    gone, changed = (path for path in sorted(folder.iterdir()) if path.name.startswith("real"))
    info, kept = changed.stat(), tmp_path / "kept.mp4"
    gone.rename(kept)
    os.utime(changed, ns=(info.st_atime_ns, info.st_mtime_ns + 1))
    output = EvaluationLayout(tmp_path / "out")
    first = here.after(REMUX, output)
    missing = {row["path"]: row for row in first if row["status"] == Status.MISSING}
    assert missing.keys() == {gone.name, changed.name}
    for row in missing.values():
        assert (row["score"], row["logit"], row["verdict"], row["tracks"]) == (None,) * 3 + ([],)
        assert row["reason"] == "the file is gone or has changed"
    assert measured(REMUX, first, first)["coverage"] == 2 / 5
    # Its disk is there again: this video alone is tried again.
    kept.rename(gone)
    second = here.after(REMUX, output)
    assert {r["path"] for r in second if r["status"] == Status.MISSING} == {changed.name}
    again = [one["path"] for one, two in zip(first, second, strict=True) if one != two]
    assert again == [gone.name]
    assert read_rows(output.perturbed_path(REMUX.name), EVALUATED) == second


def test_defects_of_ours_are_tried_again_and_failures_are_not(
    videos: Videos, before: list[Row], tmp_path: Path
) -> None:
    output = EvaluationLayout(tmp_path)
    nothing: Row = {"score": None, "logit": None, "verdict": None, "tracks": [], "frames": []}
    rows = [dict(row) for row in before]
    judged = [place for place, row in enumerate(rows) if row["status"] == "ok"]
    for place, status in zip(judged, ("internal_error", "timeout"), strict=False):
        rows[place] |= {**nothing, "status": status}
    stored(output, rows, REMUX)
    after = videos.after(REMUX, output)
    assert after[judged[0]]["logit"] == before[judged[0]]["logit"]
    assert after[judged[1]]["status"] == "timeout"


ROWS = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.integers(0, 3),
        st.none() | st.floats(-6, 6),
        st.none() | st.floats(-6, 6),
    ),
    min_size=1,
    max_size=25,
)
"""Label, group, and the logits before and after; None: no score."""


def answers(labels: Sequence[int], groups: Sequence[int], logits: Sequence[Any]) -> list[Row]:
    return [
        {
            "label": label,
            "component": str(group),
            "logit": logit,
            "score": None if logit is None else float(1 / (1 + np.exp(-logit))),
        }
        for label, group, logit in zip(labels, groups, logits, strict=True)
    ]


def auc_of(labels: Sequence[int], scores: Sequence[float]) -> float | None:
    return float(roc_auc_score(labels, scores)) if len(set(labels)) == 2 else None


def mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


@settings(deadline=None, max_examples=60)
@given(drawn=ROWS, threshold=st.floats(0.05, 0.95))
def test_figures_are_those_of_scikit_learn(
    drawn: list[tuple[int, int, Any, Any]], threshold: float
) -> None:
    labels, groups, first, second = (list(column) for column in zip(*drawn, strict=True))
    before, after = answers(labels, groups, first), answers(labels, groups, second)
    row = measure_robustness(BLUR, before, after, threshold=threshold)
    assert (row["name"], row["family"], row["strength"]) == ("blur 3", "blur", 3)
    scored = [r for r in after if r["score"] is not None]
    assert row["coverage"] == len(scored) / len(after)
    both = [
        (b, a) for b, a in zip(before, after, strict=True) if None not in {b["score"], a["score"]}
    ]
    auc = auc_of([r["label"] for r in scored], [r["score"] for r in scored])
    own = [b["label"] for b, _ in both]
    aucs = [auc_of(own, [pair[side]["score"] for pair in both]) for side in (0, 1)]
    change = None if None in aucs else float(aucs[1]) - float(aucs[0])  # type: ignore[arg-type]
    for name, expected in (("auc", auc), ("auc_change", change)):
        # One group alone gives no interval, and a figure without one is not told.
        of = {r["component"] for r in (scored if name == "auc" else [b for b, _ in both])}
        wanted = expected if len(of) > 1 else None
        assert row[name] == (wanted if wanted is None else pytest.approx(wanted, abs=1e-12))
    for name, label in (("false_alarm_share", 0), ("hit_share", 1)):
        called = [r["score"] >= threshold for r in scored if r["label"] == label]
        expected = mean(called)
        assert row[name] == (None if expected is None else pytest.approx(expected))
    shifts = [a["logit"] - b["logit"] for b, a in both]
    of_reals = mean([s for s, label in zip(shifts, own, strict=True) if label == 0])
    assert row["real_logit_shift"] == (None if of_reals is None else pytest.approx(of_reals))
    assert row["largest_logit_change"] == (max(map(abs, shifts)) if shifts else None)


def test_worst_is_the_lowest_auc_that_is_defined() -> None:
    rows: list[Row] = [{"name": name, "auc": auc} for name, auc in (("a", 0.9), ("b", None))]
    assert find_worst_case(rows) == rows[0]
    assert find_worst_case([*rows, {"name": "c", "auc": 0.2}]) == {"name": "c", "auc": 0.2}
    assert find_worst_case(rows[1:]) is None


def test_table_for_spreadsheets_has_a_line_for_each(tmp_path: Path) -> None:
    one = answers([0, 1, 1], [0, 1, 2], [0.1, 0.2, None])
    rows = [measured(perturbation, one, one) for perturbation in (REMUX, BLUR)]
    write_robustness(tmp_path / "robustness.csv", rows)
    table = pd.read_csv(tmp_path / "robustness.csv")
    assert table["name"].tolist() == ["remux", "blur 3"]
    assert table["auc"].tolist() == [row["auc"] for row in rows]


def test_names_on_the_command_line_mean_each_perturbation_once() -> None:
    assert parse_perturbations([]) == ()
    assert parse_perturbations(["default"]) == DEFAULT_PERTURBATIONS
    other = parse_perturbation("jpeg 33")
    found = parse_perturbations(["jpeg 33", "default", "remux", "JPEG  33"])
    assert found == (other, *DEFAULT_PERTURBATIONS)
    with pytest.raises(SettingsError, match="unknown perturbation 'sepia'; allowed are"):
        parse_perturbations(["remux", "sepia"])
