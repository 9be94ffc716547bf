"""The statuses that an input file can have.

A score exists only with the status ``ok``; every other status comes with a reason.
"""

from enum import StrEnum


class Status(StrEnum):
    """Outcome of processing one input file."""

    OK = "ok"
    """Usable face crop sequences were found."""
    NO_FACE = "no_face"
    """The video decodes, but no sampled frame shows a face."""
    FACE_TOO_SMALL = "face_too_small"
    """Faces were found, all smaller than the smallest size that is used."""
    TOO_FEW_FRAMES = "too_few_frames"
    """No face was seen on enough frames to make one crop sequence; a picture is one frame."""
    DECODE_ERROR = "decode_error"
    """A damaged or incomplete video."""
    TIMEOUT = "timeout"
    """The video took longer than its deadline and was given up."""
    OUT_OF_MEMORY = "out_of_memory"
    """The video needed more memory than a worker may use."""
    UNSUPPORTED = "unsupported"
    """Neither a video nor a supported picture: empty, text, sound only."""
    UNREADABLE = "unreadable"
    """The file is there but cannot be read (permissions, broken link, device), or has changed."""
    MISSING = "missing"
    """The labels table names a file that is not there."""
    INTERNAL_ERROR = "internal_error"
    """A defect of reelcheck itself, which should be reported."""
    MODEL_ERROR = "model_error"
    """Crops exist, but the model gave no finite number for them."""


FAILURES = frozenset(
    {Status.DECODE_ERROR, Status.TIMEOUT, Status.OUT_OF_MEMORY, Status.INTERNAL_ERROR}
)
"""Statuses that a newer version or a larger machine may change; tried again on request."""
NO_VIDEO = frozenset({Status.UNSUPPORTED, Status.UNREADABLE, Status.MISSING})
"""Statuses of files that are no video or do not exist, so that no detector can classify them."""
RETRIED = frozenset({Status.INTERNAL_ERROR, Status.UNREADABLE})
"""Statuses that say nothing about the video itself; every run tries these files again."""
