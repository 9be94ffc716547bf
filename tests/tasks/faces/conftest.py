"""Small videos of every kind, made with PyAV as they are asked for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.faces.detection.detect import FaceDetector


@dataclass(frozen=True)
class Recipe:
    """What to encode; the pictures are smooth and differ a lot from frame to frame."""

    name: str
    container: str = "mp4"
    codec: str = "libx264"
    pixels: str = "yuv420p"
    width: int = 96
    height: int = 64
    num_frames: int = 40
    fps: Fraction = Fraction(25)
    options: dict[str, str] = field(default_factory=dict)
    aspect: Fraction | None = None
    """Width over height of a pixel."""
    rotation: int = 0
    """Counter-clockwise degrees by which a player must turn the stored picture."""
    num_hidden: int = 0
    """Frames at the start that an edit list hides."""


def smooth_picture(seed: int, width: int, height: int) -> NDArray[np.uint8]:
    corners = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
    large = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large, np.uint8)


def encode(path: Path, recipe: Recipe) -> None:
    with av.open(str(path), "w", format=recipe.container) as container:
        stream = container.add_stream(recipe.codec, rate=recipe.fps, options=recipe.options)
        stream.width, stream.height, stream.pix_fmt = recipe.width, recipe.height, recipe.pixels
        if recipe.aspect is not None:
            stream.codec_context.sample_aspect_ratio = recipe.aspect
        if recipe.rotation:
            stream.set_display_rotation(recipe.rotation)

        def mux(frame: av.VideoFrame | None) -> None:
            for packet in stream.encode(frame):
                # Times before zero are what MP4 writes as an edit list.
                packet.pts -= recipe.num_hidden
                packet.dts -= recipe.num_hidden
                container.mux(packet)

        for number in range(recipe.num_frames):
            picture = smooth_picture(number, recipe.width, recipe.height)
            mux(av.VideoFrame.from_ndarray(picture, format="rgb24"))
        mux(None)


@pytest.fixture(scope="module")
def detector(face_model: Path) -> Iterator[FaceDetector]:
    with FaceDetector(face_model, min_confidence=0.5) as opened:
        yield opened


@pytest.fixture(scope="session")
def make_video(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Recipe], Path]:
    """A function that gives the video of a recipe; each is encoded once."""
    folder = tmp_path_factory.mktemp("videos")

    def make(recipe: Recipe) -> Path:
        path = folder / recipe.name
        if not path.exists():
            encode(path, recipe)
        return path

    return make


@pytest.fixture(scope="session")
def recipe_type() -> type[Recipe]:
    """The class above: a conftest cannot be imported from a test under importlib mode."""
    return Recipe


RECIPES = (
    Recipe("b_frames.mp4", options={"bf": "3", "g": "12"}),
    Recipe("one_key_frame.mp4", options={"bf": "2", "g": "500"}),
    Recipe("open_gop.mkv", "matroska", options={"x264-params": "open-gop=1:keyint=10:bframes=3"}),
    Recipe("ntsc.mp4", fps=Fraction(30000, 1001)),
    Recipe("edit_list.mp4", options={"bf": "2"}, num_hidden=7),
    Recipe("anamorphic.mp4", aspect=Fraction(4, 3)),
    Recipe("turned90.mp4", rotation=90),
    Recipe("turned180.mp4", rotation=180),
    Recipe("turned270.mp4", rotation=-90),
    Recipe("hevc.mp4", codec="libx265", options={"x265-params": "log-level=none"}),
    Recipe("stream.ts", "mpegts", "mpeg2video", options={"bf": "2"}),
    Recipe("stream_h264.ts", "mpegts", options={"bf": "2"}),
    Recipe("mpeg4.avi", "avi", "mpeg4", options={"bf": "2"}),
    Recipe("motion_jpeg.avi", "avi", "mjpeg", "yuvj420p"),
    Recipe("vp9.webm", "webm", "libvpx-vp9", options={"cpu-used": "8", "deadline": "realtime"}),
    Recipe("vp8.webm", "webm", "libvpx", options={"cpu-used": "8", "deadline": "realtime"}),
    Recipe("raw.h264", "h264", options={"bf": "2"}),
    Recipe("flash.flv", "flv", "flv"),
    Recipe("animation.gif", "gif", "gif", "rgb8"),
    Recipe("few.mp4", num_frames=2),
)


@pytest.fixture(params=RECIPES, ids=lambda recipe: recipe.name)
def any_recipe(request: pytest.FixtureRequest) -> Recipe:
    """Every kind of stream in turn."""
    recipe = request.param
    assert isinstance(recipe, Recipe)
    try:
        av.codec.Codec(recipe.codec, "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"this build of FFmpeg has no encoder {recipe.codec}")
    return recipe


@pytest.fixture
def any_video(any_recipe: Recipe, make_video: Callable[[Recipe], Path]) -> Path:
    """The video of ``any_recipe``."""
    return make_video(any_recipe)


@pytest.fixture(scope="session")
def every_video(make_video: Callable[[Recipe], Path]) -> list[Path]:
    """One video of each kind that this build of FFmpeg can make."""
    known = [recipe for recipe in RECIPES if recipe.codec in av.codecs_available]
    return [make_video(recipe) for recipe in known]
