"""Shared fixtures: tiny real H.264 videos, rendered, and the guards around every test."""

import atexit
import os
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

# Before Prefect is imported anywhere: tests need neither its log nor its telemetry.
# Tiny networks: two threads that wait for each other are slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
# ONNX files of test models never come into the user's cache; all processes of a run share them.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["REELCHECK_EXPORTS"] = tempfile.mkdtemp(prefix="reelcheck-exports-")
    atexit.register(shutil.rmtree, os.environ["REELCHECK_EXPORTS"], ignore_errors=True)
# xdist gives its workers a size of terminal; rich would keep it, whatever a test sets later.
os.environ.pop("COLUMNS", None)
os.environ.pop("LINES", None)

from tiny_store import Tiny

from reelcheck.errors import FaceModelError
from tasks.faces.detection.weights import find_face_model, hash_configured_face_model
from tasks.synthetic.clip import render_frames
from tasks.synthetic.dataset import SyntheticSettings, generate_dataset, write_h264


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep each file in one process, and all that need a Prefect server in the same one."""
    from xdist.scheduler import LoadFileScheduling

    class OneServer(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "flows" if nodeid.startswith("tests/flows/") else super()._split_scope(nodeid)

    return OneServer(config, log)


def pytest_collection_finish() -> None:
    """Let torch's ONNX exporter look up its functions once, not for every model.

    The look-up takes a fifth of the export of a tiny network. Where no test exports, the exporter
    is not imported for this.
    """
    if "models.interop.export" in sys.modules:
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        ONNXRegistry.from_torchlib = staticmethod(cache(ONNXRegistry.from_torchlib))


def make_once(folders: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Folder of that name, filled by the first of the test processes that asks for it."""
    root = folders.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / name
    with FileLock(root / f"{name}.lock"):
        if not folder.exists():
            make(root / f"{name}.part")
            (root / f"{name}.part").rename(folder)
    return folder


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - guards third-party code that uses the global generator


@pytest.fixture(scope="session")
def face_model() -> Path:
    """The face detector's weights; the test is skipped where they cannot be had."""
    try:
        return find_face_model(hash_configured_face_model())
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
    settings = SyntheticSettings(num_identities=12, clips_per_identity=1)
    return make_once(tmp_path_factory, "synthetic", lambda made: generate_dataset(made, settings))


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


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    """The builder of stores and models, for tests that do not import it."""
    return Tiny()


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory, tiny: Tiny) -> Path:
    """Folder of a model with random weights, for all who do not change it, or copy it.

    Its ONNX files, which take seconds to make, are there, too.
    """
    return make_once(tmp_path_factory, "random-model", tiny.save_exported_model)


@pytest.fixture(scope="session")
def other_random_model(tmp_path_factory: pytest.TempPathFactory, tiny: Tiny) -> Path:
    """The same with other weights."""
    return make_once(
        tmp_path_factory, "other-random-model", partial(tiny.save_exported_model, seed=1)
    )


@pytest.fixture(scope="module")
def few_trees() -> Iterator[None]:
    """Metadata models of ten trees, which tell as well what these tests plant."""
    from tasks.splits import shortcuts

    make = shortcuts.make_metadata_model
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            shortcuts, "make_metadata_model", lambda number: make(number).set_params(max_iter=10)
        )
        yield


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
