"""The row of every table as a type: columns with their meanings and units.

``storage/schemas.py`` lists the tables. The type of a column says whether it may be null.
"""

from typing import Annotated, TypedDict

import pyarrow as pa

Float32 = Annotated[float, pa.float32()]
Box = Annotated[list[float], pa.list_(pa.float32(), 4)]
MedianBox = Annotated[list[float], pa.list_(pa.float64(), 4)]
Keypoints = Annotated[list[float], pa.list_(pa.float32(), 12)]


class LabelColumns(TypedDict):
    """Columns that a labels table may have, besides the path."""

    label: Annotated[int | None, "1 fake, 0 real"]
    group: Annotated[str | None, "videos of one group are never in two splits"]
    identity: Annotated[str | None, "the person who is seen"]
    donor: Annotated[str | None, "the person whose face was put in"]
    source: Annotated[str | None, "path of the real video that a fake was made from"]
    pair: Annotated[str | None, "name that a real video and its fakes share"]
    generator: Annotated[str | None, "name of the method that made the fake"]
    dataset: Annotated[str | None, "collection that the video comes from"]
    date: Annotated[str | None, "day of the video, YYYY-MM-DD"]
    split: Annotated[str | None, "split given by labels or folders: train, val or test"]


class _Content(TypedDict):
    video_id: Annotated[str, "SHA-256 of the content"]
    status: Annotated[str, "one of reelcheck/status.py"]
    reason: Annotated[str | None, "why the status is not ok, in words"]


class ProbeColumns(TypedDict):
    """Facts that preprocessing finds in a video."""

    container: Annotated[str | None, "file format, as FFmpeg names it"]
    codec: Annotated[str | None, "codec of the video stream, as FFmpeg names it"]
    width: Annotated[int | None, "pixels of the upright frame"]
    height: Annotated[int | None, "pixels of the upright frame"]
    average_fps: Annotated[float | None, "frames per second"]
    duration_seconds: Annotated[float | None, "seconds from the first frame to the end of the last"]
    num_frames: Annotated[int | None, "frames that a player would show"]
    decoder: Annotated[str | None, "decord or pyav"]
    num_packets_decoded: Annotated[int | None, "coded pictures that were decoded"]
    largest_snap_seconds: Annotated[
        float | None, "largest move of a sample to a frame that is cheaper to decode, seconds"
    ]
    num_frames_sampled: Annotated[int | None, "frames requested from the decoder"]
    num_frames_decoded: Annotated[int | None, "frames that were decoded"]
    num_frames_with_face: Annotated[int | None, "frames on which a face was found"]
    num_faces: Annotated[int | None, "face tracks that are long and large enough for crops"]
    head_rotation: Annotated[int | None, "degrees, counter-clockwise, by which frames were turned"]


class _VideoFingerprints(TypedDict):
    fingerprints: Annotated[list[bytes] | None, "perceptual hashes of frames, 32 bytes each"]


class VideoResultRow(_Content, ProbeColumns, _VideoFingerprints):
    """One content of a shard."""


class SequenceRow(TypedDict):
    """One crop sequence of a shard."""

    sequence_id: Annotated[str, "video, track and number of the sequence"]
    video_id: Annotated[str, "SHA-256 of the video's content"]
    track_id: Annotated[int, "the person, from 0, within the video"]
    shard: Annotated[str, "name of the shard that holds the crops"]
    crop_file: Annotated[int, "number of the shard's crop file, from 0"]
    crop_row: Annotated[int, "index of the sequence in that file, from 0"]
    num_frames: Annotated[int, "crops in the sequence"]
    frame_indices: Annotated[list[int], "position of each frame in the video, from 0"]
    pts_seconds: Annotated[list[float], "presentation time of each frame, seconds"]
    boxes_xyxy: Annotated[list[Box], "x1, y1, x2, y2 per frame, pixels of the upright frame"]
    confidences: Annotated[list[Float32], "confidence of the face detector per frame, 0 to 1"]
    sharpness: Annotated[list[Float32], "variance of the Laplacian per crop"]
    brightness: Annotated[list[Float32], "mean grey value per crop, 0 to 255"]
    keypoints_xy: Annotated[
        list[Keypoints],
        "x, y of eyes, nose tip, mouth centre and ears per crop, as fractions of its side",
    ]
    fingerprints: Annotated[list[bytes], "perceptual hashes of crops, 32 bytes each"]
    face_pixels: Annotated[float, "median of the longer side of the face box, pixels"]


class _File(TypedDict):
    root: Annotated[str, "folder or URL that was searched"]
    path: Annotated[str, "path below the root"]


class _FileContent(TypedDict):
    video_id: Annotated[str | None, "SHA-256 of the content; null where it could not be read"]
    status: Annotated[str, "one of reelcheck/status.py"]
    reason: Annotated[str | None, "why the status is not ok, in words"]
    size_bytes: Annotated[int | None, "size of the file"]
    mtime_ns: Annotated[int | None, "time of the last change, nanoseconds since 1970"]
    ctime_ns: Annotated[int | None, "time of the last change of any kind, nanoseconds since 1970"]


class VideoRow(_File, _FileContent, LabelColumns, ProbeColumns, _VideoFingerprints):
    """One input file of a store."""


class _Path(TypedDict):
    path: Annotated[str, "path of the video below its root"]


class ManifestRow(_Path, SequenceRow, LabelColumns):
    """One crop sequence of a store, with its labels: the input of training."""


class SplitRow(TypedDict):
    """One labelled video and its split."""

    video_id: Annotated[str, "SHA-256 of the content"]
    component: Annotated[str, "same for all connected videos, which are never in two splits"]
    label: Annotated[int, "1 fake, 0 real"]
    split: Annotated[str, "train, val, test or left_out"]
    has_crops: Annotated[bool, "whether a face was cut out"]


class LearnedRow(TypedDict):
    """One video that a model, or the model that it started from, has learned from."""

    video_id: Annotated[str, "SHA-256 of the content"]
    component: Annotated[str, "as in the split"]
    frames: Annotated[list[bytes], "perceptual hashes of its frames"]
    faces: Annotated[list[bytes], "perceptual hashes of its crops"]


class EpochRow(TypedDict):
    """One epoch of one detector."""

    phase: Annotated[int, "number of the phase, from 1"]
    epoch: Annotated[int, "number of the epoch over all phases, from 0"]
    step: Annotated[int, "optimiser updates so far"]
    learning_rate: Annotated[float, "learning rate of the last step"]
    train_loss: Annotated[float, "mean over the epoch"]
    train_accuracy: Annotated[float, "share of sequences, 0 to 1"]
    train_f1: Annotated[float, "0 to 1"]
    val_loss: Annotated[float, "mean over the validation sequences"]
    val_accuracy: Annotated[float, "share of sequences, 0 to 1"]
    val_f1: Annotated[float, "0 to 1"]
    val_auc: Annotated[float, "0 to 1"]
    is_best: Annotated[bool, "whether its weights are the best of the phase so far"]


class _Fold(TypedDict):
    fold: Annotated[int | None, "number of the fold, from 0; null without folds"]


class LogRow(_Fold, EpochRow):
    """One epoch of training."""


class ValidationRow(TypedDict):
    """One crop sequence of the validation videos; with folds, one that its fold had not seen."""

    sequence_id: Annotated[str, "as in the manifest"]
    video_id: Annotated[str, "SHA-256 of the video's content"]
    track_id: Annotated[int, "the person, from 0, within the video"]
    num_frames: Annotated[int, "crops in the sequence"]
    logit: Annotated[float, "raw output, higher: more fake"]
    label: Annotated[int, "1 fake, 0 real"]
    fold: Annotated[int | None, "number of the fold, from 0; null without folds"]


class TrackRow(TypedDict):
    """One person in one video; box, sharpness and brightness are medians over the frames."""

    track_id: Annotated[int, "the person, from 0, within the video"]
    start_seconds: Annotated[float, "presentation time of the first frame"]
    end_seconds: Annotated[float, "presentation time of the last frame"]
    num_frames: Annotated[int, "frames that the model used"]
    box_xyxy: Annotated[MedianBox, "x1, y1, x2, y2, pixels of the upright frame"]
    face_pixels: Annotated[float, "longer side of the face box, pixels"]
    sharpness: Annotated[float, "variance of the Laplacian"]
    brightness: Annotated[float, "mean grey value, 0 to 255"]
    logit: Annotated[float | None, "raw output, higher: more fake"]
    score: Annotated[float | None, "calibrated probability of fake"]


class SegmentRow(TypedDict):
    """One stretch of a face track with its own score; stretches overlap."""

    track_id: Annotated[int, "the person"]
    start_seconds: Annotated[float, "presentation time of the first frame"]
    end_seconds: Annotated[float, "presentation time of the last frame"]
    score: Annotated[float, "calibrated probability of fake"]


class FrameRow(TypedDict):
    """One frame that the model used."""

    track_id: Annotated[int, "the person"]
    frame_index: Annotated[int, "position in the video, from 0"]
    pts_seconds: Annotated[float, "presentation time"]
    score: Annotated[
        float, "score of the frame alone, from the frame head, not calibrated on its own"
    ]
    weight: Annotated[float, "share of the frame in the prediction, 0 to 1"]
    is_evidence: Annotated[bool, "whether the evidence picture shows it"]


class _PathBelowRoot(TypedDict):
    path: Annotated[str, "path below the root"]


class _Prediction(TypedDict):
    video_id: Annotated[str | None, "SHA-256 of the content; null where it could not be read"]
    status: Annotated[str, "one of reelcheck/status.py"]
    reason: Annotated[str | None, "why the status is not ok, in words"]
    score: Annotated[float | None, "calibrated probability of fake; null unless status is ok"]
    verdict: Annotated[str | None, "fake, real or inconclusive; null unless status is ok"]
    logit: Annotated[float | None, "raw output, higher: more fake; null unless status is ok"]
    threshold: Annotated[float | None, "score from which a video counts as fake"]
    real_below: Annotated[float | None, "below this score the verdict is real"]
    fake_from: Annotated[float | None, "from this score on the verdict is fake"]
    num_frames_used: Annotated[int | None, "frames that the model used"]


class _Flags(TypedDict):
    quality_flags: Annotated[list[str], "reasons why the score is less certain"]


class _FlagsAsText(TypedDict):
    quality_flags: Annotated[
        str | None, "reasons why the score is less certain, separated by spaces"
    ]


class _ScoredFile(TypedDict):
    root: Annotated[str, "folder or URL that was searched"]
    size_bytes: Annotated[int | None, "size of the file"]
    mtime_ns: Annotated[int | None, "time of the last change, nanoseconds since 1970"]
    ctime_ns: Annotated[int | None, "time of the last change of any kind, nanoseconds since 1970"]


class _StageSeconds(TypedDict):
    demux_seconds: Annotated[float | None, "CPU seconds for reading packets"]
    decode_seconds: Annotated[float | None, "CPU seconds for decoding pictures"]
    detect_seconds: Annotated[float | None, "CPU seconds for finding faces"]
    crop_seconds: Annotated[float | None, "CPU seconds for cutting faces out"]
    model_seconds: Annotated[float | None, "CPU seconds for running the model"]


class _Details(TypedDict):
    tracks: Annotated[list[TrackRow], "one per face, the most suspicious first"]
    segments: Annotated[list[SegmentRow], "stretches of face tracks, the highest score first"]
    frames: Annotated[list[FrameRow], "frames that the model used, by track and time"]


class _Origin(TypedDict):
    evidence_path: Annotated[str | None, "picture of the evidence frames, relative to the table"]
    model_id: Annotated[str, "hash of the model card and the weights"]
    preprocessing_hash: Annotated[str, "hash of the preprocessing settings"]


class PredictionRow(_Prediction, _Flags, ProbeColumns, _StageSeconds, _Details, _Origin):
    """The prediction for one content, whatever files hold it."""


class ScoreRow(
    _PathBelowRoot,
    _Prediction,
    _Flags,
    _ScoredFile,
    ProbeColumns,
    _StageSeconds,
    _Details,
    _Origin,
):
    """Prediction for one input file."""


class ScoreCsvRow(
    _PathBelowRoot,
    _Prediction,
    _FlagsAsText,
    _ScoredFile,
    ProbeColumns,
    _StageSeconds,
    _Origin,
):
    """Prediction for one input file, for spreadsheets: flat columns, flags as words."""


class EvaluatedRow(ScoreRow, LabelColumns):
    """One video of an evaluation: the model's prediction and the labels."""

    component: Annotated[str, "as in the split"]
    face_pixels: Annotated[float | None, "longer side of the most suspicious face's box, pixels"]


class NormalisedRow(TypedDict):
    """Result of normalising one input file. Id, size, time, profile show whether it is current."""

    path: Annotated[str, "path of the input below the source"]
    status: Annotated[str, "one of reelcheck/status.py"]
    reason: Annotated[str | None, "why the status is not ok, in words"]
    out: Annotated[str | None, "the video that was made, relative to the table"]
    video_id: Annotated[str | None, "SHA-256 of the input's content"]
    size_bytes: Annotated[int | None, "size of the input"]
    mtime_ns: Annotated[int | None, "time of the input's last change, nanoseconds since 1970"]
    ctime_ns: Annotated[int | None, "time of its last change of any kind, nanoseconds since 1970"]
    profile: Annotated[str, "hash of the settings"]
