"""Are there known vulnerabilities in what requirements.lock pins?

    python .ci/audit_dependencies.py

Exit code 1 where there is one; 0 where there is none, or where nobody could be asked (no network,
or an index that knows of no vulnerabilities), which is said.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"


def main() -> None:
    """Ask, tell, and end with the exit code."""
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes"),
            *("--requirement", str(LOCK), "--format", "json", "--progress-spinner", "off"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        report = json.loads(result.stdout)
    except json.JSONDecodeError:
        lines = result.stderr.strip().splitlines() or ["no answer"]
        print(f"dependencies not audited, nobody could be asked: {lines[-1]}")
        return
    is_good, message = judged(report)
    print(message)
    sys.exit(0 if is_good else 1)


def judged(report: dict[str, Any]) -> tuple[bool, str]:
    """Whether CI may go on, and what to tell.

    Args:
        report: what ``pip-audit --format json`` printed. A package that the index knows nothing of
            has a ``skip_reason`` in place of its ``vulns``, which alone is no reason to fail.
    """
    packages = report["dependencies"]
    asked = [package for package in packages if "vulns" in package]
    found = [
        f"{package['name']} {package['version']}: {known['id']}, fixed in "
        f"{', '.join(known['fix_versions']) or 'no version yet'}"
        for package in asked
        for known in package["vulns"]
    ]
    if not asked:
        return True, f"dependencies not audited: the index knows none of {len(packages)} packages"
    head = (
        f"{len(found)} vulnerabilities known in {len(asked)} of {len(packages)} packages asked for"
    )
    return not found, "\n".join([head, *found])


if __name__ == "__main__":
    main()
