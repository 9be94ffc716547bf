"""Nodes of the DAG: score a shard of videos."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.intake.steps import RUNS_ANYWHERE
from tasks.scoring.shard import score_shard, score_shard_anywhere

# Neither processes nor a loaded model can be part of a cache key.
score_shard_step = task(
    name="score shard", task_run_name="score {shard.name}", cache_policy=NO_CACHE
)(score_shard)
score_shard_anywhere_step = task(
    name="score shard", task_run_name="score {shard.name}", **RUNS_ANYWHERE
)(score_shard_anywhere)
