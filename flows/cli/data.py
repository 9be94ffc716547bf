"""Commands that make and look at data: preprocess, normalise, inspect, split, audit."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import app
from flows.cli.checks import require_labelled_source, require_store
from flows.cli.options import (
    ClusterOption,
    ConfigOption,
    DecoderOption,
    PreprocessingOption,
    PrivateOption,
    RecipeOption,
    SetOption,
    Source,
    StoreArgument,
    WorkersOption,
    preprocess_settings,
    recipe_of,
    run_settings,
)
from flows.cli.printing import print_audit, print_counts, print_path, print_splits, print_summary
from reelcheck.config import DatasetLayout, NormaliseSettings, RunSettings, SplitSettings
from reelcheck.settings import load_settings, validated
from storage.refusals import require_folder_apart


@app.command()
def preprocess(
    source: Source,
    store: Annotated[str, typer.Option("--store", help="Folder to write to, by path or URL.")],
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels", help="CSV: path,label and, where known, group, identity, donor, source, …"
        ),
    ] = None,
    layout: Annotated[
        DatasetLayout | None,
        typer.Option("--layout", help="Labels and official split of this public data set."),
    ] = None,
    workers: WorkersOption = None,
    decoder: DecoderOption = None,
    *,
    recipe: RecipeOption = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try failed videos again, too.")
    ] = False,
    cluster: ClusterOption = False,
    allow_private_addresses: PrivateOption = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Cut face crop sequences out of every video of a folder.

    Without --labels or --layout, folders named real, fake or deepfake give the labels. Running it
    again does only what is missing.

    Example: `reelcheck preprocess videos/ --store store/ --labels labels.csv`

    Example: `reelcheck preprocess s3://bucket/videos --store s3://bucket/store --cluster`
    """
    chosen = recipe_of(recipe)
    settings = preprocess_settings(config, overrides, base=chosen.preprocess if chosen else None)
    run = run_settings(
        config, workers, decoder, cluster=cluster, allow_private_addresses=allow_private_addresses
    )
    require_labelled_source(source, labels, layout)

    from flows.preprocess import preprocess as run_flow

    summary = run_flow(
        source,
        store,
        labels=labels,
        dataset_layout=layout,
        settings=settings,
        run=run,
        retry_failed=retry_failed,
    )
    print_counts("Files", summary.counts)
    print_summary(summary)
    print_path("store", store)


@app.command()
def normalise(
    source: Annotated[Path, typer.Argument(help="Folder of videos (searched through).")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")],
    max_side: Annotated[
        int, typer.Option("--max-side", help="Longest side in pixels; scaled down, never up.")
    ] = NormaliseSettings().max_side,
    fps: Annotated[
        int, typer.Option("--fps", help="Frames per second, all alike.")
    ] = NormaliseSettings().frames_per_second,
    bits_per_pixel: Annotated[
        float, typer.Option("--bits-per-pixel", help="Of each frame, whatever it shows.")
    ] = NormaliseSettings().bits_per_pixel,
    workers: WorkersOption = None,
    *,
    square: Annotated[
        bool,
        typer.Option("--square", help="Width and height alike for all: black around the picture."),
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try failed videos again, too.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Re-encode every video of a folder alike, so that files no longer tell the labels.

    Where real and fake videos differ in codec, bit rate, size or frame rate, a detector learns
    that. Preprocess the normalised videos instead. Running it again does only what is missing.

    Example: `reelcheck normalise videos/ --out same/ --square`
    """
    settings = validated(
        NormaliseSettings,
        {
            "max_side": max_side,
            "square": square,
            "frames_per_second": fps,
            "bits_per_pixel": bits_per_pixel,
        },
    )
    run = run_settings(config, workers, None)
    require_folder_apart(source, out)

    from tasks.preprocessing.normalise import normalise as run_task

    counts = run_task(source, out, settings, run, retry_failed=retry_failed)
    print_counts("Files", counts)
    print_path("normalised", out)


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
    require_store(store, preprocessing)

    from storage.layout import find_preprocessed
    from storage.object_store.copies import open_for_reading
    from tasks.preprocessing.inspect import write_contact_sheet

    with open_for_reading(store) as folder:
        write_contact_sheet(find_preprocessed(folder, preprocessing), video, out, RunSettings())
    print_path("contact sheet", out)


@app.command()
def split(
    store: StoreArgument,
    config: ConfigOption = None,
    overrides: SetOption = None,
    preprocessing: PreprocessingOption = None,
) -> None:
    """Divide labelled videos into train, val and test; connected videos stay together.

    Run again it keeps what is assigned and deals what is new; with other settings, all anew.

    Example: `reelcheck split store/ --set test_fraction=0.2`
    """
    require_store(store, preprocessing)

    from storage.layout import find_preprocessed, is_no_crops
    from storage.object_store.copies import open_for_reading
    from tasks.splits.stored import read_split_settings

    settings = None
    if config is not None or overrides:
        with open_for_reading(store, wanted=is_no_crops) as folder:
            settings = load_settings(
                SplitSettings,
                section="split",
                config_path=config,
                overrides=overrides or (),
                base=read_split_settings(find_preprocessed(folder, preprocessing)),
            )

    from flows.split import split_store as run_flow

    print_splits(run_flow(store, settings=settings, preprocessing=preprocessing))


@app.command()
def audit(store: StoreArgument, preprocessing: PreprocessingOption = None) -> None:
    """Look for leaks between train, val and test, and for what gives the labels away.

    Exit code 2 if anything crosses splits, or if metadata alone tells the label (AUC .75 or more).
    The files of every leak are in `audit.csv` beside the store's tables.

    Example: `reelcheck audit store/`
    """
    require_store(store, preprocessing)

    from flows.audit import audit as run_flow
    from storage.layout import find_preprocessed, is_no_crops
    from storage.object_store.copies import open_for_reading

    found = run_flow(store, preprocessing=preprocessing)
    print_audit(found)
    with open_for_reading(store, wanted=is_no_crops) as folder:
        layout = find_preprocessed(folder, preprocessing)
        if found.leaks:
            print_path("files of every leak", layout.audit_leaks_path)
        print_path("picture", layout.audit_plot_path)
    if not found.is_clean:
        raise typer.Exit(2)
