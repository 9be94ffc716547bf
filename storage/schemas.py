"""Every table: its name and the type of its rows (``storage/rows.py``)."""

from storage.columns import Table
from storage.rows import (
    EvaluatedRow,
    LabelColumns,
    LearnedRow,
    LogRow,
    ManifestRow,
    NormalisedRow,
    ScoreCsvRow,
    ScoreRow,
    SequenceRow,
    SplitRow,
    ValidationRow,
    VideoResultRow,
    VideoRow,
)

LABEL_COLUMNS = tuple(LabelColumns.__annotations__)
"""Columns that a labels table may have, besides the path."""
STAGES = ("demux", "decode", "detect", "crop", "model")
"""Stages of a video's CPU seconds, in their order."""

VIDEO_RESULTS = Table("video_results", VideoResultRow)
SEQUENCES = Table("sequences", SequenceRow)
VIDEOS = Table("videos", VideoRow)
MANIFEST = Table("manifest", ManifestRow)
SPLIT = Table("split", SplitRow)
LEARNED = Table("learned", LearnedRow)
LOG = Table("log", LogRow)
VALIDATION = Table("validation", ValidationRow)
SCORES = Table("scores", ScoreRow)
SCORES_CSV = Table("scores_csv", ScoreCsvRow)
EVALUATED = Table("evaluated", EvaluatedRow)
NORMALISED = Table("normalised", NormalisedRow)
