"""Flow: new labelled videos -> challenger -> it replaces the champion if the gate lets it."""

import json
from dataclasses import asdict

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.approval import asked, waiting
from flows.audit import audit
from flows.evaluate import evaluate
from flows.preprocess import preprocess, store_layout
from flows.train import split, train
from reelcheck.config import GateSettings, RunSettings
from reelcheck.places import Place
from reelcheck.recipes import load_recipe
from reelcheck.train_config import EngineSettings, TrainSettings
from storage.atomic import write_text
from storage.checkpoints import read_champion
from storage.copies import writing
from storage.layout import RegistryLayout, StoreLayout
from tasks.drift import Drift
from tasks.drift_report import drift_markdown, report_drift
from tasks.gate import Decision, decide, shown
from tasks.markdown import markdown_table
from tasks.promote import promote
from tasks.retraining import (
    candidates,
    preprocessing_of,
    promote_command,
    refused_before_training,
    suites,
    version_name,
    warm_started,
)


@flow(name="retrain", validate_parameters=True)
def retrain(
    source: Place,
    store: Place,
    registry: Place,
    labels: Place | None = None,
    settings: TrainSettings | None = None,
    run: RunSettings | None = None,
    gate: GateSettings | None = None,
    recipe: str | None = None,
    engine: EngineSettings | None = None,
    *,
    warm_start: bool = False,
    require_approval: bool = False,
) -> Decision:
    """Preprocess what is new, train a challenger, and let it replace the champion if it is better.

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
        gate: what a challenger must do; None: the defaults.
        recipe: name of a recipe, for what the settings leave out.
        engine: how training uses the machine; None: the recipe's, or the defaults.
        warm_start: begin with the champion's weights.
        require_approval: of a deployed run, pause until a person has agreed to a promotion; of any
            other, leave it to ``reelcheck models promote``.
    """
    if recipe is not None:
        chosen = load_recipe(recipe)
        settings, engine = settings or chosen.train, engine or chosen.engine
    settings, gate, run = settings or TrainSettings(), gate or GateSettings(), run or RunSettings()
    preprocessing = preprocessing_of(settings)
    preprocess(source, store, labels=labels, settings=preprocessing, run=run)
    # Crops included: the champion is measured again on them.
    with writing(registry) as kept, writing(store) as copy:
        versions, layout = RegistryLayout(kept.path), store_layout(copy.path, preprocessing)
        if warm_start:
            settings = warm_started(settings, versions)
        split(copy.path, preprocessing=layout.preprocessing_hash)
        drift = report_drift(layout, versions)
        found = audit(copy.path, preprocessing=layout.preprocessing_hash)
        version = version_name(layout, settings)
        decision = refused_before_training(found, layout, versions, version, gate)
        if decision is None:
            train(
                copy.path,
                versions.version(version).path,
                settings=settings,
                engine=engine,
                preprocessing=layout.preprocessing_hash,
            )
            decision = _judged(layout, versions, version, gate, run)
            if decision.promoted and require_approval:
                decision = _approved(decision, versions, version, gate)
            promote(versions, version, decision)
        write_text(versions.decision_path, json.dumps(asdict(decision), indent=2) + "\n")
    _publish(decision, drift)
    return decision


def _judged(
    layout: StoreLayout,
    versions: RegistryLayout,
    version: str,
    gate: GateSettings,
    run: RunSettings,
) -> Decision:
    """Measure the challenger and the champion on the same videos, and compare."""
    champion = read_champion(versions)
    models = [versions.version(name) for name in (version, champion) if name is not None]
    for model in models:
        evaluate(layout.path.parent, model.path, preprocessing=layout.preprocessing_hash)
    challenger, *incumbent = candidates(layout, models, gate, run)
    return decide(
        challenger,
        incumbent[0] if incumbent else None,
        suites=suites(layout, models[1]) if incumbent else {},
        settings=gate,
    )


def _approved(
    decision: Decision, versions: RegistryLayout, version: str, gate: GateSettings
) -> Decision:
    """Ask a person; what the gate said is on record first, whatever becomes of this run."""
    command = promote_command(versions, version)
    promote(versions, version, waiting(decision, command))
    return asked(decision, command, question=_markdown(decision), hours=gate.approval_hours)


def _publish(decision: Decision, drift: Drift | None) -> None:
    text = _markdown(decision)
    if drift is not None:
        create_markdown_artifact(drift_markdown(drift), key="drift")
        text += f"\n\ndrift: {drift.summary}"
    create_markdown_artifact(text, key="gate")


def _markdown(decision: Decision) -> str:
    rows = [
        (rule.name, shown(rule.value), rule.limit, "yes" if rule.passed else "NO")
        for rule in decision.rules
    ]
    table = markdown_table(("rule", "measured", "must be", "met"), rows)
    head = "promoted" if decision.promoted else "not promoted"
    return f"**{head}** by {decision.decided_by}: {decision.reason}\n\n{table}"
