"""Detector -> one ONNX file, proven to answer as the detector does.

Other runtimes take padded sequences, where our own batches are packed; the answers are the same.
"""

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields

import onnxruntime
import torch
from onnxscript.ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor, nn
from torch.export import Dim

from models.batching import Batch
from models.detector import Detector, Ensemble
from models.judges import Detection, mean_detection
from reelcheck.errors import ExportError

INPUTS = ("frames_BTCHW", "seconds_BT", "mask_BT")
OUTPUTS = tuple(field.name for field in fields(Detection))

_MAX_DIFFERENCE = 1e-4
"""Between logits of eager torch and of onnxruntime; rounding alone gives less than 1e-5."""
_MAX_BYTES = 2**31 - 1
"""Of one protobuf message, which an ONNX file with its weights inside is."""
_CHECKED_SHAPES = ((1, 1), (3, 17), (2, 30))
"""B and T. Exporters have been seen to take a size of 1 for a constant."""


@dataclass(frozen=True)
class Exported:
    """An ONNX model."""

    model: bytes
    """Content of the file."""
    max_difference: float
    """Largest one seen between its outputs and the detector's."""


class PaddedDetector(nn.Module):
    """The same detector, or ensemble, for padded sequences; it shares the weights."""

    def __init__(self, detector: Detector | Ensemble) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            detector.members if isinstance(detector, Ensemble) else [detector]
        )

    def forward(
        self, frames_BTCHW: Tensor, seconds_BT: Tensor, mask_BT: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The fields of a ``Detection``.

        Args:
            frames_BTCHW: uint8 RGB; anything where the mask is False.
            seconds_BT: time of each frame; anything where the mask is False.
            mask_BT: True where there is a frame.
        """
        answers = []
        for member in self.members:
            assert isinstance(member, Detector)
            features_ND = member.backbone(member.to_input(frames_BTCHW.flatten(0, 1)))
            # B and T of the tensor that is unflattened: those of another one would be compared
            # with them, which fails where B is 1.
            features_BTD = features_ND.unflatten(0, frames_BTCHW.shape[:2])
            answers.append(member.judge(features_BTD, seconds_BT, mask_BT))
        answer = mean_detection(answers)
        return answer.logits_B, answer.frame_logits_BT, answer.frame_weights_BT


def export_onnx(
    detector: Detector | Ensemble, *, crop_pixels: int, metadata: Mapping[str, str]
) -> Exported:
    """One ONNX model, weights inside, for any number of sequences and frames.

    Inputs: ``frames_BTCHW`` uint8 RGB crops, ``seconds_BT`` float32, ``mask_BT`` bool, True where
    there is a frame. Outputs: the fields of ``Detection``, float32. What is in the padding changes
    no output but the frame logits there, which mean nothing.

    Args:
        detector: on any device, in any mode; left as it is.
        crop_pixels: side H = W of the frames; resizing to the detector's input is in the model.
        metadata: for the file's ``metadata_props``.

    Raises:
        ExportError: the detector cannot be expressed in ONNX, is too large for one file, or does
            not answer in onnxruntime as it does here.
    """
    num_bytes = sum(tensor.nbytes for tensor in detector.state_dict().values())
    if num_bytes > _MAX_BYTES:
        raise ExportError(
            f"the weights take {num_bytes / 2**30:.1f} GiB, an ONNX file holds at most 2; export "
            "one fold (folds/0) instead of the ensemble, or take a smaller backbone"
        )
    detector = copy.deepcopy(detector).cpu().eval()
    program = _program(PaddedDetector(detector).eval(), crop_pixels)
    # Python's call stack at every node, with paths of this machine.
    ClearMetadataAndDocStringPass()(program.model)
    program.model.metadata_props.update(metadata)
    model = program.model_proto.SerializeToString(deterministic=True)
    difference = _largest_difference(model, detector, crop_pixels)
    if not difference <= _MAX_DIFFERENCE:  # nor is NaN
        raise ExportError(
            f"onnxruntime and torch differ by {difference:g} in a logit, allowed is "
            f"{_MAX_DIFFERENCE:g}; nothing was written. Are all the weights finite numbers? "
            "Otherwise score with reelcheck itself"
        )
    return Exported(model=model, max_difference=difference)


def _program(detector: PaddedDetector, crop_pixels: int) -> torch.onnx.ONNXProgram:
    shape = {0: Dim("B"), 1: Dim("T")}
    with warnings.catch_warnings():
        # One name for three inputs is what is wanted.
        warnings.filterwarnings("ignore", message="# The axis name: [BT] will not be used")
        try:
            program = torch.onnx.export(
                detector,
                _random_inputs(2, 3, crop_pixels),
                input_names=INPUTS,
                output_names=OUTPUTS,
                dynamic_shapes=dict.fromkeys(INPUTS, shape),
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = " ".join(str(error).split())[:200]
            raise ExportError(
                f"torch cannot express this detector in ONNX ({reason}); choose another "
                "detector.backbone, or score with reelcheck itself"
            ) from error
    assert program is not None
    return program


def _random_inputs(
    num_sequences: int, num_frames: int, crop_pixels: int
) -> tuple[Tensor, Tensor, Tensor]:
    """One sequence of full length, others shorter; noise in the padding."""
    generator = torch.Generator().manual_seed(num_sequences)
    shape = (num_sequences, num_frames)
    lengths_B = num_frames - torch.arange(num_sequences) * num_frames // (num_sequences + 1)
    return (
        torch.randint(
            256, (*shape, 3, crop_pixels, crop_pixels), generator=generator, dtype=torch.uint8
        ),
        torch.rand(shape, generator=generator).cumsum(1),
        torch.arange(num_frames) < lengths_B[:, None],
    )


def _largest_difference(model: bytes, detector: Detector | Ensemble, crop_pixels: int) -> float:
    """Between onnxruntime and our own packed batches; NaN where one of them gives NaN."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    differences = []
    for num_sequences, num_frames in _CHECKED_SHAPES:
        inputs = frames_BTCHW, seconds_BT, mask_BT = _random_inputs(
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
        for name, theirs in zip(OUTPUTS, session.run(OUTPUTS, feed), strict=True):
            difference = (getattr(detection, name) - torch.from_numpy(theirs)).abs()
            differences.append(difference if difference.ndim == 1 else difference[mask_BT])
    return float(torch.cat(differences).max())
