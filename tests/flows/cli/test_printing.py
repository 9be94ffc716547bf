"""What the terminal says of a score is what the page and the report say of it."""

from typing import Any

import pytest

from flows.cli.printing import print_score, print_scores

SCORES = {0.9999: ">0.999", 0.0004: "<0.001", 1.0: "1.000", 0.25: "0.250", None: ""}
"""No rounding claims a certainty that the model did not."""


def row_of(score: float | None) -> Any:
    verdict = None if score is None else "fake"
    return {"path": "a.mp4", "status": "ok", "score": score, "verdict": verdict} | dict.fromkeys(
        ("num_faces", "reason")
    )


@pytest.mark.parametrize(("score", "text"), SCORES.items())
def test_score_is_never_rounded_to_certainty(
    score: float | None, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_score("a.mp4", row_of(score))
    expected = ["ok", "a.mp4"] if score is None else ["fake", text, "a.mp4"]
    assert capsys.readouterr().out.split() == expected


def test_table_of_scores_is_never_rounded_to_certainty(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    monkeypatch.setattr("flows.cli.printing.console", Console(width=120))
    print_scores([row_of(score) for score in SCORES])
    printed = capsys.readouterr().out
    assert all(text in printed for text in SCORES.values())
    assert printed.count("1.000") == 1
