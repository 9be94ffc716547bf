"""Every exception that a user can cause, as one tree.

- A bad *setting*, path or store raises one of these exceptions; the command line prints it in one
  line and exits with ``exit_code``.
- A bad *video* never ends a batch: the code for one video raises ``VideoError`` with status and
  reason, and the batch turns it into a row.

    ReelcheckError (1)
    ├── SettingsError (2)       a value that is not allowed
    ├── SourceError (2)         a folder, file or labels table that cannot be used
    ├── StoreError (2)          a store that lacks what the command needs, or is damaged
    │   └── DamagedError (2)    a file that is not as it was written
    ├── TrainingError (2)       training cannot begin or continue, as after a loss that is no number
    ├── MismatchError (3)       model and data were not made for each other
    ├── FaceModelError (4)      the face detector's weights are missing or wrong
    ├── DownloadError (4)       a file of others cannot be fetched, or is not the expected one
    ├── WeightsError (4)        pretrained or local weights are missing or do not fit
    ├── ExportError (4)         a model cannot be written for other runtimes
    ├── WorkerError (4)         decode processes cannot start on this machine
    ├── ServerError (4)         the Prefect server or its worker cannot be started, or has ended
    └── VideoError              one video cannot be processed; always becomes a row
"""

from reelcheck.status import Status


class ReelcheckError(Exception):
    """Root of the tree. The message says what was wrong, what is allowed and what to do next."""

    exit_code = 1


class SettingsError(ReelcheckError):
    """A setting has a value that is not allowed."""

    exit_code = 2


class SourceError(ReelcheckError):
    """An input folder, file or labels table cannot be used."""

    exit_code = 2


class StoreError(ReelcheckError):
    """A store lacks what the command needs, or is damaged."""

    exit_code = 2


class DamagedError(StoreError):
    """A file of ours is not as it was written."""


class TrainingError(ReelcheckError):
    """Training cannot begin or continue with these data and settings."""

    exit_code = 2


class MismatchError(ReelcheckError):
    """A model and the data or settings given with it were not made for each other."""

    exit_code = 3


class FaceModelError(ReelcheckError):
    """The face detector's weights are missing or are not the expected ones."""

    exit_code = 4


class DownloadError(ReelcheckError):
    """A file of others cannot be fetched, or is not the expected one."""

    exit_code = 4


class WeightsError(ReelcheckError):
    """Pretrained or local network weights are missing or do not fit."""

    exit_code = 4


class ExportError(ReelcheckError):
    """A model cannot be written for other runtimes, or gives other predictions there."""

    exit_code = 4


class WorkerError(ReelcheckError):
    """Decode processes cannot start, whatever the video is."""

    exit_code = 4


class ServerError(ReelcheckError):
    """The Prefect server or its worker cannot be started, does not answer, or has ended."""

    exit_code = 4


class VideoError(ReelcheckError):
    """One video cannot be processed; becomes a row with this status and reason.

    Attributes:
        status: status of the row; never ``Status.OK``.
        reason: reason of the row, one line for people.
    """

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason

    def __reduce__(self) -> tuple[type["VideoError"], tuple[Status, str]]:
        """Keep both arguments when the exception crosses a process border."""
        return VideoError, (self.status, self.reason)
