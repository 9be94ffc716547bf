"""A file that is exchanged between hashing and decoding: no score under its name, now or later."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from reelcheck.records import InputFile
from storage.rows import ScoreRow
from tasks.intake.contents import hash_contents
from tasks.scoring.score import ScoreRequest, score_files

pytestmark = pytest.mark.usefixtures("face_model")


def test_exchanged_file_gets_no_score_and_leaves_none_for_honest_copies(
    tmp_path: Path, synthetic_dataset: Path, request_of: Callable[..., ScoreRequest]
) -> None:
    clips = sorted((synthetic_dataset / "videos" / "real").glob("*.mp4"))[:2]
    target, honest = tmp_path / "in" / "target.mp4", tmp_path / "honest" / "copy.mp4"
    for path in (target, honest):
        path.parent.mkdir()
        path.write_bytes(clips[0].read_bytes())
    other = tmp_path / "other.mp4"
    other.write_bytes(clips[1].read_bytes())
    request = request_of(tmp_path / "out", sources=(str(target.parent),))

    def hash_and_exchange(files: Sequence[InputFile]) -> list[InputFile]:
        named = hash_contents(files, request.run)
        other.replace(target)
        return named

    def score(source: Path) -> ScoreRow:
        [row] = score_files(replace(request, sources=(str(source),))).rows
        return row

    [row] = score_files(request, hash_files=hash_and_exchange).rows
    assert (row["status"], row["reason"]) == (
        "unreadable",
        "changed while it was read; run again",
    )
    assert (row["score"], row["logit"], row["verdict"], row["tracks"]) == (None, None, None, [])
    first, second = score(honest), score(target)
    assert (first["status"], second["status"]) == ("ok", "ok")
    assert first["video_id"] == row["video_id"] != second["video_id"]
    alone = score_files(replace(request, sources=(str(honest),), out=tmp_path / "fresh")).rows
    assert [first["logit"]] == [row["logit"] for row in alone]
    assert second["logit"] != first["logit"]
