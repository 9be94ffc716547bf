"""Score the videos of one shard: here, with processes that all shards share, or anywhere."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from models.interop.runtime import Runtime
from reelcheck.card import ModelCard
from reelcheck.config import RunSettings, ScoreSettings
from reelcheck.errors import MismatchError
from reelcheck.locations import Location
from reelcheck.progress import show_video_progress
from reelcheck.records import Shard
from storage.atomic import write_bytes
from storage.checkpoints import read_card
from storage.columns import SCHEMA_VERSION
from storage.layout import ModelLayout
from storage.object_store.copies import open_for_reading, open_output_folder
from storage.outputs import ScoreLayout
from storage.rows import FrameRow, PredictionRow
from tasks.checkpoints.runtimes import open_runtime
from tasks.preprocessing.decode_pool import DecodePool
from tasks.preprocessing.summary import WorkDone
from tasks.scoring.answers import write_answer
from tasks.scoring.evidence import choose_evidence, make_evidence_picture, make_heat_maps
from tasks.scoring.predict import PREDICTION_VERSION, TrackPrediction, predict_videos


@dataclass(frozen=True, eq=False)
class Scorer:
    """Model, output and settings that all shards of a run share."""

    card: ModelCard
    runtime: Runtime
    output: ScoreLayout
    key: str
    """Names model and settings; predictions under another key are others."""
    settings: ScoreSettings
    lease_token: str | None = None
    """The run's lease on the output's original; None: it lies here."""


OnRow = Callable[[str, PredictionRow], object]
"""Called with a path and the prediction for its content, as soon as that is written."""


ScoreShard = Callable[[Shard, Scorer, DecodePool, OnRow], None]


ScoreShards = Callable[[Sequence[Shard], Scorer, RunSettings, OnRow], None]


@dataclass(frozen=True, kw_only=True)
class ScoreWork:
    """Arguments of a task that scores a shard on any machine."""

    model: Location
    """Checkpoint folder."""
    out: Location
    """Folder for predictions and evidence."""
    key: str
    """Key of the run's scorer."""
    run: RunSettings
    score_settings: ScoreSettings
    lease_token: str | None
    """The run's lease on ``out``, see ``open_output_folder``."""


def score_shard(shard: Shard, scorer: Scorer, pool: DecodePool, on_row: OnRow) -> None:
    """Score a shard's videos and write the prediction for each."""
    locations = dict(zip(shard.video_ids, shard.locations, strict=True))
    predictions = predict_videos(pool.results(shard), scorer.card, scorer.runtime)
    for result, tracks, prediction in predictions:
        row = _add_evidence(result.video_id, tracks, prediction, scorer)
        write_answer(scorer.output, scorer.key, result.video_id, row)
        on_row(locations[result.video_id], row)


def score_here(
    shards: Sequence[Shard],
    scorer: Scorer,
    run: RunSettings,
    on_row: OnRow,
    *,
    score_shard: ScoreShard = score_shard,
) -> None:
    """Score shards one after the other, with decode processes that all of them share.

    Args:
        shards: what is to be done.
        scorer: what all shards share.
        run: how to use the machine.
        on_row: called with each video's location and prediction.
        score_shard: the function above, or a Prefect task of it.
    """
    num_videos = sum(len(shard.video_ids) for shard in shards)
    with (
        DecodePool(shards, scorer.card.preprocessing, run) as pool,
        show_video_progress(total=num_videos, description="score") as advance,
    ):

        def report_row(location: str, row: PredictionRow) -> None:
            advance(row["num_frames_decoded"] or 0)
            on_row(location, row)

        for shard in shards:
            score_shard(shard, scorer, pool, report_row)


def score_shard_anywhere(shard: Shard, work: ScoreWork) -> WorkDone:
    """Score a shard's videos with a model and decode processes of its own.

    Returns:
        How much was done.

    Raises:
        MismatchError: this machine would give other scores than the one that the run began on.
    """
    with (
        open_for_reading(work.model) as model,
        open_output_folder(work.out, lease_token=work.lease_token) as out,
    ):
        scorer = open_scorer(ModelLayout(model), ScoreLayout(out), work.score_settings)
        if scorer.key != work.key:
            raise MismatchError(
                f"this machine runs the model with {scorer.runtime.name} as {scorer.key}, the run "
                f"began as {work.key}; choose the same for all with --engine"
            )
        with DecodePool([shard], scorer.card.preprocessing, work.run) as pool:
            score_shard(shard, scorer, pool, lambda path, row: None)
    return WorkDone(num_videos=len(shard.video_ids))


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
    runtime = runtime or open_runtime(model, engine=settings.engine)
    card = read_card(model)
    return Scorer(card, runtime, output, _make_key(card, runtime, settings), settings)


def _make_key(card: ModelCard, runtime: Runtime, settings: ScoreSettings) -> str:
    """Make a name of everything that decides the predictions, apart from the videos.

    The model id covers weights, preprocessing, calibration and aggregation. The ONNX files are made
    from these, so they add nothing but the engine's rounding.
    """
    values = settings.model_dump(exclude={"engine"})
    deciding = [values, runtime.name, SCHEMA_VERSION, PREDICTION_VERSION]
    digest = sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:12]
    return f"{card.model_id}.{digest}"


def _add_evidence(
    video_id: str, tracks: Sequence[TrackPrediction], row: PredictionRow, scorer: Scorer
) -> PredictionRow:
    """Write the picture of each person's evidence frames, and mark these frames in the row."""
    num_frames = scorer.settings.num_evidence_frames
    if row["verdict"] is None or num_frames == 0:
        return row
    started = time.process_time()
    chosen = {t.track_id: choose_evidence(t, num_frames=num_frames) for t in tracks[:_MAX_PICTURED]}
    crops = [[crop for _, crop in frames.values()] for frames in chosen.values()]
    # For one person alone: each map costs as much as ten more frames.
    has_maps = scorer.settings.heat_maps and row["verdict"] != "real"
    maps = make_heat_maps(np.stack(crops[0]), scorer.runtime) if has_maps else None
    path = scorer.output.evidence_path(scorer.key, video_id)
    write_bytes(path, make_evidence_picture(crops, maps), is_synced=False)
    frames: list[FrameRow] = [
        {**frame, "is_evidence": frame["frame_index"] in chosen.get(frame["track_id"], {})}
        for frame in row["frames"]
    ]
    seconds = (row["model_seconds"] or 0.0) + time.process_time() - started
    return {
        **row,
        "evidence_path": path.relative_to(scorer.output.path).as_posix(),
        "frames": frames,
        "model_seconds": round(seconds, 4),
    }


_MAX_PICTURED = 4
"""Number of people whose faces are shown, the most suspicious first."""
