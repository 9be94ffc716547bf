"""Shared fixtures: tiny real H.264 videos, rendered, and the guards around every test."""

import os
import random
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Before Prefect is imported anywhere: tests need neither its log nor its telemetry.
# Tiny networks: two threads that wait for each other are slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")

from models.aggregation import AGGREGATIONS
from reelcheck.card import Calibration, ModelCard
from reelcheck.config import PreprocessSettings
from reelcheck.errors import FaceModelError
from reelcheck.records import RGB, CropSequence
from reelcheck.settings import settings_hash
from reelcheck.train_config import DetectorSettings, Phase, TrainSettings, TransformerSettings
from storage.checkpoints import save_checkpoint
from storage.crops import CropWriter
from storage.layout import ModelLayout, StoreLayout, preprocessed
from storage.schemas import MANIFEST, SEQUENCES, SPLIT, VIDEO_RESULTS, VIDEOS
from storage.tables import read_rows, write_table
from tasks.faces.weights import configured_face_model_sha256, find_face_model
from tasks.synthetic.clip import render_frames
from tasks.synthetic.dataset import SyntheticSettings, generate_dataset, write_h264


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - guards third-party code that uses the global generator


@pytest.fixture(scope="session")
def face_model() -> Path:
    """The face detector's weights; the test is skipped where they cannot be had."""
    try:
        return find_face_model(configured_face_model_sha256())
    except FaceModelError as error:
        pytest.skip(f"no face model: {error}")


@pytest.fixture(scope="session")
def face_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One rendered face, 24 frames, 256 x 192, 25 frames per second, H.264 in MP4."""
    path = tmp_path_factory.mktemp("face") / "face.mp4"
    frames = render_frames(identity_seed=1, clip_seed=2, kind="real", num_frames=24, height=192)
    write_h264(path, frames, fps=25, crf=20)
    return path


@pytest.fixture(scope="session")
def faceless_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A moving grey ramp, 24 frames, no face."""
    path = tmp_path_factory.mktemp("faceless") / "ramp.mp4"
    ramp = np.linspace(0, 255, 256, dtype=np.uint8)
    rows = [np.roll(ramp, 4 * shift) for shift in range(24)]
    frames = (np.repeat(np.tile(row, (192, 1))[..., None], 3, axis=2) for row in rows)
    write_h264(path, frames, fps=25, crf=20)
    return path


@pytest.fixture(scope="session")
def synthetic_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``videos/`` (24 clips of 12 people in 6 groups) and ``labels.csv``."""
    folder = tmp_path_factory.mktemp("synthetic") / "data"
    generate_dataset(folder, SyntheticSettings(num_identities=12, clips_per_identity=1))
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real videos beside the checkout; skipped where they are absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder of real test videos (../shared/data) is not here")
    return folder


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """One throw-away Prefect server for all tests that run flows."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Address of an S3 server on loopback, a process of its own."""
    code = (
        "import sys; from moto.server import ThreadedMotoServer as S; "
        "s = S(ip_address='127.0.0.1', port=0, verbose=False); s.start(); "
        "print(s.get_host_and_port()[1], flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        port = next(line for line in process.stdout if line.strip().isdigit()).strip()
        yield f"http://127.0.0.1:{port}"
        process.kill()


@pytest.fixture(scope="session")
def s3_environment(s3_server: str) -> dict[str, str]:
    """What reaches the server."""
    return {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@pytest.fixture
def s3_bucket(s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of an empty bucket, with what reaches it in the environment."""
    import fsspec

    for variable, value in s3_environment.items():
        monkeypatch.setenv(variable, value)
    name = f"bucket-{secrets.token_hex(6)}"
    fsspec.filesystem("s3").mkdir(name)
    return f"s3://{name}"


CROP_SIDE = 32
FRONTAL_KEYPOINTS = (0.36, 0.36, 0.65, 0.37, 0.5, 0.54, 0.5, 0.69, 0.22, 0.44, 0.82, 0.45)
"""Where BlazeFace sees them in the crop of a face that looks into the camera."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One video of a made-up store: bright crops are fake, dark ones are real."""

    path: str
    label: int | None
    part: str = "train"
    source: str | None = None
    generator: str | None = None
    num_frames: int = 4
    num_tracks: int = 1
    first_second: float = 0.0
    pixels_from: str | None = None
    """Take the pixels that the clip of this path has."""

    @property
    def video_id(self) -> str:
        return sha256(self.path.encode()).hexdigest()

    def pixels(self, track: int = 0) -> RGB:
        """The crops of one face: noise around a brightness that tells the label."""
        name = f"{self.pixels_from or self.path}/{track}"
        rng = np.random.default_rng(list(sha256(name.encode()).digest()))
        middle = 180 if self.label else 60
        shape = (self.num_frames, CROP_SIDE, CROP_SIDE, 3)
        return np.clip(rng.normal(middle, 25, shape), 0, 255).astype(np.uint8)

    def sequences(self) -> list[CropSequence]:
        times = tuple(self.first_second + frame / 25 for frame in range(self.num_frames))
        return [
            CropSequence(
                sequence_id=f"{self.video_id[:16]}-{track:02d}-00",
                video_id=self.video_id,
                track_id=track,
                crops_THWC=self.pixels(track),
                frame_indices=tuple(range(self.num_frames)),
                pts_seconds=times,
                boxes_xyxy=((0.0, 0.0, 40.0, 40.0),) * self.num_frames,
                confidences=(0.9,) * self.num_frames,
                sharpness=(100.0,) * self.num_frames,
                brightness=(120.0,) * self.num_frames,
                keypoints_xy=(FRONTAL_KEYPOINTS,) * self.num_frames,
            )
            for track in range(self.num_tracks)
        ]

    def labels(self) -> dict[str, Any]:
        return {"label": self.label, "source": self.source, "generator": self.generator}


class Tiny:
    """Crop stores written by the project's own writers, and a detector trained in a second."""

    Clip = Clip
    preprocessing = PreprocessSettings(crop_pixels=CROP_SIDE, num_frames=12)
    calibration = Calibration(temperature=2.0, threshold=0.5, real_below=0.3, fake_from=0.7)
    detector = DetectorSettings(
        backbone="test_resnet",
        transformer=TransformerSettings(
            feature_dim=16, depth=1, num_heads=2, dropout=0.1, pooling="mean"
        ),
    )
    training = TrainSettings(
        detector=detector,
        batch_size=4,
        min_frames=2,
        phases=(Phase(max_epochs=3, learning_rate=5e-3),),
    )

    def clips(self, num_pairs: int = 4, *, part: str = "train", **changes: Any) -> list[Clip]:
        """As many real clips as fake ones, each fake made from the real one of its number."""
        return [
            Clip(
                path=f"{part}/{kind}_{number}.mp4",
                label=int(kind == "fake"),
                part=part,
                source=f"{part}/real_{number}.mp4" if kind == "fake" else None,
                **changes,
            )
            for number in range(num_pairs)
            for kind in ("real", "fake")
        ]

    def save_model(self, folder: Path, *, seed: int = 0, **architecture: Any) -> ModelLayout:
        """A checkpoint folder with random weights; changes are to the Transformer."""
        import torch

        from models.detector import Detector
        from storage.weights import weights_to_bytes

        torch.manual_seed(seed)
        assert self.detector.transformer is not None
        transformer = self.detector.transformer.model_copy(update=architecture)
        detector = self.detector.model_copy(update={"transformer": transformer})
        weights = weights_to_bytes(Detector(detector).state_dict())
        card = ModelCard(
            model_id=sha256(weights).hexdigest()[:12],
            detector=detector,
            training=self.training.model_copy(update={"detector": detector}),
            preprocessing=self.preprocessing,
            preprocessing_hash=settings_hash(self.preprocessing),
            split_hash="split",
            calibration=self.calibration,
            aggregation=AGGREGATIONS[0],
            num_videos={},
            validation={},
            versions={},
        )
        save_checkpoint(ModelLayout(folder), weights, card)
        return ModelLayout(folder)

    def three_parts(self) -> list[Clip]:
        return [*self.clips(4), *self.clips(2, part="val"), *self.clips(3, part="test")]

    def write_store(
        self,
        store: Path,
        videos: Sequence[Clip],
        *,
        settings: PreprocessSettings | None = None,
        shard_size: int = 3,
    ) -> StoreLayout:
        """Every file that preprocess and split would have left."""
        settings = settings or self.preprocessing
        layout = preprocessed(store, settings_hash(settings))
        layout.path.mkdir(parents=True)
        layout.settings_path.write_text(settings.model_dump_json(), encoding="utf-8")
        for start in range(0, len(videos), shard_size):
            _write_shard(layout, f"shard-{start:03d}", videos[start : start + shard_size])
        self.write_tables(layout, videos)
        return layout

    def write_tables(self, layout: StoreLayout, videos: Sequence[Clip]) -> None:
        """Videos, manifest and split, for the shards that are there."""
        known = {video.video_id: video for video in videos}
        write_table(
            layout.videos_path,
            [
                {"root": "/videos", "path": v.path, **_result(v), "num_faces": v.num_tracks}
                | v.labels()
                for v in videos
            ],
            VIDEOS,
        )
        sequence_rows = [row for shard in layout.done_shards() for row in _rows(layout, shard)]
        write_table(
            layout.manifest_path,
            [
                {**row, "path": known[row["video_id"]].path, **known[row["video_id"]].labels()}
                for row in sequence_rows
                if row["video_id"] in known
            ],
            MANIFEST,
        )
        split_rows = [
            {
                "video_id": v.video_id,
                "component": v.video_id,
                "label": v.label,
                "split": v.part,
                "has_crops": True,
            }
            for v in videos
            if v.label is not None
        ]
        # Here and not above: it imports Prefect, which most tests can do without.
        from tasks.split import split_hash

        write_table(
            layout.split_path, split_rows, SPLIT, metadata={"split_hash": split_hash(split_rows)}
        )


def _write_shard(layout: StoreLayout, shard: str, videos: Sequence[Clip]) -> None:
    sequences = [sequence for video in videos for sequence in video.sequences()]
    with CropWriter(partial(layout.crops_path, shard)) as writer:
        places = [writer.append(sequence) for sequence in sequences]
    rows = [
        {
            **{name: getattr(sequence, name) for name in _COPIED},
            "shard": shard,
            "part": part,
            "row": row,
            "face_pixels": 40.0,
        }
        for sequence, (part, row) in zip(sequences, places, strict=True)
    ]
    write_table(layout.shard_sequences_path(shard), rows, SEQUENCES)
    write_table(layout.shard_videos_path(shard), [_result(v) for v in videos], VIDEO_RESULTS)


def _result(video: Clip) -> dict[str, Any]:
    return {"video_id": video.video_id, "status": "ok", "num_frames": video.num_frames}


def _rows(layout: StoreLayout, shard: str) -> list[dict[str, Any]]:
    return read_rows(layout.shard_sequences_path(shard), SEQUENCES)


_COPIED = (
    "sequence_id",
    "video_id",
    "track_id",
    "num_frames",
    "frame_indices",
    "pts_seconds",
    "boxes_xyxy",
    "confidences",
    "sharpness",
    "brightness",
    "keypoints_xy",
    "fingerprints",
)


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    """The class above: a conftest cannot be imported from a test under importlib mode."""
    return Tiny()


@pytest.fixture(scope="session")
def random_network() -> Callable[[Any, Any], Any]:
    """Gives a network of random weights outputs that depend on its input.

    Its batch norms learn their statistics from the given pictures (N, 3, H, W). Without that the
    activations fade from layer to layer, and two networks agree whatever they compute. The weights
    are rounded to float32, the network is left in float64 and in eval mode.
    """
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    def calibrated(network: torch.nn.Module, pictures: torch.Tensor) -> torch.nn.Module:
        network.double().train()
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.momentum = None
        with torch.no_grad():
            network(pictures.double())
        return network.float().double().eval()

    return calibrated
