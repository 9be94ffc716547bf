"""How far apart are copies of a video, and videos of different people?

    python benchmarks/near_duplicates.py FOLDER... [--groups CSV] [--copies 18 | --copied NAME...]
        [--crowd 0]

Takes the first 4 seconds of some videos of the folders, 480 pixels wide, edits them
(``edits.py``), fingerprints all, and prints how many edited copies are missed, and how many pairs
are taken for copies that are none. The CSV has the columns ``file`` and ``group``: videos of one
group may look alike. With --crowd as many made-up videos are among them, with fingerprints as
``scale.py`` draws them.
"""

import argparse
import csv
import itertools
import json
import random
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from edits import EDITS, Edit, read_clip, write_edit
from scale import (
    FACE_CHANGE,
    FACE_HASHES,
    FRAME_CHANGE,
    FRAME_HASHES,
    PIECE,
    count_frequencies,
    draw,
    make_lists,
)

from reelcheck.config import PreprocessSettings
from reelcheck.records import FINGERPRINT_BYTES, Keypoints, VideoResult
from tasks.faces.decoding.plan import space_evenly
from tasks.faces.detection.aligned import MAX_CROPS
from tasks.faces.detection.detect import FaceDetector
from tasks.faces.detection.fingerprint import mirror_fingerprints
from tasks.faces.detection.weights import find_face_model, hash_configured_face_model
from tasks.faces.video import add_fingerprints, extract_video
from tasks.splits.confirm import AlignedFaces, describe_faces, show_same_face
from tasks.splits.near_duplicates import Confirm, find_near_duplicates

CLIP = "clip"
"""Name of the copy that is not edited but is what the others were made from."""


def main() -> None:
    """Copy, fingerprint, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--groups", type=Path)
    parser.add_argument("--copies", type=int, default=18)
    parser.add_argument("--copied", nargs="+", help="names without extension of what is copied")
    parser.add_argument("--crowd", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    settings = PreprocessSettings(face_model_sha256=hash_configured_face_model())
    detector = FaceDetector(
        find_face_model(settings.face_model_sha256), min_confidence=settings.min_confidence
    )
    paths = [path for folder in chosen.folders for path in sorted(folder.iterdir())]
    found = {path.name: extract_video(path, path.name, settings, detector) for path in paths}
    results = {name: add_fingerprints(result, detector) for name, result in found.items()}
    results = {name: result for name, result in results.items() if result.sequences}
    by_name = {path.name: path for path in paths}
    copied = [name for name in sorted(results) if Path(name).stem in (chosen.copied or ())]
    if not chosen.copied:
        copied = random.Random(chosen.seed).sample(sorted(results), chosen.copies)
    copies: dict[str, VideoResult] = {}
    for name in copied:
        copies |= make_copies(by_name[name], name, settings, detector)
    group_of = read_groups(chosen.groups) if chosen.groups else {}
    print(json.dumps(compare(results, copies, group_of, num_crowd=chosen.crowd), indent=2))


def make_copies(
    path: Path, name: str, settings: PreprocessSettings, detector: FaceDetector
) -> dict[str, VideoResult]:
    """A clip of a video and its edited copies, by the name of video and edit."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "copy.mp4"
        frames, fps = read_clip(path, seconds=4, width=480)

        def extract(edit: Edit, box: Sequence[float]) -> VideoResult:
            write_edit(file, frames, fps, edit, box)
            return add_fingerprints(extract_video(file, name, settings, detector), detector)

        clip = extract(Edit(), ())
        frames, fps = read_clip(file, seconds=5, width=480)
        box = np.median(clip.sequences[0].boxes_xyxy, axis=0).tolist()
        copies = {f"{name}#{kind}": extract(edit, box) for kind, edit in EDITS.items()}
        return {f"{name}#{CLIP}": clip} | copies


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
    """Shares of copies missed, false finds, and the smallest distance between strangers."""
    both = results | copies
    faces = {
        name: [hash_ for sequence in result.sequences for hash_ in sequence.fingerprints]
        for name, result in both.items()
    }
    frames = {name: result.fingerprints for name, result in both.items()}
    with_crowd = (
        pa.concat_tables([make_table(hashes), *make_crowd(hashes, num_crowd, *drawn)])
        for hashes, drawn in (
            (frames, (FRAME_CHANGE, FRAME_HASHES)),
            (faces, (FACE_CHANGE, FACE_HASHES)),
        )
    )
    confirm = make_confirmation(both)
    alike = find_near_duplicates(*with_crowd, confirm=confirm)
    found = {(pair.first, pair.second) for pair in alike}
    pairs_of_kind: dict[str, list[bool]] = defaultdict(list)
    for name in copies:
        original, kind = name.split("#")
        if kind != CLIP:
            pairs_of_kind[kind].append(tuple(sorted((f"{original}#{CLIP}", name))) in found)

    def group(name: str) -> str:
        return group_of.get(name.split("#", maxsplit=1)[0], name.split("#", maxsplit=1)[0])

    strangers = [
        pair
        for pair in itertools.combinations(sorted(results), 2)
        if group(pair[0]) != group(pair[1])
    ]
    return {
        "videos": len(results),
        "copies_missed": {
            kind: f"{len(hits) - sum(hits)} of {len(hits)}" for kind, hits in pairs_of_kind.items()
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


def make_confirmation(results: Mapping[str, VideoResult]) -> Confirm:
    """As ``confirm_pairs`` does with the crops of a store."""

    @cache
    def describe(name: str) -> AlignedFaces:
        return describe_faces(
            (sequence.crops_THWC[index], Keypoints(*zip(points[::2], points[1::2], strict=True)))
            for sequence in results[name].sequences
            if sequence.keypoints_xy
            for index in space_evenly(sequence.num_frames, MAX_CROPS)
            for points in (sequence.keypoints_xy[index],)
        )

    return lambda pairs: [
        pair for pair in pairs if show_same_face(describe(pair[0]), describe(pair[1]))
    ]


def make_table(hashes: Mapping[str, Sequence[bytes]]) -> pa.Table:
    """Video id -> its fingerprints, as ``find_near_duplicates`` takes them."""
    lists = pa.array([list(own) for own in hashes.values()], pa.list_(pa.binary(FINGERPRINT_BYTES)))
    return pa.table({"video_id": list(hashes), "fingerprints": lists})


def make_crowd(
    hashes: Mapping[str, Sequence[bytes]],
    number: int,
    change: tuple[float, float],
    num_hashes: int,
) -> Iterator[pa.Table]:
    """Made-up videos, in pieces, whose bits are set as often as those of the given ones."""
    rng = np.random.default_rng(0)
    set_share_B = count_frequencies(make_table(hashes)["fingerprints"])
    for start in range(0, number, PIECE):
        names = [f"made up {place:09}" for place in range(start, min(start + PIECE, number))]
        bits = draw(len(names), set_share_B, change, rng, num_hashes=num_hashes)
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
