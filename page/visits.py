"""Visits: which files each visitor has brought, and in which order they are scored.

- A visit outlives its browser tab: its secret name is in the page's address, so that a page that is
  loaded again finds its checks, unfinished ones too.
- Visitors take turns, file by file: many files of one visitor do not hold up those of another.
- The files of a visit lie in a folder of its own, under names of ours, and are removed with it.
"""

import logging
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from statistics import median

from reelcheck.card import ModelCard
from reelcheck.errors import ReelcheckError, SourceError
from storage.rows import ScoreRow

_log = logging.getLogger(__name__)


class Stage(Enum):
    """Stage of a check; the value is the text for the visitor."""

    WAITING = "Waiting for its turn"
    LOADING = "Preparing the model"
    LOOKING = "Decoding and looking for faces"
    JUDGING = "Judging the faces"
    DONE = "Done"


WORKING = (Stage.LOADING, Stage.LOOKING, Stage.JUDGING)
_USUAL_SECONDS = {Stage.LOADING: 1.0, Stage.LOOKING: 5.0, Stage.JUDGING: 1.0}
"""Time of a stage before any was measured: short clips on two cores."""
_NUM_REMEMBERED = 20


@dataclass(frozen=True)
class Model:
    """A model that can be chosen."""

    name: str
    path: Path
    card: ModelCard
    exports_dir: Path | None = None
    """Folder of the model's ONNX files; None: that of the user who runs the page."""


@dataclass(eq=False, kw_only=True)
class Check:
    """One file, its stage and its result."""

    name: str
    """Name that the visitor gave: shown, never used as a path."""
    source: str
    """Path of an upload, or the path or URL that the visitor named."""
    is_upload: bool
    model: Model
    folder: Path
    """Folder for all files of this check."""
    stage: Stage = Stage.WAITING
    since: float = field(default_factory=time.monotonic)
    """When the stage began."""
    row: ScoreRow | None = None
    problem: str | None = None
    """Why there is no row at all: the model or the machine, never the file."""

    @property
    def is_done(self) -> bool:
        """Whether there is a row, or a problem."""
        return self.stage is Stage.DONE


@dataclass(eq=False)
class Visit:
    """One visitor's checks and models, oldest first."""

    token: str
    folder: Path
    checks: list[Check] = field(default_factory=list)
    models: list[Model] = field(default_factory=list)
    seen_at: float = field(default_factory=time.monotonic)

    def make_folder(self) -> Path:
        """Make an empty folder under a random name."""
        folder = self.folder / secrets.token_hex(8)
        folder.mkdir(parents=True)
        return folder


Advance = Callable[[Stage], None]
Judge = Callable[[Check, Advance], ScoreRow]
"""Scores a check, and reports when it enters a stage."""


class Visits:
    """All visits of this server, and the threads that work for them.

    Args:
        folder: holds a folder per visit.
        judge: scores a check, in any of the threads.
        num_lanes: checks that are scored at a time.
        keep_seconds: time after which a visit without work and without requests is removed.
        max_checks: checks of one visit.
        max_visit_bytes: size of all files of a visit.
    """

    def __init__(
        self,
        folder: Path,
        judge: Judge,
        *,
        num_lanes: int = 2,
        keep_seconds: float = 3600.0,
        max_checks: int = 50,
        max_visit_bytes: float = 2e9,
    ) -> None:
        self._folder = folder
        self._judge = judge
        self._num_lanes = num_lanes
        self._keep_seconds = keep_seconds
        self._max_checks = max_checks
        self._max_visit_bytes = max_visit_bytes
        self._visits: dict[str, Visit] = {}
        self._turns: list[Visit] = []
        self._changed = threading.Condition()
        self._is_open = True
        self._spent: dict[Stage, list[float]] = {stage: [] for stage in WORKING}
        self._lanes = [
            threading.Thread(target=self._work, name=f"check-{n}", daemon=True)
            for n in range(num_lanes)
        ]
        for lane in self._lanes:
            lane.start()

    def find(self, token: str | None) -> Visit | None:
        """Find a visit by its name and mark it as seen; None: there is none, or it was removed."""
        with self._changed:
            self._remove_forgotten()
            visit = self._visits.get(token or "")
            if visit is not None:
                visit.seen_at = time.monotonic()
            return visit

    def begin(self) -> Visit:
        """Begin a visit under a name that nobody can guess."""
        token = secrets.token_urlsafe(16)
        with self._changed:
            self._remove_forgotten()
            visit = Visit(token, self._folder / secrets.token_hex(8))
            visit.folder.mkdir(parents=True)
            self._visits[token] = visit
            self._turns.append(visit)
        return visit

    def require_room(self, visit: Visit, num_bytes: int) -> None:
        """Refuse a file that a visit has no room for, before it is written.

        Raises:
            SourceError: the visit would have too much on disk.
        """
        used = 0
        for path in visit.folder.rglob("*"):
            with suppress(FileNotFoundError):  # a check at work may remove files
                used += path.stat().st_size
        if used + num_bytes > self._max_visit_bytes:
            raise SourceError(
                f"your files here take {used / 1e6:,.0f} MB, this one {num_bytes / 1e6:,.0f} MB; "
                f"{self._max_visit_bytes / 1e6:,.0f} MB is the most: remove some"
            )

    def remove_model(self, visit: Visit, model: Model) -> None:
        """Forget a visitor's model and delete its files.

        Raises:
            SourceError: a check still needs it.
        """
        with self._changed:
            if any(check.model is model and not check.is_done for check in visit.checks):
                raise SourceError(f"{model.name} is judging a file; wait until it is done")
            if model in visit.models:
                visit.models.remove(model)
                shutil.rmtree(model.path, ignore_errors=True)
                if model.exports_dir is not None:
                    shutil.rmtree(model.exports_dir, ignore_errors=True)

    def add(self, visit: Visit, check: Check) -> None:
        """Queue a check.

        Raises:
            SourceError: the visit has too many already.
        """
        with self._changed:
            if len(visit.checks) >= self._max_checks:
                raise SourceError(
                    f"there are {self._max_checks} files here already; remove some, or score a "
                    "folder with `reelcheck score`"
                )
            visit.checks.append(check)
            self._changed.notify()

    def remove(self, visit: Visit, check: Check) -> None:
        """Forget a check and delete its files; a check at work ends unseen."""
        with self._changed:
            if check in visit.checks:
                visit.checks.remove(check)
            is_working = check.stage in WORKING
        if not is_working:
            shutil.rmtree(check.folder, ignore_errors=True)

    def count_before(self, check: Check) -> int:
        """Count the checks that begin before this one."""
        with self._changed:
            order = self._order()
            return order.index(check) if check in order else 0

    def estimate_seconds(self, check: Check) -> float | None:
        """Estimate the time left from the last checks; None: longer than the usual time."""
        usual = self._measure_usual()
        whole = sum(usual.values())
        if check.stage is Stage.WAITING:
            return whole * (self.count_before(check) / self._num_lanes + 1)
        if check.stage not in WORKING:
            return 0.0
        rest = usual[check.stage] - (time.monotonic() - check.since)
        later = sum(usual[stage] for stage in WORKING[WORKING.index(check.stage) + 1 :])
        return rest + later if rest + later > 0 else None

    def estimate_share(self, check: Check) -> float:
        """Estimate the share that is done, 0 to 1; it is 1 only at the end."""
        if check.is_done:
            return 1.0
        if check.stage is Stage.WAITING:
            return 0.0
        whole = sum(self._measure_usual().values())
        return min(0.95, max(0.02, 1 - (self.estimate_seconds(check) or 0.0) / whole))

    def close(self) -> None:
        """Let each thread end after its current check."""
        with self._changed:
            self._is_open = False
            self._changed.notify_all()

    def _measure_usual(self) -> Mapping[Stage, float]:
        return {
            stage: median(self._spent[stage]) if self._spent[stage] else _USUAL_SECONDS[stage]
            for stage in WORKING
        }

    def _order(self) -> list[Check]:
        """Order the waiting checks as they will begin: one of each visit in turn."""
        waiting = [[c for c in v.checks if c.stage is Stage.WAITING] for v in self._turns]
        longest = max(map(len, waiting), default=0)
        return [checks[n] for n in range(longest) for checks in waiting if n < len(checks)]

    def _work(self) -> None:
        while True:
            with self._changed:
                while self._is_open and not self._order():
                    self._changed.wait(30.0)
                    self._remove_forgotten()
                if not self._is_open:
                    return
                check = self._order()[0]
                visit = next(visit for visit in self._turns if check in visit.checks)
                self._turns.remove(visit)
                self._turns.append(visit)
                self._enter(check, Stage.LOADING)
            self._finish(check)
            with self._changed:
                is_removed = check not in visit.checks
            if is_removed:
                shutil.rmtree(check.folder, ignore_errors=True)

    def _finish(self, check: Check) -> None:
        try:
            check.row = self._judge(check, lambda stage: self._enter(check, stage))
        except ReelcheckError as error:
            check.problem = str(error)
        except Exception:  # noqa: BLE001
            # The visitor can do nothing about it, and the next one's file must not suffer.
            _log.exception("a check has failed")
            check.problem = "reelcheck itself failed; its operator finds more in the server's log"
        self._enter(check, Stage.DONE)

    def _enter(self, check: Check, stage: Stage) -> None:
        now = time.monotonic()
        if check.stage in WORKING and check.stage is not stage:
            spent = self._spent[check.stage]
            spent.append(now - check.since)
            del spent[:-_NUM_REMEMBERED]
        check.since = now
        check.stage = stage

    def _remove_forgotten(self) -> None:
        now = time.monotonic()
        for token, visit in list(self._visits.items()):
            is_idle = all(check.is_done for check in visit.checks)
            if is_idle and now - visit.seen_at > self._keep_seconds:
                del self._visits[token]
                self._turns.remove(visit)
                shutil.rmtree(visit.folder, ignore_errors=True)
