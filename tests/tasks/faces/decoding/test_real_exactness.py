"""Real videos, FaceForensics++ among them: every sampling, every decoder, the right frame."""

import zlib
from pathlib import Path
from typing import Literal

import av
import numpy as np
import pytest

from reelcheck.config import PreprocessSettings
from reelcheck.errors import VideoError
from reelcheck.records import VideoProbe
from tasks.faces.decoding.decode import FrameReader, reads_exactly
from tasks.faces.decoding.plan import plan_samples
from tasks.faces.decoding.probe import probe_video
from tasks.intake.discover import find_files

pytestmark = pytest.mark.slow
DECODERS: tuple[Literal["decord", "pyav"], ...] = ("decord", "pyav")


def full_decode(path: Path, probe: VideoProbe) -> dict[int, int]:
    """Frame index -> checksum, from FFmpeg reading every packet in one thread."""
    checksums: dict[int, int] = {}
    index_of_pts = dict(zip(probe.packets.pts_P, probe.packets.frame_index_P, strict=True))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        position = 0
        for packet in container.demux(stream):
            try:
                pictures = packet.decode()
            except (av.FFmpegError, ValueError):
                continue
            for picture in pictures:
                index = index_of_pts[picture.pts] if probe.has_pts else position
                rgb = np.rot90(picture.to_ndarray(format="rgb24"), picture.rotation // 90 % 4)
                checksums[int(index)] = zlib.crc32(rgb.tobytes())
                position += 1
    return checksums


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("folder", ["real", "fake", "awkward"])
def test_real_every_sampled_frame_is_that_of_a_full_decode(
    shared_data: Path, folder: str, subtests: pytest.Subtests
) -> None:
    num_frames = num_by_decord = 0
    for file in find_files(shared_data / "public" / folder):
        path = Path(file.root) / file.path
        try:
            probe = probe_video(path)
        except VideoError:
            continue
        if abs(probe.pixel_aspect - 1) > 0.02:
            continue  # the truth above has no square pixels
        truth = full_decode(path, probe)
        for sampling in ("spread", "clips", "uniform", "all"):
            plan = plan_samples(probe, PreprocessSettings.model_validate({"sampling": sampling}))
            for decoder in DECODERS:
                reader = FrameReader(path, probe, plan, decoder=decoder)
                with subtests.test(file=file.path, sampling=sampling, decoder=decoder):
                    for frame in reader:
                        assert zlib.crc32(frame.rgb_HWC.tobytes()) == truth[frame.frame_index]
                        num_frames += 1
                        num_by_decord += reader.decoder == "decord"
                    # decord gives way where it is not exact and where it fails.
                    assert reader.decoder == "pyav" or reads_exactly(probe)
    assert num_frames > 1000
    assert num_by_decord > 300
