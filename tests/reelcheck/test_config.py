"""Settings: what is accepted, what is refused and how, and the hash that names output."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from reelcheck.config import GateSettings, PreprocessSettings, RunSettings, SplitSettings
from reelcheck.errors import SettingsError
from reelcheck.settings import Settings, load_settings
from reelcheck.train_config import (
    AugmentSettings,
    DetectorSettings,
    EngineSettings,
    Phase,
    TrainSettings,
    TransformerSettings,
)

SECTIONS: dict[str, type[Settings]] = {
    "preprocess": PreprocessSettings,
    "run": RunSettings,
    "split": SplitSettings,
    "gate": GateSettings,
    "train": TrainSettings,
    "engine": EngineSettings,
}
ALL_SETTINGS = {
    "preprocess.algorithm",
    "preprocess.sampling",
    "preprocess.num_frames",
    "preprocess.num_clips",
    "preprocess.clip_frames",
    "preprocess.max_snap_seconds",
    "preprocess.min_sequence_frames",
    "preprocess.max_sequence_frames",
    "preprocess.crop_pixels",
    "preprocess.margin",
    "preprocess.min_face_pixels",
    "preprocess.min_confidence",
    "preprocess.min_track_confidence",
    "preprocess.still_crop",
    "preprocess.align_eyes",
    "preprocess.face_model_sha256",
    "run.where",
    "run.num_workers",
    "run.shard_size",
    "run.decoder",
    "run.timeout_seconds",
    "run.compress_crops",
    "run.max_memory_bytes",
    "run.max_file_bytes",
    "run.allow_private_addresses",
    "split.val_fraction",
    "split.test_fraction",
    "split.seed",
    "split.honour_given",
    "split.by_date",
    "split.val_from",
    "split.test_from",
    "gate.min_auc_change",
    "gate.max_generator_drop",
    "gate.max_false_alarm_rise",
    "gate.max_ece",
    "gate.min_first_auc",
    "gate.min_new_videos",
    "gate.perturbations",
    "gate.num_perturbed_videos",
    "gate.max_robustness_drop",
    "gate.max_export_difference",
    "gate.max_slowdown",
    "gate.max_growth",
    "gate.approval_hours",
    "train.recipe",
    "train.detector.backbone",
    "train.detector.feature_layers",
    "train.detector.input_pixels",
    "train.detector.pixel_mean",
    "train.detector.pixel_std",
    "train.detector.transformer.feature_dim",
    "train.detector.transformer.depth",
    "train.detector.transformer.num_heads",
    "train.detector.transformer.dropout",
    "train.detector.transformer.pooling",
    "train.detector.head.width",
    "train.detector.head.dropout",
    "train.detector.head_dropout",
    "train.detector.padding.style",
    "train.detector.padding.built_for_pixels",
    "train.detector.padding.unpadded_stem",
    "train.pretrained",
    "train.init_from",
    "train.phases.max_epochs",
    "train.phases.learning_rate",
    "train.phases.backbone_share",
    "train.folds",
    "train.optimizer",
    "train.schedule",
    "train.weight_decay",
    "train.clip_norm",
    "train.layer_decay",
    "train.ema_decay",
    "train.batch_size",
    "train.accumulate_batches",
    "train.passes_per_epoch",
    "train.max_steps_per_epoch",
    "train.select_by",
    "train.patience_epochs",
    "train.frame_loss_weight",
    "train.min_frames",
    "train.max_frames",
    "train.augment.flip",
    "train.augment.rotation",
    "train.augment.brightness",
    "train.augment.contrast",
    "train.augment.noise",
    "train.augment.blur",
    "train.augment.crop",
    "train.augment.jpeg",
    "train.augment.codec",
    "train.augment.cutout",
    "train.balance",
    "train.twins",
    "train.self_blend",
    "train.freeze_batch_norm",
    "train.threshold_by",
    "train.threshold_target",
    "train.max_decided_error",
    "train.seed",
    "engine.num_devices",
    "engine.num_nodes",
    "engine.precision",
    "engine.num_loader_workers",
    "engine.gradient_checkpointing",
    "engine.compile",
}


def dotted_names(cls: type[Settings], prefix: str) -> set[str]:
    names: set[str] = set()
    for name, field in cls.model_fields.items():
        inner = list(settings_in(field.annotation))
        for kind in inner:
            names |= dotted_names(kind, f"{prefix}.{name}")
        if not inner:
            names.add(f"{prefix}.{name}")
    return names


def settings_in(annotation: Any) -> Iterator[type[Settings]]:
    """Classes of settings in a type such as ``Phase``, ``X | None`` or ``tuple[X, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
    for part in get_args(annotation):
        yield from settings_in(part)


def write_toml(folder: Path, text: str) -> Path:
    path = folder / "reelcheck.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_settings_all_together_are_exactly_these() -> None:
    # A setting is a promise: adding one must be a decision, not an accident.
    found = {name for section, cls in SECTIONS.items() for name in dotted_names(cls, section)}
    assert found == ALL_SETTINGS


@pytest.mark.parametrize(
    "cls", [*SECTIONS.values(), DetectorSettings, TransformerSettings, AugmentSettings, Phase]
)
def test_settings_object_cannot_be_changed(cls: type[Settings]) -> None:
    name = next(iter(cls.model_fields))
    with pytest.raises(ValueError, match="frozen"):
        setattr(cls(), name, 1)


def test_load_nothing_given_gives_defaults() -> None:
    assert load_settings(TrainSettings, section="train") == TrainSettings()


def test_load_precedence_is_default_then_toml_then_override(tmp_path: Path) -> None:
    path = write_toml(tmp_path, "[preprocess]\nmargin = 1.5\ncrop_pixels = 96\n")
    loaded = load_settings(
        PreprocessSettings, section="preprocess", config_path=path, overrides=["crop_pixels=64"]
    )
    assert loaded == PreprocessSettings(margin=1.5, crop_pixels=64)


def test_load_base_is_below_toml_and_override(tmp_path: Path) -> None:
    path = write_toml(tmp_path, "[train]\nbatch_size = 3\n[train.augment]\nflip = 0.25\n")
    base = TrainSettings(batch_size=2, folds=5, augment=AugmentSettings(jpeg=0.5))
    loaded = load_settings(
        TrainSettings, section="train", config_path=path, overrides=["seed=4"], base=base
    )
    assert loaded == TrainSettings(
        batch_size=3, folds=5, seed=4, augment=AugmentSettings(flip=0.25, jpeg=0.5)
    )


def test_load_other_sections_are_not_read(tmp_path: Path) -> None:
    path = write_toml(tmp_path, "[run]\nnum_workers = 3\n[split]\nseed = 9\n")
    loaded = load_settings(SplitSettings, section="split", config_path=path)
    assert loaded == SplitSettings(seed=9)


def test_load_misspelt_section_is_named_with_those_that_exist(tmp_path: Path) -> None:
    path = write_toml(tmp_path, "[splits]\nseed = 9\n")
    with pytest.raises(SettingsError, match="no such section: splits; known are engine, gate"):
        load_settings(SplitSettings, section="split", config_path=path)


def test_split_must_leave_half_for_training() -> None:
    with pytest.raises(SettingsError, match="at least half for training"):
        load_settings(
            SplitSettings,
            section="split",
            overrides=["val_fraction=0.3", "test_fraction=0.3"],
        )


def test_load_nested_override_changes_only_that_setting() -> None:
    loaded = load_settings(
        TrainSettings, section="train", overrides=["detector.transformer.depth=2"]
    )
    assert loaded == TrainSettings(
        detector=DetectorSettings(transformer=TransformerSettings(depth=2))
    )


def test_load_nested_settings_can_be_taken_away_and_given_back() -> None:
    overrides = ["detector.transformer=none", "detector.head_dropout=0.5"]
    without = load_settings(TrainSettings, section="train", overrides=overrides)
    assert without.detector == DetectorSettings(transformer=None, head_dropout=0.5)
    overrides = ["detector.transformer.depth=3", "detector.head_dropout=0"]
    again = load_settings(TrainSettings, section="train", overrides=overrides, base=without)
    assert again.detector.transformer == TransformerSettings(depth=3)


def test_load_last_override_wins() -> None:
    loaded = load_settings(SplitSettings, section="split", overrides=["seed=1", "seed=2"])
    assert loaded.seed == 2


@pytest.mark.parametrize("text", ["none", "None", "NONE"])
def test_load_override_none_in_any_case_means_no_value(text: str) -> None:
    base = RunSettings(num_workers=2)
    overrides = [f"num_workers={text}"]
    loaded = load_settings(RunSettings, section="run", overrides=overrides, base=base)
    assert loaded.num_workers is None


def test_load_override_value_may_hold_equals_sign() -> None:
    loaded = load_settings(TrainSettings, section="train", overrides=["init_from=/a=b.pth"])
    assert loaded.init_from == Path("/a=b.pth")


@pytest.mark.parametrize("key", ["margn", "detector.depth", "num_workers"])
def test_load_unknown_key_names_it_and_the_known_ones(key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(PreprocessSettings, section="preprocess", overrides=[f"{key}=1"])
    message = str(caught.value)
    assert key.partition(".")[0] in message
    assert "no such setting" in message
    assert all(name in message for name in PreprocessSettings.model_fields)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("margin=9.5", ("margin", "9.5", "less than or equal to 3")),
        ("margin=wide", ("margin", "'wide'", "number")),
        ("margin=nan", ("margin", "'nan'")),
        ("num_frames=0", ("num_frames", "'0'", "greater than or equal to 1")),
        ("num_frames=2.5", ("num_frames", "'2.5'", "integer")),
        ("min_confidence=1", ("min_confidence", "'1'", "less than 1")),
        ("face_model_sha256=abc", ("face_model_sha256", "'abc'", "[0-9a-f]{64}")),
        ("algorithm=1", ("algorithm", "'1'", "2")),
        ("num_frames=5", ("min_sequence_frames", "num_frames", "exceed")),
        ("sampling=some", ("sampling", "'some'", "spread")),
        ("max_sequence_frames=5", ("min_sequence_frames", "max_sequence_frames", "exceed")),
        ("margin.left=1", ("margin", "left", "number")),
    ],
)
def test_load_bad_value_names_key_value_and_what_is_allowed(
    override: str, parts: tuple[str, ...]
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(PreprocessSettings, section="preprocess", overrides=[override])
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_load_bad_nested_value_names_dotted_key() -> None:
    with pytest.raises(SettingsError, match=r"detector\.transformer\.depth = 'x'"):
        load_settings(TrainSettings, section="train", overrides=["detector.transformer.depth=x"])


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["detector.transformer.feature_dim=100"], "multiple of 2 \\* num_heads"),
        (["detector.head_dropout=0.2"], "belong to transformer = none"),
        (["max_frames=5"], "max_frames must not be less than min_frames"),
        (["pretrained=true", "init_from=a.pth"], "not both"),
        (["max_decided_error=0.5"], "less than 0.5"),
    ],
)
def test_load_values_that_contradict_each_other_are_refused(
    overrides: list[str], part: str
) -> None:
    with pytest.raises(SettingsError, match=part):
        load_settings(TrainSettings, section="train", overrides=overrides)


def test_load_every_wrong_value_is_named_at_once() -> None:
    overrides = ["margin=9", "crop_pixels=1"]
    with pytest.raises(SettingsError, match=r"crop_pixels.*; .*margin|margin.*; .*crop_pixels"):
        load_settings(PreprocessSettings, section="preprocess", overrides=overrides)


@pytest.mark.parametrize("override", ["margin", "=1.5", "", "margin:1.5"])
def test_load_override_without_key_and_value_shows_it_and_the_form(override: str) -> None:
    with pytest.raises(SettingsError, match="KEY=VALUE") as caught:
        load_settings(PreprocessSettings, section="preprocess", overrides=[override])
    assert repr(override) in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"[preprocess\nmargin = 1.5", b"margin = ", b"\xff\xfe\x00", b"[a]\n[a]\n"]
)
def test_load_broken_toml_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"broken\.toml"):
        load_settings(PreprocessSettings, section="preprocess", config_path=path)


@pytest.mark.parametrize("name", ["absent.toml", "."])
def test_load_toml_that_is_no_file_names_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="cannot read settings from"):
        load_settings(RunSettings, section="run", config_path=tmp_path / name)


def test_load_section_that_is_a_value_is_refused(tmp_path: Path) -> None:
    path = write_toml(tmp_path, "preprocess = 3\n")
    with pytest.raises(SettingsError, match=r"\[preprocess\] must be a table"):
        load_settings(PreprocessSettings, section="preprocess", config_path=path)


def test_load_unknown_key_in_toml_is_refused(tmp_path: Path) -> None:
    path = write_toml(tmp_path, "[split]\nsed = 1\n")
    with pytest.raises(SettingsError, match="sed: no such setting"):
        load_settings(SplitSettings, section="split", config_path=path)


@pytest.mark.parametrize(
    ("cls", "override"),
    [
        (TrainSettings, "phases.0.learning_rate=inf"),
        (TrainSettings, "weight_decay=inf"),
        (RunSettings, "timeout_seconds=inf"),
    ],
)
def test_load_infinite_value_is_refused(cls: type[Settings], override: str) -> None:
    with pytest.raises(SettingsError):
        load_settings(cls, section="any", overrides=[override])
