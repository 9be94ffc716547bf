"""Two machines that train one model: two processes here, each taken for a machine."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reelcheck.errors import SettingsError
from reelcheck.train_config import EngineSettings
from storage.checkpoints import read_card
from storage.layout import ModelLayout
from storage.weights import read_weights
from tasks.training.train import train

SCRIPT = """
import sys
from pathlib import Path

from reelcheck.train_config import EngineSettings, TrainSettings
from storage.layout import ModelLayout, StoreLayout
from tasks.training.train import train

if __name__ == "__main__":
    store, model, settings = sys.argv[1:]
    card = train(
        StoreLayout(Path(store)),
        ModelLayout(Path(model)),
        TrainSettings.model_validate_json(settings),
        engine=EngineSettings(num_nodes=2),
    )
    print(card.model_id)
"""


@pytest.mark.slow
def test_two_machines_train_what_two_processes_of_one_do(
    tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    layout = tiny.write_store(tmp_path / "store", tiny.three_parts())
    alone = ModelLayout(tmp_path / "alone")
    train(layout, alone, tiny.training, engine=EngineSettings(num_devices=2))
    script, together = tmp_path / "train.py", ModelLayout(tmp_path / "together")
    script.write_text(SCRIPT, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "PYTHONPATH": str(Path(__file__).resolve().parents[3]),
    }
    command = [sys.executable, script, layout.path, together.path, tiny.training.model_dump_json()]
    machines = [
        subprocess.Popen(
            command,
            env={**environment, "NODE_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [machine.communicate(timeout=500) for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], told
    card = read_card(together)
    assert [out.split()[-1] for out, _ in told] == [card.model_id] * 2
    ours, theirs = read_weights(together.weights_path), read_weights(alone.weights_path)
    assert all(bool((ours[name] == theirs[name]).all()) for name in theirs)


def test_machines_that_cannot_find_each_other_are_refused(
    tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    for name in ("MASTER_PORT", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    layout = tiny.write_store(tmp_path / "store", tiny.three_parts())
    with pytest.raises(SettingsError, match="num_nodes = 2 needs MASTER_PORT and NODE_RANK"):
        train(
            layout,
            ModelLayout(tmp_path / "model"),
            tiny.training,
            engine=EngineSettings(num_nodes=2),
        )
