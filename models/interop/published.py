"""Published deepfake detectors of others -> a detector without Transformer.

Everything that decides a score is converted: the network, its zero padding, the pixels that it was
trained on. The formats of the files were read in the repositories named below.

Crops cannot be the same, since each project cuts faces out by another face detector. The margins
are given for the square boxes of BlazeFace. On real faces (medians of 111 frontal ones) their side
is 1 / 0.391 of the distance between the eyes, and 1 / 0.423 of the distance from eyes to mouth.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from models.interop.convert import Weights, convert_backbone, format_names, strip_wrappers
from reelcheck.config import PreprocessSettings
from reelcheck.errors import SettingsError, WeightsError
from reelcheck.train_config import DetectorSettings, PaddingSettings
from reelcheck.weights.formats import DetectorFormat, Naming, PaddingStyle

RGBValues = tuple[float, float, float]

_IMAGENET: tuple[RGBValues, RGBValues] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF: tuple[RGBValues, RGBValues] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_NONE: tuple[RGBValues, RGBValues] = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
_BATCH_NORM_EPS = 1e-5
"""torch's default, which the only published head with a batch norm uses."""
_BUILT_FOR_PIXELS = {"tf_efficientnet_b4": 380}
"""``efficientnet_pytorch`` builds every B4 for this size, whatever it is given."""
_HEAD = "head.layers.1"
"""Last layer of a detector without Transformer and without hidden layers."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Names by which one kind of file stores the pieces of a detector."""

    backbone: str
    """timm's name."""
    naming: Naming
    prefix: str
    """Prefix of the backbone's names."""
    head: str
    head_norm: str | None = None
    """A batch norm between backbone and head."""
    unused: str | None = None
    """Prefix of layers that the original does not run."""
    unpadded_stem: bool = False


@dataclass(frozen=True, kw_only=True)
class Published:
    """Facts about the detectors of one project."""

    layouts: tuple[Layout, ...]
    pixels: int
    normalisation: tuple[RGBValues, RGBValues]
    """Mean and deviation of RGB in [0, 1]."""
    margin: float
    align_eyes: bool = False
    padding: PaddingStyle | None = None
    licence: str
    url: str
    notes: tuple[str, ...]


PUBLISHED: dict[DetectorFormat, Published] = {
    "sbi": Published(
        layouts=(
            Layout(
                backbone="tf_efficientnet_b4", naming="lukemelas", prefix="net.", head="net._fc"
            ),
        ),
        pixels=380,
        normalisation=_NONE,
        # Theirs: RetinaFace box and an eighth of its width and height on each side, stretched to a
        # square. Ours: where the eyes are as far apart, if such boxes are SphereFace's 96 x 112.
        margin=1.4,
        padding="efficientnet-pytorch-0.7",
        licence="SelfBlendedImages: research and non-commercial use only; derivatives belong to "
        "the licensor",
        url="https://github.com/mapooon/SelfBlendedImages",
        notes=(
            "the original stretches an upright RetinaFace box to a square; here the square is cut",
        ),
    ),
    "dfbench": Published(
        layouts=(
            Layout(
                backbone="tf_efficientnet_b4",
                naming="lukemelas",
                prefix="backbone.efficientnet.",
                head="backbone.last_layer",
                unpadded_stem=True,
            ),
            Layout(
                backbone="legacy_xception",
                naming="timm",
                prefix="backbone.",
                head="backbone.last_linear",
                unused="backbone.adjust_channel.",
            ),
        ),
        pixels=256,
        normalisation=_HALF,
        # Theirs: five points aligned to ArcFace's template, enlarged by 1.3, which puts the eyes
        # 0.242 of the side apart and 0.280 above the mouth.
        margin=1.55,
        align_eyes=True,
        padding="efficientnet-pytorch-0.7",
        licence="DeepfakeBench: CC BY-NC 4.0",
        url="https://github.com/SCLBD/DeepfakeBench",
        notes=(
            "the original aligns eyes, nose and mouth to a template; here only the eyes are "
            "levelled, and the face sits about 7% of the side higher",
        ),
    ),
    "dfdc": Published(
        layouts=(
            Layout(
                backbone="tf_efficientnet_b7",
                naming="timm",
                prefix="encoder.",
                head="fc",
                unused="encoder.classifier.",
            ),
        ),
        pixels=380,
        normalisation=_IMAGENET,
        # Theirs: MTCNN box and a third of it on each side; ours as for sbi.
        margin=2.0,
        licence="dfdc_deepfake_challenge: code MIT; the DFDC data's terms for weights are unclear",
        url="https://github.com/selimsef/dfdc_deepfake_challenge",
        notes=(
            "one of seven networks whose mean the original takes",
            "the original fills its oblong crops up with black; here the square is cut",
        ),
    ),
    "polimi": Published(
        layouts=(
            Layout(
                backbone="tf_efficientnet_b4",
                naming="lukemelas",
                prefix="efficientnet.",
                head="classifier",
            ),
            Layout(
                backbone="tf_efficientnet_b4",
                naming="lukemelas",
                prefix="feat_ext.efficientnet.",
                head="classifier.1",
                head_norm="classifier.0",
                unused="feat_ext.classifier.",
            ),
            Layout(
                backbone="legacy_xception",
                naming="timm",
                prefix="xception.",
                head="xception.last_linear",
            ),
        ),
        pixels=224,
        normalisation=_IMAGENET,
        # Theirs: BlazeFace box, 0.4 of its height added above and 0.2 on the other sides.
        margin=1.6,
        # Their environment names no release; 0.6.3 was the last one when the files were made.
        padding="efficientnet-pytorch-0.6",
        licence="icpr2020dfdc: repository GPL-3.0; none stated for the weights",
        url="https://github.com/polimi-ispl/icpr2020dfdc",
        notes=(
            "which release of efficientnet_pytorch the weights were made with is not known",
            "the original's crops reach a tenth of the box higher",
        ),
    ),
}


@dataclass(frozen=True, kw_only=True)
class ImportedDetector:
    """A published detector, converted."""

    detector: DetectorSettings
    preprocessing: PreprocessSettings
    weights: Weights
    """Weights of a whole ``Detector``."""


def convert_detector(
    weights: Mapping[str, Tensor],
    format: DetectorFormat,
    *,
    backbone: str | None = None,
    pixels: int | None = None,
    padding_style: PaddingStyle | None = None,
) -> ImportedDetector:
    """Convert to a detector whose logit is that of the original's P(fake).

    Args:
        weights: named tensors, as the project saved them.
        format: project that the weights come from.
        backbone: timm's name, where it is not the published one.
        pixels: side of the input; None: what the original takes.
        padding_style: release of ``efficientnet_pytorch``, where it is not the assumed one.

    Raises:
        SettingsError: no such backbone, or one that these weights cannot fit.
        WeightsError: the names or the shapes are not those of this project's networks.
    """
    published = PUBLISHED[format]
    given = strip_wrappers(weights, ("module.", "_orig_mod.", "model."))
    layout = _find_layout(given, format)
    backbone = backbone or layout.backbone
    given = {k: v for k, v in given.items() if not (layout.unused and k.startswith(layout.unused))}
    head_weight, head_bias = _make_one_logit(*_take_head(given, layout))
    if foreign := [key for key in given if not key.startswith(layout.prefix)]:
        raise WeightsError(
            f"this is a {format} file with layers that its {layout.backbone} does not have: "
            f"{format_names(foreign)}; only plain classifiers can be imported"
        )
    renamed = convert_backbone(
        {key.removeprefix(layout.prefix): value for key, value in given.items()},
        backbone,
        layout.naming,
    )
    side = pixels or published.pixels
    mean, std = published.normalisation
    return ImportedDetector(
        detector=DetectorSettings(
            backbone=backbone,
            input_pixels=side,
            pixel_mean=mean,
            pixel_std=std,
            transformer=None,
            padding=_find_padding(layout, backbone, padding_style or published.padding),
        ),
        preprocessing=PreprocessSettings(
            crop_pixels=side, margin=published.margin, align_eyes=published.align_eyes
        ),
        weights={
            **{f"backbone.{key}": value for key, value in renamed.items()},
            f"{_HEAD}.weight": head_weight,
            f"{_HEAD}.bias": head_bias,
        },
    )


def _find_layout(given: Weights, format: DetectorFormat) -> Layout:
    if any(".attconv." in key for key in given):
        raise WeightsError(
            "this is an AutoAttB4, whose attention inside the network no timm backbone has; "
            "take an EfficientNetB4 or EfficientNetB4ST of the same project"
        )
    for layout in PUBLISHED[format].layouts:
        if f"{layout.head}.weight" in given and any(k.startswith(layout.prefix) for k in given):
            return layout
    heads = " nor ".join(layout.head for layout in PUBLISHED[format].layouts)
    raise WeightsError(
        f"this is no {format} file that can be imported: there is no {heads} in it, but "
        f"{format_names(given)}. Give the format that it was made in"
    )


def _take_head(given: Weights, layout: Layout) -> tuple[Tensor, Tensor]:
    """Take weight (K, D) and bias (K,) of the last layer, including a batch norm before it."""
    weight, bias = (_take(given, f"{layout.head}.{leaf}").double() for leaf in ("weight", "bias"))
    if layout.head_norm is None:
        return weight, bias
    scale, offset, mean, variance = (
        _take(given, f"{layout.head_norm}.{leaf}").double()
        for leaf in ("weight", "bias", "running_mean", "running_var")
    )
    given.pop(f"{layout.head_norm}.num_batches_tracked", None)
    scale = scale / (variance + _BATCH_NORM_EPS).sqrt()
    return weight * scale, bias + weight @ (offset - mean * scale)


def _make_one_logit(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Turn two classes, the second fake, into one: softmax(z)[1] = sigmoid(z[1] - z[0])."""
    if len(weight) == 2:
        weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
    if len(weight) != 1:
        raise WeightsError(
            f"the last layer has {len(weight)} outputs; a detector has one, or two of which the "
            "second is fake. Import a backbone by the format lukemelas, torchvision or timm"
        )
    return weight.to(torch.float32), bias.to(torch.float32)


def _take(given: Weights, key: str) -> Tensor:
    if key not in given:
        raise WeightsError(f"the file lacks {key}; give the whole file as it was published")
    return given.pop(key)


def _find_padding(
    layout: Layout, backbone: str, style: PaddingStyle | None
) -> PaddingSettings | None:
    if layout.naming != "lukemelas" or style is None:
        return None
    if backbone not in _BUILT_FOR_PIXELS:
        raise SettingsError(
            f"the padding of this project's {backbone} is not known; "
            f"known are {', '.join(_BUILT_FOR_PIXELS)}"
        )
    return PaddingSettings(
        style=style,
        built_for_pixels=_BUILT_FOR_PIXELS[backbone],
        unpadded_stem=layout.unpadded_stem,
    )
