"""Flow: labelled store -> what crosses its parts, and what gives the labels away."""

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from reelcheck.places import Place
from storage.copies import writing
from storage.layout import find_preprocessed, is_no_crops
from tasks.audit import Audit, leak_rows
from tasks.audit import audit as audit_step
from tasks.markdown import markdown_table

_MAX_ROWS = 200


@flow(name="audit", validate_parameters=True)
def audit(store: Place, preprocessing: str | None = None) -> Audit:
    """Look for leaks between parts, imbalance and shortcuts; no table of the store is changed.

    Args:
        store: a preprocessed, labelled store, by path or URL.
        preprocessing: hash of the preprocessing to use, if the store holds several.
    """
    with writing(store, wanted=is_no_crops) as copy:
        found = audit_step(find_preprocessed(copy.path, preprocessing))
    rows = [tuple(row.values()) for row in leak_rows(found.leaks)[:_MAX_ROWS]]
    table = markdown_table(("", "in common", "which", "part", "label", "file"), rows)
    create_markdown_artifact(f"{len(found.leaks)} leaks\n\n{table}", key="audit")
    return found
