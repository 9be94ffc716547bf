"""Helpers of benchmarks of whole processes: run one, measure its cost, describe the machine."""

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


def describe_machine(packages: Sequence[str]) -> dict[str, Any]:
    """Describe the machine and the versions of packages."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def run_process(script: Path, work: str, **arguments: object) -> dict[str, Any]:
    """Run a fresh process; arguments are JSON on stdin, the report is JSON on its last line."""
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


def read_children_cpu_seconds() -> float:
    """Read the CPU seconds of all ended child processes and their children."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
