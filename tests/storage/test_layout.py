"""Where things lie, and finding a finished preprocessing."""

from pathlib import Path

import pytest

from reelcheck.errors import StoreError
from reelcheck.perturbations import DEFAULT_PERTURBATIONS
from storage.layout import ModelLayout, find_preprocessed, locate_preprocessed
from storage.outputs import EvaluationLayout, ScoreLayout, StudyLayout
from storage.schemas import MANIFEST
from storage.tables import write_table


def finish(store: Path, name: str) -> None:
    write_table(locate_preprocessed(store, name).manifest_path, [], MANIFEST)


@pytest.mark.parametrize("exists", [False, True])
def test_find_preprocessed_empty_store_says_what_to_run(tmp_path: Path, exists: bool) -> None:
    store = tmp_path / "store"
    if exists:
        store.mkdir()
    with pytest.raises(StoreError, match="reelcheck preprocess SOURCE --store") as caught:
        find_preprocessed(store)
    assert str(store) in str(caught.value)


def test_find_preprocessed_unfinished_does_not_count(tmp_path: Path) -> None:
    locate_preprocessed(tmp_path, "aaa").shards_dir.mkdir(parents=True)
    with pytest.raises(StoreError, match="holds no manifest"):
        find_preprocessed(tmp_path)


def test_find_preprocessed_one_is_found_with_and_without_hash(tmp_path: Path) -> None:
    finish(tmp_path, "aaa")
    assert find_preprocessed(tmp_path) == locate_preprocessed(tmp_path, "aaa")
    assert find_preprocessed(tmp_path, "aaa").preprocessing_hash == "aaa"


def test_find_preprocessed_several_need_a_hash(tmp_path: Path) -> None:
    finish(tmp_path, "aaa")
    finish(tmp_path, "bbb")
    with pytest.raises(StoreError, match=r"2 preprocessings \(aaa, bbb\).*--preprocessing"):
        find_preprocessed(tmp_path)
    assert find_preprocessed(tmp_path, "bbb") == locate_preprocessed(tmp_path, "bbb")


@pytest.mark.parametrize(("names", "known"), [(["aaa"], "aaa"), ([], "none")])
def test_find_preprocessed_unknown_hash_lists_the_known(
    tmp_path: Path, names: list[str], known: str
) -> None:
    for name in names:
        finish(tmp_path, name)
    with pytest.raises(StoreError, match=f"no preprocessing ccc; it has {known}"):
        find_preprocessed(tmp_path, "ccc")


def test_done_shards_are_those_with_video_rows(tmp_path: Path) -> None:
    layout = locate_preprocessed(tmp_path, "aaa")
    assert layout.done_shards() == []
    layout.shards_dir.mkdir(parents=True)
    for name in ("b", "a.1"):
        layout.shard_videos_path(name).touch()
    layout.crops_path("unfinished", 0).touch()
    layout.shard_sequences_path("unfinished").touch()
    (layout.shards_dir / ".c.videos.parquet.1234.tmp").touch()
    assert layout.done_shards() == ["a.1", "b"]


def test_answers_of_other_keys_and_videos_have_other_names(tmp_path: Path) -> None:
    layout = ScoreLayout(tmp_path)
    paths = {
        path(key, video_id)
        for path in (layout.result_path, layout.evidence_path)
        for key in ("k1", "k2")
        for video_id in ("0" * 64, "1" * 64)
    }
    assert len(paths) == 8


def test_files_of_a_model_all_lie_in_its_folder_under_different_names(tmp_path: Path) -> None:
    model = ModelLayout(tmp_path / "model")
    paths = [
        model.weights_path,
        model.card_path,
        model.split_path,
        model.log_path,
        model.evaluation("test", "0123").evaluation_path,
        model.evaluation("test", "4567").evaluation_path,
        model.evaluation("val", "0123").evaluation_path,
        model.validation_path,
        model.report_path,
        model.classification_path,
        model.tensorboard_dir,
        model.plot_path("roc"),
        model.fold(0).card_path,
        model.fold(1).card_path,
        model.unfinished_run_path,
        *(path(n) for n in (1, 2) for path in (model.phase_dir, model.phase_path)),
        *(model.phase_weights_path(n) for n in (1, 2)),
    ]
    assert len(set(paths)) == len(paths)
    assert all(path.is_relative_to(model.path) for path in paths)


def test_every_path_of_a_model_is_known_as_a_part_of_it(tmp_path: Path) -> None:
    model = ModelLayout(tmp_path / "model")
    names = [name for name, value in vars(ModelLayout).items() if isinstance(value, property)]
    paths = {name: getattr(model, name).relative_to(model.path) for name in names}
    assert len(paths) == len(model.files()) + len(model.folders()) + len(["unfinished_run_path"])
    for name, path in paths.items():
        assert model.holds(path / "x" if name.endswith("_dir") else path), name
    others = (model.phase_dir(1), model.phase_path(1), model.plot_path("roc"), model.fold(0).path)
    assert all(model.holds(path.relative_to(model.path)) for path in others)
    for stranger in ("", "setup.py", "x/card.json", "card.json/x", "plots", "unfinished"):
        assert not model.holds(Path(stranger)), stranger


def test_files_of_an_evaluation_all_lie_in_its_folder_under_different_names(
    tmp_path: Path,
) -> None:
    output = EvaluationLayout(tmp_path)
    paths = [
        output.lock_path,
        output.lock_holder_path,
        output.videos_path,
        output.evaluation_path,
        output.robustness_path,
        *(output.perturbed_path(perturbation.name) for perturbation in DEFAULT_PERTURBATIONS),
        output.report_path,
        output.model_card_path,
        *(output.plot_path(name) for name in ("roc", "scores")),
        *(output.faces_path(video_id) for video_id in ("0" * 64, "1" * 64)),
    ]
    assert len(set(paths)) == len(paths)
    # A perturbation's name may hold a slash; its file lies beside the others all the same.
    assert {len(path.relative_to(tmp_path).parts) for path in paths} == {1, 2}


def test_what_an_unfinished_run_leaves_is_deleted_as_one_folder(tmp_path: Path) -> None:
    model = ModelLayout(tmp_path)
    left = (model.unfinished_run_path, model.phase_dir(1), model.phase_weights_path(2))
    assert all(path.is_relative_to(model.unfinished_dir) for path in (*left, model.phase_path(1)))


def test_models_of_a_study_lie_beside_its_tables(tmp_path: Path) -> None:
    study = StudyLayout(tmp_path)
    assert study.model_dir("all") == tmp_path / "all"
    assert {study.ablation_path.parent, study.learning_curve_path.parent} == {tmp_path}
