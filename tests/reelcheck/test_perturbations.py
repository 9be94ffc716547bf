"""Perturbations: their names, and what they may be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelcheck.errors import SettingsError
from reelcheck.perturbations import DEFAULT_PERTURBATIONS, Perturbation, parse_perturbation

RANGES = {
    "h264": st.integers(0, 51),
    "jpeg": st.integers(1, 100),
    "scale": st.integers(2, 16),
    "blur": st.floats(0.1, 50).map(lambda sigma: round(sigma, 9)),
    "noise": st.floats(0.1, 255).map(lambda sigma: round(sigma, 9)),
    "gamma": st.floats(0.1, 10).map(lambda exponent: round(exponent, 9)),
    "dropped frames": st.integers(2, 16),
}
any_perturbation = st.just(Perturbation("remux")) | st.one_of(
    *(st.builds(Perturbation, st.just(family), among) for family, among in RANGES.items())
)


@given(any_perturbation)
def test_name_is_read_back(perturbation: Perturbation) -> None:
    assert parse_perturbation(perturbation.name) == perturbation
    assert parse_perturbation(f"  {perturbation.name.upper()} ") == perturbation


@given(any_perturbation, any_perturbation)
def test_name_tells_perturbations_apart(first: Perturbation, second: Perturbation) -> None:
    assert (first.name == second.name) == (first == second)


@pytest.mark.parametrize(
    ("text", "family", "strength"),
    [
        ("remux", "remux", None),
        ("h264 crf 30", "h264", 30),
        ("jpeg 60", "jpeg", 60),
        ("scale 1/4", "scale", 4),
        ("blur 2", "blur", 2),
        ("noise  10.50", "noise", 10.5),
        ("Gamma .7", "gamma", 0.7),
        ("dropped frames 3/4", "dropped frames", 4),
    ],
)
def test_parse_reads_what_people_write(text: str, family: str, strength: float | None) -> None:
    found = parse_perturbation(text)
    assert (found.family, found.strength) == (family, strength)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "60",
        "jpg 60",
        "jpeg",
        "jpeg 0",
        "jpeg 101",
        "jpeg 60.5",
        "jpeg -5",
        "h264",
        "h264 30",
        "h264 crf 52",
        "remux 2",
        "scale 4",
        "scale 1/1",
        "scale 2/4",
        "gamma nan",
        "gamma 0",
        "blur inf",
        "dropped frames 2/4",
        "dropped frames 0/1",
    ],
)
def test_parse_refuses_the_rest_and_names_what_is_allowed(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_perturbation(text)
    message = str(caught.value)
    assert f"unknown perturbation {text!r}; allowed are: remux; h264 crf 0 to 51;" in message
    assert "dropped frames 1/2 to 15/16" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("family", "strength"), [("jpg", 60), ("jpeg", None), ("jpeg", 0), ("remux", 0), ("scale", 2.5)]
)
def test_perturbation_that_cannot_be_is_refused(family: str, strength: float | None) -> None:
    with pytest.raises(SettingsError, match=f"'{family}' has no strength {strength}; allowed are"):
        Perturbation(family, strength)  # type: ignore[arg-type]


def test_defaults_are_distinct_and_of_every_family() -> None:
    names = [perturbation.name for perturbation in DEFAULT_PERTURBATIONS]
    assert len(set(names)) == len(names)
    assert {p.family for p in DEFAULT_PERTURBATIONS} == {"remux", *RANGES}
