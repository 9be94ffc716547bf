"""Nodes of the DAG: find and identify input files."""

from typing import Any

from prefect import State, Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.tasks import exponential_backoff

from reelcheck.errors import StoreError
from tasks.intake.contents import hash_contents
from tasks.intake.discover import discover


def is_worth_retrying(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Whether a task failed because of the store or the network; a wrong setting fails again."""
    try:
        state.result()
    except (OSError, StoreError):
        return True
    except Exception:  # noqa: BLE001 - whatever else failed the task
        return False
    return False


RUNS_ANYWHERE: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "retries": 2,
    "retry_delay_seconds": exponential_backoff(10),
    "retry_condition_fn": is_worth_retrying,
}
"""Options of a task that may run on any machine."""

discover_step = task(name="discover")(discover)
hash_contents_step = task(name="identify", **RUNS_ANYWHERE)(hash_contents)
