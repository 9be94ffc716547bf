"""Flow: files + model -> result table, one task per shard."""

import json
from collections.abc import Sequence
from functools import partial

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flows.spread import RUNS_ALONE, hash_spread, spread
from reelcheck.config import PreprocessSettings, RunSettings, ScoreSettings
from reelcheck.places import Place, is_url
from reelcheck.progress import progress_bar
from reelcheck.records import Shard
from storage.copies import WorkingCopy, reading, writing
from storage.outputs import ScoreLayout
from storage.tables import Row
from tasks.markdown import markdown_table
from tasks.score import (
    OnRow,
    Scored,
    Scorer,
    ScoreRequest,
    ScoreWork,
    score_files,
    score_here,
    score_shard,
    score_shard_alone,
)

# The pool and the model cannot be part of a cache key: they are processes and memory.
_score_shard = task(name="score shard", task_run_name="score {shard.name}", cache_policy=NO_CACHE)(
    score_shard
)
_score_shard_alone = task(
    name="score shard",
    task_run_name="score {shard.name}",
    **RUNS_ALONE,
)(score_shard_alone)


@flow(name="score", validate_parameters=True)
def score(
    source: Place | list[str],
    model: Place,
    out: Place,
    settings: PreprocessSettings | None = None,
    run: RunSettings | None = None,
    score_settings: ScoreSettings | None = None,
    *,
    retry_failed: bool = False,
    limit: int | None = None,
    sample: int | None = None,
    settled_seconds: float = 0.0,
) -> list[Row]:
    """Score every file of a folder; a second run does what is missing.

    Args:
        source: folder of videos and pictures (searched through), one of them, a pattern, ``@LIST``,
            a URL, or several of these.
        model: a checkpoint folder, by path or URL.
        out: folder for the tables, the page and the answers they are made from; path or URL.
        settings: None: the model's own preprocessing. Anything else is refused.
        run: how to use the machine; None: the defaults.
        score_settings: how to run the model; None: the defaults.
        retry_failed: try failed videos again.
        limit: only the first so many files.
        sample: only so many files, by chance.
        settled_seconds: leave out files that were written to within so many seconds.

    Returns:
        The rows of the result table, one per input file.

    Raises:
        MismatchError: the settings given are not those that the model was trained with.
    """
    run = run or RunSettings()
    with reading(model) as model_dir, writing(out) as copy:
        request = ScoreRequest(
            sources=tuple(source) if isinstance(source, list) else (str(source),),
            model=model_dir,
            out=copy.path,
            settings=settings,
            run=run,
            score=score_settings or ScoreSettings(),
            retry_failed=retry_failed,
            limit=limit,
            sample=sample,
            settled_seconds=settled_seconds,
        )
        step = partial(score_here, score_shard=_score_shard)
        if is_url(out) or run.where == "cluster":
            step = partial(_score_alone, model=model, out=out, copy=copy)
        hashed = partial(hash_spread, run=run) if run.where == "cluster" else None
        scored = score_files(request, score_shards=step, hashed=hashed)
    counts = {**scored.summary["verdicts"], **scored.summary["statuses"]}
    create_markdown_artifact(
        markdown_table(("outcome", "files"), [(name, str(n)) for name, n in counts.items()]),
        key="score-summary",
    )
    return scored.rows


def _score_alone(
    shards: Sequence[Shard],
    scorer: Scorer,
    run: RunSettings,
    on_row: OnRow,
    *,
    model: Place,
    out: Place,
    copy: WorkingCopy,
) -> None:
    """Each shard by itself, here or elsewhere; the output gets the answers from the tasks."""
    work = ScoreWork(model=model, out=out, key=scorer.key, run=run, score=scorer.settings)
    num_videos = sum(len(shard.video_ids) for shard in shards)
    with progress_bar(total=num_videos, description="score", unit="videos") as bar:
        calls = [{"shard": shard, "work": work} for shard in shards]
        for num_scored in spread(_score_shard_alone, calls, run):
            bar.update(num_scored)
    copy.pull()


def score_as_flow(request: ScoreRequest, *, model: Place, out: Place) -> Scored:
    """The same as a flow run, of the server that is configured if there is one.

    Args:
        request: what to score, and how.
        model: instead of the request's, by path or URL.
        out: instead of the request's, by path or URL.
    """
    before = _summary(out)
    rows = score(
        list(request.sources),
        model,
        out,
        settings=request.settings,
        run=request.run,
        score_settings=request.score,
        retry_failed=request.retry_failed,
        limit=request.limit,
        sample=request.sample,
        settled_seconds=request.settled_seconds,
    )
    summary = _summary(out)
    # It is rewritten by runs that judged something, and no two of these took the same time.
    return Scored(rows, summary, 0 if summary == before else summary["num_new"])


def _summary(out: Place) -> Row:
    path = ScoreLayout(WorkingCopy(out).path).summary_path
    summary: Row = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return summary
