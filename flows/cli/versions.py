"""Commands on model versions: retrain; models list, show, compare, promote, rollback."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import app
from flows.cli.checks import require_initial_weights, require_labelled_source
from flows.cli.options import (
    ClusterOption,
    ConfigOption,
    RecipeOption,
    SetOption,
    Source,
    WorkersOption,
    recipe_of,
    run_settings,
)
from flows.cli.printing import (
    console,
    print_comparison,
    print_details,
    print_gate,
    print_path,
    print_versions,
)
from reelcheck.config import GateSettings
from reelcheck.settings import load_settings
from reelcheck.train_config import EngineSettings, TrainSettings
from storage.refusals import require_versions

models = typer.Typer(help="Versions of a model, and which one is in use.", no_args_is_help=True)
app.add_typer(models, name="models")

Registry = Annotated[
    str, typer.Argument(help="Folder of versions that `retrain` writes, by path or URL.")
]
Named = Annotated[str, typer.Argument(help="Name of a version; `reelcheck models list`.")]
NEEDS_A_PERSON = 5
"""Exit code of a retraining that will decide the same until somebody has acted."""


@app.command()
def retrain(
    source: Source,
    store: Annotated[str, typer.Option("--store", help="Store to add to, by path or URL.")],
    registry: Annotated[
        str, typer.Option("--registry", help="Folder of model versions, by path or URL.")
    ],
    labels: Annotated[
        str | None, typer.Option("--labels", help="CSV: path,label and what else is known.")
    ] = None,
    workers: WorkersOption = None,
    *,
    recipe: RecipeOption = None,
    warm_start: Annotated[
        bool, typer.Option("--warm-start", help="Begin with the weights of the version in use.")
    ] = False,
    require_approval: Annotated[
        bool,
        typer.Option(
            "--require-approval", help="Leave the last word to `reelcheck models promote`."
        ),
    ] = False,
    cluster: ClusterOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Preprocess what is new, train a challenger, use it from now on if it is better.

    --config takes [train], [engine], [run] and [gate]; --set changes [train]. Exit code 0: a new
    version is in use, or the one before stays as nothing is new or nothing is better. Exit code 5:
    somebody must act first, and the reason says how: the audit fails, labels of held-out videos
    have changed, the version in use cannot be measured, or a promotion waits for approval.

    Example: `reelcheck retrain videos/ --store store/ --registry models/ --labels labels.csv`
    """
    chosen = recipe_of(recipe)
    settings = load_settings(
        TrainSettings,
        section="train",
        config_path=config,
        overrides=overrides or (),
        base=chosen.train if chosen else None,
    )
    run = run_settings(config, workers, None, cluster=cluster)
    gate = load_settings(GateSettings, section="gate", config_path=config)
    engine = load_settings(
        EngineSettings,
        section="engine",
        config_path=config,
        base=chosen.engine if chosen else None,
    )
    require_labelled_source(source, labels)
    require_initial_weights(settings)

    from flows.retrain import retrain as run_flow
    from storage.layout import RegistryLayout
    from storage.object_store.copies import WorkingCopy

    decision = run_flow(
        source,
        store,
        registry,
        labels=labels,
        settings=settings,
        run=run,
        gate=gate,
        engine=engine,
        warm_start=warm_start,
        require_approval=require_approval,
    )
    print_gate(asdict(decision))
    layout = RegistryLayout(WorkingCopy(registry).path)
    print_path("decision", layout.decision_path)
    if layout.drift_plot_path.exists():
        print_path("drift", layout.drift_plot_path)
    if decision.needs_a_person:
        raise typer.Exit(NEEDS_A_PERSON)


@models.command("list")
def list_versions(registry: Registry) -> None:
    """List the versions, which one is in use, and what the gate said of each.

    Example: `reelcheck models list models/`
    """
    require_versions(registry)

    from tasks.registry.versions import list_versions

    with _read(registry) as folder:
        print_versions(list_versions(folder))


@models.command()
def show(registry: Registry, version: Named) -> None:
    """Show a version: its card, its figures, and every rule of the gate.

    Example: `reelcheck models show models/ VERSION`
    """
    require_versions(registry, version)

    from tasks.registry.versions import read_details

    with _read(registry) as folder:
        print_details(read_details(folder, version))


@models.command()
def compare(registry: Registry, first: Named, second: Named) -> None:
    """Show two versions side by side, on videos that both were measured on.

    Example: `reelcheck models compare models/ VERSION OTHER`
    """
    require_versions(registry, first, second)

    from tasks.registry.versions import compare_versions

    with _read(registry) as folder:
        print_comparison((first, second), compare_versions(folder, first, second))


@models.command()
def promote(registry: Registry, version: Named) -> None:
    """Put a version into use, whatever the gate said; its `gate.json` will say so.

    Example: `reelcheck models promote models/ VERSION`
    """
    require_versions(registry, version)

    from storage.layout import RegistryLayout
    from tasks.registry.promote import promote_by_hand

    with _changed(registry) as folder:
        promote_by_hand(RegistryLayout(folder), version)
    console.print(f"in use: {version}", highlight=False, markup=False)


@models.command()
def rollback(registry: Registry) -> None:
    """Put the version before into use again; no retraining promotes the other one by itself.

    Example: `reelcheck models rollback models/`
    """
    from storage.checkpoints import roll_back
    from storage.layout import RegistryLayout

    with _changed(registry) as folder:
        version = roll_back(RegistryLayout(folder))
    console.print(f"in use: {version}", highlight=False, markup=False)


def _read(registry: str) -> AbstractContextManager[Path]:
    """All of a registry but the weights, to read."""
    from storage.layout import is_no_weights
    from storage.object_store.copies import open_for_reading

    return open_for_reading(registry, wanted=is_no_weights)


@contextmanager
def _changed(registry: str) -> Iterator[Path]:
    """All of a registry but the weights, to change."""
    from storage.layout import is_no_weights
    from storage.object_store.copies import open_for_writing

    with open_for_writing(registry, wanted=is_no_weights) as copy:
        yield copy.path
