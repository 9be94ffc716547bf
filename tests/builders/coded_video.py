"""Videos of any codec in any container."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from reelcheck.records import RGB


def flat(brightness: int, *, width: int = 160, height: int = 120) -> RGB:
    return np.full((height, width, 3), brightness, np.uint8)


def write_video(
    path: Path, frames: Iterable[RGB], *, fps: int, codec: str = "libx264", is_loud: bool = False
) -> Path:
    """Any codec in any container, on demand with sound and a title."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps))
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        sound = container.add_stream("aac", rate=44100) if is_loud else None
        if is_loud:
            container.metadata["title"] = "telling"
        for number, rgb_HWC in enumerate(frames):
            if number == 0:
                stream.height, stream.width = rgb_HWC.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb_HWC, format="rgb24")))
        container.mux(stream.encode(None))
        if sound is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp")
            silence.sample_rate = 44100
            container.mux(sound.encode(silence))
            container.mux(sound.encode(None))
    return path
