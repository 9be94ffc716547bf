"""A check -> its row, by the same scoring as the batch run: the page has no way of its own.

Models stay loaded and are shared by all visitors; the network takes one call at a time. Nothing
here is imported before the first file is judged, or nearly so: it takes a second.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from models.runtime import Engine, Floats, Judgement, Runtime
from page.visits import Advance, Check, Stage
from reelcheck.config import RunSettings
from reelcheck.records import RGB
from storage.layout import ModelLayout
from storage.outputs import ScoreLayout
from storage.tables import Row

_NUM_LOADED = 3
"""Models that stay in memory."""


class Judging:
    """What judges checks: loaded models, and the limits of one file."""

    def __init__(self, *, timeout_seconds: float) -> None:
        # One file is one decode process.
        self._run = RunSettings(num_workers=1, timeout_seconds=timeout_seconds)
        self._loaded: OrderedDict[tuple[Path, str], Runtime] = OrderedDict()
        self._loading = threading.Lock()

    def __call__(self, check: Check, advance: Advance) -> Row:
        """The answer, as ``reelcheck score`` gives it.

        Raises:
            ReelcheckError: the model cannot be used, or the source cannot be read.
        """
        from tasks.score import ScoreRequest, score_files  # a second

        runtime = self.runtime(check)
        advance(Stage.LOOKING)
        request = ScoreRequest(
            sources=(check.source,),
            model=check.model.path,
            out=ScoreLayout(check.folder / "out").path,
            run=self._run,
        )
        watched = _Watched(runtime, lambda: advance(Stage.JUDGING))
        [row] = score_files(request, runtime=watched).rows
        return row

    def runtime(self, check: Check) -> Runtime:
        """The check's model, loaded once."""
        from tasks.runtimes import open_runtime  # a second

        key = (check.model.path, check.model.card.model_id)
        with self._loading:
            if key not in self._loaded:
                self._loaded[key] = _OneAtATime(open_runtime(ModelLayout(check.model.path)))
            self._loaded.move_to_end(key)
            while len(self._loaded) > _NUM_LOADED:
                self._loaded.popitem(last=False)
            return self._loaded[key]


class _OneAtATime:
    """A runtime for several threads: a loaded network has one place for its input."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = threading.Lock()
        self.name: Engine = runtime.name
        self.batch_size = runtime.batch_size

    def encode(self, frames_NHWC: RGB) -> Floats:
        """See ``Runtime``."""
        with self._lock:
            return self._runtime.encode(frames_NHWC)

    def judge(self, features_TD: Floats, seconds_T: Floats) -> Judgement:
        """See ``Runtime``."""
        with self._lock:
            return self._runtime.judge(features_TD, seconds_T)


class _Watched:
    """A runtime that tells when it is first asked."""

    def __init__(self, runtime: Runtime, on_first: Callable[[], None]) -> None:
        self._runtime = runtime
        self._on_first: Callable[[], None] | None = on_first
        self.name: Engine = runtime.name
        self.batch_size = runtime.batch_size

    def encode(self, frames_NHWC: RGB) -> Floats:
        """See ``Runtime``."""
        if self._on_first is not None:
            self._on_first()
            self._on_first = None
        return self._runtime.encode(frames_NHWC)

    def judge(self, features_TD: Floats, seconds_T: Floats) -> Judgement:
        """See ``Runtime``."""
        return self._runtime.judge(features_TD, seconds_T)
