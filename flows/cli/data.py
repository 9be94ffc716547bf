"""Commands that make and look at data: preprocess, inspect, split."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from flows.cli.app import app
from flows.cli.options import (
    ConfigOption,
    DecoderOption,
    PreprocessingOption,
    RecipeOption,
    SetOption,
    Source,
    StoreArgument,
    WorkersOption,
    preprocess_settings,
    recipe_of,
    run_settings,
)
from flows.cli.printing import console, print_counts, print_path, print_summary
from reelcheck.config import RunSettings, SplitSettings
from reelcheck.settings import load_settings


@app.command()
def preprocess(
    source: Source,
    store: Annotated[Path, typer.Option("--store", help="Folder to write to.")],
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels", help="CSV: path,label and, where known, group, identity, donor, source, …"
        ),
    ] = None,
    workers: WorkersOption = None,
    decoder: DecoderOption = None,
    *,
    recipe: RecipeOption = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try failed videos again, too.")
    ] = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Cut face crop sequences out of every video of a folder.

    Without --labels, folders named real, fake or deepfake give the labels. Running it again does
    only what is missing.

    Example: `reelcheck preprocess videos/ --store store/ --labels labels.csv`
    """
    from flows.preprocess import preprocess as run_flow

    chosen = recipe_of(recipe)
    base = chosen.preprocess if chosen else None
    summary = run_flow(
        source,
        store,
        labels=labels,
        settings=preprocess_settings(config, overrides, base=base),
        run=run_settings(config, workers, decoder),
        retry_failed=retry_failed,
    )
    print_counts("Files", summary.counts)
    print_summary(summary)
    print_path("store", store)


@app.command()
def inspect(
    store: StoreArgument,
    video: Annotated[
        str, typer.Argument(help="Path or name of a video, its id, or 6 or more digits of it.")
    ],
    out: Annotated[Path, typer.Option("--out", help="PNG file to write.")] = Path("sheet.png"),
    preprocessing: PreprocessingOption = None,
) -> None:
    """Draw a contact sheet of one video: its frames, face boxes and crops.

    Example: `reelcheck inspect store/ videos/a.mp4 --out sheet.png`
    """
    from storage.layout import find_preprocessed
    from tasks.inspect import write_contact_sheet

    write_contact_sheet(find_preprocessed(store, preprocessing), video, out, RunSettings())
    print_path("contact sheet", out)


@app.command()
def split(
    store: StoreArgument,
    config: ConfigOption = None,
    overrides: SetOption = None,
    preprocessing: PreprocessingOption = None,
) -> None:
    """Divide labelled videos into train, val and test; connected videos stay together.

    Example: `reelcheck split store/ --set test_fraction=0.2`
    """
    from flows.train import split as run_flow

    settings = load_settings(
        SplitSettings, section="split", config_path=config, overrides=overrides or ()
    )
    counts = run_flow(store, settings=settings, preprocessing=preprocessing)
    table = Table("part", "real", "fake", title="Videos per part")
    for part, labels in counts.items():
        table.add_row(part, str(labels["real"]), str(labels["fake"]))
    console.print(table)
