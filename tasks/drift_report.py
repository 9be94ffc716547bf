"""The champion's look at what is new: ``drift.json``, ``drift.png``, and words for an artifact.

Compared are the labelled videos that came since the champion was trained with those that were held
out then: neither has it learned from, so its scores of both are honest.
"""

import json
from dataclasses import asdict

from prefect import task

from models.metrics import Interval
from storage.atomic import write_text
from storage.checkpoints import read_card, read_champion
from storage.layout import ModelLayout, RegistryLayout, StoreLayout
from storage.lock import run_lock
from storage.schemas import SPLIT
from storage.tables import Row, read_metadata, read_rows
from tasks.answers import evaluated_rows, known_videos
from tasks.drift import Drift, drift
from tasks.drift_plot import draw_drift
from tasks.markdown import markdown_table, number

_MAX_VIDEOS = 1000
"""Of either kind: the first by id, which is as good as any order."""


@task(name="drift")
def report_drift(layout: StoreLayout, registry: RegistryLayout) -> Drift | None:
    """Compare new videos with those before, and write what was found into the registry.

    Args:
        layout: the store, divided.
        registry: folder of versions.

    Returns:
        None: there is no champion, or it was trained on crops of other preprocessing.
    """
    champion = read_champion(registry)
    if champion is None:
        return None
    model = registry.version(champion)
    if read_card(model).preprocessing_hash != layout.preprocessing_hash:
        return None
    old, new = _answers(layout, model)
    found = drift(old, new)
    record = {"champion": champion, "summary": found.summary, **asdict(found)}
    for rate, written in zip(found.rates, record["rates"], strict=True):
        written |= {side: _named(getattr(rate, side)) for side in ("old", "new")}
    write_text(registry.drift_path, json.dumps(record, indent=2) + "\n")
    draw_drift(registry.drift_plot_path, found)
    return found


def drift_markdown(found: Drift) -> str:
    """The same for an artifact."""
    shifts = markdown_table(
        ("what", "videos before", "new", "PSI", "by chance", ""),
        [
            (s.name, s.old.videos, s.new.videos, number(s.psi), number(s.by_chance), s.verdict)
            for s in found.shifts
        ],
    )
    rates = markdown_table(
        ("share of videos (95 %)", "before", "new", ""),
        [(rate.name, _shown(rate.old), _shown(rate.new), rate.verdict) for rate in found.rates],
    )
    return f"{found.summary}\n\n{shifts}\n\n{rates}"


def _answers(layout: StoreLayout, model: ModelLayout) -> tuple[list[Row], list[Row]]:
    """What a model says of videos held out when it was trained, and of those that came since."""
    part_of = {row["video_id"]: row["split"] for row in read_rows(model.split_path, SPLIT)}
    known = known_videos(layout, part=None)
    old = [name for name in known if part_of.get(name) == "test"][:_MAX_VIDEOS]
    new = [name for name in known if name not in part_of][:_MAX_VIDEOS]
    chosen = {name: known[name] for name in sorted([*old, *new])}
    output = model.evaluation("drift", read_metadata(layout.split_path)["split_hash"])
    with run_lock(output):
        rows = evaluated_rows(layout, model, chosen, output)
    is_old = set(old)
    return (
        [row for row in rows if row["video_id"] in is_old],
        [row for row in rows if row["video_id"] not in is_old],
    )


def _named(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else interval._asdict()


def _shown(interval: Interval | None) -> str:
    if interval is None:
        return "undefined"
    return f"{interval.value:.1%} ({interval.low:.1%}-{interval.high:.1%})"
