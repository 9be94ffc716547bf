"""Result of preprocessing one content <-> its row in a table."""

from collections.abc import Mapping
from typing import Any, cast

from reelcheck.records import CropSequence, VideoResult
from reelcheck.status import Status
from storage.rows import ProbeColumns, VideoResultRow
from storage.schemas import VIDEO_RESULTS

_PROBE_COLUMNS = tuple(ProbeColumns.__annotations__)


def row_of_result(result: VideoResult) -> VideoResultRow:
    """Make the row of a result; crop sequences have rows of their own (``storage/crops.py``)."""
    return VIDEO_RESULTS.complete(
        {**vars(result), "status": str(result.status), "fingerprints": list(result.fingerprints)}
    )


def probe_columns(result: VideoResult) -> ProbeColumns:
    """Take the columns of a result that other tables have, too."""
    values = {name: getattr(result, name) for name in _PROBE_COLUMNS}
    return cast("ProbeColumns", values)


def result_of_row(row: Mapping[str, Any], sequences: tuple[CropSequence, ...]) -> VideoResult:
    """Make a result of its row, the opposite of ``row_of_result``.

    Args:
        row: has the columns of ``VIDEO_RESULTS``, and perhaps others.
        sequences: crop sequences of the same content.
    """
    values = VIDEO_RESULTS.complete(row)
    own: Any = {
        **values,
        "status": Status(values["status"]),
        "fingerprints": tuple(values["fingerprints"] or ()),
    }
    return VideoResult(**own, sequences=sequences)
