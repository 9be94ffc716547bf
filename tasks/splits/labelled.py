"""The files of a store with the columns that a split needs."""

from collections import defaultdict
from collections.abc import Iterable

from reelcheck.errors import StoreError
from reelcheck.status import NO_VIDEO
from storage.layout import StoreLayout
from storage.rows import LabelColumns, ManifestRow, ProbeColumns, VideoRow
from storage.schemas import LABEL_COLUMNS, MANIFEST, VIDEOS
from storage.tables import read_rows

_FILE_COLUMNS = ("root", "path", "video_id", "status", *LABEL_COLUMNS)


class LabelledFileRow(LabelColumns, ProbeColumns):
    """The row of a file (``VideoRow``) with an id in any case, and whether it has crops."""

    root: str
    path: str
    video_id: str
    status: str
    reason: str | None
    size_bytes: int | None
    mtime_ns: int | None
    ctime_ns: int | None
    fingerprints: list[bytes] | None
    has_crops: bool


def read_files(layout: StoreLayout) -> tuple[list[VideoRow], list[ManifestRow]]:
    """Read the two tables that ``label_files`` takes, with the columns that a split needs only.

    Raises:
        StoreError: a table is missing or damaged.
    """
    return (
        read_rows(layout.videos_path, VIDEOS, columns=_FILE_COLUMNS),
        read_rows(layout.manifest_path, MANIFEST, columns=("video_id", "label")),
    )


def label_files(
    videos: Iterable[VideoRow], manifest: Iterable[ManifestRow]
) -> list[LabelledFileRow]:
    """Give every file of a store an id and the label that its copies agree on.

    A file has a label only where it is a video and its copies have one label. A file that could
    not be read gets its location as its id: it is no copy of another file, but its labels tie
    other files together.

    Raises:
        StoreError: no video with crops has a label.
    """
    label_of = {row["video_id"]: row["label"] for row in manifest}
    if all(label is None for label in label_of.values()):
        raise StoreError(
            "no video with crops has a label; run preprocess with --labels CSV, or put the videos "
            "into folders named real and fake"
        )
    by_id = [(video["video_id"] or f"{video['root']}/{video['path']}", video) for video in videos]
    labels: dict[str, set[int]] = defaultdict(set)
    for video_id, video in by_id:
        if video["label"] is not None and video["status"] not in NO_VIDEO:
            labels[video_id].add(video["label"])
    agreed = {video_id: own.pop() for video_id, own in labels.items() if len(own) == 1}
    return [
        {
            **video,
            "video_id": video_id,
            "label": agreed.get(video_id),
            "has_crops": video_id in label_of,
        }
        for video_id, video in by_id
    ]
