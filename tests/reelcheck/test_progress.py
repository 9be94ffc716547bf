"""The progress bar without a terminal."""

import pytest

from reelcheck.progress import show_video_progress


def test_video_progress_ends_with_count_and_frame_rate(capsys: pytest.CaptureFixture[str]) -> None:
    with show_video_progress(total=2, description="preprocess") as advance:
        advance(30)
        advance(10)
    last = capsys.readouterr().err.split("\r")[-1]
    assert "preprocess: 100%" in last
    assert "2/2" in last
    assert " videos/s" in last
    assert " frames/s" in last


def test_video_progress_of_nothing_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with show_video_progress(total=0, description="preprocess"):
        pass
    assert capsys.readouterr().err == ""
