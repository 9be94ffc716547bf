"""Decide whether there is enough new data to retrain on, and measure the models to compare."""

from collections.abc import Mapping, Sequence

from reelcheck.config import GateSettings, PreprocessSettings, RunSettings
from reelcheck.errors import MismatchError
from reelcheck.perturbations import parse_perturbations
from reelcheck.recipes import load_recipe
from reelcheck.records import CropSequence
from reelcheck.settings import settings_hash
from reelcheck.train_config import TrainSettings
from storage.checkpoints import is_withdrawn, read_card, read_champion
from storage.layout import ModelLayout, RegistryLayout, StoreLayout
from storage.lock import hold_run_lock
from storage.rows import EvaluatedRow, SplitRow
from storage.schemas import EVALUATED, SPLIT
from storage.tables import read_rows
from tasks.checkpoints.runtimes import open_runtime
from tasks.evaluation.predictions import (
    choose_evaluation_layout,
    prediction_key,
    read_stored_results,
)
from tasks.evaluation.robustness import load_or_predict_perturbed
from tasks.evaluation.unseen import KnownVideoRow, read_known_videos, read_unseen_videos
from tasks.faces.detection.weights import hash_configured_face_model
from tasks.registry.footprint import measure_footprints
from tasks.registry.gate import FROZEN, Candidate, Decision
from tasks.splits.audit import Audit
from tasks.splits.stored import read_split_hash

_NUM_SEQUENCES = 20
"""Number of test sequences on which speed and export are measured."""


def choose_preprocessing(settings: TrainSettings) -> PreprocessSettings:
    """Choose the preprocessing of the recipe of a training run, or the default."""
    chosen = (
        PreprocessSettings() if settings.recipe is None else load_recipe(settings.recipe).preprocess
    )
    return chosen.model_copy(update={"face_model_sha256": hash_configured_face_model()})


def start_from_champion(settings: TrainSettings, registry: RegistryLayout) -> TrainSettings:
    """Change a training run to start from the champion's weights, if there is a champion."""
    champion = read_champion(registry)
    if champion is None:
        return settings
    start = {"init_from": registry.version(champion).path, "pretrained": False}
    return settings.model_copy(update=start)


def name_version(layout: StoreLayout, settings: TrainSettings) -> str:
    """Name a version after its input: the same data and settings are the same version."""
    split_hash = read_split_hash(layout)
    return f"{layout.preprocessing_hash}-{split_hash}-{settings_hash(settings)}"


def check_before_training(
    audit: Audit, layout: StoreLayout, registry: RegistryLayout, version: str, gate: GateSettings
) -> Decision | None:
    """Decide whether there is enough new, clean data to train a challenger on.

    Args:
        audit: the store's audit.
        layout: the store, with a split.
        registry: folder of versions.
        version: the challenger's name.
        gate: the limits.

    Returns:
        The refusal with its reason; None: train.
    """
    if not audit.is_clean:
        reasons = [f"{len(audit.leaks)} leaks"] if audit.leaks else []
        if audit.shortcuts is not None and audit.shortcuts.verdict == "fail":
            reasons.append(f"{next(iter(audit.shortcuts.by_column))} tells the label")
        return _block(f"the audit fails: {' and '.join(reasons)}; look at {layout.audit_path.name}")
    champion = read_champion(registry)
    if champion is None:
        return None
    model = registry.version(champion)
    before = {row["video_id"]: row for row in read_rows(model.split_path, SPLIT)}
    now = read_rows(layout.split_path, SPLIT)
    return (
        _check_comparable(layout, model, before, now)
        or _check_new_videos(before, now, gate)
        or _check_withdrawn(registry, version)
    )


def _check_comparable(
    layout: StoreLayout,
    champion: ModelLayout,
    before: Mapping[str, SplitRow],
    now: Sequence[SplitRow],
) -> Decision | None:
    """Check that the champion can be measured on the present test split."""
    changed = [
        row["video_id"]
        for row in now
        if row["video_id"] in before
        and before[row["video_id"]]["split"] == "test"
        and before[row["video_id"]]["label"] != row["label"]
    ]
    if changed:
        return _block(
            f"{len(changed)} held-out videos have another label than when the champion was "
            f"measured, for example {changed[0][:12]}…: correct them, or start a new registry"
        )
    try:
        read_unseen_videos(layout, champion, split="test")
    except MismatchError as error:
        return _block(f"the champion cannot be measured: {error}")
    return None


def _check_new_videos(
    before: Mapping[str, SplitRow], now: Sequence[SplitRow], gate: GateSettings
) -> Decision | None:
    num_new = sum(row["has_crops"] and row["video_id"] not in before for row in now)
    if num_new >= gate.min_new_videos:
        return None
    return Decision(
        promoted=False,
        reason=f"{num_new} new labelled videos, fewer than min_new_videos = "
        f"{gate.min_new_videos}: the champion stays",
    )


def _check_withdrawn(registry: RegistryLayout, version: str) -> Decision | None:
    if not is_withdrawn(registry, version):
        return None
    return _block(
        f"these videos and settings give {version}, which a rollback has taken out of use; to use "
        f"it again: {format_promote_command(registry, version)}"
    )


def _block(reason: str) -> Decision:
    return Decision(promoted=False, reason=reason, needs_a_person=True)


def format_promote_command(registry: RegistryLayout, version: str) -> str:
    """Format the command that puts a version into use."""
    return f"reelcheck models promote {registry.path} {version}"


def measure_candidates(
    layout: StoreLayout, models: Sequence[ModelLayout], gate: GateSettings, run: RunSettings
) -> list[Candidate]:
    """Measure speed, size, export and robustness of models that were evaluated on the test split.

    Args:
        layout: the store.
        models: the challenger and, if there is one, the champion.
        gate: perturbations and number of videos; a first model is not perturbed.
        run: how to use the machine for perturbations.
    """
    costs = measure_footprints(models, _read_some_sequences(layout))
    measured = []
    for model, cost in zip(models, costs, strict=True):
        output = choose_evaluation_layout(layout, model, split="test", out=None)
        perturbed = _predict_perturbed(layout, model, gate, run) if len(models) > 1 else {}
        measured.append(
            Candidate(
                name=model.path.name,
                rows=read_rows(output.videos_path, EVALUATED),
                calibration=read_card(model).calibration,
                perturbed=perturbed,
                footprint=cost,
            )
        )
    return measured


def choose_suites(layout: StoreLayout, champion: ModelLayout) -> dict[str, set[str]]:
    """Choose suites of test videos: name -> ids; a video may be in several.

    - frozen: held out when the champion was trained, too.
    - recent: new since then.
    - later: dated after every video that the champion has learned from.
    """
    before = {row["video_id"]: row["split"] for row in read_rows(champion.split_path, SPLIT)}
    rows = read_known_videos(layout, split=None).values()
    tested = [row for row in rows if row["split"] == "test"]
    learned_days = [
        row["date"]
        for row in rows
        if row["date"] and before.get(row["video_id"]) in {"train", "val"}
    ]
    last_day = max(learned_days, default=None)
    return {
        FROZEN: {r["video_id"] for r in tested if before.get(r["video_id"]) == "test"},
        "recent": {r["video_id"] for r in tested if before.get(r["video_id"]) != "test"},
        "later": {r["video_id"] for r in tested if last_day and r["date"] and r["date"] > last_day},
    }


def _read_some_sequences(layout: StoreLayout) -> list[CropSequence]:
    """Read sequences of the first test videos by id, which is as good as any order."""
    known = read_known_videos(layout, split="test")
    some: list[CropSequence] = []
    for result in read_stored_results(layout, known):
        some += result.sequences
        if len(some) >= _NUM_SEQUENCES:
            break
    return some[:_NUM_SEQUENCES]


def _predict_perturbed(
    layout: StoreLayout, model: ModelLayout, gate: GateSettings, run: RunSettings
) -> dict[str, list[EvaluatedRow]]:
    """Predict after each perturbation, in a folder of its own: an evaluation takes all videos."""
    card, known = read_card(model), _choose_videos(layout, gate.num_perturbed_videos)
    output = model.evaluation("gate", read_split_hash(layout))
    runtime, key = open_runtime(model), prediction_key(card, known)
    with hold_run_lock(output):
        return {
            each.name: load_or_predict_perturbed(
                each, known, card, runtime, output, run=run, key=key
            )
            for each in parse_perturbations(gate.perturbations)
        }


def _choose_videos(layout: StoreLayout, num_videos: int) -> dict[str, KnownVideoRow]:
    """Choose test videos with crops, as many real ones as fakes; sorted."""
    known = read_known_videos(layout, split="test")
    chosen: list[str] = []
    for label in (0, 1):
        own = [name for name, r in known.items() if r["label"] == label and r["status"] == "ok"]
        chosen += own[: num_videos // 2]
    return {name: known[name] for name in sorted(chosen)}
