"""Damaged files of every kind, through the real decode processes: each is a row, none is lost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from reelcheck.config import PreprocessSettings, RunSettings
from reelcheck.records import VideoResult
from reelcheck.status import Status
from storage.hashing import sha256_of
from tasks.faces.decoding.probe import probe_video
from tasks.intake.shards import make_shards
from tasks.preprocessing.decode_pool import DecodePool

Mutation = Callable[[np.random.Generator, bytes, bytes], bytes]
POSSIBLE = {
    Status.OK,
    Status.NO_FACE,
    Status.FACE_TOO_SMALL,
    Status.TOO_FEW_FRAMES,
    Status.DECODE_ERROR,
    Status.TIMEOUT,
    Status.OUT_OF_MEMORY,
    Status.UNSUPPORTED,
}


def overwrite(content: bytes, start: int, new: bytes) -> bytes:
    return content[:start] + new + content[start + len(new) :]


def flip(rng: np.random.Generator, content: bytes, share: float) -> bytes:
    data = bytearray(content)
    for place in rng.integers(0, len(data), max(1, int(share * len(data)))):
        data[place] ^= 1 << int(rng.integers(0, 8))
    return bytes(data)


def a_block(rng: np.random.Generator, content: bytes) -> tuple[int, int]:
    start = int(rng.integers(0, len(content)))
    return start, int(rng.integers(1, max(2, len(content) // 4)))


def zeroed(rng: np.random.Generator, content: bytes, _: bytes) -> bytes:
    start, length = a_block(rng, content)
    return overwrite(content, start, bytes(min(length, len(content) - start)))


def doubled(rng: np.random.Generator, content: bytes, _: bytes) -> bytes:
    start, length = a_block(rng, content)
    return content[: start + length] + content[start:]


def cut_out(rng: np.random.Generator, content: bytes, _: bytes) -> bytes:
    start, length = a_block(rng, content)
    return content[:start] + content[start + length :]


def truncated(rng: np.random.Generator, content: bytes, _: bytes) -> bytes:
    return content[: rng.integers(0, len(content))]


def spliced(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    return content[: rng.integers(0, len(content))] + other[rng.integers(0, len(other)) :]


def new_head(rng: np.random.Generator, content: bytes, _: bytes) -> bytes:
    return overwrite(content, 0, rng.bytes(int(rng.integers(1, 64))))


def new_sizes(rng: np.random.Generator, content: bytes, _: bytes) -> bytes:
    """Extreme numbers where a head or an index may hold sizes, counts and offsets."""
    extremes = (b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0", bytes(4), b"\0\0\0\x01")
    head = min(len(content), 4096)
    for _ in range(4):
        from_end = rng.random() < 0.5  # an MP4 has its index at the end
        place = int(rng.integers(0, head))
        start = max(0, len(content) - place - 4) if from_end else place
        new = extremes[rng.integers(0, len(extremes))]
        content = overwrite(content, start, new)[: len(content)]
    return content


MUTATIONS: tuple[Mutation, ...] = (
    lambda rng, content, _: flip(rng, content, 0.0),
    lambda rng, content, _: flip(rng, content, 0.001),
    lambda rng, content, _: flip(rng, content, 0.02),
    zeroed,
    doubled,
    cut_out,
    truncated,
    spliced,
    new_head,
    new_sizes,
)


def damaged_files(folder: Path, videos: list[Path], number: int, *, seed: int) -> list[Path]:
    """Every kind of damage in turn, to a video by chance."""
    rng = np.random.default_rng(seed)
    contents = [path.read_bytes() for path in videos]
    paths = []
    for index in range(number):
        mutate = MUTATIONS[index % len(MUTATIONS)]
        chosen, other = rng.integers(0, len(videos), 2)
        path = folder / f"{index}{videos[chosen].suffix}"
        path.write_bytes(mutate(rng, contents[chosen], contents[other]))
        paths.append(path)
    return paths


def extracted(paths: list[Path], face_model: Path, **run: float) -> list[VideoResult]:
    """Results by the way of the pipeline, in the order of the paths."""
    ids = [sha256_of(path) for path in paths]
    (shard,) = make_shards(dict(zip(ids, map(str, paths), strict=True)), shard_size=len(ids))
    settings = PreprocessSettings(face_model_sha256=sha256_of(face_model))
    limits = RunSettings.model_validate({"num_workers": 2, "max_memory_bytes": 2**31} | run)
    with DecodePool([shard], settings, limits) as pool:
        results = {result.video_id: result for result in pool.results(shard)}
    assert results.keys() == set(ids)
    return [results[video_id] for video_id in ids]


@pytest.mark.parametrize(
    ("number", "seed"), [(40, 0), pytest.param(500, 1, marks=pytest.mark.slow)]
)
def test_every_damaged_file_is_a_row_with_a_status(
    every_video: list[Path],
    face_video: Path,
    face_model: Path,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    *,
    number: int,
    seed: int,
) -> None:
    videos = [*every_video, *[face_video] * (len(every_video) // 4)]
    paths = damaged_files(tmp_path, videos, number, seed=seed)
    results = extracted(paths, face_model, timeout_seconds=30)
    wrong = {
        path.name: (result.status, result.reason)
        for path, result in zip(paths, results, strict=True)
        if result.status not in POSSIBLE
        or (result.status is Status.OK) != bool(result.sequences)
        or (result.status is not Status.OK and not result.reason)
        or "\n" in (result.reason or "")
    }
    assert wrong == {}
    # Whole and damaged both come about: the damage is neither nothing nor everything.
    statuses = {result.status for result in results}
    assert {Status.NO_FACE, Status.DECODE_ERROR} <= statuses
    # The damage of few of the clips with a face leaves enough frames beyond doubt.
    assert number < 100 or Status.OK in statuses
    for status in sorted(statuses):
        record_property(str(status), sum(result.status is status for result in results))


def test_undamaged_files_are_all_decoded(
    every_video: list[Path], face_video: Path, face_model: Path
) -> None:
    results = extracted([*every_video, face_video], face_model)
    assert {result.status for result in results[:-1]} <= {Status.NO_FACE, Status.TOO_FEW_FRAMES}
    assert results[-1].status is Status.OK


def renumbered(source: Path, target: Path, first_pid: int) -> bytes:
    """The transport stream with other numbers for its programme and its streams."""
    options = {"mpegts_start_pid": str(first_pid), "mpegts_pmt_start_pid": str(first_pid + 4096)}
    with av.open(str(source)) as given, av.open(str(target), "w", options=options) as written:
        stream = written.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                written.mux(packet)
    return target.read_bytes()


def test_streams_that_begin_inside_a_file_do_not_hide_the_first(
    make_video: Callable[[Any], Path], recipe_type: type[Any], face_model: Path, tmp_path: Path
) -> None:
    first = make_video(recipe_type("plain.ts", "mpegts"))
    later = [renumbered(first, tmp_path / f"{n}.ts", 512 + 16 * n) for n in range(8)]
    path = tmp_path / "all.ts"
    path.write_bytes(first.read_bytes() * 30 + b"".join(later))
    with av.open(str(path)) as container:
        assert len(container.streams) == 1
    assert probe_video(path).num_frames == 30 * 40
    (result,) = extracted([path], face_model)
    assert (result.status, result.num_frames_decoded) == (Status.NO_FACE, 30)
