"""Recipes: each is what it says, and its fast variant is the same thing made small."""

import re

import pytest

from reelcheck.config import PreprocessSettings
from reelcheck.errors import SettingsError
from reelcheck.recipes import load_recipe, recipe_names
from reelcheck.settings import Settings
from reelcheck.train_config import HeadLayer, Phase
from tasks.checkpoints.fetch import list_pretrained
from tasks.training.features import has_fixed_features

CPU_NAMES = ("clip-linear", "clip-transformer", "lite-frames", "lite-transformer")
"""Recipes that a CPU trains in minutes: they need no fast variant."""
NAMES = (
    "b0-kfold",
    "b0-phases",
    "b3-frames",
    "b3-transformer",
    "b3-transformer-scratch",
    "b4-image",
    "v2s-image",
)
FAST = {name: f"{name}-fast" for name in NAMES} | {
    # The main detector has one fast variant, which starts from random weights as this one does.
    "b3-transformer-scratch": "b3-transformer-fast",
}
IMAGE = ("b0-kfold", "b0-phases", "b4-image", "v2s-image")


def test_recipes_are_exactly_these_each_with_a_fast_variant() -> None:
    assert set(recipe_names()) == {*NAMES, *CPU_NAMES, *FAST.values()}


@pytest.mark.parametrize("name", recipe_names())
def test_recipe_loads_and_knows_its_name(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == recipe.train.recipe == name
    assert recipe.description
    assert "\n" not in recipe.description
    # How many frames there are and how many training wants must fit together.
    assert recipe.train.min_frames <= recipe.preprocess.max_sequence_frames
    assert recipe.train.max_frames is None or recipe.train.max_frames >= recipe.train.min_frames


@pytest.mark.parametrize("name", ["b5", "", "../b0-kfold", "b0-kfold.toml", "B0-KFOLD"])
def test_unknown_recipe_is_named_with_those_that_exist(name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_recipe(name)
    message = str(caught.value)
    assert repr(name) in message
    assert all(known in message for known in recipe_names())
    assert "\n" not in message


@pytest.mark.parametrize("name", [name for name in NAMES if name != "b3-transformer-scratch"])
def test_recipe_starts_from_pretrained_weights_and_its_fast_variant_from_none(name: str) -> None:
    assert load_recipe(name).train.pretrained
    assert not load_recipe(FAST[name]).train.starts_from_weights


@pytest.mark.parametrize("name", CPU_NAMES)
def test_cpu_recipes_start_from_weights_of_the_package_index(name: str) -> None:
    train = load_recipe(name).train
    assert train.pretrained
    first, *_ = list_pretrained(train.detector.backbone)
    assert first.source.kind == "wheel"
    assert (train.detector.pixel_mean, train.detector.pixel_std) == (
        first.pixel_mean,
        first.pixel_std,
    )


@pytest.mark.parametrize("name", ["clip-linear", "clip-transformer"])
def test_clip_does_not_learn_so_its_features_are_computed_once(name: str) -> None:
    assert has_fixed_features(load_recipe(name).train)


@pytest.mark.parametrize("name", IMAGE)
def test_image_recipes_take_one_whole_picture_at_a_time(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.preprocess.still_crop == "whole"
    assert recipe.preprocess.min_sequence_frames == 1
    assert recipe.train.detector.transformer is None
    assert (recipe.train.min_frames, recipe.train.max_frames) == (1, 1)
    assert recipe.preprocess.crop_pixels >= (recipe.train.detector.input_pixels or 0)


def test_b0_kfold_is_five_folds_with_adam() -> None:
    train = load_recipe("b0-kfold").train
    assert train.detector.backbone == "efficientnet_b0"
    assert (train.folds, train.optimizer, train.schedule) == (5, "adam", "constant")
    assert [phase.learning_rate for phase in train.phases] == [1e-4]
    assert train.detector.input_pixels == 224


def test_b4_image_is_380_pixels_in_two_phases_of_fifteen_epochs() -> None:
    recipe = load_recipe("b4-image")
    train = recipe.train
    assert train.detector.backbone == "efficientnet_b4"
    assert (train.detector.input_pixels, recipe.preprocess.crop_pixels) == (380, 380)
    assert (train.optimizer, train.weight_decay, train.schedule) == ("adamw", 1e-5, "cosine")
    assert sum(phase.max_epochs for phase in train.phases) == 15
    assert [phase.learning_rate for phase in train.phases] == [1e-4, 1e-4]
    assert [phase.backbone_share for phase in train.phases] == [0, 1]
    assert (train.batch_size, recipe.engine.num_loader_workers) == (32, 4)


def test_b0_phases_is_a_wide_head_in_three_phases_with_weighted_labels() -> None:
    train = load_recipe("b0-phases").train
    assert train.detector.backbone == "efficientnet_b0"
    assert train.detector.head == tuple(
        HeadLayer(width=width, dropout=dropout)
        for width, dropout in ((1024, 0.5), (512, 0.4), (256, 0.4))
    )
    assert [phase.learning_rate for phase in train.phases] == [1e-3, 1e-5, 1e-8]
    shares = [phase.backbone_share for phase in train.phases]
    assert shares[0] == 0 < shares[1] < shares[2] == 1
    assert train.balance == "weigh"


def test_v2s_image_is_sixty_epochs_of_adam_with_crops_flips_and_rotations() -> None:
    train = load_recipe("v2s-image").train
    assert train.detector.backbone == "tf_efficientnetv2_s"
    assert train.phases == (Phase(max_epochs=60, learning_rate=1e-3),)
    assert (train.optimizer, train.batch_size) == ("adam", 35)
    used = {name for name, probability in train.augment.model_dump().items() if probability}
    assert used == {"crop", "flip", "rotation"}


def test_b3_transformer_is_the_main_detector_as_specified() -> None:
    recipe = load_recipe("b3-transformer")
    train = recipe.train
    assert train.detector.backbone == "efficientnet_b3"
    assert train.detector.transformer is not None
    assert train.phases == (Phase(max_epochs=30, learning_rate=1e-6),)
    assert train.clip_norm is not None
    assert (train.batch_size, train.min_frames, train.select_by) == (8, 10, "f1")
    assert recipe.preprocess == PreprocessSettings()


def test_b3_frames_is_the_main_detector_without_its_transformer() -> None:
    changed = differences(load_recipe("b3-frames").train, load_recipe("b3-transformer").train)
    allowed = {"recipe", "frame_loss_weight", "detector.transformer", "detector.head_dropout"}
    assert {name for name in changed if not name.startswith("detector.transformer.")} <= allowed


MAY_DIFFER = {
    "recipe",
    "pretrained",
    "batch_size",
    "patience_epochs",
    "ema_decay",
    "schedule",
    "detector.backbone",
    "detector.input_pixels",
    "detector.transformer.feature_dim",
    "detector.transformer.depth",
    "detector.transformer.num_heads",
    "detector.transformer.dropout",
    "detector.transformer.pooling",
    "detector.head_dropout",
}
LIST_VALUE = re.compile(
    r"(phases\.\d+\.(max_epochs|learning_rate|backbone_share)|detector\.head\.\d+\.(width|dropout))"
)


@pytest.mark.parametrize("name", NAMES)
def test_fast_variant_is_the_same_made_small(name: str) -> None:
    full, fast = load_recipe(name), load_recipe(FAST[name])
    # The same crops serve both.
    assert fast.preprocess == full.preprocess
    changed = differences(fast.train, full.train)
    assert {c for c in changed if c not in MAY_DIFFER and not LIST_VALUE.fullmatch(c)} == set()
    assert fast.train.detector.backbone == "test_resnet"
    num_epochs = [sum(p.max_epochs for p in recipe.train.phases) for recipe in (fast, full)]
    assert num_epochs[0] < num_epochs[1]
    shares = [[p.backbone_share for p in recipe.train.phases] for recipe in (fast, full)]
    assert shares[0] == shares[1]
    assert bool(fast.train.detector.head) == bool(full.train.detector.head)


def differences(one: Settings, other: Settings) -> set[str]:
    left, right = flat(one.model_dump()), flat(other.model_dump())
    return {name for name in left | right if left.get(name) != right.get(name)}


def flat(value: object, name: str = "") -> dict[str, object]:
    """Every single value under its dotted name."""
    if isinstance(value, dict):
        items = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list | tuple):
        items = [(str(place), inner) for place, inner in enumerate(value)]
    else:
        return {name: value}
    found: dict[str, object] = {}
    for key, inner in items:
        found |= flat(inner, f"{name}.{key}" if name else key)
    return found
