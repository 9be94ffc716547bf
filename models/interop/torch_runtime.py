"""Run a model in torch: on a GPU, and where ONNX files are missing (see ``runtime.py``)."""

import torch

from models.interop.runtime import Engine, Floats, SequencePrediction
from models.network.detector import Detector, Ensemble
from reelcheck.records import RGB

_GPU_FRAMES = 256


class TorchRuntime:
    """Eager torch: bf16 with pinned memory on a GPU, fp32 on a CPU.

    Args:
        detector: runs on the device of its weights.
    """

    name: Engine = "torch"

    def __init__(self, detector: Detector | Ensemble) -> None:
        self._detector = detector.eval()
        self._device = next(detector.parameters()).device
        self._is_gpu = self._device.type == "cuda"
        self.batch_size = _GPU_FRAMES if self._is_gpu else 8

    def encode(self, frames_NHWC: RGB) -> Floats:
        """See ``Runtime``."""
        frames = torch.from_numpy(frames_NHWC)
        if self._is_gpu:
            frames = frames.pin_memory()
        # Channels last as it lies in memory: nothing is copied.
        frames_NCHW = frames.to(self._device, non_blocking=True).permute(0, 3, 1, 2)
        with (
            torch.inference_mode(),
            torch.autocast("cuda", torch.bfloat16, enabled=self._is_gpu),
        ):
            features: Floats = self._detector.encode(frames_NCHW).float().cpu().numpy()
        return features

    def classify(self, features_TD: Floats, seconds_T: Floats) -> SequencePrediction:
        """See ``Runtime``."""
        features_BTD, seconds_BT = (
            torch.from_numpy(array[None]).to(self._device) for array in (features_TD, seconds_T)
        )
        with torch.inference_mode():
            detection = self._detector.classify_features(
                features_BTD, seconds_BT, torch.ones_like(seconds_BT, dtype=torch.bool)
            )
        return SequencePrediction(
            logit=float(detection.logits_B),
            frame_logits_T=detection.frame_logits_BT[0].cpu().numpy(),
            frame_weights_T=detection.frame_weights_BT[0].cpu().numpy(),
        )
