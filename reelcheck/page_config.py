"""Settings of the web page, which the operator chooses; the command passes them as JSON."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from reelcheck.settings import Settings


class PageSettings(Settings):
    """What visitors of the page may use, and how much."""

    models: tuple[Path, ...] = ()
    """Checkpoint folders that visitors can choose from."""
    registry: Path | None = None
    """Folder of model versions that visitors can choose from, the champion first."""
    results: tuple[Path, ...] = ()
    """Output folders of scoring runs that visitors can look at."""
    max_upload_mb: Annotated[int, Field(ge=1, le=10_000)] = 200
    """Largest size of an uploaded file, in megabytes."""
    allow_paths: bool = False
    """Allow visitors to name files of this machine, and URLs that it can reach."""
    allow_private_addresses: bool = False
    """With allow_paths: URLs of web servers on this machine and in its network, too."""
    keep_minutes: Annotated[float, Field(gt=0)] = 60.0
    """Minutes after a visitor's last request until the visitor's files are removed."""
    max_checks: Annotated[int, Field(ge=1)] = 50
    """Largest number of files of one visitor at a time."""
    max_visit_mb: Annotated[int, Field(ge=1)] = 2000
    """Largest total size of one visitor's files, models and results, in megabytes."""
    timeout_seconds: Annotated[float, Field(gt=0)] = 300.0
    """Deadline for one video in seconds, as in ``RunSettings``; visitors wait for the result."""
    host: str = "127.0.0.1"
    """Address that the server listens on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8501
    """Port that the server listens on; 0 is any that is free."""
    allow_hosts: tuple[str, ...] = ()
    """Further names by which browsers reach the page: NAME or NAME:PORT."""
