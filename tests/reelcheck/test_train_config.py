"""Training settings: phases, which are a list, and defaults that follow the start."""

from pathlib import Path
from typing import Any

import pytest

from reelcheck.errors import SettingsError
from reelcheck.settings import load_settings
from reelcheck.train_config import Phase, TrainSettings


def write_toml(folder: Path, text: str) -> Path:
    path = folder / "reelcheck.toml"
    path.write_text(text, encoding="utf-8")
    return path


TWO_PHASES = TrainSettings(
    phases=(Phase(max_epochs=2, learning_rate=0.1, backbone_share=0), Phase(max_epochs=3))
)


def test_load_place_of_a_list_is_changed_by_its_number() -> None:
    loaded = load_settings(
        TrainSettings,
        section="train",
        overrides=["phases.1.max_epochs=7", "phases.0.learning_rate=none"],
        base=TWO_PHASES,
    )
    assert loaded.phases == (Phase(max_epochs=2, backbone_share=0), Phase(max_epochs=7))
    assert TWO_PHASES.phases[1].max_epochs == 3


def test_load_list_in_toml_replaces_the_list_whole(tmp_path: Path) -> None:
    path = write_toml(tmp_path, "[train]\nphases = [{ max_epochs = 1 }]\n")
    loaded = load_settings(TrainSettings, section="train", config_path=path, base=TWO_PHASES)
    assert loaded.phases == (Phase(max_epochs=1),)


def test_load_place_of_a_list_in_toml_is_named_by_its_number(tmp_path: Path) -> None:
    path = write_toml(tmp_path, "[train.phases.1]\nmax_epochs = 9\n")
    loaded = load_settings(TrainSettings, section="train", config_path=path, base=TWO_PHASES)
    assert loaded.phases == (TWO_PHASES.phases[0], Phase(max_epochs=9))


@pytest.mark.parametrize("place", ["2", "-1", "first", "00"])
def test_load_place_that_a_list_has_not_is_refused(place: str) -> None:
    overrides = [f"phases.{place}.max_epochs=2"]
    with pytest.raises(SettingsError) as caught:
        load_settings(TrainSettings, section="train", overrides=overrides, base=TWO_PHASES)
    assert str(caught.value) == f"phases has no place {place}; it has 2, numbered from 0"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("phases.0.learning_rate=-1e-3", r"phases\.0\.learning_rate = '-1e-3': .*greater than 0"),
        ("phases.0.learning_rate=0", r"phases\.0\.learning_rate = '0': .*greater than 0"),
        ("phases.1.backbone_share=1.5", r"phases\.1\.backbone_share = '1\.5': .*less than or eq"),
        ("phases.1.epochs=3", r"phases\.1\.epochs: no such setting"),
        ("phases.0=5", r"phases\.0 = '5'"),
        ("phases=none", r"phases = None"),
    ],
)
def test_load_bad_value_in_a_list_names_its_place(override: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        load_settings(TrainSettings, section="train", overrides=[override], base=TWO_PHASES)
    assert "\n" not in str(caught.value)


def test_load_no_phase_at_all_is_refused(tmp_path: Path) -> None:
    path = write_toml(tmp_path, "[train]\nphases = []\n")
    with pytest.raises(SettingsError, match="phases"):
        load_settings(TrainSettings, section="train", config_path=path)


@pytest.mark.parametrize(
    ("values", "learning_rate", "expected"),
    [
        ({}, None, 1e-3),
        ({"pretrained": True}, None, 1e-6),
        ({"init_from": "a.pth"}, None, 1e-6),
        ({"pretrained": True}, 0.5, 0.5),
    ],
)
def test_learning_rate_default_follows_the_start(
    values: dict[str, Any], learning_rate: float | None, expected: float
) -> None:
    settings = TrainSettings.model_validate(values)
    phase = Phase(learning_rate=learning_rate)
    assert settings.effective_learning_rate(phase) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, False),
        ({"pretrained": True}, True),
        ({"init_from": "a.pth"}, True),
        ({"pretrained": True, "freeze_batch_norm": False}, False),
        ({"freeze_batch_norm": True}, True),
    ],
)
def test_batch_norm_is_frozen_by_default_only_with_given_weights(
    values: dict[str, Any], expected: bool
) -> None:
    assert TrainSettings.model_validate(values).effective_freeze_batch_norm is expected
