"""Flow: files + model -> result table, one task per shard."""

from collections.abc import Sequence
from functools import partial

from prefect.artifacts import create_markdown_artifact

from flows.prefect_server.temporary import flow
from flows.spread import choose_hashing, spread_shards
from reelcheck.config import PreprocessSettings, RunSettings, ScoreSettings
from reelcheck.locations import Location, is_url
from reelcheck.records import Shard
from storage.object_store.copies import WorkingCopy
from tasks.plotting.markdown import format_table
from tasks.scoring.score import Scored, ScoreRequest, score_files
from tasks.scoring.shard import (
    OnRow,
    Scorer,
    ScoreWork,
    score_here,
)
from tasks.scoring.steps import score_shard_anywhere_step, score_shard_step


@flow(name="score", validate_parameters=True)
def score(
    source: Location | list[str],
    model: Location,
    out: Location,
    settings: PreprocessSettings | None = None,
    run: RunSettings | None = None,
    score_settings: ScoreSettings | None = None,
    *,
    retry_failed: bool = False,
    limit: int | None = None,
    sample: int | None = None,
    settled_seconds: float = 0.0,
) -> Scored:
    """Score every file that a source names; a second run does what is missing.

    Args:
        source: folder of videos and pictures (searched through), one of them, a pattern, ``@LIST``,
            a URL, or several of these.
        model: a checkpoint folder, by path or URL.
        out: folder for the tables, the report and the predictions, by path or URL.
        settings: None: the model's own preprocessing. Anything else is refused.
        run: how to use the machine; None: the defaults.
        score_settings: how to run the model; None: the defaults.
        retry_failed: try failed videos again.
        limit: score the first N files only.
        sample: score a random sample of N files.
        settled_seconds: leave out files that were written to during the last N seconds.

    Returns:
        The rows of the result table, one per input file, and a summary.

    Raises:
        MismatchError: the settings given are not those that the model was trained with.
    """
    run = run or RunSettings()
    request = ScoreRequest(
        sources=tuple(source) if isinstance(source, list) else (str(source),),
        model=model,
        out=out,
        settings=settings,
        run=run,
        score_settings=score_settings or ScoreSettings(),
        retry_failed=retry_failed,
        limit=limit,
        sample=sample,
        settled_seconds=settled_seconds,
    )
    step = partial(score_here, score_shard=score_shard_step)
    if is_url(out) or run.where == "cluster":
        step = partial(_score_anywhere, model=model, out=out)
    scored = score_files(request, score_shards=step, hash_files=choose_hashing(run))
    counts = {**scored.summary["verdicts"], **scored.summary["statuses"]}
    create_markdown_artifact(
        format_table(("outcome", "files"), [(name, str(n)) for name, n in counts.items()]),
        key="score-summary",
    )
    return scored


def _score_anywhere(
    shards: Sequence[Shard],
    scorer: Scorer,
    run: RunSettings,
    on_row: OnRow,
    *,
    model: Location,
    out: Location,
) -> None:
    """Score each shard by itself, here or elsewhere; its task writes the predictions to ``out``."""
    work = ScoreWork(
        model=model,
        out=out,
        key=scorer.key,
        run=run,
        score_settings=scorer.settings,
        lease_token=scorer.lease_token,
    )
    spread_shards(score_shard_anywhere_step, shards, work, run, description="score")
    WorkingCopy(out).pull()
