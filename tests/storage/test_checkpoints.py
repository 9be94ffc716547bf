"""Weights and cards, and that a weights file can run no code."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reelcheck.card import (
    ABOVE_ONE,
    TEMPERATURES,
    Calibration,
    ModelCard,
    PhaseSummary,
    WeightsSource,
)
from reelcheck.config import PreprocessSettings
from reelcheck.errors import StoreError, WeightsError
from reelcheck.train_config import DetectorSettings, HeadLayer, TrainSettings
from storage.checked.names import write_names
from storage.checkpoints import read_card, read_champion, save_checkpoint, set_champion
from storage.layout import ModelLayout, RegistryLayout
from storage.weights import read_weights, weights_to_bytes

WEIGHTS = {"layer.weight": torch.arange(6.0).reshape(2, 3), "steps": torch.tensor(7)}
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
PHASE = PhaseSummary(
    fold=1,
    phase=2,
    learning_rate=1e-3,
    num_trainable=3,
    num_parameters=6,
    num_epochs=4,
    best_epoch=5,
)
SOURCE = WeightsSource(format="sbi", file_name="a.tar", file_sha256="0" * 64, licence="MIT")
IMPORTED = {"training": None, "split_hash": None, "source": SOURCE, "phases": ()}


class WritesMarker:
    """On being unpickled, makes a file: what a hostile checkpoint would do, and worse."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str, int]]:
        return os.open, (str(self.marker), os.O_CREAT | os.O_WRONLY)


def make_card(**changes: object) -> ModelCard:
    preprocessing = PreprocessSettings()
    values: dict[str, object] = {
        "weights_sha256": "0" * 64,
        "detector": DetectorSettings(transformer=None, head=(HeadLayer(width=8),)),
        "num_members": 2,
        "training": TrainSettings(init_from=Path("/weights/b3.pth")),
        "preprocessing": preprocessing,
        "split_hash": "0" * 12,
        "calibration": Calibration(temperature=1, threshold=0.5, real_below=0.4, fake_from=0.6),
        "aggregation": "worst_track_of_mean_sequence_logits",
        "phases": [PHASE],
        "num_videos": {"train": {"real": 2, "fake": 3}},
        "validation": {"f1": 0.75, "epoch": 3, "auroc": None},
        "versions": {"torch": torch.__version__},
        "notes": ("the data was synthetic",),
    }
    return ModelCard.model_validate({**values, **changes})


def assert_same_weights(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        torch.testing.assert_close(tensor, right[name], rtol=0, atol=0)


def test_read_weights_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "model.pth"
    torch.save({"state_dict": WEIGHTS, "extra": WritesMarker(marker)}, path)
    with pytest.raises(WeightsError, match=r"model\.pth.*run code"):
        read_weights(path)
    assert not marker.exists()
    # The payload works: reading it as torch.load once did by default would have run it.
    os.close(torch.load(path, weights_only=False)["extra"])
    assert marker.exists()


@pytest.mark.parametrize("name", ["model.pth", "model.pt", "model.bin", "model.safetensors"])
def test_read_weights_plain_pickle_with_code_is_refused_and_not_run(
    tmp_path: Path, name: str
) -> None:
    marker, path = tmp_path / "marker", tmp_path / name
    path.write_bytes(pickle.dumps(WritesMarker(marker), protocol=2))
    with pytest.raises(WeightsError, match=name):
        read_weights(path)
    assert not marker.exists()


@pytest.mark.parametrize("key", [None, "state_dict", "model"])
@pytest.mark.parametrize("as_zip", [True, False])
def test_read_weights_of_torch_save_nested_or_not(
    tmp_path: Path, key: str | None, as_zip: bool
) -> None:
    path = tmp_path / "model.pth"
    content = WEIGHTS if key is None else {key: WEIGHTS, "epoch": 3}
    torch.save(content, path, _use_new_zipfile_serialization=as_zip)
    assert_same_weights(read_weights(path), WEIGHTS)


def test_read_weights_of_safetensors(tmp_path: Path) -> None:
    safetensors.torch.save_file(WEIGHTS, tmp_path / "model.safetensors")
    assert_same_weights(read_weights(tmp_path / "model.safetensors"), WEIGHTS)


def test_read_weights_of_a_checkpoint_folder(tmp_path: Path) -> None:
    save_checkpoint(ModelLayout(tmp_path), weights_to_bytes(WEIGHTS), make_card())
    assert_same_weights(read_weights(tmp_path), WEIGHTS)
    assert_same_weights(safetensors.torch.load_file(tmp_path / "model.safetensors"), WEIGHTS)


@pytest.mark.parametrize("name", ["absent.pth", "."])
def test_read_weights_without_a_file_says_what_to_give(tmp_path: Path, name: str) -> None:
    with pytest.raises(WeightsError, match=r"is not a file; give \.safetensors"):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"PK\x03\x04" + bytes(40), b"\x80\x02", b"version https://git-lfs.github.com/"],
)
def test_read_weights_of_something_else_is_refused(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"model\."):
        read_weights(path)


@pytest.mark.parametrize("content", [[1, 2], torch.ones(2)], ids=["list", "tensor"])
def test_read_weights_without_names_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(WeightsError, match="not a table of named tensors"):
        read_weights(tmp_path / "model.pth")


def test_read_weights_of_a_table_without_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "model.pth")
    with pytest.raises(WeightsError):
        read_weights(tmp_path / "model.pth")


@pytest.mark.parametrize("kind", ["safetensors", "zip"])
@settings(deadline=None, max_examples=25)
@given(share=st.floats(0, 1, exclude_max=True))
def test_read_weights_cut_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, kind: str, share: float
) -> None:
    folder = tmp_path_factory.mktemp("weights")
    path = folder / ("model.safetensors" if kind == "safetensors" else "model.pth")
    if kind == "safetensors":
        safetensors.torch.save_file(WEIGHTS, path)
    else:
        torch.save(WEIGHTS, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(WeightsError):
        read_weights(path)


def test_read_weights_old_style_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    for length in range(0, len(content), 3):
        path.write_bytes(content[:length])
        with pytest.raises(WeightsError):
            read_weights(path)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), transposed=st.booleans())
def test_weights_to_bytes_same_weights_same_bytes(seed: int, transposed: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    tensor = torch.rand((3, 4), generator=generator)
    weights = {"a": tensor.T if transposed else tensor, "b": torch.tensor(seed)}
    content = weights_to_bytes(weights)
    assert content == weights_to_bytes({"b": weights["b"], "a": weights["a"].clone()})
    assert_same_weights(safetensors.torch.load(content), weights)


@settings(deadline=None, max_examples=30)
@given(
    temperature=st.floats(*TEMPERATURES),
    bounds=st.lists(st.floats(0, ABOVE_ONE), min_size=3, max_size=3).map(sorted),
    validation=st.dictionaries(st.text("abc"), st.none() | NUMBERS | st.integers(-5, 5)),
    notes=st.lists(st.text(st.characters(blacklist_categories=["Cs"]))),
    origin=st.sampled_from([{}, IMPORTED]),
)
def test_card_comes_back_as_saved(
    tmp_path_factory: pytest.TempPathFactory,
    temperature: float,
    bounds: list[float],
    validation: dict[str, float | int | None],
    notes: list[str],
    origin: dict[str, object],
) -> None:
    layout = ModelLayout(tmp_path_factory.mktemp("model"))
    names = ("real_below", "threshold", "fake_from")
    card = make_card(
        calibration={"temperature": temperature, **dict(zip(names, bounds, strict=True))},
        validation=validation,
        notes=notes,
        **origin,
    )
    save_checkpoint(layout, b"weights", card)
    assert read_card(layout) == card
    assert layout.weights_path.read_bytes() == b"weights"


def test_save_checkpoint_weights_that_fail_leave_no_card(tmp_path: Path) -> None:
    layout = ModelLayout(tmp_path)
    layout.weights_path.mkdir()  # nothing can be renamed over a folder
    with pytest.raises(OSError, match=r"model\.safetensors"):
        save_checkpoint(layout, b"weights", make_card())
    assert not layout.card_path.exists()


def test_read_card_without_model_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"holds no model \(no card\.json\)"):
        read_card(ModelLayout(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        {"card_version": 1},
        {"aggregation": "mean"},
        {"surprise": 1},
        {"calibration": None},
        {"detector": None},
        {"num_members": 0},
        {"preprocessing": {"margin": 9}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_read_card_of_another_kind_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    layout = ModelLayout(tmp_path)
    values = {**json.loads(make_card().model_dump_json()), **change}
    layout.card_path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(StoreError, match=r"card\.json is not a model card of this version"):
        read_card(layout)


OPTIONAL = {
    *("card_version", "num_members", "shares_backbone", "source", "initial_weights"),
    *("phases", "notes"),
}


@pytest.mark.parametrize("name", sorted(ModelCard.model_fields.keys() - OPTIONAL))
def test_read_card_that_lacks_a_value_is_refused(tmp_path: Path, name: str) -> None:
    layout = ModelLayout(tmp_path)
    values = json.loads(make_card().model_dump_json())
    del values[name]
    layout.card_path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(StoreError, match="not a model card"):
        read_card(layout)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]"])
def test_read_card_damaged_is_refused(tmp_path: Path, content: bytes) -> None:
    layout = ModelLayout(tmp_path)
    layout.card_path.write_bytes(content)
    with pytest.raises(StoreError, match=r"card\.json"):
        read_card(layout)


def test_champion_none_until_one_is_set(tmp_path: Path) -> None:
    assert read_champion(RegistryLayout(tmp_path / "registry")) is None


@pytest.mark.parametrize("name", ["../elsewhere", "/tmp/model", "..", "a/b"])
def test_champion_that_leads_out_of_the_registry_is_refused(tmp_path: Path, name: str) -> None:
    registry = RegistryLayout(tmp_path)
    write_names(registry.champion_path, [name])
    with pytest.raises(StoreError, match="no folder in the registry"):
        read_champion(registry)


def test_champion_is_the_last_one_set(tmp_path: Path) -> None:
    registry = RegistryLayout(tmp_path / "registry")
    for version in ("v1", "v2"):
        set_champion(registry, version)
        assert read_champion(registry) == version
    assert [path.name for path in registry.path.iterdir()] == ["champion"]
    assert registry.version("v2").path == registry.path / "v2"
