"""One detector: its phases, what they change, and how it goes on after a kill."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tasks.training.member
from models.network.backbone import list_layers
from models.network.detector import Detector
from models.training.training import PhaseResult, fit_phase
from reelcheck.errors import MismatchError, StoreError, WeightsError
from reelcheck.settings import load_settings
from reelcheck.train_config import EngineSettings, Phase, TrainSettings
from storage.checkpoints import read_card
from storage.layout import ModelLayout, StoreLayout
from storage.schemas import LOG, MANIFEST, SPLIT, VALIDATION
from storage.tables import read_csv, read_rows
from storage.weights import read_weights
from tasks.training.member import Trained, train_member
from tasks.training.rows import choose_training_rows
from tasks.training.train import train

Weights = dict[str, Tensor]
THREE_PHASES = (
    Phase(max_epochs=1, learning_rate=5e-3, backbone_share=0),
    Phase(max_epochs=2, learning_rate=1e-3, backbone_share=0.4),
    Phase(max_epochs=1, learning_rate=1e-4),
)


def with_changes(training: TrainSettings, *changes: str) -> TrainSettings:
    """The settings after ``--set`` for each of the changes."""
    return load_settings(TrainSettings, section="train", overrides=changes, base=training)


def run_member(layout: StoreLayout, model: ModelLayout, settings: TrainSettings) -> Trained:
    """Unlike the task, this leaves the checkpoints of the phases where they are."""
    manifest = read_rows(layout.manifest_path, MANIFEST)
    parts = choose_training_rows(manifest, read_rows(layout.split_path, SPLIT), settings)
    return train_member(
        layout, model, parts, settings, EngineSettings(), initial=None, fingerprint="{}"
    )


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> StoreLayout:
    return tiny.write_store(tmp_path_factory.mktemp("member"), tiny.three_parts())


@pytest.fixture(scope="module")
def phased(tiny: Any) -> TrainSettings:
    return tiny.training.model_copy(update={"phases": THREE_PHASES})


@pytest.fixture(scope="module")
def phases_model(
    layout: StoreLayout, tmp_path_factory: pytest.TempPathFactory, phased: TrainSettings
) -> ModelLayout:
    """A finished run of three phases, with what it would have deleted."""
    model = ModelLayout(tmp_path_factory.mktemp("phases"))
    run_member(layout, model, phased)
    return model


@pytest.fixture(scope="module")
def uninterrupted(
    layout: StoreLayout, tmp_path_factory: pytest.TempPathFactory, phased: TrainSettings
) -> ModelLayout:
    model = ModelLayout(tmp_path_factory.mktemp("uninterrupted"))
    train(layout, model, phased)
    return model


def weights_before_and_after(
    model: ModelLayout, settings: TrainSettings
) -> list[tuple[Weights, Weights]]:
    torch.manual_seed(settings.seed)
    states = [
        Detector(settings.detector).state_dict(),
        *(read_weights(model.phase_weights_path(number)) for number in (1, 2, 3)),
    ]
    return list(pairwise(states))


def changed(before: Weights, after: Weights) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_each_phase_changes_its_share_of_the_backbone_and_no_more(
    phases_model: ModelLayout, phased: TrainSettings
) -> None:
    backbone = Detector(phased.detector).backbone
    layers = list_layers(backbone)
    parameters = {name for name, _ in backbone.named_parameters()}
    shares = []
    for before, after in weights_before_and_after(phases_model, phased):
        moved = changed(before, after)
        # The head learns in every phase.
        assert any(name.startswith("head.") for name in moved)
        own = {n.removeprefix("backbone.") for n in moved if n.startswith("backbone.")}
        learned = [place for place, names in enumerate(layers) if own & set(names)]
        assert learned == list(range(len(layers) - len(learned), len(layers)))
        shares.append(len(learned) / len(layers))
        if not learned:
            # Not even the running statistics of the batch norms.
            assert not own
        assert own & parameters <= {name for place in learned for name in layers[place]}
    assert shares[0] == 0 < shares[1] < shares[2] == 1
    assert shares[1] == pytest.approx(0.4, abs=1 / len(layers))


def test_card_tells_what_each_phase_trained(
    uninterrupted: ModelLayout, phased: TrainSettings
) -> None:
    card = read_card(uninterrupted)
    detector = Detector(phased.detector)
    num_head, num_all = (
        sum(parameter.numel() for parameter in module.parameters())
        for module in (detector.head, detector)
    )
    assert [phase.phase for phase in card.phases] == [1, 2, 3]
    assert [phase.learning_rate for phase in card.phases] == [5e-3, 1e-3, 1e-4]
    trainable = [phase.num_trainable for phase in card.phases]
    assert trainable[0] == num_head < trainable[1] < trainable[2] == num_all
    assert {phase.num_parameters for phase in card.phases} == {num_all}
    rows = read_csv(uninterrupted.log_path, LOG)
    assert [(row["phase"], row["epoch"]) for row in rows] == [(1, 0), (2, 1), (2, 2), (3, 3)]
    assert [phase.num_epochs for phase in card.phases] == [1, 2, 1]
    assert card.phases[1].best_epoch in (1, 2)
    assert (card.phases[0].best_epoch, card.phases[2].best_epoch) == (0, 3)


def test_phase_begins_with_the_best_weights_of_the_one_before(
    layout: StoreLayout, tmp_path: Path, phased: TrainSettings
) -> None:
    still = Phase(max_epochs=1, learning_rate=1e-12, backbone_share=0)
    settings = phased.model_copy(
        update={"phases": (Phase(max_epochs=6, learning_rate=5e-2), still), "patience_epochs": 6}
    )
    model = ModelLayout(tmp_path)
    run_member(layout, model, settings)
    first, second = (read_weights(model.phase_weights_path(number)) for number in (1, 2))
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, atol=1e-6, rtol=0)
    last = torch.load(model.phase_dir(1) / "last.ckpt", weights_only=True)["state_dict"]
    final = {k.removeprefix("detector."): v for k, v in last.items() if k.startswith("detector.")}
    # Otherwise this would prove nothing: the best epoch is not the last.
    assert changed(first, final)


class Kill(BaseException):
    """Stands for the end of the process."""


def kill_at(
    monkeypatch: pytest.MonkeyPatch, *, phase: int, after_epochs: int, fitted: list[int]
) -> None:
    """Let the run end in this phase, after so many of its epochs; note the phases it came to."""

    def fit(*args: Any, number: int, on_epoch: Any, **kwargs: Any) -> PhaseResult:
        fitted.append(number)
        if number == phase and after_epochs == 0:
            raise Kill

        def note(rows: Any) -> None:
            on_epoch(rows)
            # The checkpoint of an epoch is written after its row: this one is lost.
            if number == phase and len(rows) > after_epochs:
                raise Kill

        return fit_phase(*args, number=number, on_epoch=note, **kwargs)

    monkeypatch.setattr(tasks.training.member, "fit_phase", fit)


@pytest.mark.parametrize(
    ("phase", "after_epochs", "left"),
    [
        pytest.param(1, 0, [1, 2, 3], id="at the start"),
        pytest.param(2, 0, [2, 3], id="between phases"),
        pytest.param(2, 1, [2, 3], id="in a phase"),
        pytest.param(3, 0, [3], id="before the last phase"),
    ],
)
def test_killed_run_goes_on_to_the_same_bytes(
    layout: StoreLayout,
    uninterrupted: ModelLayout,
    tmp_path: Path,
    phased: TrainSettings,
    phase: int,
    after_epochs: int,
    left: list[int],
) -> None:
    model, fitted = ModelLayout(tmp_path), list[int]()
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, phase=phase, after_epochs=after_epochs, fitted=fitted)
        with pytest.raises(Kill):
            train(layout, model, phased)
    assert fitted[-1] == phase
    assert model.unfinished_dir.exists()
    assert not model.card_path.exists()
    fitted.clear()
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, phase=-1, after_epochs=0, fitted=fitted)
        train(layout, model, phased)
    assert fitted == left
    assert not model.unfinished_dir.exists()
    for name in ("model.safetensors", "log.csv", "card.json", "validation.parquet"):
        assert (model.path / name).read_bytes() == (uninterrupted.path / name).read_bytes(), name


def test_kill_after_all_phases_costs_no_epoch(
    layout: StoreLayout, phases_model: ModelLayout, phased: TrainSettings
) -> None:
    # Everything is there but the card.
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, phase=1, after_epochs=0, fitted=[])
        again = run_member(layout, phases_model, phased)
    torch.testing.assert_close(again.weights, read_weights(phases_model.phase_weights_path(3)))
    assert [row["epoch"] for row in again.log] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (["seed=1"], "settings.seed: 0 != 1"),
        (["phases.0.max_epochs=4"], "settings.phases.0.max_epochs: 1 != 4"),
        (["augment.flip=0.25"], "settings.augment.flip: 0.5 != 0.25"),
        (["phases.1.learning_rate=none"], "settings.phases.1.learning_rate: 0.001 != None"),
    ],
)
def test_unfinished_run_of_other_settings_is_not_continued_and_they_are_named(
    layout: StoreLayout, tmp_path: Path, phased: TrainSettings, changes: list[str], named: str
) -> None:
    model = ModelLayout(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, phase=2, after_epochs=0, fitted=[])
        with pytest.raises(Kill):
            train(layout, model, phased)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(MismatchError, match="unfinished run of other settings or data") as caught:
        train(layout, model, with_changes(phased, *changes))
    assert f"({named})" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_unfinished_run_of_another_split_is_not_continued(
    layout: StoreLayout, tmp_path: Path, phased: TrainSettings
) -> None:
    model = ModelLayout(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, phase=2, after_epochs=0, fitted=[])
        with pytest.raises(Kill):
            train(layout, model, phased)
    with pytest.raises(MismatchError, match=r"split: [0-9a-f]{12} != [0-9a-f]{12}"):
        train(layout, model, phased, num_train_videos=4)


def test_self_blending_alone_never_reads_a_fake(tiny: Any, tmp_path: Path) -> None:
    settings = with_changes(tiny.training, "self_blend=1", "phases.0.max_epochs=2")
    # Each video in a shard of its own.
    layout = tiny.write_store(tmp_path / "store", tiny.three_parts(), shard_size=1)
    intact = train(layout, ModelLayout(tmp_path / "intact"), settings)
    for row in read_rows(layout.manifest_path, MANIFEST):
        if row["label"] == 1:
            path = layout.crops_path(row["shard"], row["crop_file"])
            path.unlink()
            path.write_bytes(b"unreadable")
    # Another path: what was read before cannot hide it.
    moved = StoreLayout((tmp_path / "store").rename(tmp_path / "moved") / layout.path.name)
    model = ModelLayout(tmp_path / "model")
    assert train(moved, model, settings) == intact
    rows = read_rows(model.validation_path, VALIDATION)
    # Every real sequence and its blend, which is another video.
    assert sorted(row["label"] for row in rows) == [0, 0, 1, 1]
    fakes = {row["video_id"] for row in rows if row["label"] == 1}
    assert fakes == {f"{row['video_id']}+blend" for row in rows if row["label"] == 0}
    with pytest.raises(StoreError, match="cannot be read"):
        train(moved, ModelLayout(tmp_path / "other"), tiny.training)


def test_training_starts_from_a_whole_checkpoint_folder(
    layout: StoreLayout, uninterrupted: ModelLayout, tiny: Any, tmp_path: Path
) -> None:
    settings = still_from(uninterrupted, tiny)
    again = ModelLayout(tmp_path / "again")
    card = train(layout, again, settings)
    assert card.training is not None
    assert card.training.init_from == uninterrupted.path
    start, end = read_weights(uninterrupted.path), read_weights(again.path)
    assert start.keys() == end.keys()
    for name in start:
        # At this rate nothing moves; batch norms are frozen when training starts from weights.
        torch.testing.assert_close(end[name], start[name], atol=1e-6, rtol=0)
    for name in running_statistics(start):
        assert torch.equal(end[name], start[name])
    assert train(layout, again, settings) == card


def test_batch_norms_move_from_a_checkpoint_when_asked_for(
    layout: StoreLayout, uninterrupted: ModelLayout, tiny: Any, tmp_path: Path
) -> None:
    settings = with_changes(still_from(uninterrupted, tiny), "freeze_batch_norm=false")
    train(layout, ModelLayout(tmp_path), settings)
    start, end = read_weights(uninterrupted.path), read_weights(tmp_path)
    assert not any(torch.equal(end[name], start[name]) for name in running_statistics(start))


def still_from(model: ModelLayout, tiny: Any) -> TrainSettings:
    """Start from this model and hardly move."""
    return with_changes(
        tiny.training,
        f"init_from={model.path}",
        "phases.0.learning_rate=1e-12",
        "phases.0.max_epochs=1",
    )


def running_statistics(weights: Weights) -> list[str]:
    names = [name for name in weights if name.endswith(("running_mean", "running_var"))]
    assert names
    return names


def test_run_that_could_not_start_is_in_nobodys_way(
    layout: StoreLayout, tiny: Any, tmp_path: Path
) -> None:
    wrong = with_changes(tiny.training, f"init_from={tmp_path / 'nothing.pth'}")
    model = ModelLayout(tmp_path / "model")
    with pytest.raises(WeightsError, match="is not a file"):
        train(layout, model, wrong)
    assert not model.card_path.exists()
    right = with_changes(wrong, "init_from=none", "phases.0.max_epochs=1")
    assert train(layout, model, right).training == right
