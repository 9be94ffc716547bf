"""Backbones by name."""

import re
from typing import Any

import pytest
import timm

from models.network.detector import Detector
from reelcheck.errors import SettingsError


@pytest.mark.parametrize("name", ["efficientnet_b33", "resnet_1000000", "test_resnot"])
def test_unknown_backbone_is_refused_with_similar_names(tiny: Any, name: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(repr(name))) as caught:
        Detector(tiny.detector.model_copy(update={"backbone": name}))
    similar = str(caught.value).partition("similar: ")[2].split(", ")
    assert similar
    assert all(timm.is_model(model) for model in similar)
