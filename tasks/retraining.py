"""What a retraining has to know: is there something to learn, and what becomes of it."""

from collections.abc import Sequence

from prefect import task

from reelcheck.config import GateSettings, PreprocessSettings, RunSettings
from reelcheck.errors import MismatchError
from reelcheck.perturbations import named_perturbations
from reelcheck.recipes import load_recipe
from reelcheck.records import CropSequence
from reelcheck.settings import settings_hash
from reelcheck.train_config import TrainSettings
from storage.checkpoints import is_withdrawn, read_card, read_champion
from storage.layout import ModelLayout, RegistryLayout, StoreLayout
from storage.lock import run_lock
from storage.schemas import EVALUATED, SPLIT
from storage.tables import Row, read_metadata, read_rows
from tasks.answers import (
    answer_key,
    evaluation_layout,
    known_videos,
    stored_results,
    unseen_videos,
)
from tasks.audit import Audit
from tasks.faces.weights import configured_face_model_sha256
from tasks.footprint import footprints
from tasks.gate import FROZEN, Candidate, Decision
from tasks.robustness import perturbed_rows
from tasks.runtimes import open_runtime

_NUM_SEQUENCES = 20
"""Of the test part, on which speed and export are measured."""


def preprocessing_of(settings: TrainSettings) -> PreprocessSettings:
    """The preprocessing that a training run's recipe belongs to, or the default."""
    chosen = (
        PreprocessSettings() if settings.recipe is None else load_recipe(settings.recipe).preprocess
    )
    return chosen.model_copy(update={"face_model_sha256": configured_face_model_sha256()})


def warm_started(settings: TrainSettings, registry: RegistryLayout) -> TrainSettings:
    """The same run from the champion's weights; as it is where there is no champion."""
    champion = read_champion(registry)
    if champion is None:
        return settings
    start = {"init_from": registry.version(champion).path, "pretrained": False}
    return settings.model_copy(update=start)


def version_name(layout: StoreLayout, settings: TrainSettings) -> str:
    """Named after what goes in: the same data and settings are the same version."""
    split_hash = read_metadata(layout.split_path)["split_hash"]
    return f"{layout.preprocessing_hash}-{split_hash}-{settings_hash(settings)}"


def refused_before_training(
    found: Audit, layout: StoreLayout, registry: RegistryLayout, version: str, gate: GateSettings
) -> Decision | None:
    """Why no challenger is to be trained; None: nothing speaks against it.

    Args:
        found: the store's audit.
        layout: the store, divided.
        registry: folder of versions.
        version: the challenger's name.
        gate: the limits.
    """
    if not found.is_clean:
        reasons = [f"{len(found.leaks)} leaks"] if found.leaks else []
        if found.shortcuts is not None and found.shortcuts.verdict == "fail":
            reasons.append(f"{next(iter(found.shortcuts.by_column))} tells the label")
        return _blocked(
            f"the audit fails: {' and '.join(reasons)}; look at {layout.audit_path.name}"
        )
    champion = read_champion(registry)
    if champion is None:
        return None
    return (
        _not_comparable(layout, registry.version(champion))
        or _nothing_to_learn(layout, registry.version(champion), gate)
        or _once_withdrawn(registry, version)
    )


def _not_comparable(layout: StoreLayout, champion: ModelLayout) -> Decision | None:
    """The champion cannot be measured on what is the test part now."""
    before = {row["video_id"]: row for row in read_rows(champion.split_path, SPLIT)}
    changed = [
        row["video_id"]
        for row in read_rows(layout.split_path, SPLIT)
        if row["video_id"] in before
        and before[row["video_id"]]["split"] == "test"
        and before[row["video_id"]]["label"] != row["label"]
    ]
    if changed:
        return _blocked(
            f"{len(changed)} held-out videos have another label than when the champion was "
            f"measured, for example {changed[0][:12]}…: correct them, or start a new registry"
        )
    try:
        unseen_videos(layout, champion, part="test")
    except MismatchError as error:
        return _blocked(f"the champion cannot be measured: {error}")
    return None


def _nothing_to_learn(
    layout: StoreLayout, champion: ModelLayout, gate: GateSettings
) -> Decision | None:
    known = {row["video_id"] for row in read_rows(champion.split_path, SPLIT)}
    rows = read_rows(layout.split_path, SPLIT)
    num_new = sum(row["has_crops"] and row["video_id"] not in known for row in rows)
    if num_new >= gate.min_new_videos:
        return None
    return Decision(
        promoted=False,
        reason=f"{num_new} new labelled videos, fewer than min_new_videos = "
        f"{gate.min_new_videos}: the champion stays",
    )


def _once_withdrawn(registry: RegistryLayout, version: str) -> Decision | None:
    if not is_withdrawn(registry, version):
        return None
    return _blocked(
        f"these videos and settings give {version}, which a rollback has taken out of use; to use "
        f"it again: {promote_command(registry, version)}"
    )


def _blocked(reason: str) -> Decision:
    return Decision(promoted=False, reason=reason, needs_a_person=True)


def promote_command(registry: RegistryLayout, version: str) -> str:
    """What a person types to put a version into use."""
    return f"reelcheck models promote {registry.path} {version}"


@task(name="measure candidates")
def candidates(
    layout: StoreLayout, models: Sequence[ModelLayout], gate: GateSettings, run: RunSettings
) -> list[Candidate]:
    """Models that were evaluated on the test part, with what else the gate asks.

    Args:
        layout: the store.
        models: the challenger and, if there is one, the champion.
        gate: which perturbations, of how many videos; a first model goes through none.
        run: how to use the machine for these.
    """
    costs = footprints(models, _some_sequences(layout))
    found = []
    for model, cost in zip(models, costs, strict=True):
        output = evaluation_layout(layout, model, part="test", out=None)
        perturbed = _perturbed(layout, model, gate, run) if len(models) > 1 else {}
        found.append(
            Candidate(
                name=model.path.name,
                rows=read_rows(output.videos_path, EVALUATED),
                calibration=read_card(model).calibration,
                perturbed=perturbed,
                footprint=cost,
            )
        )
    return found


def suites(layout: StoreLayout, champion: ModelLayout) -> dict[str, set[str]]:
    """Name -> ids of test videos; the same video may be in several.

    - frozen: held out when the champion was trained, too.
    - recent: came since.
    - later: their date is after that of every video that the champion has learned from.
    """
    before = {row["video_id"]: row["split"] for row in read_rows(champion.split_path, SPLIT)}
    rows = known_videos(layout, part=None).values()
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


def _some_sequences(layout: StoreLayout) -> list[CropSequence]:
    """Of the first test videos by id, which is as good as any order."""
    known = known_videos(layout, part="test")
    some: list[CropSequence] = []
    for result in stored_results(layout, known):
        some += result.sequences
        if len(some) >= _NUM_SEQUENCES:
            break
    return some[:_NUM_SEQUENCES]


def _perturbed(
    layout: StoreLayout, model: ModelLayout, gate: GateSettings, run: RunSettings
) -> dict[str, list[Row]]:
    """Answers by perturbation, in a place of their own: an evaluation takes all videos."""
    card, known = read_card(model), _sample(layout, gate.num_perturbed_videos)
    output = model.evaluation("gate", read_metadata(layout.split_path)["split_hash"])
    with run_lock(output):
        return {
            each.name: perturbed_rows(
                each, known, card, open_runtime(model), output, run=run, key=answer_key(card, known)
            )
            for each in named_perturbations(gate.perturbations)
        }


def _sample(layout: StoreLayout, num_videos: int) -> dict[str, Row]:
    """Test videos with crops, as many real ones as fakes; sorted."""
    known = known_videos(layout, part="test")
    chosen: list[str] = []
    for label in (0, 1):
        own = [name for name, r in known.items() if r["label"] == label and r["status"] == "ok"]
        chosen += own[: num_videos // 2]
    return {name: known[name] for name in sorted(chosen)}
