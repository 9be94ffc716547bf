"""The processes that ``score.py`` measures: one kind of work each, JSON in, JSON out.

Everything is imported where it is used: what a kind of work does not need, it does not pay for.
"""
# ruff: noqa: PLC0415

import hashlib
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NUM_FRAMES, SIDE, MARGIN = 30, 112, 1.3


def main() -> None:
    """Do the work that the command line names, on what stdin says."""
    works: dict[str, Callable[..., dict[str, Any]]] = {
        "make_model": make_model,
        "clips": find_clips,
        "naive": score_naively,
        "matmul": measure_matmul,
        "forward": measure_forward,
        "memory": measure_memory,
    }
    print(json.dumps(works[sys.argv[1]](**json.load(sys.stdin))))


def make_model(folder: str) -> dict[str, Any]:
    """A checkpoint of the main detector with random weights, and its ONNX files."""
    import torch

    from models.metrics.aggregation import AGGREGATIONS
    from models.network.detector import Detector
    from reelcheck.card import Calibration, ModelCard
    from reelcheck.config import PreprocessSettings
    from reelcheck.recipes import load_recipe
    from storage.checkpoints import save_checkpoint
    from storage.layout import ModelLayout
    from storage.weights import weights_to_bytes
    from tasks.checkpoints.export import ensure_onnx_files
    from tasks.faces.detection.weights import hash_configured_face_model

    torch.manual_seed(0)
    settings = load_recipe("b3-transformer").train
    weights = weights_to_bytes(Detector(settings.detector).state_dict())
    preprocessing = PreprocessSettings(face_model_sha256=hash_configured_face_model())
    card = ModelCard(
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        detector=settings.detector,
        training=settings,
        preprocessing=preprocessing,
        split_hash=None,
        calibration=Calibration(temperature=1, threshold=0.5, real_below=0.5, fake_from=0.5),
        aggregation=AGGREGATIONS[0],
        num_videos={},
        validation={},
        versions={},
        notes=("random weights, for a benchmark",),
    )
    save_checkpoint(ModelLayout(Path(folder)), weights, card)
    made: dict[str, Any] = ensure_onnx_files(ModelLayout(Path(folder))).record.model_dump()
    return made


def find_clips(folder: str, limit: int) -> dict[str, Any]:
    """Find videos in which a face can be scored, those nearest to ten seconds."""
    from reelcheck.config import PreprocessSettings
    from tasks.faces.detection.detect import FaceDetector
    from tasks.faces.detection.weights import find_face_model, hash_configured_face_model
    from tasks.faces.video import extract_video
    from tasks.intake.discover import find_files

    model_sha256 = hash_configured_face_model()
    settings = PreprocessSettings(face_model_sha256=model_sha256)
    found = []
    weights = find_face_model(model_sha256)
    with FaceDetector(weights, min_confidence=settings.min_confidence) as detector:
        for file in find_files(Path(folder)):
            path = Path(file.root) / file.path
            result = extract_video(path, "0" * 64, settings, detector)
            if result.sequences and result.duration_seconds:
                seconds, height = result.duration_seconds, result.height
                found.append({"path": str(path), "seconds": seconds, "height": height})
    found.sort(key=lambda clip: abs(float(str(clip["seconds"])) - 10))
    return {"clips": found[:limit]}


def score_naively(paths: list[str], model: str, *, looks_at_all: bool) -> dict[str, Any]:  # noqa: PLR0915
    """Read every frame, search faces in full size, classify 30 frames by eager torch."""
    import cv2
    import mediapipe
    import numpy as np
    import torch
    from mediapipe.tasks.python.core.base_options import BaseOptions
    from mediapipe.tasks.python.vision import FaceDetector, FaceDetectorOptions

    from models.network.detector import Detector
    from storage.checkpoints import read_card
    from storage.layout import ModelLayout
    from storage.weights import read_weights
    from tasks.faces.detection.weights import find_face_model, hash_configured_face_model

    layout = ModelLayout(Path(model))
    network = Detector(read_card(layout).detector)
    network.load_state_dict(read_weights(layout.weights_path))
    network = network.eval().to(memory_format=torch.contiguous_format)
    face_model = str(find_face_model(hash_configured_face_model()))
    options = FaceDetectorOptions(base_options=BaseOptions(model_asset_path=face_model))
    logits = []
    with FaceDetector.create_from_options(options) as detector, torch.inference_mode():
        for path in paths:
            video = cv2.VideoCapture(path)
            num_frames = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
            wanted = set(np.linspace(0, num_frames - 1, NUM_FRAMES).round().astype(int).tolist())
            crops = []
            index = 0
            while True:
                is_read, bgr = video.read()
                if not is_read:
                    break
                if looks_at_all or index in wanted:
                    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
                    image = mediapipe.Image(mediapipe.ImageFormat.SRGB, rgb)
                    faces = detector.detect(image).detections
                    if faces and index in wanted:
                        crops.append(cut(rgb, faces[0].bounding_box))
                index += 1
            if crops:
                frames = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()
                seconds = torch.arange(len(crops))[None].float()
                answer = network.classify_features(
                    network.encode(frames)[None], seconds, torch.ones(seconds.shape).bool()
                )
                logits.append(float(answer.logits_B))
    return {"num_videos": len(logits)}


def cut(rgb: Any, box: Any) -> Any:
    """A square around a face."""
    import cv2
    import numpy as np

    half = int(MARGIN * max(box.width, box.height) / 2)
    x, y = box.origin_x + box.width // 2, box.origin_y + box.height // 2
    padded = np.pad(rgb, ((half, half), (half, half), (0, 0)))
    return cv2.resize(padded[y : y + 2 * half, x : x + 2 * half], (SIDE, SIDE))


def measure_matmul(num_videos: int) -> dict[str, Any]:
    """As much arithmetic as the network does for these videos, as large matrix products."""
    import numpy as np

    flop_per_frame = 2 * 0.283e9  # EfficientNet-B3 at 112 px, multiplications and additions
    size = 1024
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((size, size), dtype=np.float32) for _ in range(2))
    for _ in range(round(flop_per_frame * NUM_FRAMES * num_videos / (2 * size**3))):
        a @ b
    return {}


def measure_forward(model: str) -> dict[str, Any]:
    """Milliseconds per frame of each runtime on one thread, medians of 5, and differences."""
    import statistics

    import numpy as np
    import torch

    from models.interop.runtime import OnnxRuntime, OpenVINORuntime, Runtime, encode_all
    from models.interop.torch_runtime import TorchRuntime
    from storage.checkpoints import read_card
    from storage.layout import ModelLayout
    from tasks.checkpoints.export import ensure_onnx_files
    from tasks.checkpoints.torch_model import load_detector

    layout = ModelLayout(Path(model))
    torch.set_num_threads(1)
    detector = load_detector(layout.path, read_card(layout).model_id)
    eager = TorchRuntime(detector)
    eager.batch_size = NUM_FRAMES
    exported = ensure_onnx_files(layout)
    files = (exported.encoder, exported.head)
    runtimes: dict[str, Runtime] = {
        "eager": eager,
        "openvino": OpenVINORuntime(*files, num_threads=1),
        "onnxruntime": OnnxRuntime(*files, num_threads=1),
    }
    frames = np.random.default_rng(0).integers(0, 256, (NUM_FRAMES, SIDE, SIDE, 3), np.uint8)
    seconds = np.arange(NUM_FRAMES, dtype=np.float32)
    spent: dict[str, list[float]] = {name: [] for name in runtimes}
    logits = {}
    for _ in range(6):
        for name, runtime in runtimes.items():
            started = time.process_time()
            [(_, features)] = encode_all(runtime, [(None, frames)])
            logits[name] = runtime.classify(features, seconds).logit
            spent[name].append((time.process_time() - started) / NUM_FRAMES * 1000)
    nchw = detector.to(memory_format=torch.contiguous_format)
    plain = torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()
    spent["eager_nchw"] = []
    with torch.inference_mode():
        for _ in range(6):
            started = time.process_time()
            nchw.encode(plain)
            spent["eager_nchw"].append((time.process_time() - started) / NUM_FRAMES * 1000)
    milliseconds = {name: round(statistics.median(v[1:]), 2) for name, v in spent.items()}
    differences = {name: abs(logit - logits["eager"]) for name, logit in logits.items()}
    return {"milliseconds": milliseconds, "logit": logits["eager"], "differences": differences}


def measure_memory(folder: str, model: str, out: str) -> dict[str, Any]:
    """Peak memory of a run in this process and in its decode processes, MB."""
    from tasks.scoring.score import ScoreRequest, score_files

    request = ScoreRequest(sources=(folder,), model=Path(model), out=Path(out))
    scored = score_files(request)
    who = {"scorer": resource.RUSAGE_SELF, "largest_decoder": resource.RUSAGE_CHILDREN}
    peaks = {name: resource.getrusage(w).ru_maxrss // 1024 for name, w in who.items()}
    return {**peaks, "num_new": scored.summary["num_new"]}


if __name__ == "__main__":
    main()
