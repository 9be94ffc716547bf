"""Training from the command line, on a made-up store: recipes, comparisons, and what is refused."""

import csv
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import timm
import torch

from flows.train import train
from models.data.dataset import CropDataset
from reelcheck.recipes import load_recipe, recipe_names
from reelcheck.settings import settings_hash
from storage.checkpoints import read_card
from storage.layout import ModelLayout, find_preprocessed
from storage.outputs import StudyLayout
from storage.schemas import SPLIT
from storage.tables import read_metadata, read_rows, write_table
from storage.weights import read_weights, weights_to_bytes

pytestmark = pytest.mark.usefixtures("without_onnx_files")

Command = Callable[..., Any]
"""Runs of the command line, which give exit code, stdout and stderr."""
SMALL = ("--set", "phases.0.max_epochs=1", "--set", "augment.rotation=0")
TINY = (
    *("--recipe", "b3-transformer-fast", *SMALL),
    *("--set", "min_frames=2", "--set", "detector.transformer.feature_dim=16"),
)
"""The smallest training run there is."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> Path:
    """Labelled crops of real videos and of as many fakes made of them, in no split yet."""
    folder = tmp_path_factory.mktemp("store")
    tiny.write_store(folder, tiny.clips(12)).split_path.unlink()
    return folder


def error_line(result: Any) -> str:
    """The one line that tells an error, after whatever progress bars there were."""
    assert "Traceback" not in result.stderr
    *progress, line = result.stderr.replace("\r", "\n").splitlines()
    assert line.startswith("error: ")
    assert not any("error" in bar or "Error" in bar for bar in progress)
    return str(line)


def test_recipes_are_listed_with_what_they_are(reelcheck: Command) -> None:
    result = reelcheck("recipes")
    assert (result.exit_code, result.stderr) == (0, "")
    words = " ".join(result.stdout.split())
    for name in recipe_names():
        recipe = load_recipe(name)
        assert name in result.stdout.splitlines()
        assert recipe.description in words
        assert f"{recipe.train.detector.backbone}: " in words
    assert "10 epochs at 0.001, 0% of the backbone; 10 epochs at 1e-05, 30%" in words


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_recipe_with_folds_trains_an_ensemble_that_can_be_evaluated(
    reelcheck: Command, store: Path, tmp_path: Path
) -> None:
    recipe = ("--recipe", "b0-kfold-fast", "--set", "folds=2")
    result = reelcheck("train", store, "--out", tmp_path, *recipe, *SMALL)
    assert result.exit_code == 0, result.stderr
    model = ModelLayout(tmp_path)
    card = read_card(model)
    assert card.num_members == 2
    assert card.training is not None
    assert (card.training.recipe, card.training.folds) == ("b0-kfold-fast", 2)
    assert [phase.fold for phase in card.phases] == [0, 1]
    split = read_rows(model.split_path, SPLIT)
    assert card.validation["num_videos"] == sum(row["split"] != "test" for row in split)
    # A fake is dealt with the video it was made from.
    for number in range(2):
        parts: dict[str, str] = {}
        for row in read_rows(model.fold(number).split_path, SPLIT):
            assert parts.setdefault(row["component"], row["split"]) == row["split"]
    assert f"Model {card.model_id}, validation" in result.stdout
    assert "report.md" in result.stdout
    again = reelcheck("evaluate", store, "--model", tmp_path)
    assert again.exit_code == 0, again.stderr
    path = model.evaluation("test", str(card.split_hash)).evaluation_path
    measured = json.loads(path.read_text(encoding="utf-8"))
    assert measured["model_id"] == card.model_id
    assert f"figures: {path}" in again.stdout.splitlines()
    assert "Held-out figures" in again.stdout
    assert f"{measured['num_scored']} of {measured['num_videos']} videos" in again.stdout
    refused = reelcheck("evaluate", store, "--model", tmp_path, "--split", "val")
    assert refused.exit_code == 3
    assert "learned from" in error_line(refused)
    assert not list((model.path / "evaluations").glob("val-*"))
    rows = [{**row, "split": row["split"].replace("test", "train")} for row in split]
    layout = find_preprocessed(store)
    kept = layout.split_path.read_bytes()
    write_table(layout.split_path, rows, SPLIT, metadata=read_metadata(layout.split_path))
    refused = reelcheck("evaluate", store, "--model", tmp_path)
    layout.split_path.write_bytes(kept)
    assert refused.exit_code == 2
    assert "the test split holds no videos" in error_line(refused)


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_subset_sizes_give_a_learning_curve(
    reelcheck: Command, store: Path, tmp_path: Path
) -> None:
    arguments = ("train", store, "--out", tmp_path, *TINY, "--subset-sizes", "6,4")
    result = reelcheck(*arguments)
    assert result.exit_code == 0, result.stderr
    study = StudyLayout(tmp_path)
    cards = {name: read_card(ModelLayout(study.model_dir(name))) for name in ("4", "6", "all")}
    sizes = {name: sum(card.num_videos["train"].values()) for name, card in cards.items()}
    assert (sizes["4"], sizes["6"]) == (4, 6)
    assert sizes["all"] > 6
    # The same videos judge all of them.
    assert len({json.dumps(card.num_videos["val"]) for card in cards.values()}) == 1
    with study.learning_curve_path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["num_videos"]) for row in rows] == [4, 6, sizes["all"]]
    assert [float(row["val_f1"]) for row in rows] == [
        card.validation["f1"] for card in cards.values()
    ]
    assert study.learning_curve_plot_path.read_bytes().startswith(b"\x89PNG")
    assert "Learning curve" in result.stdout
    # Only what is missing is trained.
    card_paths = [ModelLayout(study.model_dir(name)).card_path for name in cards]
    times = [path.stat().st_mtime_ns for path in card_paths]
    assert reelcheck(*arguments[:-1], "4,5").exit_code == 0
    assert [path.stat().st_mtime_ns for path in card_paths] == times
    assert ModelLayout(study.model_dir("5")).card_path.exists()


@pytest.mark.slow
@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_ablation_trains_every_variant_and_tabulates_it(
    reelcheck: Command, store: Path, tmp_path: Path
) -> None:
    result = reelcheck("train", store, "--out", tmp_path, *TINY, "--ablate")
    assert result.exit_code == 0, result.stderr
    study = StudyLayout(tmp_path)
    names = ["plain", "twins", "self-blend", "self-blend only", "compression", "cutout"]
    names += ["as given", "frames only"]
    with study.ablation_path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == names
    for row in rows:
        card = read_card(ModelLayout(study.model_dir(row["name"].replace(" ", "-"))))
        assert float(row["val_auc"]) == card.validation["auc"]
        assert 0 <= float(row["test_auc_low"]) <= float(row["test_auc"])
        assert float(row["test_auc"]) <= float(row["test_auc_high"]) <= 1
    assert study.ablation_plot_path.exists()
    text = study.ablation_markdown_path.read_text(encoding="utf-8")
    assert all(f"| {name} |" in text for name in names)
    assert all(name in result.stdout for name in names)


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_imported_backbone_is_trained_and_the_model_exported(
    reelcheck: Command, store: Path, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    given = timm.create_model("test_resnet").state_dict()
    (tmp_path / "theirs.safetensors").write_bytes(weights_to_bytes(given))
    backbone, model, out = (tmp_path / name for name in ("backbone", "model", "model.onnx"))
    arguments = ("--format", "timm", "--backbone", "test_resnet", "--out", backbone)
    result = reelcheck("weights", "import", tmp_path / "theirs.safetensors", *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "backbone" in result.stdout
    still = ("--set", "phases.0.learning_rate=1e-12")
    result = reelcheck("train", store, "--out", model, *TINY, *still, "--init-from", backbone)
    assert result.exit_code == 0, result.stderr
    assert "random weights" not in result.stdout
    learned = read_weights(model)
    for name, tensor in given.items():
        if not name.startswith("fc."):
            torch.testing.assert_close(learned[f"backbone.{name}"], tensor, atol=1e-6, rtol=0)
    result = reelcheck("export", "--model", model, "--out", out)
    assert result.exit_code == 0, result.stderr
    session = onnxruntime.InferenceSession(out)
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["model_id"] == read_card(ModelLayout(model)).model_id


REFUSED = [
    pytest.param(["--recipe", "b5"], 2, "no recipe is called 'b5'", id="unknown recipe"),
    pytest.param(
        ["--set", "phases.0.learning_rate=-1e-3"], 2, "greater than 0", id="negative learning rate"
    ),
    pytest.param(
        ["--set", "phases.1.max_epochs=3"], 2, "phases has no place 1", id="no such phase"
    ),
    pytest.param(["--set", "folds=50"], 2, "folds = 50, but train and val", id="too many folds"),
    pytest.param(["--set", "folds=1"], 2, "greater than or equal to 2", id="one fold"),
    pytest.param(["--subset-sizes", "abc"], 2, "'abc' is no list of numbers", id="sizes no number"),
    pytest.param(["--subset-sizes", "4,"], 2, "'4,' is no list of numbers", id="no size"),
    pytest.param(["--subset-sizes", "4,999"], 2, "size 999 is not between 2", id="size too large"),
    pytest.param(["--subset-sizes", "1,4"], 2, "size 1 is not between 2", id="size too small"),
    pytest.param(["--subset-sizes", "4", "--ablate"], 2, "not both", id="two comparisons"),
    pytest.param(
        ["--pretrained", "--init-from", "a.pth"], 2, "give one of --pretrained", id="two starts"
    ),
    pytest.param(["--init-from", "gone.pth"], 4, "gone.pth is not a file", id="no such weights"),
    pytest.param(
        ["--devices", "2", "--set", "batch_size=3"], 2, "batch_size = 3 cannot be", id="odd batch"
    ),
    pytest.param(
        ["--set", "detector.backbone=efficientnet_b99"], 2, "efficientnet_b99", id="no backbone"
    ),
    pytest.param(["--preprocessing", "0123"], 2, "no preprocessing 0123", id="no preprocessing"),
    pytest.param(
        [
            *("--set", "phases.0.learning_rate=1e30", "--set", "clip_norm=none"),
            *("--set", "schedule=constant", "--set", "batch_size=2"),
        ],
        2,
        "give a lower phases.0.learning_rate",
        id="loss no number",
    ),
]


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(("arguments", "exit_code", "message"), REFUSED)
def test_what_cannot_be_trained_is_told_in_one_line(
    reelcheck: Command,
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    exit_code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = reelcheck("train", store, "--out", tmp_path / "model", *TINY, *arguments)
    assert result.exit_code == exit_code
    assert message in error_line(result)
    assert not list((tmp_path).rglob("card.json"))


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(
    ("label", "message"),
    [(0, "both labels are needed"), (1, "both labels are needed"), (None, "has a label")],
    ids=["real only", "fake only", "no labels"],
)
def test_data_that_cannot_be_divided_is_told_in_one_line(
    reelcheck: Command, tiny: Any, tmp_path: Path, label: int | None, message: str
) -> None:
    clips = [tiny.Clip(path=f"{number}.mp4", label=label) for number in range(8)]
    tiny.write_store(tmp_path / "store", clips).split_path.unlink()
    result = reelcheck("train", tmp_path / "store", "--out", tmp_path / "model", *TINY)
    assert result.exit_code == 2
    assert message in error_line(result)


def test_model_is_exported_to_onnx_files_only(reelcheck: Command, tmp_path: Path) -> None:
    result = reelcheck("export", "--model", tmp_path, "--out", tmp_path / "model.pth")
    assert result.exit_code == 2
    assert "model.onnx" in error_line(result)
    result = reelcheck("export", "--model", tmp_path, "--out", tmp_path / "model.onnx")
    assert result.exit_code == 2
    assert "no card.json" in error_line(result)


def test_weights_that_cannot_be_imported_are_told_in_one_line(
    reelcheck: Command, tmp_path: Path
) -> None:
    path = tmp_path / "theirs.pth"
    path.write_bytes(b"not weights")
    common = ("weights", "import", path, "--out", tmp_path / "out", "--format")
    result = reelcheck(*common, "timm", "--backbone", "test_resnet")
    assert result.exit_code == 4
    assert "theirs.pth" in error_line(result)
    result = reelcheck(*common, "timm")
    assert result.exit_code == 2
    assert "--backbone NAME" in error_line(result)
    assert not (tmp_path / "out").exists()


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_recipe_takes_its_own_crops_where_a_store_holds_several(
    reelcheck: Command, tiny: Any, tmp_path: Path
) -> None:
    recipe = load_recipe("v2s-image-fast")
    for settings in (tiny.preprocessing, recipe.preprocess):
        layout = tiny.write_store(tmp_path / "store", tiny.clips(8), settings=settings)
        layout.split_path.unlink()
    card = train(tmp_path / "store", tmp_path / "model", recipe=recipe.name)
    assert card.training == recipe.train
    assert card.preprocessing_hash == settings_hash(recipe.preprocess)
    result = reelcheck("train", tmp_path / "store", "--out", tmp_path / "other", *TINY)
    assert result.exit_code == 2
    assert "say which with --preprocessing" in error_line(result)
    chosen = ("--preprocessing", settings_hash(tiny.preprocessing))
    result = reelcheck("train", tmp_path / "store", "--out", tmp_path / "other", *TINY, *chosen)
    assert result.exit_code == 0, result.stderr
    known = read_card(ModelLayout(tmp_path / "other"))
    assert known.preprocessing == tiny.preprocessing


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_server")
def test_interrupted_training_gives_130_goes_on_later_and_another_gives_3(
    reelcheck: Command,
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    # A shell's background job begins with SIGINT ignored.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    # What was installed by no Python code, as in a worker of pytest-xdist, has no name.
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, handler or signal.SIG_DFL))

    def interrupt(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)
        # The handler runs at the interpreter's next chance; nothing must come back before it.
        raise KeyboardInterrupt

    arguments = ("train", store, "--out", tmp_path, *TINY)
    with monkeypatch.context() as patch:
        # Where training reads its first crops.
        patch.setattr(CropDataset, "__getitem__", interrupt)
        result = reelcheck(*arguments)
    assert result.exit_code == 130
    assert "Traceback" not in result.stderr
    assert "error" not in result.stderr
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert reelcheck(*arguments).exit_code == 0
    # The folder holds a model now, and no other is trained there.
    before = (tmp_path / "card.json").read_bytes()
    result = reelcheck(*arguments, "--set", "seed=1")
    assert result.exit_code == 3
    assert "give another --out folder" in error_line(result)
    assert (tmp_path / "card.json").read_bytes() == before
