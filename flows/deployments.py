"""Work pool, deployments and an automation for dead runs, registered with a Prefect server."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed
from prefect.workers.process import ProcessWorker

from flows.serve import WORK_POOL, require_deployments_file, require_server_address
from reelcheck.errors import ServerError

_ACTIVE = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)
_ENDED = ("Completed", "Failed", "Crashed", "Cancelled", "Cancelling", "Paused", "Suspended")
_SILENCE = timedelta(minutes=10)
"""Three heartbeats of Prefect's default (180 s), and a little."""


def deploy(folder: Path) -> None:
    """Register every deployment with the server of ``PREFECT_API_URL``; a repeat changes nothing.

    A work pool that exists is left as it is: it may be of any type.

    Args:
        folder: holds ``prefect.yaml``; relative paths of the deployments are relative to it.

    Raises:
        SettingsError: no ``prefect.yaml``, or ``PREFECT_API_URL`` is not set.
        ServerError: the server refuses.
    """
    require_deployments_file(folder)
    require_server_address()
    with get_client(sync_client=True) as client:
        _ensure_work_pool(client)
        # Its own cwd is not enough: prefect.yaml names the folder by the variable.
        result = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
            cwd=folder,
            env={**os.environ, "PWD": str(folder.absolute())},
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise ServerError(f"deploying failed: {result.stdout[-2000:]} {result.stderr[-2000:]}")
        if not client.read_automations_by_name(DEAD_RUNS.name):
            client.create_automation(DEAD_RUNS)


def end_lost_runs(worker: str) -> int:
    """Mark the runs of a stopped worker of this machine as crashed, where their process is gone.

    Their concurrency slots become free.

    Args:
        worker: name of a worker that is not running now.

    Returns:
        The number of runs.
    """
    with get_client(sync_client=True) as client:
        active = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(_ACTIVE)))
            )
        )
        lost = [
            run
            for run in active
            if run.labels.get("prefect.worker.name") == worker
            and not _is_alive(run.infrastructure_pid)
        ]
        for run in lost:
            crashed: State[None] = Crashed(
                message="its process was gone when the server was started again"
            )
            client.set_flow_run_state(run.id, crashed, force=True)
    return len(lost)


def _is_alive(pid: str | None) -> bool:
    try:
        os.kill(int(pid or ""), 0)
    except (ValueError, ProcessLookupError):
        return False  # no process yet, or no longer
    except PermissionError:
        return True
    return True


def _ensure_work_pool(client: SyncPrefectClient) -> None:
    try:
        client.read_work_pool(WORK_POOL)
    except ObjectNotFound:
        client.create_work_pool(
            WorkPoolCreate(
                name=WORK_POOL,
                type="process",
                base_job_template=ProcessWorker.get_default_base_job_template(),
            )
        )


DEAD_RUNS = AutomationCore(
    name="reelcheck: runs without a heartbeat have crashed",
    description="A run whose machine or process died stays Running; this ends it.",
    trigger=EventTrigger(
        after={"prefect.flow-run.heartbeat"},
        expect={"prefect.flow-run.heartbeat", *(f"prefect.flow-run.{name}" for name in _ENDED)},
        match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=_SILENCE,
    ),
    actions=[
        ChangeFlowRunState(
            state=StateType.CRASHED,
            message=f"no heartbeat for {_SILENCE.total_seconds() / 60:g} minutes",
        )
    ],
)
"""A dead run's concurrency slot is free after 5 minutes already: Prefect's lease ends."""
