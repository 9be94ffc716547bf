"""One task per shard: here, one after the other, or on the machines of a cluster.

A task on another machine starts its own decode processes, reads its videos from their location and
writes into the store itself; only small records travel. When a worker dies, the cluster gives its
task to another worker, which writes the same files.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from prefect import Task
from prefect.futures import as_completed

from reelcheck.config import RunSettings
from reelcheck.errors import SettingsError
from reelcheck.progress import show_progress
from reelcheck.records import InputFile, Shard
from tasks.intake.contents import hash_here
from tasks.intake.discover import HashFiles
from tasks.intake.steps import hash_contents_step
from tasks.preprocessing.summary import WorkDone

ENVIRONMENT_VARIABLE = "REELCHECK_CLUSTER"
_AT_ONCE = 1000
"""Number of tasks submitted at a time: the server and the scheduler hold no more."""
_FILES_AT_ONCE = 256
"""Number of files that one task hashes."""
Result = TypeVar("Result")


def spread(
    step: Task[..., Result], calls: Sequence[Mapping[str, Any]], run: RunSettings
) -> Iterator[Result]:
    """Run a task for every shard, or for every chunk of other work.

    Args:
        step: the task.
        calls: its arguments each time, by name; small, because they travel.
        run: says on which machines.

    Yields:
        Results of the tasks, in the order in which they end.

    Raises:
        SettingsError: a cluster is asked for, and the environment names none.
    """
    if run.where == "here":
        for arguments in calls:
            yield step(**arguments)
        return
    from prefect_dask.task_runners import DaskTaskRunner  # noqa: PLC0415 - slow; most runs stay here

    with DaskTaskRunner(address=read_cluster_address()) as runner:
        for start in range(0, len(calls), _AT_ONCE):
            futures = [
                runner.submit(step, parameters=dict(arguments))
                for arguments in calls[start : start + _AT_ONCE]
            ]
            for future in as_completed(futures):
                yield future.result()


def spread_shards(
    step: Task[..., WorkDone],
    shards: Sequence[Shard],
    work: object,
    run: RunSettings,
    *,
    description: str,
) -> list[WorkDone]:
    """Run a task for every shard, and show the progress.

    Args:
        step: takes a ``shard`` and the ``work``.
        shards: what is to be done.
        work: what all of the tasks need.
        run: says on which machines.
        description: label of the progress bar.
    """
    done = []
    num_videos = sum(len(shard.video_ids) for shard in shards)
    calls = [{"shard": shard, "work": work} for shard in shards]
    with show_progress(total=num_videos, description=description, unit="videos") as bar:
        for work_done in spread(step, calls, run):
            bar.update(work_done.num_videos)
            done.append(work_done)
    return done


def choose_hashing(run: RunSettings) -> HashFiles:
    """Choose what hashes files: this process. On a cluster no machine reads all videos."""
    return partial(_hash_spread if run.where == "cluster" else hash_here, run=run)


def _hash_spread(files: Sequence[InputFile], *, run: RunSettings) -> list[InputFile]:
    chunks = [
        files[start : start + _FILES_AT_ONCE] for start in range(0, len(files), _FILES_AT_ONCE)
    ]
    hashed = {
        (file.root, file.path): file
        for chunk in spread(
            hash_contents_step, [{"files": chunk, "run": run} for chunk in chunks], run
        )
        for file in chunk
    }
    return [hashed[file.root, file.path] for file in files]


def read_cluster_address() -> str:
    """Read the address of the scheduler, such as ``tcp://10.0.0.5:8786``.

    Raises:
        SettingsError: the environment names none.
    """
    address = os.environ.get(ENVIRONMENT_VARIABLE)
    if not address:
        raise SettingsError(
            f"where = 'cluster' needs the scheduler's address: set {ENVIRONMENT_VARIABLE}, for "
            "example to tcp://10.0.0.5:8786, or leave where = 'here'"
        )
    return address
