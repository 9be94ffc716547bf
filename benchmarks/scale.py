"""Cost of splits, audits and storage for a million videos and more.

    python benchmarks/scale.py measure --like STORE [--videos 1000000] [--folder FOLDER]
    python benchmarks/scale.py count --like STORE

- measure: writes the tables of a store of N made-up videos (no crops), then runs
  `reelcheck split` and `reelcheck audit` on it, each in a process of its own, and prints minutes of
  wall and CPU time, the peak of resident memory, and how many of the planted copies are kept
  with their originals. What a table holds beside names, labels and fingerprints is taken from
  videos of the STORE, so that sizes are as they are; fingerprints are drawn with the frequency that
  each bit has in there.
- count: shards, files, bytes, requests and money for 1 M and 100 M videos as a Markdown table:
  bytes and CPU seconds from the STORE, the rest from the assumptions below.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from processes import describe_machine

from reelcheck.config import PreprocessSettings, RunSettings
from reelcheck.records import FINGERPRINT_BYTES
from storage.atomic import write_text
from storage.checked.seals import seal
from storage.layout import StoreLayout, find_preprocessed, locate_preprocessed
from storage.schemas import LABEL_COLUMNS, MANIFEST, SPLIT, VIDEOS
from storage.tables import read_rows, read_table
from tasks.plotting.markdown import format_table

Bits = NDArray[np.bool_]

FRAME_HASHES, FACE_HASHES = 30, 18
"""Fingerprints of a video's frames, and of each of its crop sequences, with default settings."""
SEQUENCE_FRAMES = 30
SEQUENCES_PER_VIDEO = 1.2
CAST_VIDEOS, CAST_PEOPLE = 40, 8
"""Half of a cast's videos are real, each the source of one fake with the face of another person of
the cast."""
PIECE = 20_000
"""Videos that are made at a time."""
PIECE_COPIES = 400
"""The last videos are copies of others, recognised by their looks alone."""
COPY_BITS = (0, 32)
"""Largest number of bits of a fingerprint that a copy changes, drawn for each copy."""
FRAME_CHANGE, FACE_CHANGE = (0.03, 0.3), (0.07, 0.35)
"""Share of bits in which a fingerprint differs from what its video has in common: from the 5 % of
public clips that change least to the 5 % that change most."""

PRICES = {"stored": 0.023, "put": 0.005, "get": 0.0004}
"""Dollars per GB and month, per 1000 PUT or LIST, per 1000 GET: Amazon S3 Standard, us-east-1, list
prices of January 2025 for the first 50 TB. Traffic inside the region costs nothing."""
KEYS_PER_LISTING = 1000
LISTING_SECONDS = 0.1
"""Assumed, of one request."""
UPLOAD_PART_BYTES = 8 * 2**20
"""Larger objects are uploaded in parts, one PUT each, and two requests around them."""
TASK_SECONDS = 0.014
"""Client and server CPU time that Prefect takes for one task run."""


def main() -> None:
    """Measure or count, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", choices=("measure", "count"))
    parser.add_argument("--like", type=Path, required=True, help="a preprocessed, labelled store")
    parser.add_argument("--videos", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where to keep the made store")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    like = find_preprocessed(options.like)
    if options.work == "count":
        print(count(like))
        return
    with tempfile.TemporaryDirectory() as temporary:
        store = options.folder or Path(temporary)
        started = time.monotonic()
        layout, original_of = make_store(store, like, options.videos, options.seed)
        report: dict[str, Any] = {
            "machine": describe_machine(("numpy", "pyarrow", "scikit-learn", "prefect")),
            "videos": options.videos,
            "minutes_to_make": format_minutes(time.monotonic() - started),
            "gigabytes": {
                path.name: round(path.stat().st_size / 1e9, 2)
                for path in (layout.videos_path, layout.manifest_path)
            },
        }
        for command in ("split", "audit"):
            report[command] = measure(command, store)
            print(json.dumps(report), file=sys.stderr, flush=True)
        print(json.dumps(report | compare(layout, original_of), indent=2))


class Numbers(NamedTuple):
    """What made-up videos have in common with true ones."""

    videos: pa.Table
    sequences: pa.Table
    frame_bits: NDArray[np.float64]
    """Share of fingerprints in which each bit is set."""
    face_bits: NDArray[np.float64]


def make_store(
    store: Path, like: StoreLayout, num_videos: int, seed: int
) -> tuple[StoreLayout, dict[str, str]]:
    """Tables of a store, and copy -> original."""
    rng = np.random.default_rng(seed)
    layout = locate_preprocessed(store, like.preprocessing_hash)
    layout.path.mkdir(parents=True)
    write_text(layout.settings_path, like.settings_path.read_text())
    numbers = read_numbers(like)
    original_of: dict[str, str] = {}
    with ExitStack() as files:
        to_videos, to_manifest = (
            files.enter_context(pq.ParquetWriter(path, schema, compression="zstd"))
            for path, schema in ((layout.videos_path, VIDEOS), (layout.manifest_path, MANIFEST))
        )
        for start in range(0, num_videos, PIECE):
            piece = make_piece(min(PIECE, num_videos - start), start, numbers, rng)
            to_videos.write_table(piece.videos)
            to_manifest.write_table(piece.sequences)
            original_of |= piece.original_of
    for path in (layout.videos_path, layout.manifest_path):
        seal(path)
    return layout, original_of


def read_numbers(like: StoreLayout) -> Numbers:
    """From the labelled videos of a store that have crops."""
    videos = read_table(like.videos_path, VIDEOS)
    videos = videos.filter((pc.field("status") == "ok") & pc.field("label").is_valid())
    sequences = read_table(like.manifest_path, MANIFEST)
    sequences = sequences.filter(pc.field("label").is_valid())
    return Numbers(
        videos,
        sequences,
        *(count_frequencies(table["fingerprints"]) for table in (videos, sequences)),
    )


def count_frequencies(lists: pa.ChunkedArray) -> NDArray[np.float64]:
    """Count how often each bit of all fingerprints is set."""
    data = b"".join(hash_ for own in lists.to_pylist() for hash_ in own)
    bits_NB = np.unpackbits(np.frombuffer(data, np.uint8).reshape(-1, FINGERPRINT_BYTES), axis=1)
    frequencies_B: NDArray[np.float64] = bits_NB.mean(axis=0)
    return frequencies_B


class Piece(NamedTuple):
    """Some videos with their sequences."""

    videos: pa.Table
    sequences: pa.Table
    original_of: dict[str, str]


def make_piece(number: int, start: int, numbers: Numbers, rng: np.random.Generator) -> Piece:
    """Videos from number ``start`` on: casts, then copies of some of them."""
    num_copies = number * PIECE_COPIES // PIECE
    originals = rng.choice(number - num_copies, num_copies, replace=False)
    names = [f"{start + place:09}.mp4" for place in range(number)]
    ids = [rng.bytes(32).hex() for _ in range(number)]
    labels = [make_links(start + place, names, place) for place in range(number - num_copies)]
    labels += [{"label": labels[place]["label"]} for place in originals]
    frames_V = draw(number, numbers.frame_bits, FRAME_CHANGE, rng, num_hashes=FRAME_HASHES)
    first_V = draw(number, numbers.face_bits, FACE_CHANGE, rng, num_hashes=FACE_HASHES)
    change_C11 = rng.uniform(*COPY_BITS, (num_copies, 1, 1)) / (8 * FINGERPRINT_BYTES)
    for bits_V in (frames_V, first_V):
        bits_V[number - num_copies :] = flip_bits(bits_V[originals], change_C11, rng)
    columns = {name: [own.get(name) for own in labels] for name in LABEL_COLUMNS}
    known: dict[str, Any] = {"path": names, "video_id": ids, **columns}
    like = numbers.videos.take(rng.integers(0, len(numbers.videos), number))
    videos = replace_columns(
        like, {**known, "root": ["/videos"] * number, "fingerprints": make_lists(frames_V)}, VIDEOS
    )
    # Every fifth video shows a second person.
    second = np.flatnonzero(rng.random(number) < SEQUENCES_PER_VIDEO - 1)
    of_video = [*range(number), *second.tolist()]
    tracks = [0] * number + [1] * len(second)
    second_V = draw(len(second), numbers.face_bits, FACE_CHANGE, rng, num_hashes=FACE_HASHES)
    faces_S = np.concatenate([first_V, second_V])
    known = {name: [values[place] for place in of_video] for name, values in known.items()}
    known["track_id"] = tracks
    known["sequence_id"] = [
        f"{ids[place][:16]}-{track:02}-00" for place, track in zip(of_video, tracks, strict=True)
    ]
    like = numbers.sequences.take(rng.integers(0, len(numbers.sequences), len(tracks)))
    sequences = replace_columns(like, {**known, "fingerprints": make_lists(faces_S)}, MANIFEST)
    copies = ids[number - num_copies :]
    original_of = {copy: ids[place] for copy, place in zip(copies, originals, strict=True)}
    return Piece(videos, sequences, original_of)


def make_links(number: int, names: list[str], place: int) -> dict[str, Any]:
    """Labels of a cast's video by its number among all videos and its place among the names."""
    cast, own = divmod(number, CAST_VIDEOS)
    known = {"label": 0, "identity": f"person {cast}.{own % CAST_PEOPLE}", "dataset": "made up"}
    if own < CAST_VIDEOS // 2:
        return known
    return {
        **known,
        "label": 1,
        "donor": f"person {cast}.{(own + 3) % CAST_PEOPLE}",
        "source": names[place - CAST_VIDEOS // 2],
        "generator": "swap",
    }


def draw(
    number: int,
    frequencies_B: NDArray[np.float64],
    change: tuple[float, float],
    rng: np.random.Generator,
    *,
    num_hashes: int,
) -> Bits:
    """Fingerprints (number, num_hashes, bits): those of one video have much in common."""
    common_V1B = rng.random((number, 1, len(frequencies_B)), np.float32) < frequencies_B
    common_VHB = np.repeat(common_V1B, num_hashes, axis=1)
    return flip_bits(common_VHB, rng.uniform(*change, (number, 1, 1)), rng)


def flip_bits(bits_VHB: Bits, share_V11: NDArray[np.float64], rng: np.random.Generator) -> Bits:
    """Flip a share of the bits."""
    limit_V11 = np.round(share_V11 * 256).astype(np.uint16)
    flips_VHB: Bits = rng.integers(0, 256, bits_VHB.shape, np.uint8) < limit_V11
    return bits_VHB ^ flips_VHB


def make_lists(bits_VHB: Bits) -> pa.Array:
    """Make one list of hashes per row."""
    data = pa.py_buffer(np.packbits(bits_VHB, axis=-1).tobytes())
    num_hashes = bits_VHB.shape[1]
    kind, number = pa.binary(FINGERPRINT_BYTES), len(bits_VHB) * num_hashes
    flat = pa.FixedSizeBinaryArray.from_buffers(kind, number, [None, data])
    return pa.ListArray.from_arrays(pa.array(range(0, number + 1, num_hashes), pa.int32()), flat)


def replace_columns(table: pa.Table, columns: dict[str, Any], schema: pa.Schema) -> pa.Table:
    """The table with some columns exchanged."""
    kept = {name: table[name] for name in schema.names} | columns
    return pa.table(kept, schema=schema)


def measure(command: str, store: Path) -> dict[str, float]:
    """Measure the cost of a command, its Prefect server included."""
    program = Path(sys.executable).with_name("reelcheck")
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen([program, command, store], stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        output.seek(0)
        # Of an audit 2 means that something was found.
        if os.waitstatus_to_exitcode(status) not in {0, 2}:
            sys.exit(f"{command} failed:\n{output.read().decode()}")
    return {
        "wall_minutes": format_minutes(time.monotonic() - started),
        "cpu_minutes": format_minutes(usage.ru_utime + usage.ru_stime),
        "peak_gigabytes": round(usage.ru_maxrss * 1024 / 1e9, 1),
    }


def format_minutes(seconds: float) -> float:
    """To a tenth."""
    return round(seconds / 60, 1)


def compare(layout: StoreLayout, original_of: dict[str, str]) -> dict[str, Any]:
    """Whether the split and the audit found what is there."""
    table = read_table(layout.split_path, SPLIT, columns=("video_id", "component", "split"))
    columns = (table[name].to_pylist() for name in ("video_id", "component"))
    component_of = dict(zip(*columns, strict=True))
    kept = [component_of[copy] == component_of[own] for copy, own in original_of.items()]
    sizes = np.unique(table["component"].to_numpy(), return_counts=True)[1]
    audit = json.loads(layout.audit_path.read_text())
    return {
        "copies": len(kept),
        "copies_kept_with_their_originals": sum(kept),
        "components": len(sizes),
        "largest_component": int(sizes.max()),
        "parts": dict(Counter(table["split"].to_pylist())),
        "leaks": len(audit["leaks"]),
        "pairs_alike": audit["num_near_duplicates"],
        "shortcut_auc": audit["shortcuts"]["auc"],
    }


def count(like: StoreLayout) -> str:
    """Counts for 1 M and 100 M videos as a Markdown table."""
    sizes = measure_sizes(like)
    columns = [estimate(number, sizes) for number in (10**6, 10**8)]
    rows = [(name, columns[0][name], columns[1][name]) for name in columns[0]]
    return format_table(("", "1 M videos", "100 M videos"), rows)


class Sizes(NamedTuple):
    """Bytes and CPU seconds of a true store."""

    video_file: float
    cpu_seconds: float
    """Of preprocessing a video."""
    video_row: float
    manifest_row: float
    row_objects: float
    """Memory of a row of the manifest as Python objects."""
    crops: int
    """Of a sequence of ``SEQUENCE_FRAMES`` frames."""


def measure_sizes(like: StoreLayout) -> Sizes:
    """From the tables of a store and from the summary of the run that made it."""
    numbers = read_numbers(like)
    settings = PreprocessSettings.model_validate_json(like.settings_path.read_text())
    summary = json.loads(like.summary_path.read_text())
    tracemalloc.start()
    rows = read_rows(like.manifest_path, MANIFEST)
    row_objects = tracemalloc.get_traced_memory()[0] / len(rows)
    tracemalloc.stop()
    return Sizes(
        video_file=pc.mean(numbers.videos["size_bytes"]).as_py(),
        cpu_seconds=sum(summary["cpu_seconds"].values()) / summary["num_videos"],
        video_row=measure_stored_row(numbers.videos),
        manifest_row=measure_stored_row(numbers.sequences),
        row_objects=row_objects,
        crops=SEQUENCE_FRAMES * settings.crop_pixels**2 * 3,
    )


def measure_stored_row(table: pa.Table) -> float:
    """Bytes of a row in a file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return float(sink.getvalue().size / len(table))


def estimate(num_videos: int, sizes: Sizes) -> dict[str, str]:
    """Estimate sizes and times for a number of videos."""
    num_sequences = round(num_videos * SEQUENCES_PER_VIDEO)
    num_shards = math.ceil(num_videos / RunSettings().shard_size)
    shard_bytes = num_sequences * sizes.crops / num_shards
    num_parts = math.ceil(shard_bytes / UPLOAD_PART_BYTES)
    num_objects = 3 * num_shards
    listings = math.ceil(num_objects / KEYS_PER_LISTING)
    manifest, videos = num_sequences * sizes.manifest_row, num_videos * sizes.video_row
    tables, crops = 2 * (manifest + videos), num_sequences * sizes.crops
    hours = num_videos * sizes.cpu_seconds / 3600
    puts, gets = num_shards * (num_parts + 2 + 2), num_videos + 2 * num_shards
    requests = puts / 1000 * PRICES["put"] + gets / 1000 * PRICES["get"]
    return {
        "videos themselves": format_bytes(num_videos * sizes.video_file),
        "crop sequences": f"{num_sequences:,}",
        "shards, each a Prefect task and a crop file": f"{num_shards:,}",
        "bytes of a crop file": format_bytes(shard_bytes),
        "objects": f"{num_objects:,}",
        "crops": format_bytes(crops),
        "`videos.parquet`": format_bytes(videos),
        "`manifest.parquet`": format_bytes(manifest),
        "fingerprints in memory": format_bytes(
            (num_videos * FRAME_HASHES + num_sequences * FACE_HASHES) * FINGERPRINT_BYTES
        ),
        "the manifest as Python objects": format_bytes(num_sequences * sizes.row_objects),
        "CPU hours of preprocessing": f"{hours:,.0f}",
        "CPU hours that Prefect adds": f"{num_shards * TASK_SECONDS / 3600:,.2f}",
        "LIST requests for all objects": f"{listings:,}",
        "... one after the other": f"{listings * LISTING_SECONDS:,.0f} s",
        "PUT requests of preprocessing": f"{puts:,}",
        "GET requests of preprocessing": f"{gets:,}",
        "... both": f"${requests:,.0f}",
        "one listing of all objects": f"${listings / 1000 * PRICES['put']:,.4f}",
        "tables of all shards read": f"${2 * num_shards / 1000 * PRICES['get']:,.2f}",
        "crops and tables kept for a month": f"${(crops + tables) / 1e9 * PRICES['stored']:,.0f}",
    }


def format_bytes(num_bytes: float) -> str:
    """Format bytes as MB, GB or TB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if num_bytes >= size:
            return f"{num_bytes / size:,.1f} {unit}"
    return f"{num_bytes / 1e6:,.0f} MB"


if __name__ == "__main__":
    main()
