"""Nights of retraining, on rendered faces with tiny settings."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client

from flows.retrain import retrain
from reelcheck.config import GateSettings, RunSettings
from reelcheck.train_config import Phase, TrainSettings
from storage.checked.documents import read_document
from storage.checkpoints import read_card, read_champion
from storage.layout import RegistryLayout
from tasks.registry.gate import Decision
from tasks.synthetic.dataset import SyntheticSettings, generate_dataset

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_server", "face_model")]

Command = Callable[..., Any]
RUN = RunSettings(num_workers=2, shard_size=12)
CONFIG = """
[run]
num_workers = 2
shard_size = 12
[gate]
min_new_videos = 4
perturbations = ["jpeg 50"]
num_perturbed_videos = 4
max_slowdown = 1000
"""


@dataclass(frozen=True)
class Place:
    """Where the nights work, and what the first of them decided."""

    folder: Path
    training: TrainSettings
    first: Decision

    @property
    def registry(self) -> RegistryLayout:
        return RegistryLayout(self.folder / "registry")

    def night(self, reelcheck: Command, *options: object) -> Any:
        """Run the command."""
        config = self.folder / "settings.toml"
        config.write_text(CONFIG, encoding="utf-8")
        training = self.training.detector.model_dump(include={"backbone"})
        return reelcheck(
            *("retrain", self.folder / "videos", "--store", self.folder / "store"),
            *("--registry", self.registry.path, "--labels", self.folder / "labels.csv"),
            *("--config", config, "--set", f"detector.backbone={training['backbone']}"),
            *("--set", "phases.0.max_epochs=1", "--set", "phases.0.learning_rate=0.001"),
            *("--set", "detector.transformer.depth=1", *options),
        )


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory,
    prefect_server: None,
    face_model: Path,
    synthetic_dataset: Path,
    tiny: Any,
) -> Place:
    """After the first night."""
    folder = tmp_path_factory.mktemp("nights")
    shutil.copytree(synthetic_dataset / "videos", folder / "videos")
    shutil.copy(synthetic_dataset / "labels.csv", folder)
    training = TrainSettings(
        detector=TrainSettings().detector.model_copy(update={"backbone": "test_resnet"}),
        phases=(Phase(max_epochs=1, learning_rate=1e-3),),
    )
    assert training.detector.transformer is not None
    transformer = training.detector.transformer.model_copy(update={"depth": 1})
    detector = training.detector.model_copy(update={"transformer": transformer})
    training = training.model_copy(update={"detector": detector})
    first = retrain(
        *(folder / "videos", folder / "store", folder / "registry", folder / "labels.csv"),
        *(training, RUN, GateSettings(min_first_auc=0.0)),
    )
    return Place(folder, training, first)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_first_night_promotes_and_the_second_finds_nothing_new(
    place: Place, reelcheck: Command
) -> None:
    assert place.first.promoted
    champion = read_champion(place.registry)
    assert champion is not None
    assert read_card(place.registry.version(champion)).model_id
    decision = read_document(place.registry.decision_path)
    assert decision["reason"] == place.first.reason
    weights = place.registry.version(champion).weights_path.read_bytes()
    before = contents(place.registry.path)
    second = place.night(reelcheck)
    assert second.exit_code == 0, second.stderr
    assert "not promoted by the gate: 0 new labelled videos" in second.stdout
    assert read_champion(place.registry) == champion
    after = contents(place.registry.path)
    assert json.loads(after["decision.json"])["promoted"] is False
    assert json.loads(after["drift.json"])["summary"].startswith("too few videos to tell")
    # Of the version itself nothing has changed: another evaluation was added, no more.
    assert all(after[name] == content for name, content in before.items() if "/" in name)
    assert place.registry.version(champion).weights_path.read_bytes() == weights


def add_videos(place: Place) -> None:
    """Eight new people, each with a real video and a fake."""
    more = place.folder / "more"
    settings = SyntheticSettings(num_identities=8, clips_per_identity=1, seed=5, height=240)
    generate_dataset(more, settings)
    shutil.copytree(more / "videos", place.folder / "videos" / "new")
    with (more / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with (place.folder / "labels.csv").open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        for row in rows:
            row |= {"path": f"new/{row['path']}", "group": f"new {row['group']}"}
            row["source"] = row["source"] and f"new/{row['source']}"
            writer.writerow(row)


@pytest.mark.slow
def test_new_videos_give_a_challenger_that_every_rule_looks_at(
    place: Place, reelcheck: Command
) -> None:
    champion = read_champion(place.registry)
    assert champion is not None
    add_videos(place)
    result = place.night(reelcheck, "--require-approval", "--warm-start")
    record = read_document(place.registry.decision_path)
    gates = {path.parent.name for path in place.registry.path.glob("*/gate.json")} - {champion}
    [challenger] = gates
    gate = read_document(place.registry.version(challenger).gate_path)
    assert gate == {"challenger": challenger, "champion": champion, **record}
    names = {rule["name"] for rule in gate["rules"]}
    assert {
        "largest change of a logit by the export",
        "lower end of the AUC's change on frozen videos",
        "mean change of AUC",
        "change of false alarms",
        "change of AUC after perturbations",
        "time per frame, as a multiple of the champion's",
        "size of the weights, as a multiple of the champion's",
    } <= names
    # Nobody was there to approve: the champion stays, whatever the rules say.
    assert read_champion(place.registry) == champion
    are_met = all(rule["passed"] for rule in gate["rules"])
    assert record["needs_a_person"] is are_met
    assert result.exit_code == (5 if are_met else 0), result.stderr
    assert (f"reelcheck models promote {place.registry.path} {challenger}" in result.stdout) is (
        are_met
    )
    card = read_card(place.registry.version(challenger))
    assert card.training is not None
    assert card.training.init_from == place.registry.version(champion).path
    shown = reelcheck("models", "show", place.registry.path, challenger)
    assert "mean change of AUC" in shown.stdout
    compared = reelcheck("models", "compare", place.registry.path, champion, challenger)
    assert compared.exit_code == 0, compared.stderr
    assert "measured on: test-" in compared.stdout
    by_hand = reelcheck("models", "promote", place.registry.path, challenger)
    assert by_hand.exit_code == 0
    assert read_champion(place.registry) == challenger
    assert (
        "put into use by hand"
        in reelcheck("models", "show", place.registry.path, challenger).stdout
    )
    back = reelcheck("models", "rollback", place.registry.path)
    assert f"in use: {champion}" in back.stdout
    # What was taken out of use is not promoted again by the next night.
    again = place.night(reelcheck, "--warm-start")
    assert again.exit_code == 5, again.stderr
    assert "a rollback has taken out of use" in again.stdout
    assert read_champion(place.registry) == champion
    with get_client(sync_client=True) as client:
        keys = {artifact.key for artifact in client.read_artifacts()}
    assert {"gate", "drift"} <= keys
