"""Ablation: every switch alone, the rest as asked for, and the figures of each run."""

from typing import Any

import pytest
from sklearn.metrics import roc_auc_score

from models.data.dataset import CropDataset
from models.training.inference import score_sequences
from reelcheck.settings import load_settings
from reelcheck.train_config import AugmentSettings, TrainSettings
from storage.checkpoints import read_card
from storage.layout import ModelLayout, StoreLayout
from storage.schemas import MANIFEST, SPLIT
from storage.tables import read_metadata, read_rows, write_table
from tasks.checkpoints.torch_model import load_detector
from tasks.evaluation.studies import Variant, list_variants, measure_variant
from tasks.training.rows import group_by_split
from tasks.training.train import train

SWITCHES = ("twins", "self-blend", "self-blend only", "compression", "cutout")


def flat(settings: TrainSettings) -> dict[str, object]:
    values = settings.model_dump()
    values |= {f"augment.{name}": value for name, value in values.pop("augment").items()}
    return values


def by_name(settings: TrainSettings) -> dict[str, Variant]:
    found = {variant.name: variant for variant in list_variants(settings)}
    assert len(found) == len(list_variants(settings))
    return found


@pytest.fixture(
    params=[
        [],
        ["twins=false", "self_blend=1", "augment.codec=0.9", "augment.jpeg=0.3", "folds=4"],
    ],
    ids=["defaults", "all otherwise"],
)
def settings(request: pytest.FixtureRequest, tiny: Any) -> TrainSettings:
    return load_settings(
        TrainSettings, section="train", overrides=request.param, base=tiny.training
    )


def test_every_switch_has_a_run_of_its_own(settings: TrainSettings) -> None:
    names = [variant.name for variant in list_variants(settings)]
    assert names == ["plain", *SWITCHES, "as given", "frames only"]


def test_plain_run_has_no_switch_on_and_is_otherwise_as_given(settings: TrainSettings) -> None:
    plain = flat(by_name(settings)["plain"].settings)
    off = {"twins": False, "self_blend": 0}
    off |= {f"augment.{name}": 0 for name in ("jpeg", "codec", "cutout")}
    assert {name: plain[name] for name in off} == off
    given = flat(settings)
    assert {k: v for k, v in plain.items() if k not in off} == {
        k: v for k, v in given.items() if k not in off
    }


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("twins", {"twins": True}),
        ("self-blend", {"self_blend": 0.5}),
        ("self-blend only", {"self_blend": 1.0}),
        ("compression", {"augment.jpeg": 0.5, "augment.codec": 0.2}),
        ("cutout", {"augment.cutout": 0.33}),
    ],
)
def test_each_switch_alone_differs_from_the_plain_run_in_nothing_else(
    settings: TrainSettings, name: str, changed: dict[str, object]
) -> None:
    found = by_name(settings)
    plain, one = flat(found["plain"].settings), flat(found[name].settings)
    assert {k: v for k, v in one.items() if v != plain[k]} == changed


def test_every_change_of_a_face_is_a_switch_or_in_all_runs() -> None:
    # A new one must be decided upon: is it a switch or not?
    in_all_runs = {"flip", "rotation", "brightness", "contrast", "noise", "blur", "crop"}
    assert set(AugmentSettings.model_fields) == {*in_all_runs, "jpeg", "codec", "cutout"}


def test_settings_as_given_and_those_without_transformer_come_last(
    settings: TrainSettings,
) -> None:
    found = by_name(settings)
    assert found["as given"].settings == settings
    frames = found["frames only"].settings
    assert frames.detector.transformer is None
    assert frames.frame_loss_weight == 0
    assert (
        frames.model_copy(
            update={"detector": settings.detector, "frame_loss_weight": settings.frame_loss_weight}
        )
        == settings
    )


def test_detector_without_transformer_has_no_such_comparison(tiny: Any) -> None:
    detector = tiny.detector.model_copy(update={"transformer": None})
    settings = tiny.training.model_copy(update={"detector": detector})
    assert "frames only" not in by_name(settings)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> StoreLayout:
    return tiny.write_store(tmp_path_factory.mktemp("store"), tiny.three_parts())


@pytest.fixture(scope="module")
def variant(tiny: Any) -> Variant:
    overrides = ["phases.0.max_epochs=1"]
    return Variant(
        name="cutout",
        change="something hidden",
        settings=load_settings(
            TrainSettings, section="train", overrides=overrides, base=tiny.training
        ),
    )


@pytest.fixture(scope="module")
def model(
    layout: StoreLayout, variant: Variant, tmp_path_factory: pytest.TempPathFactory
) -> ModelLayout:
    folder = ModelLayout(tmp_path_factory.mktemp("model"))
    train(layout, folder, variant.settings)
    return folder


def test_row_holds_the_figures_of_validation_and_of_the_held_out_videos(
    layout: StoreLayout, variant: Variant, model: ModelLayout
) -> None:
    card = read_card(model)
    row = measure_variant(variant, card, layout, model)
    assert (row.name, row.change) == ("cutout", "something hidden")
    assert (row.val_auc, row.val_f1) == (card.validation["auc"], card.validation["f1"])
    # The network's own answers, in torch.
    manifest = read_rows(layout.manifest_path, MANIFEST)
    tested = group_by_split(manifest, read_rows(layout.split_path, SPLIT))["test"]
    detector = load_detector(model.path, card.model_id)
    found = score_sequences(detector, CropDataset(layout, tested))
    logit_of = {sequence.sequence_id: sequence.logit for sequence in found}
    logits = [logit_of[manifest_row["sequence_id"]] for manifest_row in tested]
    labels = [manifest_row["label"] for manifest_row in tested]
    assert row.test_auc is not None
    assert row.test_auc.value == pytest.approx(roc_auc_score(labels, logits), abs=1e-9)
    assert row.test_auc.low <= row.test_auc.value <= row.test_auc.high


def test_row_without_held_out_videos_has_no_held_out_figure(
    layout: StoreLayout, variant: Variant, model: ModelLayout
) -> None:
    rows = read_rows(layout.split_path, SPLIT)
    metadata = read_metadata(layout.split_path)
    kept = [row for row in rows if row["split"] != "test"]
    write_table(layout.split_path, kept, SPLIT, metadata=metadata)
    try:
        row = measure_variant(variant, read_card(model), layout, model)
    finally:
        write_table(layout.split_path, rows, SPLIT, metadata=metadata)
    assert row.test_auc is None
    assert row.val_auc is not None
