"""Nodes of the DAG: train a detector."""

from prefect import task

from tasks.training.train import train

train_step = task(name="train")(train)
