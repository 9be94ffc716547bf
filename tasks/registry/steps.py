"""Nodes of the DAG: compare a challenger with the champion, and promote it."""

from prefect import task

from tasks.registry.drift_report import report_drift
from tasks.registry.promote import promote
from tasks.registry.retraining import measure_candidates

measure_candidates_step = task(name="measure candidates")(measure_candidates)
promote_step = task(name="promote")(promote)
report_drift_step = task(name="drift")(report_drift)
