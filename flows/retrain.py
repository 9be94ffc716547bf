"""Flow: new labelled videos -> challenger -> it replaces the champion if the gate agrees."""

from dataclasses import asdict

from prefect.artifacts import create_markdown_artifact

from flows.approval import ask_for_approval, hold_for_approval
from flows.audit import audit
from flows.evaluate import evaluate
from flows.prefect_server.temporary import flow
from flows.preprocess import locate_store, preprocess
from flows.split import split_store
from flows.train import train
from reelcheck.config import GateSettings, RunSettings
from reelcheck.locations import Location
from reelcheck.recipes import load_recipe
from reelcheck.train_config import EngineSettings, TrainSettings
from storage.checked.documents import write_document
from storage.checkpoints import read_champion
from storage.layout import RegistryLayout, StoreLayout
from storage.object_store.copies import open_for_writing
from tasks.plotting.markdown import format_table
from tasks.registry.drift import Drift
from tasks.registry.drift_report import format_drift
from tasks.registry.gate import Decision, decide, format_value
from tasks.registry.retraining import (
    check_before_training,
    choose_preprocessing,
    choose_suites,
    format_promote_command,
    name_version,
    start_from_champion,
)
from tasks.registry.steps import measure_candidates_step, promote_step, report_drift_step


@flow(name="retrain", validate_parameters=True)
def retrain(
    source: Location,
    store: Location,
    registry: Location,
    labels: Location | None = None,
    settings: TrainSettings | None = None,
    run: RunSettings | None = None,
    gate: GateSettings | None = None,
    recipe: str | None = None,
    engine: EngineSettings | None = None,
    *,
    warm_start: bool = False,
    require_approval: bool = False,
) -> Decision:
    """Preprocess new videos, train a challenger, and promote it if it beats the champion.

    Nothing is trained where the audit fails, labels of held-out videos have changed, or too few
    videos are new. The decision is in the registry's ``decision.json`` and, where a challenger was
    trained, with every rule's figure in its ``gate.json``; how new videos differ from those before
    is in ``drift.json``.

    Args:
        source: folder of labelled videos, by path or URL.
        store: store to add to, by path or URL.
        registry: folder of model versions and the ``champion`` pointer, by path or URL.
        labels: labels table; None: folder names.
        settings: the training run; None: the recipe's, or the defaults.
        run: how to use the machine.
        gate: limits of the gate; None: the defaults.
        recipe: name of a recipe, for what the settings leave out.
        engine: how training uses the machine; None: the recipe's, or the defaults.
        warm_start: begin with the champion's weights.
        require_approval: a deployed run pauses until a person has agreed to a promotion; any other
            run leaves the promotion to ``reelcheck models promote``.
    """
    if recipe is not None:
        chosen = load_recipe(recipe)
        settings, engine = settings or chosen.train, engine or chosen.engine
    settings, gate, run = settings or TrainSettings(), gate or GateSettings(), run or RunSettings()
    preprocessing = choose_preprocessing(settings)
    preprocess(source, store, labels=labels, settings=preprocessing, run=run)
    # The crops, too: the champion is measured on them again.
    with open_for_writing(registry) as kept, open_for_writing(store) as copy:
        versions, layout = RegistryLayout(kept.path), locate_store(copy.path, preprocessing)
        if warm_start:
            settings = start_from_champion(settings, versions)
        split_store(copy.path, preprocessing=layout.preprocessing_hash)
        drift = report_drift_step(layout, versions)
        audited = audit(copy.path, preprocessing=layout.preprocessing_hash)
        version = name_version(layout, settings)
        decision = check_before_training(audited, layout, versions, version, gate)
        if decision is None:
            train(
                copy.path,
                versions.version(version).path,
                settings=settings,
                engine=engine,
                preprocessing=layout.preprocessing_hash,
            )
            decision = _compare_with_champion(layout, versions, version, gate, run)
            if decision.promoted and require_approval:
                decision = _ask_person(decision, versions, version, gate)
            promote_step(versions, version, decision)
        write_document(versions.decision_path, asdict(decision))
    _publish(decision, drift)
    return decision


def _compare_with_champion(
    layout: StoreLayout,
    versions: RegistryLayout,
    version: str,
    gate: GateSettings,
    run: RunSettings,
) -> Decision:
    """Measure the challenger and the champion on the same videos, and decide."""
    champion = read_champion(versions)
    models = [versions.version(name) for name in (version, champion) if name is not None]
    for model in models:
        evaluate(layout.path.parent, model.path, preprocessing=layout.preprocessing_hash)
    challenger, *incumbent = measure_candidates_step(layout, models, gate, run)
    return decide(
        challenger,
        incumbent[0] if incumbent else None,
        suites=choose_suites(layout, models[1]) if incumbent else {},
        settings=gate,
    )


def _ask_person(
    decision: Decision, versions: RegistryLayout, version: str, gate: GateSettings
) -> Decision:
    """Ask a person; the gate's decision is written first, in case this run ends."""
    command = format_promote_command(versions, version)
    promote_step(versions, version, hold_for_approval(decision, command))
    return ask_for_approval(
        decision, command, question=_format_decision(decision), hours=gate.approval_hours
    )


def _publish(decision: Decision, drift: Drift | None) -> None:
    text = _format_decision(decision)
    if drift is not None:
        create_markdown_artifact(format_drift(drift), key="drift")
        text += f"\n\ndrift: {drift.summary}"
    create_markdown_artifact(text, key="gate")


def _format_decision(decision: Decision) -> str:
    rows = [
        (rule.name, format_value(rule.value), rule.limit, "yes" if rule.passed else "NO")
        for rule in decision.rules
    ]
    table = format_table(("rule", "measured", "must be", "met"), rows)
    head = "promoted" if decision.promoted else "not promoted"
    return f"**{head}** by {decision.decided_by}: {decision.reason}\n\n{table}"
