"""Report how new videos differ, by the champion's scores: ``drift.json``, ``drift.png``, Markdown.

Labelled videos that are new since the champion was trained are compared with those that were held
out then: the champion has learned from neither, so that its scores of both are comparable.
"""

from dataclasses import asdict

from models.metrics.metrics import Interval
from storage.checked.documents import write_document
from storage.checkpoints import read_card, read_champion
from storage.layout import ModelLayout, RegistryLayout, StoreLayout
from storage.lock import hold_run_lock
from storage.rows import EvaluatedRow
from storage.schemas import SPLIT
from storage.tables import read_rows
from tasks.evaluation.predictions import load_or_predict_rows
from tasks.evaluation.unseen import read_known_videos
from tasks.plotting.markdown import format_number, format_table
from tasks.registry.drift import Drift, measure_drift
from tasks.registry.drift_plot import draw_drift
from tasks.splits.stored import read_split_hash

_MAX_VIDEOS = 1000
"""On either side: the first videos by id, which is as good as any order."""


def report_drift(layout: StoreLayout, registry: RegistryLayout) -> Drift | None:
    """Compare new videos with those before, and write the comparison into the registry.

    Args:
        layout: the store, with a split.
        registry: folder of versions.

    Returns:
        The comparison; None: there is no champion, or it was trained on other preprocessing.
    """
    champion = read_champion(registry)
    if champion is None:
        return None
    model = registry.version(champion)
    if read_card(model).preprocessing_hash != layout.preprocessing_hash:
        return None
    old, new = _predict_both_sides(layout, model)
    drift = measure_drift(old, new)
    record = {"champion": champion, "summary": drift.summary, **asdict(drift)}
    for rate, written in zip(drift.rates, record["rates"], strict=True):
        written |= {side: _name_values(getattr(rate, side)) for side in ("old", "new")}
    write_document(registry.drift_path, record)
    draw_drift(registry.drift_plot_path, drift)
    return drift


def format_drift(drift: Drift) -> str:
    """Format the comparison as Markdown, for an artifact."""
    shifts = format_table(
        ("what", "videos before", "new", "PSI", "by chance", ""),
        [
            (
                s.name,
                s.old.videos,
                s.new.videos,
                format_number(s.psi),
                format_number(s.by_chance),
                s.verdict,
            )
            for s in drift.shifts
        ],
    )
    rates = format_table(
        ("share of videos (95 %)", "before", "new", ""),
        [
            (rate.name, _format_interval(rate.old), _format_interval(rate.new), rate.verdict)
            for rate in drift.rates
        ],
    )
    return f"{drift.summary}\n\n{shifts}\n\n{rates}"


def _predict_both_sides(
    layout: StoreLayout, model: ModelLayout
) -> tuple[list[EvaluatedRow], list[EvaluatedRow]]:
    """Predict the videos held out when a model was trained, and the videos that are new since."""
    split_of = {row["video_id"]: row["split"] for row in read_rows(model.split_path, SPLIT)}
    known = read_known_videos(layout, split=None)
    old = [name for name in known if split_of.get(name) == "test"][:_MAX_VIDEOS]
    new = [name for name in known if name not in split_of][:_MAX_VIDEOS]
    chosen = {name: known[name] for name in sorted([*old, *new])}
    output = model.evaluation("drift", read_split_hash(layout))
    with hold_run_lock(output):
        rows = load_or_predict_rows(layout, model, chosen, output)
    is_old = set(old)
    return (
        [row for row in rows if row["video_id"] in is_old],
        [row for row in rows if row["video_id"] not in is_old],
    )


def _name_values(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else interval._asdict()


def _format_interval(interval: Interval | None) -> str:
    if interval is None:
        return "undefined"
    return f"{interval.value:.1%} ({interval.low:.1%}-{interval.high:.1%})"
