"""The ONNX file answers as the detector does, for any number of sequences and frames."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from models.data.batching import Batch
from models.interop.export import INPUTS, Exported, export_onnx, export_parts
from models.interop.runtime import HEAD_OUTPUTS
from models.network.detector import Detector, Ensemble
from models.network.heads import Detection, FrameHead
from reelcheck.errors import ExportError
from reelcheck.train_config import DetectorSettings, HeadLayer, PaddingSettings, TransformerSettings

CROP_PIXELS = 40
TOLERANCE = 5e-5
Settings = dict[str, Any]
FRAMES_ALONE: Settings = {"backbone": "test_resnet", "transformer": None}
TRANSFORMER = TransformerSettings(feature_dim=16, depth=2, num_heads=2, dropout=0.5)
PADDING = PaddingSettings(
    style="efficientnet-pytorch-0.7", built_for_pixels=380, unpadded_stem=True
)
KINDS: dict[str, tuple[Settings, int]] = {
    "frames, enlarged": (
        {**FRAMES_ALONE, "input_pixels": 56, "head": (HeadLayer(width=8, dropout=0.5),)},
        1,
    ),
    "two folds, shrunk": (
        {"backbone": "test_resnet", "transformer": TRANSFORMER, "input_pixels": 32},
        2,
    ),
    "foreign padding": (
        {**FRAMES_ALONE, "backbone": "tf_mobilenetv3_small_minimal_100", "padding": PADDING},
        1,
    ),
}
Run = Callable[[Batch, Tensor], dict[str, NDArray[np.float32]]]


def random_frames(*shape: int, side: int = CROP_PIXELS, seed: int = 0) -> Tensor:
    """Noise over blocks of noise: neither disappears when a picture is shrunk."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 200, (*shape, 3, side // 8, side // 8)).repeat(8, -1).repeat(8, -2)
    return torch.from_numpy((blocks + rng.integers(0, 56, blocks.shape)).astype(np.uint8))


def padded_batch(mask_BT: Tensor, *, seed: int) -> tuple[Batch, Tensor]:
    """A batch as our detector takes it, and its frames with noise in the padding."""
    rng = np.random.default_rng(seed)
    frames_BTCHW = random_frames(*mask_BT.shape, seed=seed)
    seconds_BT = torch.from_numpy(rng.normal(0, 100, mask_BT.shape)).float().sort(1).values
    batch = Batch(
        frames_NCHW=frames_BTCHW[mask_BT],
        seconds_BT=seconds_BT,
        mask_BT=mask_BT,
        labels_B=torch.zeros(len(mask_BT)),
        indices_B=torch.arange(len(mask_BT)),
    )
    return batch, frames_BTCHW


def runner(model: bytes) -> Run:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

    def run(batch: Batch, frames_BTCHW: Tensor) -> dict[str, NDArray[np.float32]]:
        inputs = (frames_BTCHW, batch.seconds_BT, batch.mask_BT)
        feed = {name: tensor.numpy() for name, tensor in zip(INPUTS, inputs, strict=True)}
        return dict(zip(HEAD_OUTPUTS, session.run(HEAD_OUTPUTS, feed), strict=True))

    return run


@pytest.fixture(scope="module")
def make(random_network: Callable[[Any, Any], Any]) -> Callable[..., Detector | Ensemble]:
    """A function that makes a detector whose answers depend on its pictures."""

    def make_detector(settings: Settings, num_members: int = 1) -> Detector | Ensemble:
        torch.manual_seed(0)
        detector = (
            Ensemble(DetectorSettings(**settings), num_members=num_members)
            if num_members > 1
            else Detector(DetectorSettings(**settings))
        )
        for member in getattr(detector, "members", [detector]):
            random_network(member.backbone, member.to_input(random_frames(12)))
        return detector.float().eval()

    return make_detector


@pytest.fixture(scope="module", params=KINDS)
def pair(
    request: pytest.FixtureRequest, make: Callable[..., Detector | Ensemble]
) -> tuple[Detector | Ensemble, Run]:
    """A detector and its ONNX file."""
    detector = make(*KINDS[request.param])
    exported = export_onnx(detector, crop_pixels=CROP_PIXELS, metadata={})
    assert exported.max_difference <= TOLERANCE
    return detector, runner(exported.model)


@st.composite
def masks(draw: st.DrawFn) -> Tensor:
    """(B, T), somewhere True in each row; padding anywhere."""
    num_frames = draw(st.integers(1, 9))
    row = st.lists(st.booleans(), min_size=num_frames, max_size=num_frames).filter(any)
    return torch.tensor(draw(st.lists(row, min_size=1, max_size=4)))


@settings(max_examples=15)
@given(mask_BT=masks(), seed=st.integers(0, 1000))
def test_onnxruntime_gives_the_answers_of_the_detector(
    pair: tuple[Detector | Ensemble, Run], mask_BT: Tensor, seed: int
) -> None:
    detector, run = pair
    batch, frames_BTCHW = padded_batch(mask_BT, seed=seed)
    with torch.inference_mode():
        expected: Detection = detector(batch)
    answers = run(batch, frames_BTCHW)
    shown = mask_BT.numpy()
    for name, answer in answers.items():
        wanted = getattr(expected, name).numpy()
        chosen = ... if answer.ndim == 1 else shown
        np.testing.assert_allclose(answer[chosen], wanted[chosen], atol=TOLERANCE, rtol=0)
    assert (answers["frame_weights_BT"][~shown] == 0).all()


def test_the_answers_depend_on_every_frame(pair: tuple[Detector | Ensemble, Run]) -> None:
    _, run = pair
    batch, frames_BTCHW = padded_batch(torch.ones(1, 3, dtype=torch.bool), seed=1)
    before = run(batch, frames_BTCHW)["logits_B"]
    for frame in range(3):
        changed_BTCHW = frames_BTCHW.clone()
        changed_BTCHW[:, frame] = 255 - changed_BTCHW[:, frame]
        # Otherwise equal answers would say nothing.
        assert abs(run(batch, changed_BTCHW)["logits_B"] - before) > 100 * TOLERANCE


METADATA = {"model_id": "abc", "temperature": "1.5"}


@pytest.fixture(scope="module")
def in_evaluation() -> tuple[Detector, Exported]:
    """A detector of random weights that was exported in evaluation mode."""
    detector = Detector(DetectorSettings.model_validate(FRAMES_ALONE)).eval()
    return detector, export_onnx(detector, crop_pixels=CROP_PIXELS, metadata=METADATA)


def test_file_says_what_it_takes_and_nothing_of_the_machine(
    in_evaluation: tuple[Detector, Exported],
) -> None:
    detector, exported = in_evaluation
    model = onnx.load_model_from_string(exported.model)
    onnx.checker.check_model(model, full_check=True)
    types = {
        value.name: (
            onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
            [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in (*model.graph.input, *model.graph.output)
    }
    assert types == {
        "frames_BTCHW": ("uint8", ["B", "T", 3, CROP_PIXELS, CROP_PIXELS]),
        "seconds_BT": ("float32", ["B", "T"]),
        "mask_BT": ("bool", ["B", "T"]),
        "logits_B": ("float32", ["B"]),
        "frame_logits_BT": ("float32", ["B", "T"]),
        "frame_weights_BT": ("float32", ["B", "T"]),
    }
    assert {entry.key: entry.value for entry in model.metadata_props} == METADATA
    assert b".py" not in exported.model
    num_bytes = sum(tensor.nbytes for tensor in detector.state_dict().values())
    # All weights, and little else; batch norms disappear in the convolutions.
    assert 0.95 * num_bytes < len(exported.model) < 1.1 * num_bytes


def test_detector_in_training_is_left_as_it_was_and_gives_the_same_bytes(
    in_evaluation: tuple[Detector, Exported],
) -> None:
    detector = copy.deepcopy(in_evaluation[0]).train()
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    exported = export_onnx(detector, crop_pixels=CROP_PIXELS, metadata=METADATA)
    assert exported == in_evaluation[1]
    assert detector.training
    assert detector.backbone.training
    for name, tensor in detector.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_weights_that_are_no_numbers_are_refused() -> None:
    detector = Detector(DetectorSettings.model_validate(FRAMES_ALONE))
    torch.nn.init.constant_(detector.head.layers[-1].bias, torch.nan)
    with pytest.raises(ExportError, match="differ by nan"):
        export_onnx(detector, crop_pixels=32, metadata={})


class OtherwiseInExport(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.backbone(x)
        return features + 1 if torch.compiler.is_exporting() else features


def test_model_that_answers_otherwise_in_onnxruntime_is_refused() -> None:
    detector = Detector(DetectorSettings.model_validate(FRAMES_ALONE))
    detector.backbone = OtherwiseInExport(detector.backbone)
    with pytest.raises(ExportError, match=r"differ by 0\.\d+ in a logit"):
        export_onnx(detector, crop_pixels=32, metadata={})


class WayByPixels(OtherwiseInExport):
    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.backbone(x)
        return features if float(features.sum()) > 0 else -features


def test_network_that_onnx_cannot_express_is_refused() -> None:
    detector = Detector(DetectorSettings.model_validate(FRAMES_ALONE))
    detector.backbone = WayByPixels(detector.backbone)
    with pytest.raises(ExportError, match="cannot express") as caught:
        export_onnx(detector, crop_pixels=32, metadata={})
    assert "\n" not in str(caught.value)


def test_model_too_large_for_one_file_is_refused_before_any_work() -> None:
    wide = TransformerSettings(feature_dim=2**13, depth=3)
    with torch.device("meta"):  # 9 GB of weights without the memory
        detector = Detector(DetectorSettings(backbone="test_resnet", transformer=wide))
    with pytest.raises(ExportError, match=r"take 9\.\d GiB"):
        export_onnx(detector, crop_pixels=32, metadata={})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "crop_pixels"),
    [
        ({}, 112),
        ({"backbone": "efficientnet_b0", "transformer": None, "input_pixels": 224}, 112),
        ({"backbone": "tf_efficientnet_b4", "transformer": None, "padding": PADDING}, 96),
        ({"backbone": "tf_efficientnetv2_s", "transformer": None, "input_pixels": 96}, 112),
    ],
    ids=["main detector", "b0", "imported b4", "v2s"],
)
def test_real_backbones_export(settings: Settings, crop_pixels: int) -> None:
    torch.manual_seed(0)
    detector = Detector(DetectorSettings(**settings))
    exported = export_onnx(detector, crop_pixels=crop_pixels, metadata={})
    assert exported.max_difference <= TOLERANCE


@pytest.mark.parametrize(
    ("backbone", "layers", "transformer"),
    [("test_vit", (1, 3), None), ("test_resnet", (1, 2), TransformerSettings(feature_dim=16))],
)
def test_layers_inside_a_backbone_export(
    backbone: str, layers: tuple[int, ...], transformer: TransformerSettings | None
) -> None:
    torch.manual_seed(0)
    settings = {"backbone": backbone, "feature_layers": layers, "transformer": transformer}
    detector = Detector(DetectorSettings.model_validate({**settings, "input_pixels": 160}))
    standardiser = detector.head.standardise
    assert standardiser is not None
    torch.nn.init.normal_(standardiser.mean_D)
    torch.nn.init.uniform_(standardiser.variance_D, 0.5, 2)
    if isinstance(detector.head, FrameHead):
        # It begins with zeros, with which every export agrees.
        torch.nn.init.normal_(detector.head.layers[-1].weight, std=0.05)
    exported = export_parts(detector, crop_pixels=32)
    assert exported.max_difference <= TOLERANCE
