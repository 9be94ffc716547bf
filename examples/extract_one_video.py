"""Score one video with the Python API: no Prefect, no store.

    python examples/extract_one_video.py VIDEO MODEL

This script opens the video in its own process, without a deadline and without a memory limit: use
it for videos that you trust. ``reelcheck score`` has both.
"""

import sys
from pathlib import Path

from storage.checkpoints import read_card
from storage.hashing import sha256_of
from storage.layout import ModelLayout
from tasks.checkpoints.runtimes import open_runtime
from tasks.faces.decoding.probe import probe_video
from tasks.faces.detection.detect import FaceDetector
from tasks.faces.detection.weights import find_face_model
from tasks.faces.video import extract_video
from tasks.scoring.predict import predict_videos
from tasks.scoring.words import format_score


def main(video: Path, model: Path) -> None:
    """Print what the video holds, what was found in it, and what the model says of it."""
    probe = probe_video(video)
    print(f"{video.name}: {probe.codec}, {probe.num_frames} frames")

    # The model card says which frames to look at and how to cut out faces.
    layout = ModelLayout(model)
    card = read_card(layout)
    settings = card.preprocessing
    face_model = find_face_model(settings.face_model_sha256)
    with FaceDetector(face_model, min_confidence=settings.min_confidence) as detector:
        result = extract_video(video, sha256_of(video), settings, detector)
    print(f"faces: {result.num_faces}, crop sequences: {len(result.sequences)}")

    [(_, _, row)] = predict_videos([result], card, open_runtime(layout))
    print(f"status: {row['status']}")
    if row.get("score") is None:
        print(f"reason: {row['reason']}")
    else:
        print(f"score: {format_score(row['score'])}, verdict: {row['verdict']}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
