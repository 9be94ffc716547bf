"""Commands that make and measure models: recipes, train, evaluate, export."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flows.cli.app import app
from flows.cli.checks import find_model, require_initial_weights, require_store
from flows.cli.options import (
    ConfigOption,
    ModelOption,
    PreprocessingOption,
    RecipeOption,
    SetOption,
    StoreArgument,
    WorkersOption,
    given,
    recipe_of,
    run_settings,
)
from flows.cli.printing import (
    console,
    print_ablation,
    print_evaluation,
    print_learning_curve,
    print_metrics,
    print_path,
    print_phases,
    print_recipes,
)
from reelcheck.errors import SettingsError
from reelcheck.perturbations import parse_perturbations
from reelcheck.recipes import load_recipe, recipe_names
from reelcheck.settings import load_settings
from reelcheck.train_config import EngineSettings, TrainSettings
from storage.refusals import require_onnx_name

if TYPE_CHECKING:
    from reelcheck.card import ModelCard


@app.command()
def recipes() -> None:
    """List the recipes: settings that belong together, under a name.

    Example: `reelcheck train store/ --out model/ --recipe b0-kfold`
    """
    print_recipes([load_recipe(name) for name in recipe_names()])


@app.command()
def train(
    store: StoreArgument,
    out: Annotated[str, typer.Option("--out", help="Folder for the checkpoint, by path or URL.")],
    *,
    recipe: RecipeOption = None,
    pretrained: Annotated[
        bool,
        typer.Option("--pretrained", help="Start from ImageNet weights, fetched on first use."),
    ] = False,
    init_from: Annotated[
        Path | None,
        typer.Option(
            "--init-from", help="Start from a weights file, a folder, or a name of the catalogue."
        ),
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Start from random weights.")
    ] = False,
    subset_sizes: Annotated[
        str | None,
        typer.Option(
            "--subset-sizes",
            metavar="N,N,…",
            help="Train on so many train videos each time, and draw the learning curve.",
        ),
    ] = None,
    ablate: Annotated[
        bool, typer.Option("--ablate", help="Train with each switch on and off, and compare.")
    ] = False,
    devices: Annotated[
        int | None, typer.Option("--devices", min=1, help="GPUs, or processes without one.")
    ] = None,
    nodes: Annotated[
        int | None,
        typer.Option("--nodes", min=1, help="Machines that train together; see docs/cluster.md."),
    ] = None,
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"] | None,
        typer.Option("--precision", help="Number format. [default: auto]"),
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    preprocessing: PreprocessingOption = None,
) -> None:
    """Train a detector on a store; without a recipe EfficientNet-B3 + Transformer.

    Run again after an interruption, it goes on after the last finished epoch.

    Example: `reelcheck train store/ --out model/ --recipe b4-image --init-from b4.safetensors`

    Example: `reelcheck train store/ --out model/ --set phases.0.max_epochs=5 --set self_blend=0.5`
    """
    if ablate and subset_sizes is not None:
        raise SettingsError("give --ablate or --subset-sizes, not both")
    sizes = None if subset_sizes is None else _sizes(subset_sizes)
    chosen = recipe_of(recipe)
    start = _start(pretrained=pretrained, init_from=init_from, from_scratch=from_scratch)
    settings = load_settings(
        TrainSettings,
        section="train",
        config_path=config,
        changes=start,
        overrides=overrides or (),
        base=chosen.train if chosen else None,
    )
    engine = load_settings(
        EngineSettings,
        section="engine",
        config_path=config,
        changes=given(num_devices=devices, num_nodes=nodes, precision=precision),
        base=chosen.engine if chosen else None,
    )
    require_store(store, preprocessing, recipe=settings.recipe)
    require_initial_weights(settings)

    from flows.studies import ablate as ablate_flow
    from flows.studies import measure_learning_curve as curve_flow
    from flows.train import train as train_flow

    if not settings.starts_from_weights:
        console.print("[yellow]starting from random weights[/]: give --pretrained or --init-from")
    if ablate:
        rows = ablate_flow(store, out, settings, engine, preprocessing)
        print_ablation(rows)
        print_path("table and models", out)
    elif sizes is not None:
        points = curve_flow(store, out, sizes, settings, engine, preprocessing)
        print_learning_curve(points)
        print_path("curve and models", out)
    else:
        card = train_flow(store, out, settings=settings, engine=engine, preprocessing=preprocessing)
        _print_card(card, out)


@app.command()
def evaluate(
    store: StoreArgument,
    model: ModelOption,
    split: Annotated[
        Literal["train", "val", "test"], typer.Option("--split", help="Videos to measure on.")
    ] = "test",
    out: Annotated[
        str | None,
        typer.Option("--out", help="Folder to write to. [default: in the model's folder]"),
    ] = None,
    perturb: Annotated[
        list[str] | None,
        typer.Option(
            "--perturb", help="default, or one such as 'jpeg 50': what videos go through as well."
        ),
    ] = None,
    workers: WorkersOption = None,
    config: ConfigOption = None,
    preprocessing: PreprocessingOption = None,
    *,
    report: Annotated[
        bool, typer.Option("--report", help="Write pictures, a page and a model card, too.")
    ] = False,
) -> None:
    """Measure a model on labelled videos that it has not learned from.

    Example: `reelcheck evaluate store/ --model model/ --report`

    Example: `reelcheck evaluate store/ --model model/ --perturb default --report`
    """
    parse_perturbations(perturb or ())
    run = run_settings(config, workers, None)
    require_store(store, preprocessing)
    model = find_model(model)

    from flows.evaluate import evaluate as run_flow
    from storage.layout import ModelLayout
    from storage.object_store.copies import open_for_reading
    from storage.outputs import EvaluationLayout

    found = run_flow(
        store,
        model,
        split=split,
        preprocessing=preprocessing,
        out=out,
        perturb=tuple(perturb or ()),
        run=run,
        report=report,
    )
    print_evaluation(found)
    with open_for_reading(model if out is None else out) as folder:
        own = ModelLayout(folder).evaluation(split, found["split_hash"])
        output = own if out is None else EvaluationLayout(folder)
        print_path("figures", output.evaluation_path)
        if report:
            print_path("page", output.report_path)


@app.command()
def export(
    model: ModelOption,
    out: Annotated[Path, typer.Option("--out", help="ONNX file to write.")] = Path("model.onnx"),
) -> None:
    """Write a model as ONNX, for any number of sequences and frames, checked by ONNX Runtime.

    Example: `reelcheck export --model model/ --out model.onnx`
    """
    require_onnx_name(out)
    model = find_model(model)

    from storage.layout import ModelLayout
    from storage.object_store.copies import open_for_reading
    from tasks.checkpoints.export import export_model

    with open_for_reading(model) as folder:
        result = export_model(ModelLayout(folder), out)
    console.print(f"largest difference from the model: {result.max_difference:.1e} in logit")
    print_path("ONNX", out)


def _start(*, pretrained: bool, init_from: Path | None, from_scratch: bool) -> dict[str, Any]:
    """Turn the three ways to start into settings, which go before those of a recipe."""
    if sum((pretrained, init_from is not None, from_scratch)) > 1:
        raise SettingsError("give one of --pretrained, --init-from and --from-scratch")
    if pretrained:
        return {"pretrained": True, "init_from": None}
    if init_from is not None:
        return {"pretrained": False, "init_from": init_from}
    return {"pretrained": False, "init_from": None} if from_scratch else {}


def _sizes(text: str) -> list[int]:
    try:
        return [int(size) for size in text.split(",")]
    except ValueError:
        raise SettingsError(
            f"--subset-sizes {text!r} is no list of numbers; for example 1000,5000,20000"
        ) from None


def _print_card(card: "ModelCard", out: str) -> None:
    from storage.layout import ModelLayout
    from storage.object_store.copies import WorkingCopy

    print_phases(card.phases)
    print_metrics(f"Model {card.model_id}, validation", card.validation)
    print_path("report", ModelLayout(WorkingCopy(out).path).report_path)
    print_path("model", out)
