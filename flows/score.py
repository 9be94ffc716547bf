"""Flow: files + model -> result table, one task per shard."""

import json
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from reelcheck.config import PreprocessSettings, RunSettings, ScoreSettings
from storage.outputs import ScoreLayout
from storage.tables import Row
from tasks.markdown import markdown_table
from tasks.score import Scored, ScoreRequest, score_files, score_shard

# The pool and the model cannot be part of a cache key: they are processes and memory.
_score_shard = task(name="score shard", task_run_name="score {shard.name}", cache_policy=NO_CACHE)(
    score_shard
)


@flow(name="score", validate_parameters=True)
def score(
    source: Path | str | list[str],
    model: Path,
    out: Path,
    settings: PreprocessSettings | None = None,
    run: RunSettings | None = None,
    score_settings: ScoreSettings | None = None,
    *,
    retry_failed: bool = False,
    limit: int | None = None,
    sample: int | None = None,
) -> list[Row]:
    """Score every file of a folder; a second run does what is missing.

    Args:
        source: folder of videos and pictures (searched through), one of them, a pattern, ``@LIST``,
            or several of these.
        model: a checkpoint folder.
        out: folder for the tables, the page and the answers they are made from.
        settings: None: the model's own preprocessing. Anything else is refused.
        run: how to use the machine; None: the defaults.
        score_settings: how to run the model; None: the defaults.
        retry_failed: try failed videos again.
        limit: only the first so many files.
        sample: only so many files, by chance.

    Returns:
        The rows of the result table, one per input file.

    Raises:
        MismatchError: the settings given are not those that the model was trained with.
    """
    request = ScoreRequest(
        sources=tuple(source) if isinstance(source, list) else (str(source),),
        model=model,
        out=out,
        settings=settings,
        run=run or RunSettings(),
        score=score_settings or ScoreSettings(),
        retry_failed=retry_failed,
        limit=limit,
        sample=sample,
    )
    scored = score_files(request, score_shard=_score_shard)
    counts = {**scored.summary["verdicts"], **scored.summary["statuses"]}
    create_markdown_artifact(
        markdown_table(("outcome", "files"), [(name, str(n)) for name, n in counts.items()]),
        key="score-summary",
    )
    return scored.rows


def score_as_flow(request: ScoreRequest) -> Scored:
    """The same as a flow run of the server that is configured."""
    before = _summary(request.out)
    rows = score(
        list(request.sources),
        request.model,
        request.out,
        settings=request.settings,
        run=request.run,
        score_settings=request.score,
        retry_failed=request.retry_failed,
        limit=request.limit,
        sample=request.sample,
    )
    summary = _summary(request.out)
    # It is rewritten by runs that judged something, and no two of these took the same time.
    return Scored(rows, summary, 0 if summary == before else summary["num_new"])


def _summary(out: Path) -> Row:
    path = ScoreLayout(out).summary_path
    summary: Row = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return summary
