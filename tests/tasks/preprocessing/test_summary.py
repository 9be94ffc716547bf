"""The numbers of one run: nothing is counted twice, nothing is left out."""

import pytest

from tasks.preprocessing.summary import (
    STAGES,
    PreprocessSummary,
    WorkDone,
    format_markdown,
    format_overview,
    format_stages,
    make_record,
    summarise,
)

PARTS = [
    WorkDone(cpu_seconds={"hash": 1.0}),
    WorkDone(num_videos=3, num_frames=90, cpu_seconds={"decode": 4.0, "detect": 2.0}),
    WorkDone(num_videos=1, num_frames=30, cpu_seconds={"decode": 0.5, "write": 0.5}),
]


def summary_of(parts: list[WorkDone], *, cpu_seconds: float) -> PreprocessSummary:
    return summarise(
        parts,
        counts={"no_face": 1, "ok": 5},
        num_videos_before=2,
        wall_seconds=5.0,
        cpu_seconds=cpu_seconds,
    )


def test_summary_adds_the_parts_up_and_names_the_rest() -> None:
    summary = summary_of(PARTS, cpu_seconds=10.0)
    assert (summary.num_videos, summary.num_frames, summary.num_videos_before) == (4, 120, 2)
    assert (summary.videos_per_second, summary.frames_per_second) == (0.8, 24.0)
    assert list(summary.cpu_seconds) == list(STAGES)
    spent = {stage: seconds for stage, seconds in summary.cpu_seconds.items() if seconds}
    assert spent == {"hash": 1.0, "decode": 4.5, "detect": 2.0, "write": 0.5, "other": 2.0}
    assert sum(summary.cpu_shares.values()) == pytest.approx(1)
    assert summary.cpu_shares["decode"] == 0.45


def test_summary_of_a_run_with_nothing_to_do_has_shares_of_zero() -> None:
    summary = summary_of([], cpu_seconds=0.0)
    assert summary.num_videos == summary.videos_per_second == summary.frames_per_second == 0
    assert set(summary.cpu_shares.values()) == {0.0}


def test_summary_clock_that_counted_less_than_the_stages_leaves_no_negative_rest() -> None:
    assert summary_of(PARTS, cpu_seconds=7.9).cpu_seconds["other"] == 0


def test_summary_json_has_the_record_and_what_follows_from_it() -> None:
    summary = summary_of(PARTS, cpu_seconds=10.0)
    values = make_record(summary)
    assert values["counts"] == {"no_face": 1, "ok": 5}
    assert values["cpu_seconds"] == dict(summary.cpu_seconds)
    assert values["cpu_shares"]["other"] == 0.2
    assert values["videos_per_second"] == 0.8


def test_summary_markdown_shows_every_number_that_the_tables_show() -> None:
    summary = summary_of(PARTS, cpu_seconds=10.0)
    lines = format_markdown(summary).splitlines()
    for row in [
        *format_overview(summary).items(),
        *format_stages(summary),
        ("ok", "5"),
        ("no_face", "1"),
    ]:
        assert f"| {' | '.join(row)} |" in lines
