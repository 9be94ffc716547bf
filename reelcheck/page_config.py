"""What an operator decides about the web page; the command hands it over as one JSON argument."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from reelcheck.settings import Settings


class PageSettings(Settings):
    """What visitors of the page may use, and how much of it."""

    models: tuple[Path, ...] = ()
    """Checkpoint folders to choose from."""
    registry: Path | None = None
    """Folder of versions to choose from, the champion first."""
    results: tuple[Path, ...] = ()
    """Output folders of scoring runs to look at."""
    max_upload_mb: Annotated[int, Field(ge=1, le=10_000)] = 200
    """Largest file that is taken."""
    allow_paths: bool = False
    """Visitors may name files of this machine, and URLs that it can reach."""
    keep_minutes: Annotated[float, Field(gt=0)] = 60.0
    """What a visitor brought is removed so long after the page last asked for it."""
    max_checks: Annotated[int, Field(ge=1)] = 50
    """Files that one visitor may have here at a time."""
    max_visit_mb: Annotated[int, Field(ge=1)] = 2000
    """What one visitor may have here at a time, own models and results included."""
    timeout_seconds: Annotated[float, Field(gt=0)] = 300.0
    """As in ``RunSettings``: a visitor waits for the answer."""
