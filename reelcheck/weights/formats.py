"""Formats of weights that other projects publish, and the options that each of them takes."""

from typing import Literal, get_args

from reelcheck.errors import SettingsError

Naming = Literal["lukemelas", "torchvision", "timm", "clip"]
"""Names of a network's tensors; lukemelas: the library ``efficientnet_pytorch``; clip: the picture
encoder of CLIP in the library ``transformers``."""
DetectorFormat = Literal["sbi", "dfbench", "dfdc", "polimi"]
"""Projects that publish whole detectors; see ``models/interop/published.py``."""
WeightsFormat = Literal[Naming, DetectorFormat]
PaddingStyle = Literal["efficientnet-pytorch-0.6", "efficientnet-pytorch-0.7"]
"""Releases of a library that pad differently."""

NAMINGS: tuple[Naming, ...] = get_args(Naming)
DETECTOR_FORMATS: tuple[DetectorFormat, ...] = get_args(DetectorFormat)


def require_options_of_format(
    format: str, *, backbone: str | None, pixels: int | None, padding_style: str | None
) -> None:
    """Make sure that a format of weights is known, and that its options are given, and no others.

    Raises:
        SettingsError: an unknown format, or an option that it lacks or does not take.
    """
    if format in DETECTOR_FORMATS:
        return
    if format not in NAMINGS:
        known = ", ".join((*NAMINGS, *DETECTOR_FORMATS))
        raise SettingsError(f"no such format of weights: {format!r}; known are {known}")
    if pixels is not None or padding_style is not None:
        raise SettingsError(
            f"{format} weights become a backbone, which takes any size; leave out --pixels and "
            "--padding-style, and set detector.input_pixels and detector.padding in training"
        )
    if backbone is None:
        raise SettingsError(
            f"which network {format} weights are for must be said: --backbone NAME, timm's name, "
            "such as tf_efficientnet_b4 for lukemelas or efficientnet_b4 for torchvision"
        )
