"""Detector -> ONNX, checked to give the same logits as the detector.

- Our own scoring takes two files: the encoder, whose input are frames, and the head, whose input
  are the features of a sequence.
- Other programs take one file, whose input are padded sequences.
"""

import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import onnxruntime
import torch
from onnxscript.ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from models.data.batching import Batch
from models.interop.runtime import (
    ENCODER_INPUTS,
    ENCODER_OUTPUTS,
    HEAD_INPUTS,
    HEAD_OUTPUTS,
    Floats,
    OnnxRuntime,
    OpenVINORuntime,
    Runtime,
    encode_all,
)
from models.interop.torch_runtime import TorchRuntime
from models.network.detector import Detector, Ensemble
from models.network.heads import Detection
from reelcheck.errors import ExportError
from reelcheck.records import RGB

INPUTS = ("frames_BTCHW", "seconds_BT", "mask_BT")

_MAX_DIFFERENCE = 1e-4
"""Between logits of eager torch and of a runtime, as a share of the largest where that is above 1;
rounding alone gives less than 1e-5."""
_MAX_BYTES = 2**31 - 1
"""Largest size of a protobuf message; an ONNX file with its weights inside is one message."""
_CHECKED_SHAPES = ((1, 1), (3, 17), (2, 30))
"""B and T. Exporters have been seen to treat a size of 1 as a constant."""


_Outputs = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Exported:
    """An ONNX model."""

    model: bytes
    """Content of the file."""
    max_difference: float
    """Largest one seen between its outputs and the detector's."""


@dataclass(frozen=True)
class ExportedParts:
    """An ONNX model in two files, as ``models.interop.runtime`` takes them."""

    encoder: bytes
    head: bytes
    max_difference: float
    """Largest one seen between a logit of its runtimes and the detector's."""


class _PaddedDetector(nn.Module):
    """The same detector, or ensemble, for padded sequences; it shares the weights."""

    def __init__(self, detector: Detector | Ensemble) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, frames_BTCHW: Tensor, seconds_BT: Tensor, mask_BT: Tensor) -> _Outputs:
        """The fields of a ``Detection``.

        Args:
            frames_BTCHW: uint8 RGB; anything where the mask is False.
            seconds_BT: time of each frame; anything where the mask is False.
            mask_BT: True where there is a frame.
        """
        features_ND = self.detector.encode(frames_BTCHW.flatten(0, 1))
        # B and T of the tensor that is unflattened: those of another one would be compared with
        # them, which fails where B is 1.
        features_BTD = features_ND.unflatten(  # type: ignore[no-untyped-call]  # torch's
            0, frames_BTCHW.shape[:2]
        )
        return _list_outputs(self.detector.classify_features(features_BTD, seconds_BT, mask_BT))


class _Encoder(nn.Module):
    """uint8 RGB frames as they lie in memory -> features."""

    def __init__(self, detector: Detector | Ensemble) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, frames_NHWC: Tensor) -> Tensor:
        """Features (N, D)."""
        return self.detector.encode(frames_NHWC.permute(0, 3, 1, 2))


class _Head(nn.Module):
    """Features of sequences -> the fields of a ``Detection``."""

    def __init__(self, detector: Detector | Ensemble) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, features_BTD: Tensor, seconds_BT: Tensor, mask_BT: Tensor) -> _Outputs:
        """Arguments as in ``Detector.classify_features``."""
        return _list_outputs(self.detector.classify_features(features_BTD, seconds_BT, mask_BT))


def export_onnx(
    detector: Detector | Ensemble, *, crop_pixels: int, metadata: Mapping[str, str]
) -> Exported:
    """Export to one ONNX model, weights inside, for any number of sequences and frames.

    Inputs: ``frames_BTCHW`` uint8 RGB crops, ``seconds_BT`` float32, ``mask_BT`` bool, True where
    there is a frame. Outputs: the fields of ``Detection``, float32. Values in the padding change
    no output except the frame logits of the padding, which have no meaning.

    Args:
        detector: on any device, in any mode; left as it is.
        crop_pixels: side H = W of the frames; resizing to the detector's input is in the model.
        metadata: entries of the file's ``metadata_props``.

    Raises:
        ExportError: the detector cannot be expressed in ONNX, is too large for one file, or gives
            other logits in onnxruntime than here.
    """
    detector = _copy_to_cpu(detector)
    model = _convert(
        _PaddedDetector(detector),
        dict(zip(INPUTS, _draw_inputs(2, 3, crop_pixels), strict=True)),
        {name: {0: Dim("B"), 1: Dim("T")} for name in INPUTS},
        outputs=HEAD_OUTPUTS,
        metadata=metadata,
    )
    difference = _measure_difference(model, detector, crop_pixels)
    _require_agreement(difference)
    return Exported(model=model, max_difference=difference)


def export_parts(detector: Detector | Ensemble, *, crop_pixels: int) -> ExportedParts:
    """Export to the two ONNX files that scoring without torch takes.

    Args:
        detector: on any device, in any mode; left as it is.
        crop_pixels: side H = W of the frames.

    Raises:
        ExportError: as in ``export_onnx``.
    """
    detector = _copy_to_cpu(detector)
    frames_BTCHW, seconds_BT, mask_BT = _draw_inputs(2, 3, crop_pixels)
    frames_NHWC = frames_BTCHW.flatten(0, 1).permute(0, 2, 3, 1).contiguous()
    with torch.inference_mode():
        features_BTD = detector.encode(frames_BTCHW.flatten(0, 1)).reshape(*mask_BT.shape, -1)
    sequences = {0: Dim("B"), 1: Dim("T")}
    encoder = _convert(
        _Encoder(detector),
        {ENCODER_INPUTS[0]: frames_NHWC},
        {ENCODER_INPUTS[0]: {0: Dim("N")}},
        outputs=ENCODER_OUTPUTS,
    )
    head = _convert(
        _Head(detector),
        dict(zip(HEAD_INPUTS, (features_BTD.clone(), seconds_BT, mask_BT), strict=True)),
        dict.fromkeys(HEAD_INPUTS, sequences),
        outputs=HEAD_OUTPUTS,
    )
    difference = _compare_runtimes(encoder, head, detector, crop_pixels)
    _require_agreement(difference)
    return ExportedParts(encoder=encoder, head=head, max_difference=difference)


def _copy_to_cpu(detector: Detector | Ensemble) -> Detector | Ensemble:
    """Copy the detector to the CPU, ready for an export.

    Raises:
        ExportError: the weights are too large.
    """
    num_bytes = sum(tensor.nbytes for tensor in detector.state_dict().values())
    if num_bytes > _MAX_BYTES:
        raise ExportError(
            f"the weights take {num_bytes / 2**30:.1f} GiB, an ONNX file holds at most 2; export "
            "one fold (folds/0) instead of the ensemble, or take a smaller backbone"
        )
    return copy.deepcopy(detector).cpu().eval()


def _list_outputs(detection: Detection) -> _Outputs:
    return detection.logits_B, detection.frame_logits_BT, detection.frame_weights_BT


def _require_agreement(difference: float) -> None:
    if not difference <= _MAX_DIFFERENCE:  # nor is NaN
        raise ExportError(
            f"the exported model and torch differ by {difference:g} in a logit, allowed is "
            f"{_MAX_DIFFERENCE:g}; nothing was written. Are all the weights finite numbers? "
            "Otherwise score with the torch engine"
        )


def _convert(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    shapes: Mapping[str, Mapping[int, Dim]],
    *,
    outputs: Sequence[str],
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """Make the content of an ONNX file; ``shapes`` says which axes may have any size."""
    with warnings.catch_warnings():
        # Axes of several inputs have one name on purpose.
        warnings.filterwarnings("ignore", message="# The axis name: [BT] will not be used")
        try:
            program = torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=outputs,
                dynamic_shapes=dict(shapes),
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = " ".join(str(error).split())[:200]
            raise ExportError(
                f"torch cannot express this detector in ONNX ({reason}); choose another "
                "detector.backbone, or score with the torch engine"
            ) from error
    assert program is not None
    # Every node holds Python's call stack, with paths of this machine.
    ClearMetadataAndDocStringPass()(program.model)
    program.model.metadata_props.update(metadata)
    model: bytes = program.model_proto.SerializeToString(deterministic=True)
    return model


def _draw_inputs(
    num_sequences: int, num_frames: int, crop_pixels: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw one sequence of full length and shorter ones, with noise in the padding."""
    generator = torch.Generator().manual_seed(num_sequences)
    shape = (num_sequences, num_frames)
    lengths_B = num_frames - torch.arange(num_sequences) * num_frames // (num_sequences + 1)
    # Half smooth, as pictures are, half noise: with one of them alone, rounding decides the output
    # of some networks.
    coarse = torch.rand((math.prod(shape), 3, 6, 6), generator=generator)
    smooth = F.interpolate(coarse, (crop_pixels, crop_pixels), mode="bicubic").clamp(0, 1)
    mixed = (smooth + torch.rand(smooth.shape, generator=generator)) * 127.5
    return (
        mixed.to(torch.uint8).unflatten(0, shape),  # type: ignore[no-untyped-call]  # torch's
        torch.rand(shape, generator=generator).cumsum(1),
        torch.arange(num_frames) < lengths_B[:, None],
    )


def _measure_difference(model: bytes, detector: Detector | Ensemble, crop_pixels: int) -> float:
    """Find the largest difference between onnxruntime and torch; NaN where one gives NaN."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    differences = []
    for num_sequences, num_frames in _CHECKED_SHAPES:
        inputs = frames_BTCHW, seconds_BT, mask_BT = _draw_inputs(
            num_sequences, num_frames, crop_pixels
        )
        batch = Batch(
            frames_NCHW=frames_BTCHW[mask_BT],
            seconds_BT=seconds_BT,
            mask_BT=mask_BT,
            labels_B=torch.zeros(num_sequences),
            indices_B=torch.arange(num_sequences),
        )
        with torch.inference_mode():
            detection = detector(batch)
        feed = {name: tensor.numpy() for name, tensor in zip(INPUTS, inputs, strict=True)}
        for name, theirs in zip(HEAD_OUTPUTS, session.run(HEAD_OUTPUTS, feed), strict=True):
            ours = getattr(detection, name)
            difference = (ours - torch.from_numpy(theirs)).abs() / ours.abs().max().clamp(min=1)
            differences.append(difference if difference.ndim == 1 else difference[mask_BT])
    return float(torch.cat(differences).max())


def _compare_runtimes(
    encoder: bytes, head: bytes, detector: Detector | Ensemble, crop_pixels: int
) -> float:
    """Find the largest difference between any runtime and torch, over several lengths."""
    num_threads = torch.get_num_threads()
    truth = TorchRuntime(detector)
    runtimes = [
        make(encoder, head, num_threads=num_threads) for make in (OpenVINORuntime, OnnxRuntime)
    ]
    differences = []
    for _, num_frames in _CHECKED_SHAPES:
        frames_BTCHW, seconds_BT, _ = _draw_inputs(1, num_frames, crop_pixels)
        frames_NHWC = frames_BTCHW[0].permute(0, 2, 3, 1).contiguous().numpy()
        expected, *others = (
            _predict(runtime, frames_NHWC, seconds_BT[0].numpy()) for runtime in (truth, *runtimes)
        )
        scale = max(1.0, float(np.abs(expected).max()))
        # Infinity less infinity is no number, and refused as such.
        with np.errstate(invalid="ignore"):
            differences += [np.abs(other - expected).max() / scale for other in others]
    return float(np.max(differences))


def _predict(runtime: Runtime, frames_NHWC: RGB, seconds_T: Floats) -> Floats:
    """Predict one sequence: its logit, the frames' logits and their weights."""
    [(_, features_TD)] = encode_all(runtime, [(None, frames_NHWC)])
    found = runtime.classify(features_TD, seconds_T)
    return np.concatenate([[found.logit], found.frame_logits_T, found.frame_weights_T])
