"""Backbones by name, and what is said where one cannot be had."""

import os
import re
import subprocess
import sys
from pathlib import Path
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


def test_pretrained_without_the_hub_names_both_remedies(tmp_path: Path) -> None:
    # A process of its own: huggingface_hub reads its environment when it is imported.
    script = """
from models.network.detector import Detector
from reelcheck.train_config import DetectorSettings
from reelcheck.errors import WeightsError
try:
    Detector(DetectorSettings(backbone="test_resnet", transformer=None), pretrained=True)
except WeightsError as error:
    print(error)
"""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HUB_CACHE": str(tmp_path),
        "HF_HOME": str(tmp_path),
    }
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert "test_resnet" in result.stdout
    assert "--init-from" in result.stdout
    assert "hub" in result.stdout
    assert "--from-scratch" in result.stdout
