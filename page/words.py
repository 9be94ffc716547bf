"""The meaning of a row, in sentences for somebody who knows nothing of the software."""

from collections.abc import Sequence

from reelcheck.card import ModelCard
from reelcheck.status import Status
from storage.rows import ScoreRow
from tasks.scoring.words import (
    FLAG_WORDS,
    STATUS_WORDS,
    describe_model,
    describe_rule,
    format_score,
)

NEXT_STEPS = {
    Status.OK: "",
    Status.NO_FACE: "Only faces are judged. Try a part in which somebody looks towards the camera.",
    Status.FACE_TOO_SMALL: "Try the same video in a higher resolution, or cut to the face.",
    Status.TOO_FEW_FRAMES: (
        "Try a longer stretch with the face in view. A single picture needs a model for pictures."
    ),
    Status.DECODE_ERROR: (
        "Get the file again from where it comes from; if it plays elsewhere, save it again as MP4."
    ),
    Status.TIMEOUT: "Cut out the stretch that matters, or score it with `reelcheck score`.",
    Status.OUT_OF_MEMORY: "Try the same video in a lower resolution.",
    Status.UNSUPPORTED: "Give a video, or a JPEG, PNG or WebP picture.",
    Status.UNREADABLE: "Check that the file may be read, and give it again.",
    Status.MISSING: "Check the path, and give it again.",
    Status.INTERNAL_ERROR: "Please report it, with the file if you may pass it on.",
    Status.MODEL_ERROR: "Choose another model; this one cannot judge these faces.",
}
"""Advice for each status."""

MARKS = {"fake": "▲", "real": "●", "inconclusive": "◇", None: "○"}
"""The shape beside each verdict, so that no verdict is shown by colour alone."""

LIMITS = (
    "**Only faces.** Not the voice, not the words, not the scene behind, and not whether somebody "
    "is who they are said to be. A wholly generated scene without a clear face gets no verdict.",
    "**Only what it has learned.** A forgery made in a new way, or one that was compressed, scaled "
    "down or filmed from a screen, can look real to it. Published detectors that are nearly "
    "perfect on their own test data do far worse on videos from elsewhere, and so may this one.",
    "**Some frames.** It looks at a sample of the frames, not at each of them: a change of a few "
    "frames can be missed.",
    "**It errs both ways.** Real videos are called fake, too. A verdict is a hint where to look, "
    "and no proof of anything.",
)
"""Limits of a verdict, as Markdown."""


def describe_verdict(row: ScoreRow) -> str:
    """Describe the verdict in one or two words."""
    words = {
        "fake": "Looks fake",
        "real": "Looks real",
        "inconclusive": "Inconclusive",
    }
    return words.get(row["verdict"] or "", "No verdict")


def explain_verdict(row: ScoreRow) -> str:
    """Explain what follows from the score, or why there is no score."""
    if row["verdict"] is None:
        return STATUS_WORDS[Status(row["status"])]
    real, _, fake = map(format_score, read_limits(row))
    return {
        "fake": f"The score has reached {fake}, from where on this model says fake.",
        "real": f"The score is below {real}, up to where this model says real.",
        "inconclusive": (
            f"The score lies between {real} and {fake}, where this model was wrong too often: "
            "it abstains."
        ),
    }[row["verdict"]]


def read_limits(row: ScoreRow) -> tuple[float, float, float]:
    """Read the limits of a row with a verdict: real below, threshold, fake from."""
    limits = (row["real_below"], row["threshold"], row["fake_from"])
    real, threshold, fake = (limit or 0.0 for limit in limits)
    return real, threshold, fake


def advise(row: ScoreRow) -> str:
    """Advise what to do about a file without a verdict."""
    return NEXT_STEPS[Status(row["status"])]


def explain_score(score: float) -> str:
    """Explain what a calibrated score says."""
    percent = round(100 * score)
    share = "nearly all" if percent >= 99 else "hardly any" if percent < 1 else f"about {percent}%"
    return (
        f"Of the validation videos that scored like this one, {share} were fake. The score is that "
        "share, estimated. It is not the share of fake frames, and it holds only for videos like "
        "those that the model was tried on."
    )


def describe_flags(flags: Sequence[str]) -> list[str]:
    """Describe quality flags in sentences."""
    return [_make_sentence(FLAG_WORDS.get(flag, flag.replace("_", " "))) for flag in flags]


def describe_model_and_rule(card: ModelCard) -> list[tuple[str, str]]:
    """Describe a model and its verdicts: names and texts."""
    return [*describe_model(card), ("Verdicts", describe_rule(card.calibration))]


def format_time_left(seconds: float | None) -> str:
    """Format the time left, for a progress bar."""
    if seconds is None:
        return "taking longer than usual"
    if seconds < 60:
        return f"about {max(1, round(seconds))} s left"
    return f"about {round(seconds / 60)} min left"


def format_clock(seconds: float) -> str:
    """Format minutes and seconds, with tenths, or with hundredths below 10 seconds."""
    digits = 1 if seconds >= 10 else 2
    minutes, rest = divmod(round(seconds, digits), 60)
    return f"{int(minutes)}:{rest:0{3 + digits}.{digits}f}"


def format_size(num_bytes: float) -> str:
    """Format a number of bytes with a unit that people know."""
    for unit in ("bytes", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "bytes" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} GB"


def _make_sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
