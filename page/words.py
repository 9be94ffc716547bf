"""What a row means, in sentences for somebody who knows nothing of the software."""

from collections.abc import Sequence

from reelcheck.card import Calibration, ModelCard
from reelcheck.status import Status
from storage.tables import Row
from tasks.page import FLAG_WORDS, STATUS_WORDS

NEXT_STEPS = {
    Status.OK: "",
    Status.NO_FACE: "Only faces are judged. Try a part in which somebody looks towards the camera.",
    Status.FACE_TOO_SMALL: "Try the same video in a higher resolution, or cut to the face.",
    Status.TOO_FEW_FRAMES: (
        "Try a longer stretch with the face in view. A single picture needs a model for pictures."
    ),
    Status.DECODE_ERROR: (
        "Get the file again from where it comes from; if it plays elsewhere, save it anew as MP4."
    ),
    Status.TIMEOUT: "Cut out the stretch that matters, or score it with `reelcheck score`.",
    Status.OUT_OF_MEMORY: "Try the same video in a lower resolution.",
    Status.UNSUPPORTED: "Give a video, or a JPEG, PNG or WebP picture.",
    Status.UNREADABLE: "Check that the file may be read, and give it again.",
    Status.MISSING: "Check the path, and give it again.",
    Status.INTERNAL_ERROR: "Please report it, with the file if you may pass it on.",
    Status.MODEL_ERROR: "Choose another model; this one cannot judge these faces.",
}
"""What can be done about each status."""

MARKS = {"fake": "▲", "real": "●", "inconclusive": "◇", None: "○"}
"""The shape that stands beside each verdict, so that no verdict is told by colour alone."""

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
"""What nobody may expect of a verdict, as Markdown."""


def score_text(score: float) -> str:
    """Three digits; never claims the certainty of 0 or 1."""
    if 0 < score < 0.001:
        return "<0.001"
    return ">0.999" if 0.999 < score < 1 else f"{score:.3f}"


def headline(row: Row) -> str:
    """The verdict in two or three words."""
    return {
        "fake": "Looks fake",
        "real": "Looks real",
        "inconclusive": "Inconclusive",
        None: "No verdict",
    }[row["verdict"]]


def finding(row: Row) -> str:
    """What follows from the score, or why there is none."""
    if row["verdict"] is None:
        return STATUS_WORDS[Status(row["status"])]
    real, fake = score_text(row["real_below"]), score_text(row["fake_from"])
    return {
        "fake": f"The score has reached {fake}, from where on this model says fake.",
        "real": f"The score is below {real}, up to where this model says real.",
        "inconclusive": (
            f"The score lies between {real} and {fake}, where this model was wrong too often: "
            "it abstains."
        ),
    }[row["verdict"]]


def next_step(row: Row) -> str:
    """What can be done about a file without a verdict."""
    return NEXT_STEPS[Status(row["status"])]


def meaning(score: float) -> str:
    """What the calibrated score says."""
    percent = round(100 * score)
    share = "nearly all" if percent >= 99 else "hardly any" if percent < 1 else f"about {percent}%"
    return (
        f"Of the validation videos that scored like this one, {share} were fake. The score is that "
        "share, estimated. It is not the share of fake frames, and it holds only for videos like "
        "those that the model was tried on."
    )


def warnings(flags: Sequence[str]) -> list[str]:
    """Quality flags as sentences."""
    return [_sentence(FLAG_WORDS.get(flag, flag.replace("_", " "))) for flag in flags]


def rule(calibration: Calibration) -> str:
    """Which scores get which verdict."""
    real, fake = calibration.real_below, calibration.fake_from
    if real <= 0 and fake > 1:
        return "It calls every video inconclusive: in validation no score separated fake from real."
    if real >= fake:
        return f"Fake from a score of {score_text(fake)} on, real below it."
    parts = [
        f"Fake from a score of {score_text(fake)} on" if fake <= 1 else "Never fake",
        f"real below {score_text(real)}" if real > 0 else "never real",
    ]
    return f"{', '.join(parts)}, inconclusive between."


def card_facts(card: ModelCard) -> list[tuple[str, str]]:
    """What a visitor should know of a model: names and texts."""
    judged = "each frame alone" if card.detector.transformer is None else "frames together"
    facts = [
        ("Model", card.model_id),
        ("Network", f"{card.detector.backbone}, judges {judged}"),
        ("Verdicts", rule(card.calibration)),
    ]
    if card.training is not None and card.training.recipe is not None:
        facts.append(("Recipe", card.training.recipe))
    if card.source is not None:
        facts.append(("Weights from", f"{card.source.file_name} ({card.source.licence})"))
    learned = card.num_videos.get("train", {})
    if learned:
        counts = ", ".join(f"{number:,} {label}" for label, number in learned.items())
        facts.append(("Trained on", f"{counts} videos"))
    auc = card.validation.get("auc")
    if auc is not None:
        number = card.validation.get("num_videos")
        on = f" on {number:,} videos" if number else ""
        facts.append(("Validation AUC", f"{auc:.3f}{on}, by which it was chosen: it flatters"))
    return facts


def time_left(seconds: float | None) -> str:
    """For a progress bar."""
    if seconds is None:
        return "taking longer than usual"
    if seconds < 60:
        return f"about {max(1, round(seconds))} s left"
    return f"about {round(seconds / 60)} min left"


def clock(seconds: float) -> str:
    """Minutes and seconds, with tenths, or with hundredths of a short time."""
    digits = 1 if seconds >= 10 else 2
    minutes, rest = divmod(round(seconds, digits), 60)
    return f"{int(minutes)}:{rest:0{3 + digits}.{digits}f}"


def size_text(num_bytes: float) -> str:
    """With a unit that people know."""
    for unit in ("bytes", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "bytes" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} GB"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
