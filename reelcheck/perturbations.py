"""Changes that videos undergo before they reach a detector: compression, blur, lost frames ...

This module has names and strengths only; ``tasks/faces/perturb.py`` changes the videos.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, get_args

from reelcheck.errors import SettingsError

Family = Literal["remux", "h264", "jpeg", "scale", "blur", "noise", "gamma", "dropped frames"]


class _Form(NamedTuple):
    """Name pattern and allowed strengths of a family."""

    pattern: str
    """Name; ``n`` stands for the strength, ``rest`` for the strength minus one."""
    least: float = 0
    most: float = 0
    is_whole: bool = True


_FORMS: Final[dict[str, _Form]] = {
    "remux": _Form("remux"),
    "h264": _Form("h264 crf {n:.15g}", 0, 51),
    "jpeg": _Form("jpeg {n:.15g}", 1, 100),
    "scale": _Form("scale 1/{n:.15g}", 2, 16),
    "blur": _Form("blur {n:.15g}", 0.1, 50, is_whole=False),
    "noise": _Form("noise {n:.15g}", 0.1, 255, is_whole=False),
    "gamma": _Form("gamma {n:.15g}", 0.1, 10, is_whole=False),
    "dropped frames": _Form("dropped frames {rest:.15g}/{n:.15g}", 2, 16),
}
_NUMBER: Final = re.compile(r"\d*\.?\d+$")


@dataclass(frozen=True)
class Perturbation:
    """One change of all videos of a run.

    Raises:
        SettingsError: there is no such family, or it does not have this strength.
    """

    family: Family
    strength: float | None = None
    """Meaning by family:

    - remux: None. The same packets in a file of another format.
    - h264: constant rate factor of x264; 23 is its default, a larger one is coarser.
    - jpeg: quality from 1 to 100 of every frame; a smaller one is coarser.
    - scale: n of the factor 1/n, by which both sides shrink before they grow back.
    - blur: sigma of a Gaussian, in pixels of a frame whose shorter side has 480.
    - noise: sigma of normal noise on each pixel's red, green and blue (0 to 255).
    - gamma: exponent of the values between 0 and 1; below 1 is brighter.
    - dropped frames: n of the share (n - 1)/n that is lost: of n frames the first stays.
    """

    def __post_init__(self) -> None:
        """Refuse an unknown family or strength."""
        if not self._is_possible():
            raise SettingsError(
                f"perturbation {self.family!r} has no strength {self.strength}; {_list_allowed()}"
            )

    @property
    def name(self) -> str:
        """Name as people write it: ``h264 crf 30``, ``scale 1/4``, ``remux``."""
        number = self.strength or 0
        return _FORMS[self.family].pattern.format(n=number, rest=number - 1)

    @property
    def needs_file(self) -> bool:
        """Whether a video is rewritten to a new file; still pictures are not changed at all."""
        return self.family in {"remux", "h264"}

    @property
    def keeps_every(self) -> int:
        """Number of frames of which one stays."""
        return int(self.strength or 1) if self.family == "dropped frames" else 1

    def _is_possible(self) -> bool:
        form = _FORMS.get(self.family)
        if form is None or self.strength is None:
            return form is not None and not form.most
        is_fit = not form.is_whole or float(self.strength).is_integer()
        return is_fit and form.most > 0 and form.least <= self.strength <= form.most


def parse_perturbation(text: str) -> Perturbation:
    """Parse the name of a perturbation, such as ``jpeg 60``.

    Raises:
        SettingsError: the name is unknown; the message says what is allowed.
    """
    words = " ".join(text.lower().split())
    match = _NUMBER.search(words)
    number = float(match[0]) if match else None
    wanted = f"{words[: match.start()]}{number:.15g}" if match else words
    for family in get_args(Family):
        try:
            perturbation = Perturbation(family, number)
        except SettingsError:
            continue
        if perturbation.name == wanted:
            return perturbation
    raise SettingsError(f"unknown perturbation {text!r}; {_list_allowed()}")


def _list_allowed() -> str:
    """List all families with their range, for a message."""
    texts = []
    for form in _FORMS.values():
        ends = [form.pattern.format(n=n, rest=n - 1) for n in (form.least, form.most)]
        kind = "" if form.is_whole else ", also fractions"
        texts.append(f"{ends[0]} to {ends[1].split()[-1]}{kind}" if form.most else ends[0])
    return f"allowed are: {'; '.join(texts)}"


def _make_all(family: Family, strengths: Sequence[float]) -> tuple[Perturbation, ...]:
    return tuple(Perturbation(family, strength) for strength in strengths)


DEFAULT_PERTURBATIONS: Final = (
    Perturbation("remux"),
    *_make_all("h264", (23, 30, 40)),
    *_make_all("jpeg", (80, 50, 20)),
    *_make_all("scale", (2, 4)),
    *_make_all("blur", (0.7, 1.5, 3)),
    *_make_all("noise", (5, 10, 20)),
    *_make_all("gamma", (0.5, 0.7, 1.4, 2)),
    *_make_all("dropped frames", (2, 4)),
)
"""From hardly visible to clearly degraded; each family begins with the mildest, except gamma."""


def parse_perturbations(names: Sequence[str]) -> tuple[Perturbation, ...]:
    """Parse names, each once in the result; ``default`` means ``DEFAULT_PERTURBATIONS``.

    Raises:
        SettingsError: a name is unknown; the message says what is allowed.
    """
    perturbations: dict[Perturbation, None] = {}
    for name in names:
        known = DEFAULT_PERTURBATIONS if name == "default" else (parse_perturbation(name),)
        perturbations |= dict.fromkeys(known)
    return tuple(perturbations)
