"""Nodes of the DAG: videos to crops and tables."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.intake.steps import RUNS_ANYWHERE
from tasks.preprocessing.collect import collect_tables
from tasks.preprocessing.extract import extract_shard, extract_shard_anywhere

# A pool of decode processes cannot be part of a cache key.
extract_shard_step = task(
    name="extract shard", task_run_name="extract {shard.name}", cache_policy=NO_CACHE
)(extract_shard)
extract_shard_anywhere_step = task(
    name="extract shard", task_run_name="extract {shard.name}", **RUNS_ANYWHERE
)(extract_shard_anywhere)
collect_tables_step = task(name="collect tables")(collect_tables)
