"""Nodes of the DAG: divide a store, and check the division."""

from prefect import task

from tasks.splits.audit import audit
from tasks.splits.split import split_store

split_step = task(name="split")(split_store)
audit_step = task(name="audit")(audit)
