"""Flow: labelled store -> what crosses its parts, and what gives the labels away."""

from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from storage.layout import find_preprocessed
from tasks.audit import Audit, leak_rows
from tasks.audit import audit as audit_step
from tasks.markdown import markdown_table

_MAX_ROWS = 200


@flow(name="audit", validate_parameters=True)
def audit(store: Path, preprocessing: str | None = None) -> Audit:
    """Look for leaks between parts, imbalance and shortcuts; no table of the store is changed.

    Args:
        store: a preprocessed, labelled store.
        preprocessing: hash of the preprocessing to use, if the store holds several.
    """
    found = audit_step(find_preprocessed(store, preprocessing))
    rows = [tuple(row.values()) for row in leak_rows(found.leaks)[:_MAX_ROWS]]
    table = markdown_table(("", "in common", "which", "part", "label", "file"), rows)
    create_markdown_artifact(f"{len(found.leaks)} leaks\n\n{table}", key="audit")
    return found
