"""The server that a process starts for its own flows answers nobody else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import json

import httpx
from prefect.client.orchestration import get_client

from flows.split import flow

@flow
def ask():
    with get_client(sync_client=True) as client:
        own = client.hello().status_code
        url = str(client.api_url).rstrip("/")
    evil = httpx.post(f"{url}/flows/", json={"name": "evil"}, headers={"Origin": "http://evil.example"})
    return [own, evil.status_code, httpx.post(f"{url}/flows/filter", json={}).status_code]

print(json.dumps(ask()))
"""


@pytest.mark.slow
@pytest.mark.prefect
def test_temporary_server_has_a_password(tmp_path: Path) -> None:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env={
            **inherited,
            "PREFECT_HOME": str(tmp_path),
            "PYTHONPATH": str(ROOT),
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [200, 401, 401]
