"""Commands on a registry of model versions: list, promote, rollback."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import app
from flows.cli.printing import console, print_versions

models = typer.Typer(help="Versions of a model, and which one is in use.", no_args_is_help=True)
app.add_typer(models, name="models")

Registry = Annotated[Path, typer.Argument(help="Folder of versions that `retrain` writes.")]


@models.command("list")
def list_versions(registry: Registry) -> None:
    """List the versions, which one is in use, and what the gate said of each.

    Example: `reelcheck models list models/`
    """
    from tasks.registry import versions_of

    print_versions(versions_of(registry))


@models.command()
def promote(
    registry: Registry,
    version: Annotated[str, typer.Argument(help="Name of the version to use from now on.")],
) -> None:
    """Put a version into use, whatever the gate said.

    Example: `reelcheck models promote models/ VERSION`
    """
    from storage.checkpoints import read_card, set_champion
    from storage.layout import RegistryLayout

    layout = RegistryLayout(registry)
    read_card(layout.version(version))
    set_champion(layout, version)
    console.print(f"in use: {version}", highlight=False)


@models.command()
def rollback(registry: Registry) -> None:
    """Put the version before into use again.

    Example: `reelcheck models rollback models/`
    """
    from storage.checkpoints import roll_back
    from storage.layout import RegistryLayout

    console.print(f"in use: {roll_back(RegistryLayout(registry))}", highlight=False)
