"""Statuses, flags, verdicts, models and numbers, in words for people."""

from reelcheck.card import Calibration, ModelCard
from reelcheck.status import Status
from tasks.scoring.predict import PART_LOOKS_FAKE

STATUS_WORDS = {
    Status.OK: "Faces were found and judged.",
    Status.NO_FACE: "None of the frames looked at shows a face.",
    Status.FACE_TOO_SMALL: "There are faces, but all of them are too small to be judged.",
    Status.TOO_FEW_FRAMES: "No face was seen on enough frames to be judged.",
    Status.DECODE_ERROR: "The file is damaged or incomplete.",
    Status.TIMEOUT: "The file took longer than allowed and was given up.",
    Status.OUT_OF_MEMORY: "The file needed more memory than one file may use.",
    Status.UNSUPPORTED: "This is neither a video nor a picture that can be read.",
    Status.UNREADABLE: "The file is there, but it cannot be read, or it changed meanwhile.",
    Status.MISSING: "The file was named in a list, but it is not there.",
    Status.INTERNAL_ERROR: "A defect of reelcheck itself met this video; it is worth a report.",
    Status.MODEL_ERROR: "Faces were found, but the model gave no usable number for them.",
}
"""Meaning of each status, for a reader who knows nothing of the software."""


FLAG_WORDS = {
    "small_face": "the face is small and was enlarged for the model",
    "blurred": "the face is blurred",
    "dark": "the face is dark",
    "bright": "the face is very bright",
    "damaged": "the file is damaged; only frames beyond doubt were judged",
    "face_seldom_seen": "the face is on fewer than half of the frames looked at",
    PART_LOOKS_FAKE: "not fake as a whole, but one stretch alone would be: look there",
}
"""Meaning of each quality flag; see ``tasks.scoring.predict.find_quality_flags``."""


VERDICTS = ("fake", "inconclusive", "real")


def describe_rule(calibration: Calibration) -> str:
    """Describe which scores get which verdict."""
    real, fake = calibration.real_below, calibration.fake_from
    if real <= 0 and fake > 1:
        return (
            "Every video is inconclusive: on the validation videos no score separated fake from "
            "real well enough."
        )
    if real >= fake:
        return f"Fake from a score of {format_score(fake)} on, real below it."
    verdicts = [
        f"Fake from a score of {format_score(fake)} on" if fake <= 1 else "Never fake",
        f"real below {format_score(real)}" if real > 0 else "never real",
    ]
    return f"{', '.join(verdicts)}; otherwise inconclusive: the model abstains."


def describe_model(card: ModelCard) -> list[tuple[str, str]]:
    """Describe a model: names and texts."""
    judged = "each frame alone" if card.detector.transformer is None else "frames together"
    members = f", mean of {card.num_members} detectors" if card.num_members > 1 else ""
    facts = [
        ("Model", card.model_id),
        ("Network", f"{card.detector.backbone}, judges {judged}{members}"),
    ]
    if card.training is not None and card.training.recipe is not None:
        facts.append(("Recipe", card.training.recipe))
    if card.source is not None:
        facts.append(("Weights from", f"{card.source.file_name} ({card.source.licence})"))
    facts.append(("Settings hash", card.preprocessing_hash))
    if learned := card.num_videos.get("train"):
        counts = ", ".join(f"{count:,} {label}" for label, count in learned.items())
        facts.append(("Trained on", f"{counts} videos"))
    if num_videos := card.validation.get("num_videos"):
        facts.append(("Calibrated on", f"{num_videos:,} validation videos"))
    if (auc := card.validation.get("auc")) is not None:
        facts.append(("Validation AUC", f"{auc:.3f}; the model was chosen by it, so it flatters"))
    return facts


def format_score(score: float) -> str:
    """Format a score with three digits; it never claims the certainty of 0 or 1."""
    if 0 < score < 0.001:
        return "<0.001"
    return ">0.999" if 0.999 < score < 1 else f"{score:.3f}"


def format_duration(seconds: float) -> str:
    """Format a time with its unit: seconds, minutes or hours."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} h" if hours else f"{minutes}:{rest:02d} min"
