"""What one run of preprocessing did and what it cost: for people and for ``summary.json``."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tasks.markdown import markdown_table

STAGES = {
    "hash": "name the files by content",
    "demux": "read packets",
    "decode": "make pictures",
    "detect": "find faces",
    "crop": "cut faces out",
    "write": "write crops and tables",
    "other": "start processes, pass results on",
}
"""Stage -> what it is, in the order of the work."""


@dataclass(frozen=True, kw_only=True)
class WorkDone:
    """A part of a run; seconds are CPU seconds per stage."""

    num_videos: int = 0
    num_frames: int = 0
    """Frames that the decoder gave."""
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PreprocessSummary:
    """One run of preprocessing."""

    counts: Mapping[str, int]
    """The source's files per status, those of earlier runs included."""
    num_videos: int
    """Contents processed by this run."""
    num_videos_before: int
    """Contents of this source that earlier runs had processed."""
    num_frames: int
    """Frames that the decoder gave in this run."""
    wall_seconds: float
    cpu_seconds: Mapping[str, float]
    """CPU seconds of this run per stage of ``STAGES``."""

    @property
    def videos_per_second(self) -> float:
        """Of wall time, with everything that the run does besides."""
        return self.num_videos / self.wall_seconds

    @property
    def frames_per_second(self) -> float:
        """Of wall time."""
        return self.num_frames / self.wall_seconds

    @property
    def cpu_shares(self) -> dict[str, float]:
        """Share of each stage in the CPU time, 0 to 1."""
        total = sum(self.cpu_seconds.values())
        return {stage: spent / total if total else 0.0 for stage, spent in self.cpu_seconds.items()}


def summed(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Numbers of the same name added up."""
    total: dict[str, float] = defaultdict(float)
    for part in parts:
        for name, number in part.items():
            total[name] += number
    return dict(total)


def summarise(
    parts: Iterable[WorkDone],
    *,
    counts: Mapping[str, int],
    num_videos_before: int,
    wall_seconds: float,
    cpu_seconds: float,
) -> PreprocessSummary:
    """The sum of a run's parts.

    Args:
        parts: what was done.
        counts: files per status.
        num_videos_before: contents done by earlier runs.
        wall_seconds: of the whole run.
        cpu_seconds: of the whole run, child processes included; what no stage claims is ``other``.
    """
    parts = list(parts)
    spent = summed(part.cpu_seconds for part in parts)
    spent["other"] = max(0.0, cpu_seconds - sum(spent.values()))
    return PreprocessSummary(
        counts=dict(counts),
        num_videos=sum(part.num_videos for part in parts),
        num_videos_before=num_videos_before,
        num_frames=sum(part.num_frames for part in parts),
        wall_seconds=wall_seconds,
        cpu_seconds={stage: spent.get(stage, 0.0) for stage in STAGES},
    )


def as_json(summary: PreprocessSummary) -> str:
    """The content of ``summary.json``: the record, with the speeds and shares worked out."""
    values: dict[str, Any] = {
        **asdict(summary),
        "videos_per_second": summary.videos_per_second,
        "frames_per_second": summary.frames_per_second,
        "cpu_shares": summary.cpu_shares,
    }
    return json.dumps(values, indent=2) + "\n"


def overview(summary: PreprocessSummary) -> dict[str, str]:
    """The numbers of the whole run as text, by what they are."""
    return {
        "videos in this run": str(summary.num_videos),
        "videos done before": str(summary.num_videos_before),
        "frames": str(summary.num_frames),
        "wall seconds": f"{summary.wall_seconds:.1f}",
        "videos/s": f"{summary.videos_per_second:.2f}",
        "frames/s": f"{summary.frames_per_second:.1f}",
    }


def stage_rows(summary: PreprocessSummary) -> list[tuple[str, str, str, str]]:
    """Stage, what it is, CPU seconds and share as text."""
    shares = summary.cpu_shares
    return [
        (stage, STAGES[stage], f"{spent:.2f}", f"{shares[stage]:.1%}")
        for stage, spent in summary.cpu_seconds.items()
    ]


def as_markdown(summary: PreprocessSummary) -> str:
    """The summary as Markdown tables."""
    tables = [
        markdown_table(("run", ""), overview(summary).items()),
        markdown_table(("status", "files"), summary.counts.items()),
        markdown_table(("stage", "", "CPU seconds", "share"), stage_rows(summary)),
    ]
    return "\n\n".join(tables) + "\n"
