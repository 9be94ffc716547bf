"""Steps of the pipeline; each module with a Prefect task wraps plain functions."""
