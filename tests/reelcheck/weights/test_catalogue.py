"""The catalogue: every entry can be used as it stands, and a wrong one is found."""

from typing import Any

import pytest
import timm

from reelcheck.errors import SettingsError
from reelcheck.recipes import load_recipe, recipe_names
from reelcheck.settings import validated
from reelcheck.weights.catalogue import (
    CatalogueEntry,
    find_entry,
    load_catalogue,
    require_accepted_licence,
    require_backbone_of_entry,
)

ENTRIES = list(load_catalogue().values())
LITE0 = load_catalogue()["efficientnet-lite0"]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_entry_names_a_backbone_that_timm_has(entry: CatalogueEntry) -> None:
    assert timm.is_model(entry.backbone)


@pytest.mark.parametrize(
    "entry", [e for e in ENTRIES if e.format == "timm"], ids=lambda entry: entry.name
)
def test_entry_of_timms_says_what_timm_says(entry: CatalogueEntry) -> None:
    config = timm.get_pretrained_cfg(entry.backbone)
    assert entry.source.model_dump()["repo"] == config.hf_hub_id
    assert (entry.pixel_mean, entry.pixel_std) == (config.mean, config.std)
    assert entry.pixels == config.input_size[-1]
    assert entry.licence.lower() == config.license


def test_hash_begins_the_file_name_where_the_name_holds_it() -> None:
    for entry in ENTRIES:
        if entry.name.startswith(("efficientnet-lite", "polimi")):
            assert entry.sha256 is not None
            digits = entry.file_name.removesuffix(".pth").rpartition("-")[2]
            assert entry.sha256.startswith(digits)


def test_every_pretrained_recipe_has_weights_in_the_catalogue() -> None:
    known = {entry.backbone for entry in ENTRIES if entry.kind == "backbone"}
    for name in recipe_names():
        train = load_recipe(name).train
        assert not train.pretrained or train.detector.backbone in known, name


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"kind": "detector"}, "does not give a detector"),
        ({"kind": "model"}, "kind = 'model'"),
        ({"format": "sbi"}, "does not give a backbone"),
        ({"format": "keras"}, "format = 'keras'"),
        ({"pixel_mean": None}, "need both"),
        ({"pixel_std": (0.5, 0.5)}, "pixel_std"),
        ({"sha256": "XYZ"}, "sha256"),
        ({"sha256": "57934424"}, "sha256"),
        ({"num_bytes": 0}, "num_bytes"),
        ({"cites": ()}, "cites"),
        ({"licence": None}, "licence"),
        ({"commercial_use": "yes"}, "commercial_use"),
        ({"name": "../evil"}, "name"),
        ({"colour": "red"}, "colour: no such setting"),
        ({"source": {"kind": "url", "url": "http://a/b"}}, "url"),
        ({"source": {"kind": "ftp", "url": "ftp://a/b"}}, "kind"),
        ({"source": {"kind": "wheel", "requirement": "a>=1", "member": "b"}}, "requirement"),
        ({"source": {"kind": "hub", "repo": "a"}}, "repo"),
    ],
)
def test_wrong_entry_is_refused(change: dict[str, Any], match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        validated(CatalogueEntry, {**LITE0.model_dump(), **change})


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"no weights named 'lite9'.*efficientnet-lite0, "):
        find_entry("lite9")
    assert find_entry("efficientnet-lite0") is LITE0


def test_licence_that_allows_every_use_wants_no_consent() -> None:
    require_accepted_licence(LITE0, is_accepted=False)
    forbidden = load_catalogue()["dfbench-xception"]
    require_accepted_licence(forbidden, is_accepted=True)
    with pytest.raises(SettingsError, match=r"CC BY-NC 4.0.*--accept-licence"):
        require_accepted_licence(forbidden, is_accepted=False)


def test_weights_for_another_backbone_are_refused_with_the_right_one() -> None:
    require_backbone_of_entry(LITE0, "tf_efficientnet_lite0")
    with pytest.raises(SettingsError, match=r"--set detector\.backbone=tf_efficientnet_lite0"):
        require_backbone_of_entry(LITE0, "efficientnet_b3")
