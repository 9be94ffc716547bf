"""Answers: the prediction for one content as a file, which nobody has to make again.

An answer carries a checksum of itself and one of its picture. What fails its check, such as what a
power cut has emptied, is set aside and made again; so answers need not wait for the disk.
"""

import logging
from collections.abc import Iterable
from typing import Any, cast

from reelcheck.errors import DamagedError
from storage.atomic import set_aside
from storage.checked.documents import read_document, write_document
from storage.columns import SCHEMA_VERSION
from storage.hashing import sha256_of
from storage.outputs import ScoreLayout
from storage.rows import PredictionRow

_log = logging.getLogger(__name__)
_PICTURE = "evidence_sha256"


def write_answer(output: ScoreLayout, key: str, video_id: str, row: PredictionRow) -> None:
    """Write the answer for one content, whose picture is there already."""
    picture = row["evidence_path"]
    content: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        **row,
        _PICTURE: None if picture is None else sha256_of(output.path / picture),
    }
    write_document(output.result_path(key, video_id), content, is_synced=False)


def read_answer(output: ScoreLayout, key: str, video_id: str) -> PredictionRow | None:
    """Read the answer for one content; None: there is none.

    Raises:
        DamagedError: the answer or its picture is not as it was written.
    """
    path = output.result_path(key, video_id)
    if not path.exists():
        return None
    answer = read_document(path)
    picture, wanted = answer.get("evidence_path"), answer.pop(_PICTURE, None)
    if answer.get("video_id") != video_id:
        raise DamagedError(f"{path} is the answer for another video; delete it and run again")
    if picture is not None:
        try:
            found = sha256_of(output.path / picture)
        except OSError as error:
            found = str(error)
        if found != wanted:
            raise DamagedError(
                f"{output.path / picture} is missing, or not as it was written; delete {path} and "
                "run again"
            )
    return cast("PredictionRow", answer)


def require_answer(output: ScoreLayout, key: str, video_id: str) -> None:
    """Make sure that the answer for one content is there, and as it was written.

    Raises:
        DamagedError: it is not.
    """
    if read_answer(output, key, video_id) is None:
        raise DamagedError(f"{output.result_path(key, video_id)} is missing; run again")


def read_answers(
    output: ScoreLayout, key: str, video_ids: Iterable[str]
) -> dict[str, PredictionRow]:
    """Read the answers for these contents that there are; a damaged one is set aside."""
    answers = {}
    for video_id in video_ids:
        try:
            answer = read_answer(output, key, video_id)
        except DamagedError as error:
            aside = set_aside(output.result_path(key, video_id))
            _log.warning("%s. It is kept as %s and made again", error, aside.name)
        else:
            if answer is not None:
                answers[video_id] = answer
    return answers
