"""What benchmarks of whole processes share: fresh ones, what they cost, on which machine."""

import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

FFMPEG = ("ffmpeg", "-nostdin", "-v", "error")


def machine(packages: Sequence[str]) -> dict[str, Any]:
    """What the figures belong to."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def report_of(script: Path, work: str, **arguments: object) -> dict[str, Any]:
    """What a fresh process says of its work: JSON on its last line, as its arguments on stdin."""
    process = subprocess.run(
        (sys.executable, str(script), work),
        input=json.dumps(arguments),
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        sys.exit(f"{work} failed:\n{process.stderr}")
    report: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return report


def children_cpu_seconds() -> float:
    """Of all processes that were started from here and have ended, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
