"""What a visitor reads: every status, every verdict, and nothing that others have smuggled in."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from page import markup, words
from page.views.detail import format_row, make_timeline_data
from reelcheck.status import Status
from storage.schemas import SCORES
from storage.tables import Row
from tasks.scoring.words import format_score

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&\u202egpj.exe"


def row_of(**values: Any) -> Row:
    row: Row = dict.fromkeys(SCORES.names)
    row |= {"quality_flags": [], "tracks": [], "segments": [], "frames": []}
    row |= {"threshold": 0.5, "real_below": 0.3, "fake_from": 0.7, "status": "ok"}
    return row | values


def frame(seconds: float, *, track: int = 0, is_evidence: bool = False) -> Row:
    return {
        "track_id": track,
        "frame_index": 0,
        "pts_seconds": seconds,
        "score": 0.25,
        "weight": 1.0,
        "is_evidence": is_evidence,
    }


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_file_without_a_score_gets_a_reason_and_a_next_step_and_no_number(status: Status) -> None:
    card = markup.render_verdict_card(row_of(status=str(status), reason="why"), name="a.mp4")
    assert "No verdict" in card
    assert "Reason: why" in card
    assert words.NEXT_STEPS[status]
    assert "rc-score" not in card
    assert "rc-scale" not in card


@pytest.mark.parametrize(
    ("verdict", "score"), [("fake", 0.9), ("real", 0.1), ("inconclusive", 0.5)]
)
def test_verdict_is_told_by_word_and_shape_with_score_threshold_and_band(
    verdict: str, score: float
) -> None:
    card = markup.render_verdict_card(row_of(verdict=verdict, score=score), name="a.mp4")
    assert words.describe_verdict(row_of(verdict=verdict)) in card
    assert words.MARKS[verdict] in card
    assert f"{score:.3f}" in card
    assert "threshold 0.500" in card
    assert len(set(words.MARKS.values())) == len(words.MARKS)


@pytest.mark.parametrize(
    ("score", "text"), [(0.0001, "<0.001"), (0.99991, ">0.999"), (0.5, "0.500")]
)
def test_score_claims_no_certainty(score: float, text: str) -> None:
    assert format_score(score) == text
    assert "100%" not in words.explain_score(score)


def test_names_and_reasons_of_others_stay_text() -> None:
    made = [
        markup.render_verdict_card(row_of(status="unsupported", reason=EVIL), name=EVIL),
        markup.render_facts([(EVIL, EVIL)]),
        markup.render_notes([EVIL]),
    ]
    for html in made:
        assert "<script" not in html
        assert "<img" not in html
        assert "\u202e" not in html
        assert "&lt;script" in html


def test_download_names_no_folder_of_the_server() -> None:
    text = format_row(row_of(path="file", root="/srv/secret/visit"), name="mine.mp4")
    assert "secret" not in text
    assert '"mine.mp4"' in text


def test_timeline_of_a_clip_with_a_late_clock_begins_where_the_clip_does() -> None:
    row = row_of(
        duration_seconds=2.0,
        tracks=[{"track_id": 7}, {"track_id": 3}],
        frames=[frame(100.0, track=3), frame(101.5, track=7)],
    )
    data = make_timeline_data(row, player="p")
    assert (data["start"], data["end"], data["offset"]) == (100.0, 102.0, 100.0)
    assert [each["person"] for each in data["frames"]] == [1, 0]


def write_evidence(path: Path, *, num_rows: int) -> None:
    colours = np.zeros((num_rows * 8, 24, 3), np.uint8)
    colours[:, 8:16] = 120
    colours[:, 16:] = 240
    Image.fromarray(colours).save(path, "JPEG", quality=95)


@pytest.mark.parametrize("num_rows", [1, 2])
def test_evidence_is_cut_into_the_faces_of_its_frames(tmp_path: Path, num_rows: int) -> None:
    write_evidence(tmp_path / "e.jpg", num_rows=num_rows)
    frames = [frame(0.0), *(frame(s, is_evidence=True) for s in (1.0, 2.0, 3.0))]
    faces = markup.cut_evidence_faces(row_of(evidence_path="e.jpg", frames=frames), tmp_path)
    assert [each["pts_seconds"] for each, _, _ in faces] == [1.0, 2.0, 3.0]
    means = [np.asarray(Image.open(io.BytesIO(jpeg))).mean() for _, jpeg, _ in faces]
    assert np.allclose(means, [0, 120, 240], atol=6)
    assert all((heat is not None) == (num_rows == 2) for _, _, heat in faces)


@pytest.mark.parametrize("has_heat", [False, True])
def test_evidence_of_several_people_is_cut_row_by_row(tmp_path: Path, has_heat: bool) -> None:
    levels = [0, 40, 80, 120, 160, 200]
    grid = np.array(levels, np.uint8).reshape(3, 2).repeat(16, axis=0).repeat(16, axis=1)
    if has_heat:
        grid = np.insert(grid, 16, np.full((16, 32), 240, np.uint8), axis=0)
    Image.fromarray(grid).convert("RGB").save(tmp_path / "e.jpg", "JPEG", quality=95)
    # The second of them was seen once: the rest of its row is empty.
    people = {5: (1.0, 2.0), 2: (3.0,), 7: (0.5, 4.0)}
    frames = [
        frame(second, track=track, is_evidence=True)
        for track, seconds in people.items()
        for second in seconds
    ]
    faces = markup.cut_evidence_faces(row_of(evidence_path="e.jpg", frames=frames), tmp_path)
    assert [each for each, _, _ in faces] == frames
    means = [np.asarray(Image.open(io.BytesIO(jpeg))).mean() for _, jpeg, _ in faces]
    assert np.allclose(means, [0, 40, 80, 160, 200], atol=6)
    heat = [np.asarray(Image.open(io.BytesIO(jpeg))).mean() for _, _, jpeg in faces if jpeg]
    assert np.allclose(heat, [240, 240] if has_heat else [], atol=6)
    assert [jpeg is not None for _, _, jpeg in faces] == [has_heat] * 2 + [False] * 3


@pytest.mark.parametrize("path", ["../e.jpg", "/etc/passwd", "missing.jpg"])
def test_evidence_outside_the_run_is_not_shown(tmp_path: Path, path: str) -> None:
    write_evidence(tmp_path / "e.jpg", num_rows=1)
    (tmp_path / "run").mkdir()
    row = row_of(evidence_path=path, frames=[frame(1.0, is_evidence=True)] * 3)
    assert markup.cut_evidence_faces(row, tmp_path / "run") == []
