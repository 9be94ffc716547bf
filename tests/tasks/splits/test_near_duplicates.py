"""Pairs of videos that look alike: against comparing every hash with every other."""

import itertools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelcheck.records import FINGERPRINT_BYTES
from tasks.faces.detection.fingerprint import mirror_fingerprints
from tasks.splits.near_duplicates import (
    LIKE_FACES,
    LIKE_FRAMES,
    PERHAPS_LIKE_FACES,
    Likeness,
    Pair,
    Rule,
    find_near_duplicates,
)

Hashes = dict[str, list[bytes]]


def changed(hash_: bytes, num_bits: int, rng: np.random.Generator) -> bytes:
    """The hash with so many bits turned over."""
    turned = np.unpackbits(np.frombuffer(hash_, np.uint8))
    turned[rng.choice(len(turned), num_bits, replace=False)] ^= 1
    return np.packbits(turned).tobytes()


def table(hashes: Hashes) -> pa.Table:
    lists = pa.array(list(hashes.values()), pa.list_(pa.binary(FINGERPRINT_BYTES)))
    return pa.table({"video_id": pa.array(list(hashes), pa.string()), "fingerprints": lists})


def likenesses(frames: Hashes, faces: Hashes) -> list[Likeness]:
    return find_near_duplicates(table(frames), table(faces))


def flipped(hash_: bytes) -> bytes:
    return mirror_fingerprints(np.frombuffer(hash_, np.uint8)[None])[0].tobytes()


def by_comparing_all(hashes: Hashes, rule: Rule, *, max_bits: int) -> set[tuple[str, str]]:
    """The definition, without any index; one match of at most ``max_bits`` is needed."""
    found = set()
    for one, other in itertools.combinations(sorted(hashes), 2):
        bits = {
            (a, b): min(
                (int.from_bytes(a) ^ int.from_bytes(c)).bit_count() for c in (b, flipped(b))
            )
            for a in set(hashes[one])
            for b in set(hashes[other])
        }
        near = [pair for pair, apart in bits.items() if apart <= rule.max_further_bits]
        nums = [
            (len({p[side] for p in near}), len(set(hashes[name])))
            for side, name in enumerate((one, other))
        ]
        if (
            min(bits.values(), default=256) <= max_bits
            and all(num >= min(rule.min_near, of) for num, of in nums)
            and max(num / of for num, of in nums) >= rule.min_share
        ):
            found.add((one, other))
    return found


@st.composite
def alike(draw: st.DrawFn) -> Hashes:
    """Videos of few hashes each, many of them copies of others with some bits changed."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    pool = [rng.bytes(FINGERPRINT_BYTES) for _ in range(4)]
    videos: Hashes = {}
    for number in range(draw(st.integers(0, 8))):
        originals = draw(st.lists(st.sampled_from(pool), max_size=6))
        hashes = []
        for original in originals:
            copy = changed(original, draw(st.sampled_from([0, 1, 9, 20, 40, 52, 70])), rng)
            hashes.append(flipped(copy) if draw(st.booleans()) else copy)
        videos[f"v{number}"] = hashes
    return videos


@settings(deadline=None, max_examples=60)
@given(frames=alike(), faces=alike())
def test_finds_what_comparing_all_finds(frames: Hashes, faces: Hashes) -> None:
    found = likenesses(frames, faces)
    for what, hashes, rule in (("frames", frames, LIKE_FRAMES), ("faces", faces, LIKE_FACES)):
        pairs = {(first, second) for first, second, kind in found if kind == what}
        # Nothing else is called alike; and up to 15 bits nothing is missed, because two hashes of
        # which fewer bits differ agree in one of 16 bands.
        assert pairs <= by_comparing_all(hashes, rule, max_bits=rule.max_bits)
        assert pairs >= by_comparing_all(hashes, rule, max_bits=15)


@pytest.mark.parametrize(("what", "rule"), [("frames", LIKE_FRAMES), ("faces", LIKE_FACES)])
def test_most_copies_at_the_limit_are_found(what: str, rule: Rule) -> None:
    rng = np.random.default_rng(0)
    hashes: Hashes = {}
    for number in range(200):
        original = [rng.bytes(FINGERPRINT_BYTES) for _ in range(18)]
        hashes[f"{number}a"] = original
        hashes[f"{number}b"] = [changed(hash_, rule.max_bits, rng) for hash_ in original]
    found = likenesses(**{"frames": {}, "faces": {}, what: hashes})
    pairs = {(first[:-1], second[:-1]) for first, second, _ in found}
    assert pairs <= {(str(n), str(n)) for n in range(200)}
    assert len(pairs) >= 195


def test_one_like_face_is_not_enough() -> None:
    """By chance one picture of a person is like one of another; a copy shares several."""
    rng = np.random.default_rng(0)
    one, other = ([rng.bytes(FINGERPRINT_BYTES) for _ in range(18)] for _ in range(2))
    other[3] = changed(one[5], 9, rng)
    assert likenesses({}, {"a": one, "b": other}) == []
    other[9] = changed(one[5], 20, rng)  # like the same picture again
    assert likenesses({}, {"a": one, "b": other}) == []
    for place in (7, 11):
        other[place] = changed(one[place], LIKE_FACES.max_further_bits, rng)
    assert likenesses({}, {"a": one, "b": other}) == [Likeness("a", "b", "faces")]


def test_doubtful_faces_are_alike_only_where_a_second_look_confirms_it() -> None:
    rng = np.random.default_rng(0)
    one, other, third = ([rng.bytes(FINGERPRINT_BYTES) for _ in range(18)] for _ in range(3))
    sure = [changed(hash_, 12, rng) for hash_ in third]
    doubtful = [changed(hash_, PERHAPS_LIKE_FACES.max_bits, rng) for hash_ in one]
    faces = {"one": one, "doubtful": doubtful, "other": other, "third": third, "sure": sure}
    asked: list[Pair] = []

    def confirm(pairs: Sequence[Pair]) -> Sequence[Pair]:
        asked.extend(pairs)
        return pairs

    known = [Likeness("sure", "third", "faces")]
    nothing = table({})
    assert find_near_duplicates(nothing, table(faces)) == known
    assert find_near_duplicates(nothing, table(faces), confirm=lambda _: []) == known
    found = find_near_duplicates(nothing, table(faces), confirm=confirm)
    assert found == [Likeness("doubtful", "one", "faces"), *known]
    assert asked == [("doubtful", "one")]


def test_videos_that_share_a_title_only_are_not_alike() -> None:
    rng = np.random.default_rng(0)
    title = rng.bytes(FINGERPRINT_BYTES)
    frames = {
        name: [title, *(rng.bytes(FINGERPRINT_BYTES) for _ in range(9))] for name in ("a", "b")
    }
    assert likenesses(frames, {}) == []


def test_short_piece_of_a_long_video_is_found() -> None:
    rng = np.random.default_rng(0)
    long = [rng.bytes(FINGERPRINT_BYTES) for _ in range(30)]
    assert likenesses({"long": long, "piece": long[7:9]}, {}) == [
        Likeness("long", "piece", "frames")
    ]


def test_video_of_many_like_pictures_leaves_room_for_others() -> None:
    rng = np.random.default_rng(0)
    original = rng.bytes(FINGERPRINT_BYTES)
    bytes_NK = np.tile(np.frombuffer(original, np.uint8).reshape(-1, 2), (2000, 1, 1))
    for picture_K2 in bytes_NK:
        # Half of the 16 bands are as in the original, the others are any.
        others = rng.choice(16, 8, replace=False)
        picture_K2[others] = rng.integers(0, 256, (8, 2))
    faces = {
        "crowd": [row.tobytes() for row in bytes_NK],
        "original": [original],
        **{f"copy{number:02}": [changed(original, 24, rng)] for number in range(20)},
    }
    found = {pair.first for pair in likenesses({}, faces) if pair.second == "original"}
    assert found - {"crowd"} == set(faces) - {"crowd", "original"}


@pytest.mark.slow
def test_work_grows_with_the_number_of_hashes() -> None:
    """Many hashes that agree in their first bits are still compared with few neighbours only."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 256, (300_000, FINGERPRINT_BYTES), dtype=np.uint8)
    hashes[:, :2] = 0
    faces = {str(place): [row.tobytes()] for place, row in enumerate(hashes)}
    faces["copy"] = [hashes[0].tobytes()]
    assert likenesses({}, faces) == [Likeness("0", "copy", "faces")]
