"""How far apart are copies of a video, and videos of different people?

    python benchmarks/near_duplicates.py FOLDER... [--groups CSV] [--copies 30] [--crowd 0]

Makes copies of some videos of the folders (CRF 35; half the size; 20 frames per second with key
frames elsewhere; the face cut out, mirrored and rescaled), fingerprints all, and prints how many
copies are found, and how many pairs are taken for copies that are none. The CSV has the columns
``file`` and ``group``: videos of one group may look alike. With --crowd as many made-up videos are
among them, with fingerprints as ``scale.py`` draws them. Needs ffmpeg on the path.
"""

import argparse
import csv
import itertools
import json
import random
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from scale import FACE_CHANGE, FRAME_CHANGE, PIECE, count_frequencies, draw, make_lists

from reelcheck.config import PreprocessSettings
from reelcheck.records import FINGERPRINT_BYTES, VideoResult
from tasks.faces.detection.detect import FaceDetector
from tasks.faces.detection.fingerprint import mirror_fingerprints
from tasks.faces.detection.weights import find_face_model, hash_configured_face_model
from tasks.faces.video import extract_video
from tasks.splits.near_duplicates import find_near_duplicates

KINDS = ("crf 35", "half size", "20 fps", "mirrored face")


def main() -> None:
    """Copy, fingerprint, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--groups", type=Path)
    parser.add_argument("--copies", type=int, default=30)
    parser.add_argument("--crowd", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    settings = PreprocessSettings(face_model_sha256=hash_configured_face_model())
    detector = FaceDetector(
        find_face_model(settings.face_model_sha256), min_confidence=settings.min_confidence
    )
    paths = [path for folder in chosen.folders for path in sorted(folder.iterdir())]
    results = {path.name: extract_video(path, path.name, settings, detector) for path in paths}
    results = {name: result for name, result in results.items() if result.sequences}
    by_name = {path.name: path for path in paths}
    copied = random.Random(chosen.seed).sample(sorted(results), chosen.copies)
    with tempfile.TemporaryDirectory() as folder:
        copies = {
            f"{name}#{kind}": extract_video(
                make_copy(by_name[name], kind, results[name], Path(folder)),
                name,
                settings,
                detector,
            )
            for name in copied
            for kind in KINDS
        }
    group_of = read_groups(chosen.groups) if chosen.groups else {}
    print(json.dumps(compare(results, copies, group_of, num_crowd=chosen.crowd), indent=2))


def make_copy(path: Path, kind: str, found: VideoResult, folder: Path) -> Path:
    """A copy of a video, by ffmpeg."""
    copy = folder / f"{kind.replace(' ', '')}-{path.stem}.mp4"
    more = {
        "crf 35": ["-crf", "35"],
        "half size": ["-vf", "scale=trunc(iw/4)*2:trunc(ih/4)*2", "-crf", "26"],
        "20 fps": ["-vf", "fps=20", "-crf", "26", "-g", "30"],
        "mirrored face": ["-vf", f"{make_face_filter(found)},hflip,scale=256:-2", "-crf", "26"],
    }[kind]
    start = ["ffmpeg", "-v", "error", "-y", "-i", str(path), "-an", "-pix_fmt", "yuv420p"]
    subprocess.run([*start, "-c:v", "libx264", *more, str(copy)], check=True)
    return copy


def make_face_filter(found: VideoResult) -> str:
    """Ffmpeg's crop of about twice the face's box."""
    x1, y1, x2, y2 = np.mean(found.sequences[0].boxes_xyxy, axis=0)
    half = 1.1 * max(x2 - x1, y2 - y1)
    left, top = max(0, int((x1 + x2) / 2 - half)), max(0, int((y1 + y2) / 2 - half))
    width = int(min(found.width or 0, (x1 + x2) / 2 + half) - left) // 2 * 2
    height = int(min(found.height or 0, (y1 + y2) / 2 + half) - top) // 2 * 2
    return f"crop={width}:{height}:{left}:{top}"


def read_groups(path: Path) -> dict[str, str]:
    """File name -> group."""
    with path.open(encoding="utf-8", newline="") as file:
        return {Path(row["file"]).name: row["group"] for row in csv.DictReader(file)}


def compare(
    results: dict[str, VideoResult],
    copies: dict[str, VideoResult],
    group_of: dict[str, str],
    *,
    num_crowd: int,
) -> dict[str, object]:
    """Shares of copies found, false finds, and the smallest distance between strangers."""
    both = results | copies
    faces = {
        name: [hash_ for sequence in result.sequences for hash_ in sequence.fingerprints]
        for name, result in both.items()
    }
    frames = {name: result.fingerprints for name, result in both.items()}
    with_crowd = (
        pa.concat_tables([make_table(hashes), *make_crowd(hashes, num_crowd, change)])
        for hashes, change in ((frames, FRAME_CHANGE), (faces, FACE_CHANGE))
    )
    found = {(pair.first, pair.second) for pair in find_near_duplicates(*with_crowd)}
    pairs_of_kind: dict[str, list[bool]] = defaultdict(list)
    for name in copies:
        original, kind = name.split("#")
        pairs_of_kind[kind].append(tuple(sorted((original, name))) in found)

    def group(name: str) -> str:
        return group_of.get(name.split("#", maxsplit=1)[0], name.split("#", maxsplit=1)[0])

    strangers = [
        pair
        for pair in itertools.combinations(sorted(results), 2)
        if group(pair[0]) != group(pair[1])
    ]
    return {
        "videos": len(results),
        "copies_found": {
            kind: f"{sum(hits)} of {len(hits)}" for kind, hits in pairs_of_kind.items()
        },
        "pairs_of_strangers": len(strangers),
        "strangers_taken_for_copies": sorted(
            pair for pair in found if group(pair[0]) != group(pair[1])
        ),
        "fewest_bits_between_strangers": {
            what: min(measure_distance(hashes[one], hashes[other]) for one, other in strangers)
            for what, hashes in (("frames", frames), ("faces", faces))
        },
    }


def make_table(hashes: Mapping[str, Sequence[bytes]]) -> pa.Table:
    """Video id -> its fingerprints, as ``find_near_duplicates`` takes them."""
    lists = pa.array([list(own) for own in hashes.values()], pa.list_(pa.binary(FINGERPRINT_BYTES)))
    return pa.table({"video_id": list(hashes), "fingerprints": lists})


def make_crowd(
    hashes: Mapping[str, Sequence[bytes]], number: int, change: tuple[float, float]
) -> Iterator[pa.Table]:
    """Made-up videos, in pieces, whose bits are set as often as those of the given ones."""
    rng = np.random.default_rng(0)
    set_share_B = count_frequencies(make_table(hashes)["fingerprints"])
    for start in range(0, number, PIECE):
        names = [f"made up {place:09}" for place in range(start, min(start + PIECE, number))]
        bits = draw(len(names), set_share_B, change, rng)
        yield pa.table({"video_id": names, "fingerprints": make_lists(bits)})


def measure_distance(
    first: list[bytes] | tuple[bytes, ...], second: list[bytes] | tuple[bytes, ...]
) -> int:
    """Fewest bits in which a hash of one and a hash of the other, or its mirror, differ."""
    if not first or not second:
        return 256
    one, other = (np.frombuffer(b"".join(h), np.uint8).reshape(-1, 32) for h in (first, second))
    other = np.concatenate([other, mirror_fingerprints(other)])
    return int(np.bitwise_count(one[:, None] ^ other[None]).sum(axis=2).min())


if __name__ == "__main__":
    main()
