"""Arguments and options that several commands share, and the settings they make."""

from pathlib import Path
from typing import Annotated

import typer

from reelcheck.config import Decoder, PreprocessSettings, RunSettings
from reelcheck.recipes import Recipe, load_recipe
from reelcheck.settings import load_settings

Source = Annotated[
    str,
    typer.Argument(help="Folder of videos and pictures (searched through), or one; or a URL."),
]
StoreArgument = Annotated[str, typer.Argument(help="Folder or URL that `preprocess` wrote to.")]
ModelOption = Annotated[
    str,
    typer.Option("--model", help="Checkpoint folder, by path or URL, or a name of the catalogue."),
]
ClusterOption = Annotated[
    bool,
    typer.Option("--cluster", help="Spread the work over the machines of REELCHECK_CLUSTER."),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file; its sections are in docs/settings.md."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; lists as in TOML."),
]
RecipeOption = Annotated[
    str | None,
    typer.Option("--recipe", help="Begin with this recipe's settings; see `reelcheck recipes`."),
]
PreprocessingOption = Annotated[
    str | None,
    typer.Option("--preprocessing", help="Which preprocessing, if the store holds several."),
]
PrivateOption = Annotated[
    bool,
    typer.Option(
        "--allow-private-addresses",
        help="Read http and https URLs of this machine and of its network, too.",
    ),
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Decode processes. [default: one per core]")
]
DecoderOption = Annotated[
    Decoder | None,
    typer.Option("--decoder", help="Force a decoder where it is exact. [default: auto]"),
]


def recipe_of(name: str | None) -> Recipe | None:
    """The recipe that was asked for."""
    return None if name is None else load_recipe(name)


def run_settings(
    config: Path | None,
    workers: int | None,
    decoder: str | None,
    *,
    cluster: bool = False,
    allow_private_addresses: bool = False,
) -> RunSettings:
    """Read how a run uses the machine, or the cluster."""
    changes = given(
        num_workers=workers,
        decoder=decoder,
        where="cluster" if cluster else None,
        allow_private_addresses=allow_private_addresses or None,
    )
    return load_settings(RunSettings, section="run", config_path=config, changes=changes)


def given(**options: object) -> dict[str, object]:
    """The options that somebody has given, which are those that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def preprocess_settings(
    config: Path | None, overrides: list[str] | None, *, base: PreprocessSettings | None = None
) -> PreprocessSettings:
    """Read the settings of crops: the base, the configuration file, then ``--set``."""
    from tasks.faces.detection.weights import hash_configured_face_model

    start = (base or PreprocessSettings()).model_copy(
        update={"face_model_sha256": hash_configured_face_model()}
    )
    return load_settings(
        PreprocessSettings,
        section="preprocess",
        config_path=config,
        overrides=overrides or (),
        base=start,
    )
