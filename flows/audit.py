"""Flow: labelled store -> leaks between its splits, and what gives the labels away."""

from prefect.artifacts import create_markdown_artifact

from flows.prefect_server.temporary import flow
from reelcheck.locations import Location
from storage.layout import find_preprocessed, is_no_crops
from storage.object_store.copies import open_for_writing
from tasks.plotting.markdown import format_table
from tasks.splits.audit import Audit, list_leaked_files
from tasks.splits.steps import audit_step

_MAX_ROWS = 200


@flow(name="audit", validate_parameters=True)
def audit(store: Location, preprocessing: str | None = None) -> Audit:
    """Look for leaks between splits, imbalance and shortcuts; no table of the store is changed.

    Args:
        store: a preprocessed, labelled store, by path or URL.
        preprocessing: hash of the preprocessing to use, if the store holds several.
    """
    with open_for_writing(store, wanted=is_no_crops) as copy:
        audited = audit_step(find_preprocessed(copy.path, preprocessing))
    rows = [tuple(row.values()) for row in list_leaked_files(audited.leaks)[:_MAX_ROWS]]
    table = format_table(("", "in common", "which", "split", "label", "file"), rows)
    create_markdown_artifact(f"{len(audited.leaks)} leaks\n\n{table}", key="audit")
    return audited
