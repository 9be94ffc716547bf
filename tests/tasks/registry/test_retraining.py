"""What is refused before anything is trained, and on which videos models are compared."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reelcheck.config import GateSettings, RunSettings
from reelcheck.recipes import load_recipe
from storage.checkpoints import read_card, read_champion, roll_back, save_checkpoint, set_champion
from storage.layout import ModelLayout, RegistryLayout, StoreLayout
from storage.schemas import LEARNED, MANIFEST, SPLIT, VIDEOS
from storage.tables import read_metadata, read_rows, write_table
from tasks.evaluation.evaluate import evaluate
from tasks.registry.gate import Decision, decide
from tasks.registry.promote import promote, read_gate
from tasks.registry.retraining import (
    check_before_training,
    choose_preprocessing,
    choose_suites,
    format_promote_command,
    measure_candidates,
    name_version,
    start_from_champion,
)
from tasks.splits.audit import Audit, Leak, LeakedFile
from tasks.training.train import train

CLEAN = Audit(splits_from="split", leaks=(), counts={}, num_near_duplicates=0, shortcuts=None)
GATE = GateSettings(min_new_videos=4, perturbations=())


class Night:
    """A champion of a first store, and the store as it is some nights later."""

    def __init__(self, folder: Path, tiny: Any, model_of: Any) -> None:
        self.folder, self.tiny = folder, tiny
        self.clips = tiny.three_parts()
        before = tiny.write_store(folder / "before", self.clips)
        self.registry = RegistryLayout(folder / "registry")
        self.champion: ModelLayout = model_of(self.registry.version("one").path, before)
        set_champion(self.registry, "one")

    def store(self, *more: Any, changed: Any = None) -> StoreLayout:
        clips = [changed(clip) if changed else clip for clip in self.clips]
        layout: StoreLayout = self.tiny.write_store(self.folder / "now", [*clips, *more])
        return layout

    def refused(self, layout: StoreLayout, found: Audit = CLEAN) -> Decision | None:
        return check_before_training(found, layout, self.registry, "two", GATE)


@pytest.fixture
def night(tmp_path: Path, tiny: Any, model_of: Any) -> Night:
    return Night(tmp_path, tiny, model_of)


def test_nothing_speaks_against_enough_new_videos(night: Night) -> None:
    assert night.refused(night.store(*new(night))) is None


def new(night: Night, count: int = 4) -> list[Any]:
    return [
        night.tiny.Clip(path=f"new/{n}.mp4", label=n % 2, part=("train", "test")[n // 2 % 2])
        for n in range(count)
    ]


def test_too_few_new_videos_are_refused_and_need_nobody(night: Night) -> None:
    decision = night.refused(night.store(*new(night, 3)))
    assert decision is not None
    assert decision.reason == (
        "3 new labelled videos, fewer than min_new_videos = 4: the champion stays"
    )
    assert not decision.needs_a_person


def test_audit_that_fails_is_refused_and_needs_a_person(night: Night) -> None:
    file = LeakedFile(split="test", path="a.mp4", label=1)
    found = replace(CLEAN, leaks=(Leak(kind="identity", value="ann", files=(file,)),))
    decision = night.refused(night.store(*new(night)), found)
    assert decision is not None
    assert decision.reason == "the audit fails: 1 leaks; look at audit.json"
    assert decision.needs_a_person


def test_held_out_videos_with_other_labels_are_refused(night: Night) -> None:
    def flipped(clip: Any) -> Any:
        return replace(clip, label=1 - clip.label) if clip.path == "test/fake_0.mp4" else clip

    decision = night.refused(night.store(*new(night), changed=flipped))
    assert decision is not None
    assert decision.reason.startswith("1 held-out videos have another label")
    assert decision.needs_a_person


def test_corrected_labels_of_training_videos_are_not(night: Night) -> None:
    def flipped(clip: Any) -> Any:
        return replace(clip, label=1 - clip.label) if clip.path == "train/fake_0.mp4" else clip

    assert night.refused(night.store(*new(night), changed=flipped)) is None


def test_champion_that_has_learned_from_the_test_part_is_not_measured(night: Night) -> None:
    def moved(clip: Any) -> Any:
        return replace(clip, part="test") if clip.path == "train/fake_0.mp4" else clip

    decision = night.refused(night.store(*new(night), changed=moved))
    assert decision is not None
    assert "the champion cannot be measured: the model has learned from 1" in decision.reason
    assert decision.needs_a_person


def test_champion_of_other_preprocessing_is_not_measured(night: Night) -> None:
    other = night.tiny.preprocessing.model_copy(update={"margin": 2.0})
    layout = night.tiny.write_store(night.folder / "now", night.clips, settings=other)
    decision = night.refused(layout)
    assert decision is not None
    assert "the champion cannot be measured" in decision.reason
    assert "preprocess again" in decision.reason


def test_what_a_rollback_took_out_of_use_is_not_promoted_again(night: Night) -> None:
    night.tiny.save_model(night.registry.version("two").path, seed=2)
    set_champion(night.registry, "two")
    assert roll_back(night.registry) == "one"
    decision = night.refused(night.store(*new(night)))
    assert decision is not None
    assert format_promote_command(night.registry, "two") in decision.reason
    assert decision.needs_a_person


def test_first_model_is_trained_whatever_the_number_of_videos(night: Night) -> None:
    empty = RegistryLayout(night.folder / "empty")
    assert check_before_training(CLEAN, night.store(), empty, "two", GATE) is None


def dated(layout: StoreLayout, date_of: dict[str, str]) -> StoreLayout:
    """Give videos dates, by path."""
    for path, schema in ((layout.videos_path, VIDEOS), (layout.manifest_path, MANIFEST)):
        rows = [{**row, "date": date_of.get(row["path"])} for row in read_rows(path, schema)]
        write_table(path, rows, schema)
    return layout


def test_suites_are_told_apart_by_what_the_champion_knew_and_by_date(night: Night) -> None:
    days = {
        "train/real_0.mp4": "2026-01-01",
        "val/real_0.mp4": "2026-03-01",
        "test/real_0.mp4": "2026-02-01",
        "test/fake_0.mp4": "2026-04-01",
        # Learned from by the challenger alone: it is not the champion's past.
        "new/0.mp4": "2026-09-01",
        "new/2.mp4": "2026-03-01",
        "new/3.mp4": "2026-03-02",
    }
    clips = new(night)
    found = choose_suites(dated(night.store(*clips), days), night.champion)
    known = {clip.video_id: clip.path for clip in [*night.clips, *clips]}
    named = {name: {known[video] for video in videos} for name, videos in found.items()}
    tested = {f"test/{kind}_{n}.mp4" for kind in ("real", "fake") for n in range(3)}
    assert named == {
        "frozen": tested,
        "recent": {"new/2.mp4", "new/3.mp4"},
        "later": {"test/fake_0.mp4", "new/3.mp4"},
    }


def test_without_dates_no_video_is_later(night: Night) -> None:
    assert choose_suites(night.store(*new(night)), night.champion)["later"] == set()


def test_candidates_carry_predictions_cost_and_what_perturbations_leave(
    night: Night, other_random_model: Path
) -> None:
    layout = night.store(*new(night))
    folder = shutil.copytree(other_random_model, night.registry.version("two").path)
    other = ModelLayout(folder)
    split_rows = read_rows(layout.split_path, SPLIT)
    write_table(other.learned_path, [], LEARNED)
    split_hash = read_metadata(layout.split_path)["split_hash"]
    card = read_card(other).model_copy(update={"split_hash": split_hash})
    save_checkpoint(other, other.weights_path.read_bytes(), card)
    models = [other, night.champion]
    for model in models:
        evaluate(layout, model)
    gate = GateSettings(perturbations=("blur 3",), num_perturbed_videos=4)
    found = measure_candidates(layout, models, gate, RunSettings(num_workers=1))
    assert [each.name for each in found] == ["two", "one"]
    tested = sorted(row["video_id"] for row in split_rows if row["split"] == "test")
    for each in found:
        assert [row["video_id"] for row in each.rows] == tested
        assert each.footprint is not None
        # The files of this store are nowhere: their rows say so, and there is no score.
        rows = each.perturbed["blur 3"]
        assert [row["status"] for row in rows] == ["missing"] * 4
        assert sorted(row["label"] for row in rows) == [0, 0, 1, 1]
    [first] = measure_candidates(layout, [other], gate, RunSettings())
    assert first.perturbed == {}


def test_warm_start_begins_with_the_champion_and_is_another_version(night: Night) -> None:
    layout, settings = night.store(*new(night)), night.tiny.training
    warm = start_from_champion(settings, night.registry)
    assert warm.init_from == night.champion.path
    assert name_version(layout, warm) != name_version(layout, settings)
    assert start_from_champion(settings, RegistryLayout(night.folder / "empty")) == settings


def test_warmly_started_model_knows_once_what_both_have_learned(night: Night) -> None:
    layout = night.store(*new(night))
    settings = start_from_champion(night.tiny.training, night.registry).model_copy(
        update={"phases": (night.tiny.training.phases[0].model_copy(update={"max_epochs": 1}),)}
    )
    model = night.registry.version("two")
    train(layout, model, settings)
    learned = [row["video_id"] for row in read_rows(model.learned_path, LEARNED)]
    assert len(learned) == len(set(learned))
    before = {row["video_id"] for row in read_rows(night.champion.learned_path, LEARNED)}
    assert before < set(learned)


def test_recipe_brings_its_preprocessing() -> None:
    recipe = load_recipe("b4-image")
    found = choose_preprocessing(recipe.train)
    assert found.crop_pixels == recipe.preprocess.crop_pixels
    assert found.sampling == recipe.preprocess.sampling


UNMEASURED = GateSettings(perturbations=(), max_slowdown=1000, max_ece=1, min_auc_change=-0.1)
"""The files of these stores are nowhere, and speed is not what is tested."""


class Nights:
    """Nights in which a challenger is trained and judged, as the flow does."""

    def __init__(self, folder: Path, tiny: Any) -> None:
        self.folder, self.tiny = folder, tiny
        self.registry = RegistryLayout(folder / "registry")

    def clips(self, num_pairs: int) -> list[Any]:
        return [
            *self.tiny.clips(num_pairs),
            *self.tiny.clips(4, part="val"),
            *self.tiny.clips(12, part="test"),
        ]

    def after(self, name: str, num_pairs: int, *, is_poisoned: bool = False) -> Decision:
        """The decision on a challenger, of labels the wrong way round if they are poisoned.

        Those are the labels that are learned from and chosen by. What is held out is as it was.
        """
        shown = self.clips(num_pairs)
        said = [
            replace(clip, label=1 - clip.label) if is_poisoned and clip.part != "test" else clip
            for clip in shown
        ]
        layout = self.tiny.write_store(self.folder / name, shown)
        self.tiny.write_tables(layout, said)
        train(layout, self.registry.version(name), self.tiny.training)
        champion = read_champion(self.registry)
        models = [self.registry.version(each) for each in (name, champion) if each]
        for model in models:
            evaluate(layout, model)
        challenger, *incumbent = measure_candidates(layout, models, UNMEASURED, RunSettings())
        decision = decide(
            challenger,
            incumbent[0] if incumbent else None,
            suites=choose_suites(layout, models[1]) if incumbent else {},
            settings=UNMEASURED.model_copy(update={"min_first_auc": 0.0}),
        )
        return promote(self.registry, name, decision)


@pytest.mark.slow
def test_better_model_is_promoted_equal_and_poisoned_ones_are_not(
    tmp_path: Path, tiny: Any
) -> None:
    nights = Nights(tmp_path, tiny)
    assert nights.after("mistaught", 4, is_poisoned=True).promoted
    better = nights.after("better", 6)
    assert better.promoted, better.reason
    assert better.reason == "better is better than mistaught"
    equal = nights.after("equal", 8)
    assert equal.reason == "mean change of AUC is 0, must be more than 0"
    poisoned = nights.after("poisoned", 10, is_poisoned=True)
    assert "lower end of the AUC's change on frozen videos is -1" in poisoned.reason
    assert [equal.promoted, poisoned.promoted] == [False, False]
    assert read_champion(nights.registry) == "better"
    record = read_gate(nights.registry, "poisoned")
    assert record is not None
    assert (record["champion"], record["reason"]) == ("better", poisoned.reason)
    assert roll_back(nights.registry) == "mistaught"
