"""Arrow schema of every table, with its version.

A change of meaning or of columns raises ``SCHEMA_VERSION``; readers refuse other versions.
"""

import pyarrow as pa

from reelcheck.records import FINGERPRINT_BYTES

SCHEMA_VERSION = "5"


def _schema(name: str, *fields: pa.Field) -> pa.Schema:
    metadata = {"reelcheck_table": name, "reelcheck_schema_version": SCHEMA_VERSION}
    return pa.schema(list(fields), metadata=metadata)


def _text(name: str, *, nullable: bool = True) -> pa.Field:
    return pa.field(name, pa.string(), nullable=nullable)


def _integer(name: str, *, nullable: bool = True) -> pa.Field:
    return pa.field(name, pa.int64(), nullable=nullable)


def _real(name: str, *, nullable: bool = True) -> pa.Field:
    return pa.field(name, pa.float64(), nullable=nullable)


_LABEL_FIELDS = (
    _integer("label"),
    _text("group"),
    _text("identity"),
    _text("donor"),
    _text("source"),
    _text("pair"),
    _text("generator"),
    _text("dataset"),
    _text("date"),
    _text("split"),
)
LABEL_COLUMNS = tuple(field.name for field in _LABEL_FIELDS)
"""What a labels table may say of a file."""
_HASHES = pa.list_(pa.binary(FINGERPRINT_BYTES))
_RESULT_FIELDS = (
    _text("container"),
    _text("codec"),
    _integer("width"),
    _integer("height"),
    _real("average_fps"),
    _real("duration_seconds"),
    _integer("num_frames"),
    _text("decoder"),
    _integer("num_packets_decoded"),
    _real("largest_snap_seconds"),
    _integer("num_frames_sampled"),
    _integer("num_frames_decoded"),
    _integer("num_frames_with_face"),
    _integer("num_faces"),
    _integer("head_rotation"),
)
_SEQUENCE_FIELDS = (
    _text("sequence_id", nullable=False),
    _text("video_id", nullable=False),
    _integer("track_id", nullable=False),
    _text("shard", nullable=False),
    _integer("part", nullable=False),
    _integer("row", nullable=False),
    _integer("num_frames", nullable=False),
    pa.field("frame_indices", pa.list_(pa.int64()), nullable=False),
    pa.field("pts_seconds", pa.list_(pa.float64()), nullable=False),
    pa.field("boxes_xyxy", pa.list_(pa.list_(pa.float32(), 4)), nullable=False),
    pa.field("confidences", pa.list_(pa.float32()), nullable=False),
    pa.field("sharpness", pa.list_(pa.float32()), nullable=False),
    pa.field("brightness", pa.list_(pa.float32()), nullable=False),
    pa.field("keypoints_xy", pa.list_(pa.list_(pa.float32(), 12)), nullable=False),
    pa.field("fingerprints", _HASHES, nullable=False),
    _real("face_pixels", nullable=False),
)

VIDEO_RESULTS = _schema(
    "video_results",
    _text("video_id", nullable=False),
    _text("status", nullable=False),
    _text("reason"),
    *_RESULT_FIELDS,
    pa.field("fingerprints", _HASHES),
)
"""One row per distinct content, inside a shard."""

SEQUENCES = _schema("sequences", *_SEQUENCE_FIELDS)
"""One row per crop sequence, inside a shard; ``row`` is its place in crop file ``part``."""

VIDEOS = _schema(
    "videos",
    _text("root", nullable=False),
    _text("path", nullable=False),
    _text("video_id"),
    _text("status", nullable=False),
    _text("reason"),
    _integer("size_bytes"),
    _integer("mtime_ns"),
    *_LABEL_FIELDS,
    *_RESULT_FIELDS,
    pa.field("fingerprints", _HASHES),
)
"""One row per input file."""

MANIFEST = _schema("manifest", _text("path", nullable=False), *_SEQUENCE_FIELDS, *_LABEL_FIELDS)
"""One row per crop sequence of the store, with its labels: the input of training."""

SPLIT = _schema(
    "split",
    _text("video_id", nullable=False),
    _text("component", nullable=False),
    _integer("label", nullable=False),
    _text("split", nullable=False),
    pa.field("has_crops", pa.bool_(), nullable=False),
)
"""One row per labelled video: train, val, test or left_out; ``component`` never crosses a split."""

LEARNED = _schema(
    "learned",
    _text("video_id", nullable=False),
    _text("component", nullable=False),
    pa.field("frames", _HASHES, nullable=False),
    pa.field("faces", _HASHES, nullable=False),
)
"""What a model has learned from: videos of train and val parts, those of the model that it started
from, too, with their fingerprints."""

LOG = _schema(
    "log",
    _integer("fold"),
    _integer("phase", nullable=False),
    _integer("epoch", nullable=False),
    _integer("step", nullable=False),
    _real("learning_rate", nullable=False),
    *(_real(f"train_{name}", nullable=False) for name in ("loss", "accuracy", "f1")),
    *(_real(f"val_{name}", nullable=False) for name in ("loss", "accuracy", "f1", "auc")),
    pa.field("is_best", pa.bool_(), nullable=False),
)
"""One row per epoch of training."""

VALIDATION = _schema(
    "validation",
    _text("sequence_id", nullable=False),
    _text("video_id", nullable=False),
    _integer("track_id", nullable=False),
    _integer("num_frames", nullable=False),
    _real("logit", nullable=False),
    _integer("label", nullable=False),
    _integer("fold"),
)
"""One row per crop sequence that training chose by; of a fold, what that fold had not seen."""

_TRACK = pa.struct(
    [
        _integer("track_id"),
        _real("start_seconds"),
        _real("end_seconds"),
        _integer("num_frames"),
        pa.field("box_xyxy", pa.list_(pa.float64(), 4)),
        _real("face_pixels"),
        _real("sharpness"),
        _real("brightness"),
        _real("logit"),
        _real("score"),
    ]
)
_SEGMENT = pa.struct(
    [_integer("track_id"), _real("start_seconds"), _real("end_seconds"), _real("score")]
)
_FRAME = pa.struct(
    [
        _integer("track_id"),
        _integer("frame_index"),
        _real("pts_seconds"),
        _real("score"),
        _real("weight"),
        pa.field("is_evidence", pa.bool_()),
    ]
)
STAGES = ("demux", "decode", "detect", "crop", "model")
"""Where a video's CPU seconds go, in this order."""

SCORES = _schema(
    "scores",
    _text("path", nullable=False),
    _text("video_id"),
    _text("status", nullable=False),
    _text("reason"),
    _real("score"),
    _text("verdict"),
    _real("logit"),
    _real("threshold"),
    _real("real_below"),
    _real("fake_from"),
    _integer("num_frames_used"),
    pa.field("quality_flags", pa.list_(pa.string()), nullable=False),
    _text("root", nullable=False),
    _integer("size_bytes"),
    _integer("mtime_ns"),
    *_RESULT_FIELDS,
    *(_real(f"{stage}_seconds") for stage in STAGES),
    pa.field("tracks", pa.list_(_TRACK), nullable=False),
    pa.field("segments", pa.list_(_SEGMENT), nullable=False),
    pa.field("frames", pa.list_(_FRAME), nullable=False),
    _text("evidence_path"),
    _text("model_id", nullable=False),
    _text("preprocessing_hash", nullable=False),
)
"""The result: one row per input file; score, verdict and logit are null unless status is ok.

- ``score`` is the calibrated probability; below ``real_below`` the verdict is real, from
  ``fake_from`` on fake, between the two inconclusive.
- ``tracks``: one per face, the most suspicious first; whether its score is the video's depends on
  the model card's aggregation. Box, sharpness and brightness are medians over its frames.
- ``segments``: overlapping stretches of a face track, judged like a whole one, highest score first.
- ``frames``: every frame that was judged, by track and time: what it alone says (``score``, of the
  frame head, not calibrated by itself) and its share in the answer (``weight``).
- ``evidence_path``: picture, relative to the table, with the crops of the frames marked
  ``is_evidence``: a row of faces for each of up to four people, the most suspicious first, left to
  right in the order of ``frames``; where there is one row more, the second shows what in the first
  person's faces speaks for a fake.
"""

EVALUATED = _schema(
    "evaluated",
    *SCORES,
    *_LABEL_FIELDS,
    _text("component", nullable=False),
    _real("face_pixels"),
)
"""One row per video of an evaluation: what the model said of it, and what is known of it."""

SCORES_CSV = _schema(
    "scores_csv",
    *(
        _text(field.name) if field.name == "quality_flags" else field
        for field in SCORES
        if field.name == "quality_flags" or not pa.types.is_nested(field.type)
    ),
)
"""The same for spreadsheets: flat columns, flags as words."""

NORMALISED = _schema(
    "normalised",
    _text("path", nullable=False),
    _text("status", nullable=False),
    _text("reason"),
    _text("out"),
    _text("video_id"),
    _integer("size_bytes"),
    _integer("mtime_ns"),
    _text("profile", nullable=False),
)
"""What became of each input file: ``out`` is the video made of it, relative to the table; null
unless status is ok. ``video_id``, size and time are the input's, ``profile`` is the hash of the
settings: together they say what need not be done again."""
