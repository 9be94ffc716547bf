"""What CI makes of pip-audit's report."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / ".ci" / "audit_dependencies.py"
CLEAN = {"name": "clean", "version": "1", "vulns": []}
UNKNOWN = {"name": "unknown", "skip_reason": "not found"}
BAD = {"name": "bad", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}


@pytest.fixture(scope="module")
def judged() -> Callable[..., tuple[bool, str]]:
    spec = importlib.util.spec_from_file_location("audit_dependencies", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[..., tuple[bool, str]] = module.judged
    return found


@pytest.mark.parametrize(
    ("packages", "is_good", "told"),
    [
        ([CLEAN, UNKNOWN], True, "0 vulnerabilities known in 1 of 2"),
        ([CLEAN, BAD], False, "bad 2: PYSEC-1, fixed in 3"),
        ([UNKNOWN, UNKNOWN], True, "not audited: the index knows none of 2"),
    ],
)
def test_only_a_known_vulnerability_stops_ci(
    judged: Any, packages: list[dict[str, Any]], is_good: bool, told: str
) -> None:
    found, message = judged({"dependencies": packages})
    assert found is is_good
    assert told in message
