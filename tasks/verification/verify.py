"""A folder of any kind -> the files that are not as they were written."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from reelcheck.errors import ReelcheckError, StoreError
from reelcheck.progress import show_progress
from storage.atomic import set_aside
from storage.layout import ModelLayout, RegistryLayout, StoreLayout
from storage.lock import hold_run_lock
from storage.outputs import EvaluationLayout, LockedFolder, ScoreLayout
from tasks.verification.checks import Check, Damage
from tasks.verification.results import (
    list_evaluation_checks,
    list_model_checks,
    list_registry_checks,
    list_score_checks,
)
from tasks.verification.store import list_store_checks

_log = logging.getLogger(__name__)


def verify(folder: Path, *, sets_aside: bool = False) -> tuple[int, list[Damage]]:
    """Check every file of a store, model, registry, evaluation or scoring output.

    Args:
        folder: the folder.
        sets_aside: rename what the next run makes again if it is not there: answers, features of
            crops, and the tables that count a shard as done.

    Returns:
        Number of files that were checked, and those that are not as they were written.

    Raises:
        StoreError: the folder is of no such kind; or a run writes to it, while ``sets_aside``.
    """
    checks = list(list_checks(folder))
    if not checks:
        raise StoreError(
            f"{folder} is no store, model, registry, evaluation or scoring output that can be "
            "checked; give the folder that a command of reelcheck wrote"
        )
    damages = []
    with (
        ExitStack() as stack,
        show_progress(total=len(checks), description="verify", unit="files") as bar,
    ):
        if sets_aside:
            for locked in _list_locked_folders(folder):
                stack.enter_context(hold_run_lock(locked))
        for check in checks:
            if (damage := _find_damage(check)) is not None:
                damages.append(damage)
                if sets_aside and check.marker is not None and check.marker.exists():
                    _log.info("%s is kept as %s", check.marker, set_aside(check.marker).name)
            bar.update(1)
    return len(checks), damages


def list_checks(folder: Path) -> Iterator[Check]:
    """List the checks of a folder; none: it is of no known kind."""
    model = ModelLayout(folder)
    for layout in _list_preprocessings(folder):
        yield from list_store_checks(layout)
    if model.card_path.exists() or model.weights_path.exists():
        yield from list_model_checks(model)
    elif RegistryLayout(folder).version_names():
        yield from list_registry_checks(RegistryLayout(folder))
    elif EvaluationLayout(folder).evaluation_path.exists():
        yield from list_evaluation_checks(EvaluationLayout(folder))
    else:
        yield from list_score_checks(ScoreLayout(folder))


def _list_preprocessings(folder: Path) -> list[StoreLayout]:
    """List the preprocessings of a store; the folder may be one itself."""
    layouts = [StoreLayout(path) for path in (folder, *sorted(folder.glob("*/")))]
    return [layout for layout in layouts if layout.settings_path.exists()]


def _list_locked_folders(folder: Path) -> list[LockedFolder]:
    layouts = _list_preprocessings(folder)
    if layouts:
        return [*layouts]
    return [ScoreLayout(folder)] if (folder / "results").is_dir() else []


def _find_damage(check: Check) -> Damage | None:
    try:
        check.run()
    except (ReelcheckError, OSError) as error:
        return Damage(check.path, str(error))
    return None
