"""What is not a weights file of the named kind is refused, in one line and without a trace."""

from pathlib import Path
from typing import Any

import efficientnet_pytorch
import pytest
import torch

from reelcheck.errors import MismatchError, SettingsError, WeightsError
from storage.checkpoints import read_card
from storage.layout import ModelLayout
from storage.weights import Weights
from tasks.checkpoints.import_weights import import_weights


@pytest.fixture(scope="module")
def polimi() -> Weights:
    """A file of polimi's: EfficientNet-B4 and one logit."""
    network = efficientnet_pytorch.EfficientNet.from_name("efficientnet-b4", include_top=False)
    return {
        **{f"efficientnet.{name}": value for name, value in network.state_dict().items()},
        "classifier.weight": torch.zeros(1, 1792),
        "classifier.bias": torch.zeros(1),
    }


class Evil:
    def __reduce__(self) -> Any:
        return print, ("code of the file has run",)


@pytest.mark.parametrize("format", ["timm", "sbi"])
def test_code_in_a_file_is_not_run(
    format: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"net._fc.weight": torch.ones(1), "evil": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="could run code"):
        import_weights(tmp_path / "evil.pth", tmp_path / "m", format=format, backbone="test_resnet")
    assert "code of the file" not in capsys.readouterr().out
    assert not (tmp_path / "m").exists()


def test_another_project_is_refused(polimi: Weights, tmp_path: Path) -> None:
    torch.save(polimi, tmp_path / "weights.pth")
    for format in ("sbi", "dfbench", "dfdc"):
        with pytest.raises(WeightsError, match=f"weights.pth: this is no {format} file"):
            import_weights(tmp_path / "weights.pth", tmp_path / "m", format=format)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"efficientnet.attconv.weight": torch.ones(1, 56, 1, 1)}, "AutoAttB4"),
        ({"loss.margin": torch.ones(1)}, "loss.margin"),
        ({"efficientnet._swish.beta": torch.ones(1)}, "unknown _swish.beta"),
        ({"classifier.weight": torch.ones(3, 1792), "classifier.bias": torch.ones(3)}, "3 outputs"),
    ],
)
def test_detectors_that_are_no_plain_classifier_are_refused(
    extra: Any, message: str, polimi: Weights, tmp_path: Path
) -> None:
    torch.save(polimi | extra, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=message):
        import_weights(tmp_path / "weights.pth", tmp_path / "m", format="polimi")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "unheard-of"}, "known are lukemelas"),
        ({"format": "timm"}, "--backbone NAME"),
        ({"format": "timm", "backbone": "no_such_network"}, "no_such_network"),
        ({"format": "timm", "backbone": "test_resnet", "pixels": 64}, "takes any size"),
        ({"format": "polimi", "backbone": "tf_efficientnet_b3"}, "not lukemelas weights"),
    ],
)
def test_bad_options(options: Any, message: str, polimi: Weights, tmp_path: Path) -> None:
    torch.save(polimi, tmp_path / "weights.pth")
    with pytest.raises((SettingsError, WeightsError), match=message):
        import_weights(tmp_path / "weights.pth", tmp_path / "m", **options)


def test_a_folder_with_another_model_is_left_alone(polimi: Weights, tmp_path: Path) -> None:
    file, out = tmp_path / "weights.pth", tmp_path / "model"
    torch.save(polimi, file)
    first = import_weights(file, out, format="polimi")
    torch.save(polimi | {"classifier.bias": torch.ones(1)}, file)
    with pytest.raises(MismatchError, match="another model"):
        import_weights(file, out, format="polimi")
    assert read_card(ModelLayout(out)) == first
