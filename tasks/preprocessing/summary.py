"""Counts and times of one run of preprocessing: for people and for ``summary.json``."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tasks.plotting.markdown import format_table

STAGES = {
    "hash": "name the files by content",
    "demux": "read packets",
    "decode": "make pictures",
    "detect": "find faces",
    "crop": "cut faces out",
    "write": "write crops and tables",
    "other": "start processes, pass results on",
}
"""Stage -> description, in the order of the work."""


@dataclass(frozen=True, kw_only=True)
class WorkDone:
    """What one shard of a run did and cost."""

    num_videos: int = 0
    num_frames: int = 0
    """Frames that were decoded."""
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)
    """CPU seconds per stage."""


@dataclass(frozen=True, kw_only=True)
class PreprocessSummary:
    """One run of preprocessing."""

    counts: Mapping[str, int]
    """Number of the source's files per status, including files of earlier runs."""
    num_videos: int
    """Contents that this run processed."""
    num_videos_before: int
    """Contents of this source that earlier runs had processed."""
    num_frames: int
    """Frames that this run decoded."""
    wall_seconds: float
    cpu_seconds: Mapping[str, float]
    """CPU seconds of this run per stage of ``STAGES``."""

    @property
    def videos_per_second(self) -> float:
        """Videos of this run per second of wall time."""
        return self.num_videos / self.wall_seconds

    @property
    def frames_per_second(self) -> float:
        """Decoded frames per second of wall time."""
        return self.num_frames / self.wall_seconds

    @property
    def cpu_shares(self) -> dict[str, float]:
        """Share of each stage in the CPU time, 0 to 1."""
        total = sum(self.cpu_seconds.values())
        return {stage: spent / total if total else 0.0 for stage, spent in self.cpu_seconds.items()}


def add_by_name(groups: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Add up the numbers of the same name."""
    total: dict[str, float] = defaultdict(float)
    for group in groups:
        for name, number in group.items():
            total[name] += number
    return dict(total)


def summarise(
    shards: Iterable[WorkDone],
    *,
    counts: Mapping[str, int],
    num_videos_before: int,
    wall_seconds: float,
    cpu_seconds: float,
) -> PreprocessSummary:
    """Sum up a run.

    Args:
        shards: what was done for each shard.
        counts: files per status.
        num_videos_before: contents that earlier runs had processed.
        wall_seconds: wall time of the whole run.
        cpu_seconds: CPU time of the whole run, including child processes; the part that belongs to
            no stage becomes the stage ``other``.
    """
    shards = list(shards)
    spent = add_by_name(shard.cpu_seconds for shard in shards)
    spent["other"] = max(0.0, cpu_seconds - sum(spent.values()))
    return PreprocessSummary(
        counts=dict(counts),
        num_videos=sum(shard.num_videos for shard in shards),
        num_videos_before=num_videos_before,
        num_frames=sum(shard.num_frames for shard in shards),
        wall_seconds=wall_seconds,
        cpu_seconds={stage: spent.get(stage, 0.0) for stage in STAGES},
    )


def make_record(summary: PreprocessSummary) -> dict[str, Any]:
    """Make the content of ``summary.json``: the record, its speeds and its shares."""
    return {
        **asdict(summary),
        "videos_per_second": summary.videos_per_second,
        "frames_per_second": summary.frames_per_second,
        "cpu_shares": summary.cpu_shares,
    }


def format_overview(summary: PreprocessSummary) -> dict[str, str]:
    """Write the numbers of the whole run as text, by name."""
    return {
        "videos in this run": str(summary.num_videos),
        "videos done before": str(summary.num_videos_before),
        "frames": str(summary.num_frames),
        "wall seconds": f"{summary.wall_seconds:.1f}",
        "videos/s": f"{summary.videos_per_second:.2f}",
        "frames/s": f"{summary.frames_per_second:.1f}",
    }


def format_stages(summary: PreprocessSummary) -> list[tuple[str, str, str, str]]:
    """Write a row per stage: name, description, CPU seconds and share."""
    shares = summary.cpu_shares
    return [
        (stage, STAGES[stage], f"{spent:.2f}", f"{shares[stage]:.1%}")
        for stage, spent in summary.cpu_seconds.items()
    ]


def format_markdown(summary: PreprocessSummary) -> str:
    """Write the summary as Markdown tables."""
    tables = [
        format_table(("run", ""), format_overview(summary).items()),
        format_table(("status", "files"), summary.counts.items()),
        format_table(("stage", "", "CPU seconds", "share"), format_stages(summary)),
    ]
    return "\n\n".join(tables) + "\n"
