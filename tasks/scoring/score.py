"""Files + checkpoint -> result table; on a CPU without torch, and without Prefect.

Decode processes hand over face crops, the model predicts them as they come, and each content's
prediction is written at once: nothing that was done is done again, whatever ends the run. The
tables are made from the predictions, so a second run writes the same bytes.
"""

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from models.interop.runtime import Runtime
from reelcheck.card import ModelCard, require_same_preprocessing
from reelcheck.config import PreprocessSettings, RunSettings, ScoreSettings
from reelcheck.errors import DamagedError
from reelcheck.locations import Location, is_url
from reelcheck.processes import measure_cpu_seconds
from reelcheck.records import InputFile
from reelcheck.status import FAILURES, RETRIED
from storage.atomic import remove_temporaries, set_aside, write_text
from storage.checked.documents import read_document, write_document
from storage.checked.sums import write_sums
from storage.checkpoints import read_card
from storage.layout import ModelLayout
from storage.lock import hold_run_lock
from storage.object_store.copies import open_for_reading, open_for_writing
from storage.outputs import ScoreLayout
from storage.rows import PredictionRow, ScoreCsvRow, ScoreRow
from storage.schemas import SCORES, SCORES_CSV, STAGES
from storage.tables import Row, read_rows, write_csv, write_table
from tasks.intake.contents import hash_here
from tasks.intake.discover import HashFiles, find_files, identify
from tasks.intake.inputs import find_inputs, keep_settled, sample_files
from tasks.intake.shards import find_contents, make_shards
from tasks.scoring.answers import read_answers
from tasks.scoring.report import render_report
from tasks.scoring.shard import OnRow, Scorer, ScoreShards, open_scorer, score_here

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ScoreRequest:
    """What to score, with what, and where to write."""

    sources: tuple[str, ...]
    """Folders, files, patterns, lists of paths or URLs; see ``find_inputs``."""
    model: Location
    """Checkpoint folder."""
    out: Location
    """Folder for the tables, the report and the predictions."""
    settings: PreprocessSettings | None = None
    """None: the model's own. Anything else is refused."""
    run: RunSettings = field(default_factory=RunSettings)
    score_settings: ScoreSettings = field(default_factory=ScoreSettings)
    retry_failed: bool = False
    """Try failed videos again."""
    limit: int | None = None
    """Score the first N files only."""
    sample: int | None = None
    """Score a random sample of N files."""
    settled_seconds: float = 0.0
    """Leave out files that were written to during the last N seconds."""


@dataclass(frozen=True)
class Scored:
    """The outcome of a scoring run."""

    rows: list[ScoreRow]
    """One per file."""
    summary: Row
    """The content of ``summary.json``: the last run that scored anything."""
    num_new: int
    """Contents that this run scored."""


def score_files(
    request: ScoreRequest,
    *,
    on_row: OnRow = lambda path, row: None,
    score_shards: ScoreShards = score_here,
    hash_files: HashFiles | None = None,
    runtime: Runtime | None = None,
) -> Scored:
    """Score every file that the sources name; a second run does what is missing.

    Args:
        request: what to do.
        on_row: called with each file's path and prediction.
        score_shards: scores shards and leaves a prediction for each content in the output.
        hash_files: see ``identify``; None: this process reads them, within the request's limits.
        runtime: the request's model, where it is loaded already.

    Raises:
        MismatchError: the settings given are not those that the model was trained with.
        SourceError: there is nothing to score.
        StoreError: no model, or another run writes to the output.
    """
    started, cpu_started = time.perf_counter(), measure_cpu_seconds()
    with open_for_reading(request.model) as model, open_for_writing(request.out) as copy:
        layout, output = ModelLayout(model), ScoreLayout(copy.path)
        require_same_preprocessing(read_card(layout), request.settings)
        files = _choose_files(request, out=copy.path)
        # Before the files are read, because without a model all the rest would be for nothing.
        scorer = replace(
            open_scorer(layout, output, request.score_settings, runtime),
            lease_token=copy.lease_token,
        )
        with hold_run_lock(output):
            _remove_temporaries(scorer)
            hash_files = hash_files or partial(hash_here, run=request.run)
            files = identify(files, _read_known(output), hash_files=hash_files)
            contents = find_contents(files)
            predictions = read_answers(output, scorer.key, contents)
            again = RETRIED | FAILURES if request.retry_failed else RETRIED
            todo = {
                video_id: location
                for video_id, location in contents.items()
                if video_id not in predictions or predictions[video_id]["status"] in again
            }
            names = {file.location: file.path for file in files}
            shards = make_shards(todo, shard_size=request.run.shard_size)
            score_shards(shards, scorer, request.run, lambda path, row: on_row(names[path], row))
            predictions |= read_answers(output, scorer.key, todo)
            rows = [_make_row(file, predictions, scorer.card) for file in files]
            summary = _summarise(rows, scorer, new=todo) | {
                **_measure_speed(time.perf_counter() - started, num_new=len(todo)),
                "cpu_seconds": round(measure_cpu_seconds() - cpu_started, 2),
            }
            return Scored(rows, _write_outputs(rows, summary, scorer), len(todo))


def _choose_files(request: ScoreRequest, *, out: Path) -> list[InputFile]:
    is_watching = request.settled_seconds > 0
    urls = [source for source in request.sources if is_url(source)]
    named = [source for source in request.sources if source not in urls]
    files = [file for url in urls for file in find_files(url)]
    if named or not urls:
        files += find_inputs(named, exclude=out, may_be_empty=is_watching)
    if is_watching:
        files = keep_settled(files, seconds=request.settled_seconds)
    if request.sample is not None:
        files = sample_files(files, num_files=request.sample)
    return files[: request.limit]


def _remove_temporaries(scorer: Scorer) -> None:
    output = scorer.output
    for folder in (
        output.path,
        output.results_dir(scorer.key),
        output.evidence_dir(scorer.key),
    ):
        remove_temporaries(folder)


def _read_known(output: ScoreLayout) -> list[ScoreRow]:
    """Read the table of the last run; it knows files that need not be hashed again."""
    if not output.parquet_path.exists():
        return []
    try:
        return read_rows(output.parquet_path, SCORES)
    except DamagedError as error:
        _log.warning("%s. It is kept as %s", error, set_aside(output.parquet_path).name)
        return []


def _make_row(
    file: InputFile, predictions: Mapping[str, PredictionRow], card: ModelCard
) -> ScoreRow:
    """Make a file's row; copies of one content have the same prediction."""
    prediction: Mapping[str, object]
    if file.status is None:
        prediction = predictions[file.video_id or ""]
    else:
        prediction = {
            "status": str(file.status),
            "reason": file.reason,
            **{name: [] for name in ("quality_flags", "tracks", "segments", "frames")},
            "model_id": card.model_id,
            "preprocessing_hash": card.preprocessing_hash,
        }
    known = ("root", "path", "video_id", "size_bytes", "mtime_ns", "ctime_ns")
    return SCORES.complete({**prediction, **{name: getattr(file, name) for name in known}})


def _count_outcomes(rows: Sequence[ScoreRow]) -> Row:
    return {
        "num_files": len(rows),
        "statuses": dict(sorted(Counter(row["status"] for row in rows).items())),
        "verdicts": dict(sorted(Counter(row["verdict"] for row in rows if row["verdict"]).items())),
    }


def _summarise(rows: Sequence[ScoreRow], scorer: Scorer, *, new: Mapping[str, str]) -> Row:
    """Count outcomes, and sum the CPU seconds of the contents that this run scored."""
    scored: dict[str | None, Mapping[str, Any]] = {
        row["video_id"]: row for row in rows if row["video_id"] in new
    }
    return {
        **_count_outcomes(rows),
        "num_new": len(new),
        "engine": scorer.runtime.name,
        "model_id": scorer.card.model_id,
        "stage_seconds": {
            stage: round(sum(row[f"{stage}_seconds"] or 0.0 for row in scored.values()), 3)
            for stage in STAGES
        },
    }


def _measure_speed(wall_seconds: float, *, num_new: int) -> Row:
    return {
        "wall_seconds": round(wall_seconds, 2),
        "videos_per_second": round(num_new / wall_seconds, 3),
    }


def _write_outputs(rows: list[ScoreRow], summary: Row, scorer: Scorer) -> Row:
    """Write the tables and the report; the summary is that of the last run that scored anything."""
    output = scorer.output
    if summary["num_new"] == 0 and output.summary_path.exists():
        earlier = _read_summary(output)
        if {name: earlier.get(name) for name in _count_outcomes(rows)} == _count_outcomes(rows):
            summary = earlier
    write_csv(output.csv_path, map(_flatten, rows), SCORES_CSV)
    write_table(output.parquet_path, rows, SCORES)
    page = render_report(rows, card=scorer.card, summary=summary, evidence_dir=output.path)
    write_text(output.report_path, page)
    write_document(output.summary_path, summary)
    write_sums(output.path, (output.csv_path, output.report_path))
    return summary


def _read_summary(output: ScoreLayout) -> Row:
    """Read the summary of the last run; a damaged one is empty, and will be written again."""
    try:
        return read_document(output.summary_path)
    except DamagedError as error:
        _log.warning("%s", error)
        return {}


def _flatten(row: ScoreRow) -> ScoreCsvRow:
    return SCORES_CSV.complete({**row, "quality_flags": " ".join(row["quality_flags"])})
