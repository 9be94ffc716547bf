"""Every file that is not as it was written is named, and what can be made again is set aside."""

import json
from collections import Counter
from pathlib import Path

import pytest
from flipped_bits import flip_bits

from reelcheck.errors import ReelcheckError, StoreError
from storage.layout import StoreLayout
from tasks.preprocessing.extract import set_aside_damaged_shards
from tasks.verification.verify import list_checks, verify

PARTS = ("store", "models", "scores")
UNREAD = {"lock", "lock.json"}


def find_store(place: Path) -> StoreLayout:
    [folder] = (path for path in (place / "store").iterdir() if path.is_dir())
    return StoreLayout(folder)


def list_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in UNREAD)


def flip(path: Path, *, place: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if place is None else place] ^= 4
    path.write_bytes(content)


def test_whole_folders_have_no_damage(place: Path) -> None:
    for part in PARTS:
        num_checked, damages = verify(place / part)
        assert damages == []
        assert num_checked > 3


def test_every_file_with_a_flipped_bit_in_its_middle_is_named(place: Path) -> None:
    for part in PARTS:
        for path in list_files(place / part):
            if path.name in {"card.json", "onnx.json"}:
                continue  # whose own checks are tested elsewhere
            whole = path.read_bytes()
            flip(path)
            _, damages = verify(place / part)
            assert path.name in " ".join(f"{d.path} {d.reason}" for d in damages), path
            assert all(len(damage.reason.splitlines()) == 1 for damage in damages)
            path.write_bytes(whole)


def test_missing_crops_and_pictures_and_cut_files_are_named(place: Path) -> None:
    layout = find_store(place)
    [first, second, *_] = layout.done_shards()
    [gone] = layout.crops_paths(first)
    gone.unlink()
    [cut] = layout.crops_paths(second)
    cut.write_bytes(cut.read_bytes()[:1000])
    _, damages = verify(place / "store")
    assert {damage.path for damage in damages} == {layout.shard_sequences_path(first), cut}
    assert str(gone) in " ".join(damage.reason for damage in damages)


def test_crops_of_another_shard_are_named(place: Path) -> None:
    layout = find_store(place)
    [first, second, *_] = layout.done_shards()
    layout.crops_path(first, 0).write_bytes(layout.crops_path(second, 0).read_bytes())
    _, [damage] = verify(place / "store")
    assert damage.path == layout.crops_path(first, 0)


def test_damaged_shards_and_answers_are_set_aside_on_request(place: Path) -> None:
    layout = find_store(place)
    first, *others = layout.done_shards()
    flip(layout.crops_path(first, 0))
    verify(place / "store")
    assert first in layout.done_shards()
    verify(place / "store", sets_aside=True)
    assert layout.done_shards() == others
    assert verify(place / "store")[1] == []
    answer = next((place / "scores" / "results").glob("*/*.json"))
    flip(answer)
    verify(place / "scores", sets_aside=True)
    assert not answer.exists()
    assert answer.with_name(f"{answer.name}.damaged").exists()


@pytest.mark.parametrize("suffix", ["sequences", "videos"])
def test_preprocess_takes_a_shard_with_a_damaged_table_for_unfinished(
    place: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    layout = find_store(place)
    first, *others = layout.done_shards()
    path = layout.shards_dir / f"{first}.{suffix}.parquet"
    flip(path)
    set_aside_damaged_shards(layout)
    assert layout.done_shards() == others
    assert str(path) in caplog.text
    set_aside_damaged_shards(layout)
    assert layout.done_shards() == others


def test_folder_of_no_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is no store, model, registry, evaluation or scoring"):
        verify(tmp_path)


def is_noticed(folder: Path, path: Path) -> bool:
    """Whether a check fails; those of the file come first."""
    for check in sorted(list_checks(folder), key=lambda check: check.path != path):
        try:
            check.run()
        except (ReelcheckError, OSError):
            return True
    return False


def means_the_same(path: Path, place: int, whole: bytes) -> bool:
    """Whether a flipped bit that no check has noticed changes nothing that anybody reads."""
    if path.suffix == ".json":
        return bool(json.loads(path.read_bytes()) == json.loads(whole))  # white space
    # The first letters of Parquet. Of a crop file the checks have compared every sequence.
    return place < 4 if path.suffix == ".parquet" else path.suffix == ".arrow"


@pytest.mark.slow
def test_two_thousand_flipped_bits_are_named_or_harmless(place: Path) -> None:
    files = {part: list_files(place / part) for part in PARTS}
    num_flips = 2000 // sum(map(len, files.values())) + 1
    outcomes: Counter[str] = Counter()
    for part, paths in files.items():
        for path in paths:
            if path.name in {"card.json", "onnx.json"}:
                continue
            whole = path.read_bytes()
            for flipped in flip_bits(path, num_flips=num_flips):
                if is_noticed(place / part, path):
                    outcomes["named"] += 1
                else:
                    assert means_the_same(path, flipped, whole), (path, flipped)
                    outcomes["harmless"] += 1
    assert outcomes.total() > 1900
    assert outcomes["harmless"] < outcomes.total() / 10
