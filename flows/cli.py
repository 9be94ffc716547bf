"""The command line: one command per flow, errors in one line, exit codes for scripts.

- Heavy libraries are imported inside the commands, so that ``--help`` is instant and decode
  processes, which import the main module again, stay small.
- The flows run in this process; with ``PREFECT_API_URL`` set they show on that server.

Exit codes: 0 done; 1 unexpected; 2 wrong setting, source or store; 3 model and data do not belong
together; 4 weights cannot be had; 130 interrupted.
"""

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from reelcheck.config import (
    Decoder,
    PreprocessSettings,
    RunSettings,
    SplitSettings,
    TrainSettings,
    load_settings,
)
from reelcheck.errors import ReelcheckError

if TYPE_CHECKING:
    from tasks.summary import PreprocessSummary

app = typer.Typer(
    help="Batch deepfake detection for video: preprocess, train, evaluate and score.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
_console = Console()

Source = Annotated[Path, typer.Argument(help="Folder of videos (searched through) or one video.")]
StoreArgument = Annotated[Path, typer.Argument(help="Folder that `preprocess` wrote.")]
ModelOption = Annotated[Path, typer.Option("--model", help="Checkpoint folder.")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="TOML file: [preprocess], [run], [split], [train].")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting.")
]
PreprocessingOption = Annotated[
    str | None,
    typer.Option("--preprocessing", help="Which preprocessing, if the store holds several."),
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Decode processes. [default: one per core]")
]

DecoderOption = Annotated[
    Decoder | None,
    typer.Option("--decoder", help="Force a decoder where it is exact. [default: auto]"),
]


@app.command()
def preprocess(
    source: Source,
    store: Annotated[Path, typer.Option("--store", help="Folder to write to.")],
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="CSV: path,label[,group,identity,source,pair,generator]."),
    ] = None,
    workers: WorkersOption = None,
    decoder: DecoderOption = None,
    *,
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

    summary = run_flow(
        source,
        store,
        labels=labels,
        settings=_preprocess_settings(config, overrides),
        run=_run_settings(config, workers, decoder),
        retry_failed=retry_failed,
    )
    _print_counts("Files", summary.counts)
    _print_summary(summary)
    _print_path("store", store)


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
    _print_path("contact sheet", out)


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
    _console.print(table)


@app.command()
def train(
    store: StoreArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder for the checkpoint.")],
    *,
    pretrained: Annotated[
        bool,
        typer.Option("--pretrained", help="Start from timm's ImageNet weights (needs the hub)."),
    ] = False,
    init_from: Annotated[
        Path | None, typer.Option("--init-from", help="Start from a local weights file.")
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    preprocessing: PreprocessingOption = None,
) -> None:
    """Train EfficientNet-B3 + Transformer on a store (or what --set detector.backbone says).

    Example: `reelcheck train store/ --out model/ --init-from efficientnet_b3.safetensors`
    """
    from flows.train import train as run_flow

    starts = {"pretrained": pretrained or None, "init_from": init_from}
    chosen = [f"{key}={value}" for key, value in starts.items() if value is not None]
    settings = load_settings(
        TrainSettings, section="train", config_path=config, overrides=[*chosen, *(overrides or ())]
    )
    if not (settings.pretrained or settings.init_from):
        _console.print("[yellow]starting from random weights[/]: give --pretrained or --init-from")
    card = run_flow(store, out, settings=settings, preprocessing=preprocessing)
    _print_metrics(f"Model {card.model_id}, validation", card.validation)
    _print_path("model", out)


@app.command()
def evaluate(
    store: StoreArgument,
    model: ModelOption,
    part: Annotated[
        Literal["train", "val", "test"], typer.Option("--part", help="Which part of the split.")
    ] = "test",
    preprocessing: PreprocessingOption = None,
) -> None:
    """Measure a model on labelled videos that it has not learned from.

    Example: `reelcheck evaluate store/ --model model/`
    """
    from flows.evaluate import evaluate as run_flow

    _print_metrics(
        "Held-out metrics", run_flow(store, model, part=part, preprocessing=preprocessing)
    )


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
    settings = _preprocess_settings(config, overrides, base=card.preprocessing)
    for note in card.notes:
        _console.print(note, style="yellow", markup=False)
    run = _run_settings(config, workers, decoder)
    rows = run_flow(source, model, out, settings=settings, run=run)
    _print_scores(rows)
    _print_path("result table", ScoreLayout(out).csv_path)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for everything.")] = Path("demo"),
    identities: Annotated[
        int, typer.Option("--identities", min=12, help="Rendered people (even).")
    ] = 40,
) -> None:
    """Run the whole pipeline on rendered faces, with no data of your own.

    Example: `reelcheck demo`
    """
    from flows.demo import SYNTHETIC_NOTE, run_demo

    _console.rule("[bold yellow]SYNTHETIC DEMO[/]")
    _console.print(SYNTHETIC_NOTE, style="yellow", markup=False)
    result = run_demo(out, num_identities=identities)
    _print_scores(result.scores)
    _print_metrics("Held-out metrics on SYNTHETIC videos", result.metrics)
    _console.print(SYNTHETIC_NOTE, style="yellow", markup=False)
    _print_path("model", result.model)
    _print_path("result table", result.table)


def main() -> None:
    """Entry point: errors of ours become one line on stderr and their exit code."""
    _quiet_prefect()
    try:
        app()
    except ReelcheckError as error:
        _print_error(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if os.environ.get("REELCHECK_DEBUG"):
            raise
        _print_error(f"unexpected {type(error).__name__}: {error} (REELCHECK_DEBUG=1 shows where)")
        sys.exit(1)


def _print_error(message: str) -> None:
    # Text, not markup: a message may quote brackets. One line, whatever the message holds.
    line = Text.assemble(("error: ", "red"), " ".join(message.split()))
    Console(stderr=True).print(line, soft_wrap=True)


def _quiet_prefect() -> None:
    """The operator sees our progress and errors, not Prefect's; and nothing is reported home."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")


def _run_settings(config: Path | None, workers: int | None, decoder: str | None) -> RunSettings:
    chosen = {"num_workers": workers, "decoder": decoder}
    overrides = [f"{key}={value}" for key, value in chosen.items() if value is not None]
    return load_settings(RunSettings, section="run", config_path=config, overrides=overrides)


def _preprocess_settings(
    config: Path | None, overrides: list[str] | None, *, base: PreprocessSettings | None = None
) -> PreprocessSettings:
    from tasks.faces.weights import configured_face_model_sha256

    start = (base or PreprocessSettings()).model_copy(
        update={"face_model_sha256": configured_face_model_sha256()}
    )
    return load_settings(
        PreprocessSettings,
        section="preprocess",
        config_path=config,
        overrides=overrides or (),
        base=start,
    )


def _print_path(what: str, path: Path) -> None:
    _console.print(f"{what}: {path}", highlight=False, markup=False, soft_wrap=True)


def _print_summary(summary: "PreprocessSummary") -> None:
    from tasks.summary import overview, stage_rows

    table = Table("run", "", title="This run")
    for name, text in overview(summary).items():
        table.add_row(name, text)
    _console.print(table)
    stages = Table("stage", "", "CPU seconds", "share", title="CPU time")
    for row in stage_rows(summary):
        stages.add_row(*row)
    _console.print(stages)


def _print_counts(title: str, counts: Mapping[str, int]) -> None:
    table = Table("status", "files", title=title)
    for status, count in counts.items():
        table.add_row(status, str(count))
    table.add_row("[bold]all[/]", str(sum(counts.values())))
    _console.print(table)


def _print_metrics(title: str, metrics: dict[str, Any]) -> None:
    table = Table("metric", "value", title=title)
    for name, value in metrics.items():
        text = f"{value:.4f}" if isinstance(value, float) else str(value)
        table.add_row(name, "-" if value is None else text)
    _console.print(table)


def _print_scores(rows: list[dict[str, Any]], *, max_rows: int = 25) -> None:
    table = Table("status", "score", "verdict", "faces", "reason", title="Scores")
    table.columns.insert(0, Column("file", overflow="fold"))
    colours = {"fake": "red", "real": "green", "inconclusive": "yellow"}
    for row in rows[:max_rows]:
        verdict = row.get("verdict") or ""
        score_text = "" if row.get("score") is None else f"{row['score']:.3f}"
        table.add_row(
            escape(row["path"]),
            row["status"],
            score_text,
            f"[{colours[verdict]}]{verdict}[/]" if verdict else "",
            str(row["num_faces"] if row["num_faces"] is not None else ""),
            escape(row["reason"] or ""),
        )
    _console.print(table)
    if len(rows) > max_rows:
        _console.print(f"… and {len(rows) - max_rows} more rows in the table")
