"""A check -> its row, by the same scoring as the batch run.

Models stay loaded and are shared by all visitors; the network takes one call at a time. The page
imports this module in the background, as that takes a second.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from models.interop.runtime import Engine, Floats, Runtime, SequencePrediction
from page.visits import Advance, Check, Stage
from reelcheck.config import RunSettings
from reelcheck.errors import MismatchError
from reelcheck.records import RGB
from storage.checkpoints import read_card
from storage.layout import ModelLayout
from storage.outputs import ScoreLayout
from storage.rows import ScoreRow

_NUM_LOADED = 3
"""Number of models that stay in memory."""


class CheckScorer:
    """Scores checks with models that stay loaded, within the limits of one file."""

    def __init__(self, *, timeout_seconds: float, allow_private_addresses: bool = False) -> None:
        # One file is one decode process.
        self._run = RunSettings(
            num_workers=1,
            timeout_seconds=timeout_seconds,
            allow_private_addresses=allow_private_addresses,
        )
        self._loaded: OrderedDict[tuple[Path, str], Runtime] = OrderedDict()
        self._loading = threading.Lock()

    def __call__(self, check: Check, advance: Advance) -> ScoreRow:
        """Score a check as ``reelcheck score`` does.

        Raises:
            ReelcheckError: the model cannot be used, or the source cannot be read.
        """
        from tasks.scoring.score import ScoreRequest, score_files  # a second

        runtime = self.load_runtime(check)
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

    def load_runtime(self, check: Check) -> Runtime:
        """Load the check's model, once.

        Raises:
            MismatchError: the folder holds another model by now.
            ReelcheckError: the model cannot be used.
        """
        from tasks.checkpoints.runtimes import open_runtime  # a second

        model = check.model
        if read_card(ModelLayout(model.path)).model_id != model.card.model_id:
            raise MismatchError("this model was replaced by another one; load the page again")
        key = (model.path, model.card.model_id)
        with self._loading:
            if key not in self._loaded:
                runtime = open_runtime(ModelLayout(model.path), exports_dir=model.exports_dir)
                self._loaded[key] = _OneAtATime(runtime)
            self._loaded.move_to_end(key)
            while len(self._loaded) > _NUM_LOADED:
                self._loaded.popitem(last=False)
            return self._loaded[key]


class _OneAtATime:
    """A runtime for several threads: a loaded network has one buffer for its input."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = threading.Lock()
        self.name: Engine = runtime.name
        self.batch_size = runtime.batch_size

    def encode(self, frames_NHWC: RGB) -> Floats:
        """See ``Runtime``."""
        with self._lock:
            return self._runtime.encode(frames_NHWC)

    def classify(self, features_TD: Floats, seconds_T: Floats) -> SequencePrediction:
        """See ``Runtime``."""
        with self._lock:
            return self._runtime.classify(features_TD, seconds_T)


class _Watched:
    """A runtime that reports its first call."""

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

    def classify(self, features_TD: Floats, seconds_T: Floats) -> SequencePrediction:
        """See ``Runtime``."""
        return self._runtime.classify(features_TD, seconds_T)
