"""Values of ``key=value``: lists and tables as in TOML, all else as text; and typed changes."""

from pathlib import Path

import pytest

from reelcheck.config import GateSettings, RunSettings
from reelcheck.errors import SettingsError
from reelcheck.settings import load_settings
from reelcheck.train_config import HeadLayer, Phase, TrainSettings


def load_train(*overrides: str) -> TrainSettings:
    return load_settings(TrainSettings, section="train", overrides=overrides)


@pytest.mark.parametrize("text", ["[0.5,0.25,1]", " [ 0.5, 0.25, 1 ]", "[\n0.5,\n0.25,\n1,\n]"])
def test_list_is_written_as_in_toml(text: str) -> None:
    assert load_train(f"detector.pixel_mean={text}").detector.pixel_mean == (0.5, 0.25, 1.0)


def test_list_of_tables_takes_the_place_of_the_one_before() -> None:
    loaded = load_train("phases=[{max_epochs=2}, {max_epochs=3, learning_rate=1e-4}]")
    assert loaded.phases == (Phase(max_epochs=2), Phase(max_epochs=3, learning_rate=1e-4))


def test_later_value_changes_a_place_of_an_earlier_list() -> None:
    loaded = load_train("phases=[{max_epochs=2}, {max_epochs=3}]", "phases.1.max_epochs=7")
    assert [phase.max_epochs for phase in loaded.phases] == [2, 7]


def test_table_changes_what_it_names_only() -> None:
    loaded = load_train("detector.transformer={depth=2}").detector.transformer
    assert loaded is not None
    assert (loaded.depth, loaded.feature_dim) == (2, 512)


def test_tables_and_no_value_go_together() -> None:
    loaded = load_train("detector.transformer=none", "detector.head=[{width=64, dropout=0.5}]")
    assert loaded.detector.head == (HeadLayer(width=64, dropout=0.5),)


@pytest.mark.parametrize(("text", "names"), [('["jpeg 50"]', ("jpeg 50",)), ("[]", ())])
def test_list_of_texts_may_be_empty(text: str, names: tuple[str, ...]) -> None:
    loaded = load_settings(GateSettings, section="gate", overrides=[f"perturbations={text}"])
    assert loaded.perturbations == names


@pytest.mark.parametrize("name", ["2024", "1.50", "true", "0x10", "2024-01-01", "a b.pth", "a=b"])
def test_path_that_looks_like_a_number_stays_as_it_is(name: str) -> None:
    assert load_train(f"init_from={name}").init_from == Path(name)
    assert load_train(f'init_from="{name}"').init_from == Path(name)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        (
            "detector.pixel_mean=[0.5,0.5]",
            ("detector.pixel_mean = [0.5, 0.5]", "Item 2", "missing"),
        ),
        ("detector.pixel_mean=[1,2,3,4]", ("detector.pixel_mean = [1, 2, 3, 4]", "at most 3")),
        ("detector.pixel_mean=0.5", ("detector.pixel_mean = '0.5'", "list, such as [0.5")),
        ("detector.pixel_std=[1,0,1]", ("detector.pixel_std.1 = 0", "greater than 0")),
        ("detector.pixel_mean=[0.5,x]", ("detector.pixel_mean = [0.5,x]", "TOML", '["jpeg 50"]')),
        ("phases=[{max_epochs=0}]", ("phases.0.max_epochs = 0", "greater than or equal to 1")),
        ("phases=[{epochs=1}]", ("phases.0.epochs", "known are max_epochs, learning_rate")),
        ("detector.transformer.dept=1", ("detector.transformer.dept", "known are feature_dim")),
        ("detector.head=[3]", ("detector.head.0 = 3",)),
    ],
)
def test_wrong_list_names_key_value_and_what_is_allowed(
    override: str, parts: tuple[str, ...]
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_train(override)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_changes_are_typed_and_what_a_person_wrote_comes_after_them(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("[run]\nnum_workers = 2\nshard_size = 3\n", encoding="utf-8")
    loaded = load_settings(
        RunSettings,
        section="run",
        config_path=path,
        changes={"num_workers": 4, "compress_crops": True},
        overrides=["compress_crops=false"],
    )
    assert (loaded.num_workers, loaded.shard_size, loaded.compress_crops) == (4, 3, False)


def test_wrong_change_is_shown_as_it_was_given() -> None:
    with pytest.raises(SettingsError, match="num_workers = 0: "):
        load_settings(RunSettings, section="run", changes={"num_workers": 0})
