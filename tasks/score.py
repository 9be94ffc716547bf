"""Files + checkpoint -> result table; on a CPU without torch, and without Prefect.

Decode processes hand over face crops, the model judges them as they come, and each content's answer
is written at once: nothing that was done is done again, whatever ends the run. The tables are made
from the answers, so a second run writes the same bytes.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np

from models.runtime import Runtime
from reelcheck.card import ModelCard
from reelcheck.config import PreprocessSettings, RunSettings, ScoreSettings
from reelcheck.cores import spent_cpu_seconds
from reelcheck.errors import MismatchError
from reelcheck.places import is_url, joined
from reelcheck.progress import video_progress
from reelcheck.records import InputFile, Shard
from reelcheck.settings import differences, settings_hash
from reelcheck.status import FAILURES, RETRIED
from storage.atomic import remove_temporaries, write_bytes, write_text
from storage.checkpoints import read_card
from storage.copies import output_folder, reading
from storage.layout import ModelLayout
from storage.lock import run_lock
from storage.outputs import ScoreLayout
from storage.schemas import SCHEMA_VERSION, SCORES, SCORES_CSV, STAGES
from storage.tables import Row, read_rows, write_csv, write_table
from tasks.decode_pool import DecodePool
from tasks.discover import HashContents, contents_of, identify, shards_of
from tasks.evidence import evidence_picture, heat_maps, most_telling
from tasks.inputs import find_inputs, sampled, settled
from tasks.judging import JudgedTrack, judged
from tasks.page import render_report
from tasks.remote import find_objects
from tasks.runtimes import open_runtime


@dataclass(frozen=True, kw_only=True)
class ScoreRequest:
    """What to score, with what, and where to write."""

    sources: tuple[str, ...]
    """As in ``find_inputs``."""
    model: Path
    out: Path
    settings: PreprocessSettings | None = None
    """None: the model's own. Anything else is refused."""
    run: RunSettings = field(default_factory=RunSettings)
    score: ScoreSettings = field(default_factory=ScoreSettings)
    retry_failed: bool = False
    """Try failed videos again."""
    limit: int | None = None
    """Only the first so many files."""
    sample: int | None = None
    """Only so many files by chance."""
    settled_seconds: float = 0.0
    """Leave out files that were written to within so many seconds."""


@dataclass(frozen=True)
class Scored:
    """What a run gave."""

    rows: list[Row]
    """One per file."""
    summary: Row
    """Of this run or, where it had nothing to do, of the last one that had."""
    num_new: int
    """Contents that this run judged."""


@dataclass(frozen=True, eq=False)
class Scorer:
    """What all shards of a run share."""

    card: ModelCard
    runtime: Runtime
    output: ScoreLayout
    key: str
    """Names model and settings; answers under another key are others."""
    settings: ScoreSettings


OnRow = Callable[[str, Row], object]
"""Called with a path and the answer for its content, as soon as it is written."""
ScoreShard = Callable[[Shard, Scorer, DecodePool, OnRow], None]
ScoreShards = Callable[[Sequence[Shard], Scorer, RunSettings, OnRow], None]


@dataclass(frozen=True, kw_only=True)
class ScoreWork:
    """What a task needs that judges a shard on any machine."""

    model: str | Path
    """Path or URL of a checkpoint folder."""
    out: str | Path
    """Path or URL."""
    key: str
    """Of the run's scorer."""
    run: RunSettings
    score: ScoreSettings


def score_shard(shard: Shard, scorer: Scorer, pool: DecodePool, on_row: OnRow) -> None:
    """Judge a shard's videos and write the answer for each."""
    paths = dict(zip(shard.video_ids, shard.paths, strict=True))
    for result, tracks, answer in judged(pool.results(shard), scorer.card, scorer.runtime):
        row = _with_evidence(result.video_id, tracks, answer, scorer)
        text = json.dumps({"schema_version": SCHEMA_VERSION, **row}, indent=1, allow_nan=False)
        write_text(scorer.output.result_path(scorer.key, result.video_id), text + "\n")
        on_row(paths[result.video_id], row)


def score_here(
    shards: Sequence[Shard],
    scorer: Scorer,
    run: RunSettings,
    on_row: OnRow,
    *,
    score_shard: ScoreShard = score_shard,
) -> None:
    """Judge shards one after the other, with decode processes that all of them share.

    Args:
        shards: what is to be done.
        scorer: see there.
        run: how to use the machine.
        on_row: see there.
        score_shard: the function above, or one that does the same and is watched.
    """
    num_videos = sum(len(shard.video_ids) for shard in shards)
    with (
        DecodePool(shards, scorer.card.preprocessing, run) as pool,
        video_progress(total=num_videos, description="score") as advance,
    ):

        def done(path: str, row: Row) -> None:
            advance(row["num_frames_decoded"] or 0)
            on_row(path, row)

        for shard in shards:
            score_shard(shard, scorer, pool, done)


def score_shard_alone(shard: Shard, work: ScoreWork) -> int:
    """Judge a shard's videos with a model and decode processes of its own.

    Returns:
        How many videos.

    Raises:
        MismatchError: this machine would judge otherwise than the one that the run began on.
    """
    with reading(work.model) as model, output_folder(work.out) as out:
        scorer = open_scorer(ModelLayout(model), ScoreLayout(out), work.score)
        if scorer.key != work.key:
            raise MismatchError(
                f"this machine runs the model with {scorer.runtime.name} as {scorer.key}, the run "
                f"began as {work.key}; choose the same for all with --engine"
            )
        with DecodePool([shard], scorer.card.preprocessing, work.run) as pool:
            score_shard(shard, scorer, pool, lambda path, row: None)
    return len(shard.video_ids)


def open_scorer(
    model: ModelLayout,
    output: ScoreLayout,
    settings: ScoreSettings,
    runtime: Runtime | None = None,
) -> Scorer:
    """Load a model for a run, unless it is loaded already.

    Raises:
        StoreError, MismatchError, ExportError: see ``open_runtime``.
    """
    card, runtime = read_card(model), runtime or open_runtime(model, engine=settings.engine)
    return Scorer(card, runtime, output, _key(card, runtime, settings), settings)


def score_files(
    request: ScoreRequest,
    *,
    on_row: OnRow = lambda path, row: None,
    score_shards: ScoreShards = score_here,
    hashed: HashContents | None = None,
    runtime: Runtime | None = None,
) -> Scored:
    """Score every file that the sources name; a second run does what is missing.

    Args:
        request: what to do.
        on_row: see there.
        score_shards: what judges the shards that are to be done, and leaves an answer for each
            content in the output.
        hashed: see ``identify``.
        runtime: the request's model, where it is loaded already.

    Raises:
        MismatchError: the settings given are not those that the model was trained with.
        SourceError: there is nothing to score.
        StoreError: no model, or another run writes to the output.
    """
    started, cpu_started = time.perf_counter(), spent_cpu_seconds()
    model, output = ModelLayout(request.model), ScoreLayout(request.out)
    card = read_card(model)
    _require_same_settings(card, request.settings)
    files = _chosen(request)
    # Before the files are read, because without a model all the rest would be for nothing.
    scorer = open_scorer(model, output, request.score, runtime)
    with run_lock(output):
        for folder in (
            output.path,
            output.results_dir(scorer.key),
            output.evidence_dir(scorer.key),
        ):
            remove_temporaries(folder)
        known = read_rows(output.parquet_path, SCORES) if output.parquet_path.exists() else []
        files = identify(files, known, hashed=hashed)
        contents = contents_of(files)
        answers = _answers(scorer, contents)
        again = RETRIED | FAILURES if request.retry_failed else RETRIED
        todo = {
            video_id: path
            for video_id, path in contents.items()
            if video_id not in answers or answers[video_id]["status"] in again
        }
        names = {joined(file.root, file.path): file.path for file in files}
        shards = shards_of(todo, shard_size=request.run.shard_size)
        score_shards(shards, scorer, request.run, lambda path, row: on_row(names[path], row))
        rows = _rows(files, answers | _answers(scorer, todo), card)
        summary = {
            **_counts(rows),
            "num_new": len(todo),
            "engine": scorer.runtime.name,
            "model_id": card.model_id,
            "stage_seconds": _stage_seconds(rows, new=todo),
        }
        wall_seconds = time.perf_counter() - started
        summary |= {
            "wall_seconds": round(wall_seconds, 2),
            "cpu_seconds": round(spent_cpu_seconds() - cpu_started, 2),
            "videos_per_second": round(len(todo) / wall_seconds, 3),
        }
        summary = _write(rows, summary, scorer)
    return Scored(rows, summary, len(todo))


def _chosen(request: ScoreRequest) -> list[InputFile]:
    is_watching = request.settled_seconds > 0
    urls = [source for source in request.sources if is_url(source)]
    named = [source for source in request.sources if source not in urls]
    files = [file for url in urls for file in find_objects(url)]
    if named or not urls:
        files += find_inputs(named, exclude=request.out, may_be_empty=is_watching)
    if is_watching:
        files = settled(files, seconds=request.settled_seconds)
    if request.sample is not None:
        files = sampled(files, num_files=request.sample)
    return files[: request.limit]


def _require_same_settings(card: ModelCard, wanted: PreprocessSettings | None) -> None:
    trained = card.preprocessing
    if wanted is None or trained == wanted:
        return
    found = differences(trained.model_dump(), wanted.model_dump())
    raise MismatchError(
        f"model {card.model_id} was trained with preprocessing {settings_hash(trained)}, asked "
        f"for is {settings_hash(wanted)} ({'; '.join(found)}); leave those settings out, or train "
        "a model with them"
    )


def _key(card: ModelCard, runtime: Runtime, settings: ScoreSettings) -> str:
    """Everything that decides the answers, apart from the videos."""
    shown = settings.model_dump(exclude={"engine"})
    parts = [card.calibration.model_dump(), card.aggregation, shown, runtime.name, SCHEMA_VERSION]
    digest = sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]
    return f"{card.model_id}.{card.preprocessing_hash}.{digest}"


def _answers(scorer: Scorer, video_ids: Iterable[str]) -> dict[str, Row]:
    """What is on disk of these contents."""
    paths = {video_id: scorer.output.result_path(scorer.key, video_id) for video_id in video_ids}
    return {
        video_id: json.loads(path.read_text(encoding="utf-8"))
        for video_id, path in paths.items()
        if path.exists()
    }


def _with_evidence(video_id: str, tracks: Sequence[JudgedTrack], row: Row, scorer: Scorer) -> Row:
    """Write the picture of each person's most telling frames, and mark these in the row."""
    num_frames = scorer.settings.num_evidence_frames
    if row.get("verdict") is None:
        return row
    if num_frames == 0:
        return {**row, "evidence_path": None}
    started = time.process_time()
    found = {t.track_id: most_telling(t, num_frames=num_frames) for t in tracks[:_MAX_PICTURED]}
    crops = [[crop for _, crop in frames.values()] for frames in found.values()]
    # Of one person alone: each map costs as much as ten more frames.
    has_maps = scorer.settings.heat_maps and row["verdict"] != "real"
    maps = heat_maps(np.stack(crops[0]), scorer.runtime) if has_maps else None
    path = scorer.output.evidence_path(scorer.key, video_id)
    write_bytes(path, evidence_picture(crops, maps))
    frames = [
        {**frame, "is_evidence": frame["frame_index"] in found.get(frame["track_id"], {})}
        for frame in row["frames"]
    ]
    seconds = row["model_seconds"] + time.process_time() - started
    return {
        **row,
        "evidence_path": path.relative_to(scorer.output.path).as_posix(),
        "frames": frames,
        "model_seconds": round(seconds, 4),
    }


_MAX_PICTURED = 4
"""People whose faces are shown, the most suspicious ones: a crowd is no evidence."""


def _rows(files: Iterable[InputFile], answers: Mapping[str, Row], card: ModelCard) -> list[Row]:
    """One row per file; copies of one content have the same answer."""
    rows = []
    for file in files:
        row: Row = {name: getattr(file, name) for name in _FILE_COLUMNS}
        if file.status is None:
            row = {**answers[file.video_id or ""], **row}
        else:
            row |= {"status": str(file.status), "reason": file.reason, **_NOTHING}
            row |= {
                "model_id": card.model_id,
                "preprocessing_hash": card.preprocessing_hash,
            }
        rows.append({name: row.get(name) for name in SCORES.names})
    return rows


_FILE_COLUMNS = ("root", "path", "video_id", "size_bytes", "mtime_ns")
_NOTHING: Row = {name: [] for name in ("quality_flags", "tracks", "segments", "frames")}


def _counts(rows: Sequence[Row]) -> Row:
    return {
        "num_files": len(rows),
        "statuses": dict(sorted(Counter(row["status"] for row in rows).items())),
        "verdicts": dict(sorted(Counter(row["verdict"] for row in rows if row["verdict"]).items())),
    }


def _stage_seconds(rows: Sequence[Row], *, new: Mapping[str, str]) -> dict[str, float]:
    """CPU seconds of the contents that this run scored."""
    scored = {row["video_id"]: row for row in rows if row["video_id"] in new}
    return {
        stage: round(sum(row[f"{stage}_seconds"] or 0.0 for row in scored.values()), 3)
        for stage in STAGES
    }


def _write(rows: list[Row], summary: Row, scorer: Scorer) -> Row:
    """Write the tables and the page; the summary is that of the last run that scored anything."""
    output = scorer.output
    if summary["num_new"] == 0 and output.summary_path.exists():
        earlier: Row = json.loads(output.summary_path.read_text(encoding="utf-8"))
        if {name: earlier.get(name) for name in _counts(rows)} == _counts(rows):
            summary = earlier
    write_csv(output.csv_path, [_flat(row) for row in rows], SCORES_CSV)
    write_table(output.parquet_path, rows, SCORES)
    page = render_report(rows, card=scorer.card, summary=summary, evidence_dir=output.path)
    write_text(output.report_path, page)
    write_text(output.summary_path, json.dumps(summary, indent=2) + "\n")
    return summary


def _flat(row: Row) -> Row:
    return {**row, "quality_flags": " ".join(row["quality_flags"])}
