"""Help and refusals come before anything heavy is imported, so that they come at once.

All command lines run in one process, in which the heavy libraries cannot be imported at all.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from reelcheck.card import UNCALIBRATED, ModelCard
from reelcheck.config import PreprocessSettings
from reelcheck.train_config import DetectorSettings
from storage.layout import ModelLayout

HEAVY = (
    *("torch", "torchvision", "lightning", "timm", "prefect", "mediapipe", "sklearn"),
    *("matplotlib", "pandas", "openvino", "onnx", "onnxruntime", "streamlit"),
)
NOT_FOR_HELP = ("cv2", "av", "decord", "numpy", "pyarrow", "fsspec")
SCRIPT = f"""
import contextlib, io, json, sys
sys.modules.update(dict.fromkeys({HEAVY!r}))
import typer
from flows.cli import main
from flows.cli.app import app

def run(arguments):
    sys.argv = ["reelcheck", *arguments]
    streams = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
    return [code, *(stream.getvalue() for stream in streams)]

def list_commands(group, names=()):
    yield names
    for name, command in getattr(group, "commands", {{}}).items():
        yield from list_commands(command, (*names, name))

commands = list(list_commands(typer.main.get_command(app)))
helped = {{" ".join(names): run([*names, "--help"]) for names in commands}}
imported = [name for name in {NOT_FOR_HELP!r} if name in sys.modules]
refused = [run(arguments) for arguments in json.load(sys.stdin)]
json.dump([helped, imported, refused], sys.stdout)
"""


class Case(NamedTuple):
    """A command line that is refused: its words, with FOLDER for the test's own, and the answer."""

    words: str
    message: str
    exit_code: int = 2


STORE, NO_STORE = "FOLDER/store", "FOLDER/none"
PREPROCESS = "preprocess FOLDER/videos --store FOLDER/new"
TRAIN = f"train {STORE} --out FOLDER/new"
XCEPTION = "--set detector.backbone=legacy_xception"
SCORE = "score FOLDER/videos --model FOLDER/model --out FOLDER/new"
DEMO = "demo --out FOLDER/new"
RETRAIN = "retrain FOLDER/videos --store FOLDER/new --registry FOLDER/new"
REFUSED = (
    Case(f"{PREPROCESS} --set margin=9", "margin = '9'"),
    Case(f"{PREPROCESS} --set margn=1", "no such setting"),
    Case(f"{PREPROCESS} --config FOLDER/bad.toml", "no such section: trian"),
    Case(f"{PREPROCESS} --config FOLDER/none.toml", "cannot read settings"),
    Case(f"{PREPROCESS} --recipe b9", "no recipe is called 'b9'"),
    Case(f"{PREPROCESS} --labels a.csv --layout ffpp", "not from both"),
    Case(f"{PREPROCESS} --labels FOLDER/none.csv", "none.csv"),
    Case(f"{PREPROCESS} --labels FOLDER/bad.csv", "lacks the column label"),
    Case("preprocess FOLDER/none --store FOLDER/new", "none does not exist"),
    Case("normalise FOLDER/videos --out FOLDER/new --fps 0", "frames_per_second = 0"),
    Case("normalise FOLDER/none --out FOLDER/new", "is no folder"),
    Case(f"inspect {NO_STORE} a.mp4", "holds no manifest"),
    Case(f"split {NO_STORE}", "holds no manifest"),
    Case(f"split {STORE} --preprocessing 9999", "no preprocessing 9999"),
    Case(f"split {STORE} --set val_fraction=0.9", "val_fraction = '0.9'"),
    Case(f"audit {NO_STORE}", "holds no manifest"),
    Case(f"train {NO_STORE} --out FOLDER/new", "holds no manifest"),
    Case(f"{TRAIN} --set batch_size=0", "batch_size = '0'"),
    Case(f"{TRAIN} --set detector.pixel_mean=[0.5,0.5]", "detector.pixel_mean = [0.5, 0.5]"),
    Case(f"{TRAIN} --set recipe=b9", "no recipe is called 'b9'"),
    Case(f"{TRAIN} --recipe b9", "no recipe is called 'b9'"),
    Case(f"{TRAIN} --ablate --subset-sizes 4", "not both"),
    Case(f"{TRAIN} --subset-sizes few", "'few' is no list of numbers"),
    Case(f"{TRAIN} --pretrained --from-scratch", "give one of"),
    Case(f"{TRAIN} --devices 65", "num_devices = 65"),
    Case(f"{TRAIN} --init-from FOLDER/none.pth", "none.pth is not a file", 4),
    Case(f"{TRAIN} --init-from efficientnet-lite0", "is for the backbone tf_efficientnet_lite0"),
    Case(f"{TRAIN} --init-from dfbench-xception {XCEPTION}", "--accept-licence"),
    Case("export --model FOLDER/none", "no card.json"),
    Case("export --model FOLDER/model --out FOLDER/model.pth", "model.onnx"),
    Case(f"evaluate {STORE} --model FOLDER/none", "no card.json"),
    Case(f"evaluate {NO_STORE} --model FOLDER/model", "holds no manifest"),
    Case(f"evaluate {STORE} --model FOLDER/model --perturb fog", "unknown perturbation 'fog'"),
    Case("score FOLDER/videos --model FOLDER/none --out FOLDER/new", "no card.json"),
    Case("score FOLDER/videos --model sbi-ff-c23 --out FOLDER/new", "--accept-licence"),
    Case("score FOLDER/none --model FOLDER/model --out FOLDER/new", "none does not exist"),
    Case("score @FOLDER/none --model FOLDER/model --out FOLDER/new", "none cannot be read"),
    Case(f"{SCORE} --set num_evidence_frames=99", "num_evidence_frames = '99'"),
    Case(f"{SCORE} --set margin=1.5", "margin: 1.3 != 1.5", 3),
    Case(f"{SCORE} --workers 999", "num_workers = 999"),
    Case(f"{RETRAIN} --set batch_size=0", "batch_size = '0'"),
    Case(f"{RETRAIN} --labels FOLDER/bad.csv", "lacks the column label"),
    Case("retrain FOLDER/none --store FOLDER/s --registry FOLDER/r", "none does not exist"),
    Case("models list FOLDER/none", "no model version"),
    Case("models show FOLDER/registry v9", "no version v9; it has v1"),
    Case("models compare FOLDER/registry v1 v9", "no version v9; it has v1"),
    Case("models promote FOLDER/registry v9", "no version v9; it has v1"),
    Case("models rollback FOLDER/registry", "no earlier version"),
    Case("weights import FOLDER/none.pth --out FOLDER/new --format timm", "--backbone NAME"),
    Case("weights import FOLDER/none.pth --out FOLDER/new --format sbi", "is not a file", 4),
    Case("weights import a.pth --out FOLDER/new --format timm --pixels 9", "takes any size"),
    Case("weights show lite9", "no weights named 'lite9'"),
    Case("weights fetch lite9", "no weights named 'lite9'"),
    Case("weights fetch sbi-ff-c23", "--accept-licence"),
    Case("page --model FOLDER/none", "no card.json"),
    Case("page --model sbi-ff-c23", "--accept-licence"),
    Case("export --model efficientnet-lite0", "is a backbone, which has to be trained"),
    Case("serve --host 0.0.0.0", "PREFECT_SERVER_API_AUTH_STRING"),
    Case("deploy", "PREFECT_API_URL is not set"),
    Case("verify FOLDER/none", "none does not exist"),
    Case("verify s3://bucket/store --set-aside", "is for folders of this machine"),
    Case(f"{DEMO} --identities 13", "num_identities must be even"),
    Case(f"{DEMO} --faces FOLDER/none", "is no folder"),
    Case(f"{DEMO} --faces FOLDER/videos", "holds 0 files that are labelled real and 0 that"),
    Case(f"{DEMO} --faces FOLDER/videos --labels FOLDER/bad.csv", "lacks the column label"),
    Case(f"{DEMO} --faces FOLDER/videos --recipe b9", "no recipe is called 'b9'"),
    Case(f"{DEMO} --faces FOLDER/videos --identities 12", "leave it or --faces out"),
    Case(f"{DEMO} --labels FOLDER/bad.csv", "--labels needs --faces FOLDER"),
    Case(f"{DEMO} --recipe lite-transformer", "--recipe needs --faces FOLDER"),
)


class Outcome(NamedTuple):
    """What a shell would see."""

    exit_code: int
    stdout: str
    stderr: str


class Outcomes(NamedTuple):
    """Of all command lines; and which lighter libraries the help has imported."""

    helped: dict[str, Outcome]
    imported: list[str]
    refused: dict[Case, Outcome]


def write_inputs(folder: Path) -> None:
    """A store, a model and a registry that are just enough for a first look."""
    (folder / "videos").mkdir()
    (folder / "videos" / "a.mp4").touch()
    (folder / "bad.toml").write_text("[trian]\n", encoding="utf-8")
    (folder / "bad.csv").write_text("path\na.mp4\n", encoding="utf-8")
    (folder / "store" / "0123").mkdir(parents=True)
    (folder / "store" / "0123" / "manifest.parquet").touch()
    card = ModelCard(
        weights_sha256="0" * 64,
        detector=DetectorSettings(),
        training=None,
        preprocessing=PreprocessSettings(),
        split_hash=None,
        calibration=UNCALIBRATED,
        aggregation="mean_sequence_logit",
        num_videos={},
        validation={},
        versions={},
    )
    for model in ("model", "registry/v1"):
        path = ModelLayout(folder / model).card_path
        path.parent.mkdir(parents=True)
        path.write_text(card.model_dump_json(), encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("startup")
    write_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def outcomes(folder: Path) -> Outcomes:
    words = [case.words.replace("FOLDER", str(folder)).split() for case in REFUSED]
    root = Path(__file__).resolve().parents[3]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PREFECT_API_URL", "PREFECT_SERVER_API_AUTH_STRING", "REELCHECK_FACE_MODEL"):
            patch.delenv(name, raising=False)
        # Where prefect.yaml is.
        result = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            cwd=root,
            input=json.dumps(words),
            capture_output=True,
            text=True,
            check=False,
        )
    assert result.returncode == 0, result.stderr
    helped, imported, refused = json.loads(result.stdout)
    return Outcomes(
        {command: Outcome(*each) for command, each in helped.items()},
        imported,
        {case: Outcome(*each) for case, each in zip(REFUSED, refused, strict=True)},
    )


def test_help_of_every_command_imports_nothing_heavy(outcomes: Outcomes) -> None:
    assert {"", "train", "weights import", "models rollback", "deploy"} <= outcomes.helped.keys()
    for command, outcome in outcomes.helped.items():
        assert (outcome.exit_code, outcome.stderr) == (0, ""), command
        assert f"reelcheck {command}".strip() in outcome.stdout
    assert outcomes.imported == []


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.words)
def test_what_is_wrong_is_told_in_one_line_before_anything_heavy_is_imported(
    outcomes: Outcomes, case: Case
) -> None:
    outcome = outcomes.refused[case]
    assert case.message in outcome.stderr
    assert outcome.stderr.startswith("error: ")
    assert (outcome.exit_code, outcome.stdout) == (case.exit_code, "")
    assert len(outcome.stderr.splitlines()) == 1


def test_every_command_that_can_be_refused_is_among_the_cases(outcomes: Outcomes) -> None:
    others = {"", "models", "weights", "recipes", "weights list"}
    named = {command for command in outcomes.helped if command not in others}
    tried = {command for command in named for case in REFUSED if case.words.startswith(command)}
    assert tried == named


def test_refused_commands_write_nothing(outcomes: Outcomes, folder: Path) -> None:
    assert len(outcomes.refused) == len(REFUSED)
    assert not (folder / "new").exists()
