"""Flow: new labelled videos -> challenger -> it replaces the champion if the gate lets it."""

import json
from dataclasses import asdict
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.audit import audit
from flows.evaluate import evaluate
from flows.preprocess import preprocess, store_layout
from flows.train import split, train
from reelcheck.config import GateSettings, PreprocessSettings, RunSettings
from reelcheck.errors import MismatchError
from reelcheck.settings import settings_hash
from reelcheck.train_config import TrainSettings
from storage.atomic import write_text
from storage.checkpoints import read_card, read_champion
from storage.layout import ModelLayout, RegistryLayout, StoreLayout
from storage.schemas import EVALUATED, SPLIT
from storage.tables import read_metadata, read_rows
from tasks.answers import evaluation_layout
from tasks.faces.weights import configured_face_model_sha256
from tasks.gate import Candidate, Decision, decide
from tasks.markdown import markdown_table, number
from tasks.promote import promote


@flow(name="retrain", validate_parameters=True)
def retrain(
    source: Path,
    store: Path,
    registry: Path,
    labels: Path | None = None,
    settings: TrainSettings | None = None,
    run: RunSettings | None = None,
    gate: GateSettings | None = None,
) -> Decision:
    """Preprocess what is new, train a challenger, and let it replace the champion if it is better.

    Nothing is trained where the audit fails, labels of held-out videos have changed, or too few
    videos are new. The decision is in the registry's ``decision.json`` and, where a challenger was
    trained, with every rule's figure in its ``gate.json``.

    Args:
        source: folder of labelled videos.
        store: store to add to.
        registry: folder of model versions and the ``champion`` pointer.
        labels: labels table; None: folder names.
        settings: the training run; None: the defaults.
        run: how to use the machine.
        gate: what a challenger must do; None: the defaults.
    """
    settings, gate = settings or TrainSettings(), gate or GateSettings()
    preprocessing = PreprocessSettings(face_model_sha256=configured_face_model_sha256())
    layout, versions = store_layout(store, preprocessing), RegistryLayout(registry)
    preprocess(source, store, labels=labels, settings=preprocessing, run=run)
    split(store, preprocessing=layout.preprocessing_hash)
    decision = _refused_before_training(store, layout, versions, gate)
    if decision is None:
        decision = _challenged(store, layout, versions, settings, gate)
    write_text(versions.decision_path, json.dumps(asdict(decision), indent=2) + "\n")
    _publish(decision)
    return decision


def _refused_before_training(
    store: Path, layout: StoreLayout, versions: RegistryLayout, gate: GateSettings
) -> Decision | None:
    """Why no challenger is to be trained; None: nothing speaks against it."""
    found = audit(store, preprocessing=layout.preprocessing_hash)
    if not found.is_clean:
        reasons = [f"{len(found.leaks)} leaks"] if found.leaks else []
        if found.shortcuts is not None and found.shortcuts.verdict == "fail":
            reasons.append(f"{next(iter(found.shortcuts.by_column))} tells the label")
        return Decision(promoted=False, reason=f"the audit fails: {' and '.join(reasons)}")
    champion = read_champion(versions)
    if champion is None:
        return None
    before = {r["video_id"]: r for r in read_rows(versions.version(champion).split_path, SPLIT)}
    now = [row for row in read_rows(layout.split_path, SPLIT) if row["has_crops"]]
    changed = [
        row["video_id"]
        for row in now
        if row["video_id"] in before
        and before[row["video_id"]]["split"] == "test"
        and before[row["video_id"]]["label"] != row["label"]
    ]
    if changed:
        return Decision(
            promoted=False,
            reason=f"{len(changed)} held-out videos have another label than when the champion was "
            f"measured, for example {changed[0][:12]}…: correct them, or start a new registry",
        )
    num_new = sum(row["video_id"] not in before for row in now)
    if num_new < gate.min_new_videos:
        return Decision(
            promoted=False,
            reason=f"{num_new} new labelled videos, fewer than min_new_videos = "
            f"{gate.min_new_videos}: the champion stays",
        )
    return None


def _challenged(
    store: Path,
    layout: StoreLayout,
    versions: RegistryLayout,
    settings: TrainSettings,
    gate: GateSettings,
) -> Decision:
    """Train a challenger and judge it against the champion."""
    split_hash = read_metadata(layout.split_path)["split_hash"]
    # Named after what went in: the same data and settings are the same version.
    name = f"{layout.preprocessing_hash}-{split_hash}-{settings_hash(settings)}"
    challenger, champion = versions.version(name), read_champion(versions)
    train(store, challenger.path, settings=settings, preprocessing=layout.preprocessing_hash)
    frozen = []
    incumbent = None
    if champion is not None:
        rows = read_rows(versions.version(champion).split_path, SPLIT)
        frozen = [row["video_id"] for row in rows if row["split"] == "test"]
        try:
            incumbent = _candidate(store, layout, versions.version(champion))
        except MismatchError as error:
            return promote(
                versions,
                name,
                Decision(promoted=False, reason=f"the champion cannot be measured: {error}"),
            )
    decision = decide(
        _candidate(store, layout, challenger), incumbent, frozen=frozen, settings=gate
    )
    return promote(versions, name, decision)


def _candidate(store: Path, layout: StoreLayout, model: ModelLayout) -> Candidate:
    """A model with its answers on the test part."""
    evaluate(store, model.path, preprocessing=layout.preprocessing_hash)
    output = evaluation_layout(layout, model, part="test", out=None)
    return Candidate(
        name=model.path.name,
        rows=read_rows(output.videos_path, EVALUATED),
        calibration=read_card(model).calibration,
    )


def _publish(decision: Decision) -> None:
    rows = [
        (rule.name, number(rule.value), rule.limit, "yes" if rule.passed else "NO")
        for rule in decision.rules
    ]
    table = markdown_table(("rule", "measured", "must be", "met"), rows)
    head = "promoted" if decision.promoted else "not promoted"
    create_markdown_artifact(f"**{head}**: {decision.reason}\n\n{table}", key="gate")
