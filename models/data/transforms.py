"""Random changes to training sequences.

Each change is drawn once per sequence, so that all frames of a person change alike; only the grain
of noise differs from frame to frame, as that of a sensor does. The changes are made in the order
in which a picture meets them: face, camera, compression.
"""

from collections.abc import Callable, Mapping
from fractions import Fraction

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchvision import tv_tensors
from torchvision.transforms import v2

from models.data.face_geometry import FaceAxes
from reelcheck.records import RGB
from reelcheck.train_config import AugmentSettings

_DEGREES = 15
_FACTOR = 0.2
"""Brightness and contrast: 0.8 to 1.2 times."""
_NOISE_LEVELS = (1.0, 10.0)
"""Standard deviation in grey levels: from hardly seen to coarse grain."""
_BLUR_SIDES = (0.003, 0.016)
"""Standard deviation in crop sides: 0.3 to 1.8 pixels of 112."""
_LEAST_AREA = 0.8**2
_JPEG_QUALITY = (40, 95)
"""At 95 a face hardly changes, at 40 its blocks are seen at a glance."""
_CODEC_CRF = (18, 36)
"""x264's rate factor: 18 is close to transparent, 23 its default. FaceForensics++ goes up to 40,
but on whole frames, whose faces lose most of the damage when they are made into small crops."""

_EYES = (0.0, 0.0, 1.0, 0.4)
_NOSE = (0.0, 0.5, 0.45, 0.45)
_MOUTH = (0.0, 1.0, 0.6, 0.35)
_FACE = (0.0, 0.4, 1.1, 1.2)
_NUM_CORNERS = 32


def augment(
    crops_TCHW: Tensor,
    settings: AugmentSettings,
    *,
    keypoints_T62: NDArray[np.float32] | None,
    seed: int,
) -> Tensor:
    """Change a sequence at random.

    Each change has random numbers of its own: whether another is made, or can be made, does not
    alter it. So twins change alike under one seed, even where only one has key points.

    Args:
        crops_TCHW: uint8 (T, 3, S, S); left as they are.
        settings: how likely each change is.
        keypoints_T62: BlazeFace's key points as fractions of the side; None: no cutout.
        seed: everything random follows from it; torch's global generator is left as it is.

    Returns:
        uint8 of the same shape; the same tensor where nothing was changed.
    """
    changes = _list_changes(keypoints_T62, side=crops_TCHW.shape[-1])
    with torch.random.fork_rng(devices=[]):
        # Unlike torch.manual_seed, it leaves the generators of GPUs alone.
        torch.default_generator.manual_seed(seed)
        draws = torch.rand(len(changes)).tolist()
        seeds = torch.randint(2**62, (len(changes),)).tolist()
        for (name, change), draw, own_seed in zip(changes.items(), draws, seeds, strict=True):
            if draw < getattr(settings, name):
                torch.default_generator.manual_seed(own_seed)
                crops_TCHW = change(tv_tensors.Video(crops_TCHW)).as_subclass(Tensor)
    return crops_TCHW


def _list_changes(
    keypoints_T62: NDArray[np.float32] | None, *, side: int
) -> Mapping[str, Callable[[Tensor], Tensor]]:
    """The change that each field of ``AugmentSettings`` makes, in the order of the changes."""
    bilinear = v2.InterpolationMode.BILINEAR

    def cutout(crops_TCHW: Tensor) -> Tensor:
        return crops_TCHW if keypoints_T62 is None else _hide_region(crops_TCHW, keypoints_T62)

    return {
        # Before the face is moved, or its key points would have to be moved too.
        "cutout": cutout,
        "flip": v2.functional.horizontal_flip,
        "rotation": v2.RandomRotation(_DEGREES, bilinear),
        "crop": v2.RandomResizedCrop(side, scale=(_LEAST_AREA, 1), ratio=(1, 1)),
        "brightness": v2.ColorJitter(brightness=_FACTOR),
        "contrast": v2.ColorJitter(contrast=_FACTOR),
        "blur": _blur,
        "noise": _add_noise,
        "jpeg": _recode_jpeg,
        "codec": _recode_h264,
    }


def _draw_uniform(low: float, high: float) -> float:
    return torch.empty(()).uniform_(low, high).item()


def _blur(crops_TCHW: Tensor) -> Tensor:
    """Blur by OpenCV's Gaussian: it is faster than the square kernel of torchvision."""
    sigma_pixels = _draw_uniform(*_BLUR_SIDES) * crops_TCHW.shape[-1]
    planes_NHW = crops_TCHW.numpy().reshape(-1, *crops_TCHW.shape[-2:])
    blurred_NHW = np.stack([cv2.GaussianBlur(plane, (0, 0), sigma_pixels) for plane in planes_NHW])
    return torch.from_numpy(blurred_NHW).view(crops_TCHW.shape)


def _add_noise(crops_TCHW: Tensor) -> Tensor:
    noise_TCHW = torch.randn(crops_TCHW.shape) * _draw_uniform(*_NOISE_LEVELS)
    return (crops_TCHW + noise_TCHW).round_().clamp_(0, 255).to(torch.uint8)


def _recode_jpeg(crops_TCHW: Tensor) -> Tensor:
    """Code and decode each frame as JPEG; by OpenCV, as torchvision gives its coders up."""
    quality = int(torch.randint(_JPEG_QUALITY[0], _JPEG_QUALITY[1] + 1, ()))
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    frames_THWC = crops_TCHW.permute(0, 2, 3, 1).numpy()
    # OpenCV's codecs take blue first.
    files = [cv2.imencode(".jpg", frame[..., ::-1], options)[1] for frame in frames_THWC]
    decoded = [np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR_RGB)) for file in files]
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous()


def _recode_h264(crops_TCHW: Tensor) -> Tensor:
    """Code and decode the sequence as H.264."""
    crf = int(torch.randint(_CODEC_CRF[0], _CODEC_CRF[1] + 1, ()))
    height, width = crops_TCHW.shape[-2:]
    # 4:2:0 needs even sides.
    even_TCHW = functional.pad(crops_TCHW, (0, width % 2, 0, height % 2), mode="replicate")
    decoded_THWC = _pass_through_h264(even_TCHW.permute(0, 2, 3, 1).contiguous().numpy(), crf=crf)
    decoded_TCHW = torch.from_numpy(decoded_THWC).permute(0, 3, 1, 2)
    return decoded_TCHW[..., :height, :width].contiguous()


def _pass_through_h264(frames_THWC: RGB, *, crf: int) -> RGB:
    """Code frames by libx264 and decode them again, in memory."""
    import av  # noqa: PLC0415 - training on plain crops does without it

    height, width = frames_THWC.shape[1:3]
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
    # The same frames must give the same pixels. With several threads these depend on how many; with
    # macroblock trees, unless the side is a multiple of 128, now and then on what memory held
    # before (measured: PyAV 18.1, 1 to 50% of runs).
    encoder.options = {
        "crf": str(crf),
        "preset": "veryfast",
        "threads": "1",
        "x264-params": "mbtree=0",
    }
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    packets = []
    for number, pixels_HWC in enumerate(frames_THWC):
        frame = av.VideoFrame.from_ndarray(pixels_HWC, format="rgb24")
        frame.pts = number
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoded = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    return np.stack([frame.to_ndarray(format="rgb24") for frame in decoded])


def _hide_region(crops_TCHW: Tensor, keypoints_T62: NDArray[np.float32]) -> Tensor:
    """Hide eyes, nose, mouth or half of the face behind black, its mean colour or noise."""
    hidden_T1HW = _draw_masks(crops_TCHW, keypoints_T62)
    cover = int(torch.randint(3, ()))
    if cover == 0:
        fill = torch.zeros(3, 1, 1, dtype=torch.uint8)
    elif cover == 1:
        fill = crops_TCHW.float().mean((0, 2, 3)).round().to(torch.uint8)[:, None, None]
    else:
        fill = torch.randint(256, crops_TCHW.shape[1:], dtype=torch.uint8)
    return torch.where(hidden_T1HW, fill, crops_TCHW)


def _draw_masks(crops_TCHW: Tensor, keypoints_T62: NDArray[np.float32]) -> Tensor:
    """Draw masks (T, 1, S, S), bool, of one region of the face, chosen once for all frames."""
    region = int(torch.randint(4, ()))
    start, turn = 0.0, 2 * np.pi
    if region == 3:
        # Left, right, upper or lower half.
        start, turn = int(torch.randint(4, ())) * np.pi / 2, np.pi
    across, down, half_across, half_down = (_EYES, _NOSE, _MOUTH, _FACE)[region]
    angle_P = start + np.linspace(0, turn, _NUM_CORNERS)
    shape_P2 = np.stack(
        [across + half_across * np.cos(angle_P), down + half_down * np.sin(angle_P)], axis=1
    )
    masks_THW = FaceAxes.locate(keypoints_T62).draw_masks(
        shape_P2.astype(np.float32), side=crops_TCHW.shape[-1]
    )
    return torch.from_numpy(masks_THW >= 0.5)[:, None]
