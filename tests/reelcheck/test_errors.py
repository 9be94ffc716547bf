"""The error tree and the closed list of statuses."""

import ast
import inspect
import itertools
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelcheck import errors, status
from reelcheck.errors import ReelcheckError, VideoError
from reelcheck.status import Status

EXIT_CODES = {
    "ReelcheckError": 1,
    "SettingsError": 2,
    "SourceError": 2,
    "StoreError": 2,
    "DamagedError": 2,
    "TrainingError": 2,
    "MismatchError": 3,
    "FaceModelError": 4,
    "DownloadError": 4,
    "WeightsError": 4,
    "ExportError": 4,
    "WorkerError": 4,
    "ServerError": 4,
    "VideoError": 1,
}
STATUSES = {
    "ok",
    "no_face",
    "face_too_small",
    "too_few_frames",
    "decode_error",
    "timeout",
    "out_of_memory",
    "unsupported",
    "unreadable",
    "missing",
    "internal_error",
    "model_error",
}


def test_errors_are_exactly_these_with_their_exit_codes() -> None:
    found = {
        name: cls.exit_code
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, ReelcheckError)
    }
    assert found == EXIT_CODES


@given(reason=st.text(), code=st.sampled_from(list(Status)))
def test_video_error_survives_pickling(reason: str, code: Status) -> None:
    again = pickle.loads(pickle.dumps(VideoError(code, reason)))
    assert type(again) is VideoError
    assert (again.status, again.reason, str(again)) == (code, reason, reason)
    assert isinstance(again.status, Status)


@pytest.mark.parametrize("name", sorted(set(EXIT_CODES) - {"VideoError"}))
def test_error_survives_pickling(name: str) -> None:
    error = getattr(errors, name)("what was wrong")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == "what was wrong"


def test_statuses_are_exactly_these() -> None:
    assert {str(member) for member in Status} == STATUSES


def test_statuses_are_each_followed_by_a_docstring() -> None:
    # A string after an assignment is not kept at run time, so the source is read.
    (body,) = (
        node.body
        for node in ast.parse(inspect.getsource(status)).body
        if isinstance(node, ast.ClassDef)
    )
    documented = {
        before.targets[0].id
        for before, after in itertools.pairwise(body)
        if isinstance(before, ast.Assign)
        and isinstance(before.targets[0], ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
        and str(after.value.value).strip()
    }
    assert documented == set(Status.__members__)
