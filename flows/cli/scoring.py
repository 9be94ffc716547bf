"""Commands that give scores: score, demo."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.app import app
from flows.cli.options import (
    ConfigOption,
    DecoderOption,
    ModelOption,
    SetOption,
    Source,
    WorkersOption,
    preprocess_settings,
    run_settings,
)
from flows.cli.printing import console, print_metrics, print_path, print_scores


@app.command()
def score(
    source: Source,
    model: ModelOption,
    out: Annotated[Path, typer.Option("--out", help="Folder for scores.parquet and scores.csv.")],
    workers: WorkersOption = None,
    decoder: DecoderOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Score every file of a folder: one row per file, a score only where a face was judged.

    Preprocessing comes from the model; settings that differ from it are refused (exit code 3).

    Example: `reelcheck score videos/ --model model/ --out scores/`
    """
    from flows.score import score as run_flow
    from storage.checkpoints import read_card
    from storage.layout import ModelLayout, ScoreLayout

    card = read_card(ModelLayout(model))
    settings = preprocess_settings(config, overrides, base=card.preprocessing)
    for note in card.notes:
        console.print(note, style="yellow", markup=False)
    run = run_settings(config, workers, decoder)
    rows = run_flow(source, model, out, settings=settings, run=run)
    print_scores(rows)
    print_path("result table", ScoreLayout(out).csv_path)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for everything.")] = Path("demo"),
    identities: Annotated[
        int, typer.Option("--identities", min=12, help="Rendered people (even).")
    ] = 40,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Of the faces, the split and the training.")
    ] = 0,
) -> None:
    """Run the whole pipeline on rendered faces, with no data of your own.

    Example: `reelcheck demo --out demo-1 --seed 1`
    """
    from flows.demo import SYNTHETIC_NOTE, run_demo

    console.rule("[bold yellow]SYNTHETIC DEMO[/]")
    console.print(SYNTHETIC_NOTE, style="yellow", markup=False)
    result = run_demo(out, num_identities=identities, seed=seed)
    print_scores(result.scores)
    print_metrics("Held-out metrics on SYNTHETIC videos", result.metrics)
    console.print(SYNTHETIC_NOTE, style="yellow", markup=False)
    print_path("model", result.model)
    print_path("result table", result.table)
