"""Commands that give scores: score, demo."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.app import app
from flows.cli.checks import find_model
from flows.cli.options import (
    ClusterOption,
    ConfigOption,
    DecoderOption,
    ModelOption,
    SetOption,
    WorkersOption,
    given,
    preprocess_settings,
    run_settings,
)
from flows.cli.printing import (
    console,
    print_evaluation,
    print_outcome,
    print_path,
    print_score,
    print_scores,
)
from reelcheck.card import require_same_preprocessing
from reelcheck.config import EngineChoice, ScoreSettings
from reelcheck.locations import is_url
from reelcheck.settings import load_settings
from storage.refusals import require_input

if TYPE_CHECKING:
    from tasks.scoring.score import Scored


@app.command()
def score(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Folders, files, quoted patterns, @LIST of paths, or URLs such as s3://b/in.",
        ),
    ],
    model: ModelOption,
    out: Annotated[
        str, typer.Option("--out", help="Folder for the tables and the page, by path or URL.")
    ],
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Only the first so many files.")
    ] = None,
    sample: Annotated[
        int | None, typer.Option("--sample", min=1, help="Only so many files, by chance.")
    ] = None,
    watch: Annotated[
        float | None,
        typer.Option("--watch", min=1, help="Look for new files every so many seconds."),
    ] = None,
    engine: Annotated[
        EngineChoice | None, typer.Option("--engine", help="What runs the model. [default: auto]")
    ] = None,
    workers: WorkersOption = None,
    decoder: DecoderOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    *,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try failed videos again.")
    ] = False,
    cluster: ClusterOption = False,
) -> None:
    """Score every file: one row per file, a score only where a face was judged.

    Preprocessing comes from the model; settings that differ from it are refused (exit code 3).
    Where `PREFECT_API_URL` names a server, the run is a flow there.

    Example: `reelcheck score videos/ --model model/ --out scores/`

    Example: `reelcheck score 'in/**/*.mp4' @more.txt --model model/ --out scores/ --watch 60`
    """
    for source in sources:
        require_input(source)
    model = find_model(model)

    from storage.checkpoints import read_card
    from storage.layout import ModelLayout
    from storage.object_store.copies import WorkingCopy, open_for_reading
    from storage.outputs import ScoreLayout

    with open_for_reading(model) as model_dir:
        card = read_card(ModelLayout(model_dir))
    for note in card.notes:
        console.print(note, style="yellow", markup=False)
    # Of the model's own preprocessing nothing may be changed; the error names what was.
    own = [item for item in overrides or [] if item.partition("=")[0] in ScoreSettings.model_fields]
    others = [item for item in overrides or [] if item not in own]
    parameters: dict[str, Any] = {
        "model": model,
        "out": out,
        "settings": preprocess_settings(config, others, base=card.preprocessing),
        "run": run_settings(config, workers, decoder, cluster=cluster),
        "score_settings": load_settings(
            ScoreSettings,
            section="score",
            config_path=config,
            changes=given(engine=engine),
            overrides=own,
        ),
        "retry_failed": retry_failed,
        "limit": limit,
        "sample": sample,
        "settled_seconds": watch or 0.0,
    }
    require_same_preprocessing(card, parameters["settings"])
    is_spread = parameters["run"].where == "cluster" or is_url(out)
    is_flow = is_spread or bool(os.environ.get("PREFECT_API_URL"))
    while True:
        scored = _run_scoring(sources, parameters, is_flow=is_flow)
        if watch is None or scored.num_new:
            print_scores(scored.rows)
            print_outcome(scored.summary, is_new=scored.num_new > 0)
        if watch is None:
            break
        time.sleep(watch)
    output = ScoreLayout(WorkingCopy(out).path)
    print_path("result table", output.csv_path)
    print_path("page", output.report_path)


def _run_scoring(sources: list[str], parameters: dict[str, Any], *, is_flow: bool) -> "Scored":
    """Score as a Prefect flow; or directly, which prints each prediction at once."""
    if is_flow:
        from flows.score import score as run_flow

        scored: Scored = run_flow(sources, **parameters)
        return scored
    from tasks.scoring.score import ScoreRequest, score_files

    return score_files(ScoreRequest(sources=tuple(sources), **parameters), on_row=print_score)


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
    from tasks.synthetic.plan import SyntheticSettings

    SyntheticSettings(num_identities=identities, seed=seed)

    from flows.demo import SYNTHETIC_NOTE, run_demo

    console.rule("[bold yellow]SYNTHETIC DEMO[/]")
    console.print(SYNTHETIC_NOTE, style="yellow", markup=False)
    result = run_demo(out, num_identities=identities, seed=seed)
    print_scores(result.scores)
    print_evaluation(result.figures, title="Held-out figures on SYNTHETIC videos")
    console.print(SYNTHETIC_NOTE, style="yellow", markup=False)
    print_path("model", result.model)
    print_path("result table", result.table)
