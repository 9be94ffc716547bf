"""Commands that give scores: score, demo."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.app import app
from flows.cli.checks import find_model, require_videos_to_divide
from flows.cli.options import (
    ClusterOption,
    ConfigOption,
    DecoderOption,
    ModelOption,
    PrivateOption,
    SetOption,
    WorkersOption,
    given,
    preprocess_settings,
    recipe_of,
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
from reelcheck.errors import SettingsError
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
    allow_private_addresses: PrivateOption = False,
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
        "run": run_settings(
            config,
            workers,
            decoder,
            cluster=cluster,
            allow_private_addresses=allow_private_addresses,
        ),
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
        int | None,
        typer.Option("--identities", min=12, help="Rendered people (even). [default: 40]"),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Of the faces, the split and the training.")
    ] = 0,
    faces: Annotated[
        Path | None,
        typer.Option(
            "--faces", metavar="FOLDER", help="Labelled videos of your own, instead of rendered."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="With --faces: the CSV that `preprocess` takes."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="With --faces: what is trained. [default: lite-transformer]"),
    ] = None,
) -> None:
    """Run the whole pipeline on rendered faces, or on labelled videos of your own.

    Of your own videos a part is held out; the last line says what the figure on it means. Without
    --labels, folders named real, fake or deepfake give the labels. Running it again does only what
    is missing.

    Example: `reelcheck demo --out demo-1 --seed 1`

    Example: `reelcheck demo --faces videos/ --labels labels.csv`
    """
    if faces is not None:
        if identities is not None:
            raise SettingsError("--identities is for rendered faces; leave it or --faces out")
        _show_demo_on_faces(faces, out, labels=labels, recipe=recipe, seed=seed)
    elif needing := given(labels=labels, recipe=recipe):
        raise SettingsError(f"--{next(iter(needing))} needs --faces FOLDER; give both, or neither")
    else:
        _show_rendered_demo(out, num_identities=40 if identities is None else identities, seed=seed)


def _show_rendered_demo(out: Path, *, num_identities: int, seed: int) -> None:
    from tasks.synthetic.plan import SyntheticSettings

    SyntheticSettings(num_identities=num_identities, seed=seed)

    from flows.demo import SYNTHETIC_NOTE, run_demo

    console.rule("[bold yellow]SYNTHETIC DEMO[/]")
    console.print(SYNTHETIC_NOTE, style="yellow", markup=False)
    result = run_demo(out, num_identities=num_identities, seed=seed)
    print_scores(result.scores)
    print_evaluation(result.figures, title="Held-out figures on SYNTHETIC videos")
    console.print(result.meaning, style="yellow", markup=False)
    print_path("model", result.model)
    print_path("result table", result.table)


def _show_demo_on_faces(
    faces: Path, out: Path, *, labels: Path | None, recipe: str | None, seed: int
) -> None:
    chosen = recipe_of(recipe)
    require_videos_to_divide(faces, labels, out)

    from flows.demo import FACES_RECIPE, run_demo_on_faces

    name = chosen.name if chosen else FACES_RECIPE
    result = run_demo_on_faces(faces, out, labels=labels, recipe=name, seed=seed)
    print_scores(result.scores)
    print_evaluation(result.figures)
    print_path("model", result.model)
    print_path("result table", result.table)
    print_path("page of the scores", result.page)
    print_path("page of the figures", result.report)
    console.print(result.meaning, highlight=False, markup=False, soft_wrap=True)
