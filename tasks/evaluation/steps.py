"""Nodes of the DAG: measure a model on videos that it has never seen."""

from prefect import task

from tasks.evaluation.evaluate import evaluate
from tasks.evaluation.studies import measure_variant

evaluate_step = task(name="evaluate")(evaluate)
measure_variant_step = task(name="measure variant")(measure_variant)
