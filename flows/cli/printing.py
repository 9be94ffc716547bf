"""Tables and paths that the commands print, on stdout."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from reelcheck.visible import spell_invisible

if TYPE_CHECKING:
    from models.metrics.evaluation import Evaluation
    from reelcheck.card import PhaseSummary
    from reelcheck.recipes import Recipe
    from reelcheck.weights.catalogue import CatalogueEntry
    from storage.rows import PredictionRow, ScoreRow
    from tasks.evaluation.studies import AblationRow, LearningPoint
    from tasks.preprocessing.summary import PreprocessSummary
    from tasks.registry.versions import Comparison, Details, Version
    from tasks.splits.audit import Audit
    from tasks.splits.shortcuts import Shortcuts
    from tasks.verification.checks import Damage


class _Console(Console):
    """A terminal that shows characters it would otherwise obey, whatever text is printed."""

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(spell_invisible(text), **how)


# No emoji: a file may be named `:smile:`.
console = _Console(emoji=False)


def print_path(what: str, path: str | Path) -> None:
    """Where something was written; never wrapped, so that it can be copied."""
    console.print(f"{what}: {path}", highlight=False, markup=False, soft_wrap=True)


def print_damages(place: str, damages: "Sequence[Damage]", *, num_checked: int) -> None:
    """How many files were checked, and a line per file that is not as it was written."""
    for damage in damages:
        text = f"damaged: {damage.path}: {' '.join(damage.reason.split())}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    found = f"{len(damages)} damaged" if damages else "all as they were written"
    text = f"{place}: {num_checked} files checked, {found}"
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def print_summary(summary: "PreprocessSummary") -> None:
    """Print the counts and the times of a preprocessing run."""
    from tasks.preprocessing.summary import format_overview, format_stages

    table = Table("run", "", title="This run")
    for name, text in format_overview(summary).items():
        table.add_row(name, text)
    console.print(table)
    stages = Table("stage", "", "CPU seconds", "share", title="CPU time")
    for row in format_stages(summary):
        stages.add_row(*row)
    console.print(stages)


def print_counts(title: str, counts: Mapping[str, int]) -> None:
    """Files per status."""
    table = Table("status", "files", title=title)
    for status, count in counts.items():
        table.add_row(status, str(count))
    table.add_row("[bold]all[/]", str(sum(counts.values())))
    console.print(table)


def print_audit(found: "Audit", *, max_rows: int = 20) -> None:
    """Balance, leaks and shortcuts of a store."""
    from tasks.splits.audit import list_leaked_files

    print_splits(found.counts)
    for part in found.unbalanced:
        console.print(
            f"[yellow]unbalanced:[/] {part} has another share of fakes, or one label only"
        )
    if found.splits_from == "none":
        console.print(
            "no video is in a split yet: run `reelcheck split`, then look for leaks again"
        )
    elif not found.leaks:
        console.print(
            "[green]no leak found[/]: nothing that two splits have in common. "
            f"Copies are found after these edits: {'; '.join(found.edits_covered)}. "
            f"Not covered: {'; '.join(found.edits_not_covered)}.",
            highlight=False,
        )
    else:
        rows = list_leaked_files(found.leaks)
        table = Table("", "in common", "which", "split", "label", title=f"{len(found.leaks)} leaks")
        table.add_column("file", overflow="fold")
        for row in rows[:max_rows]:
            table.add_row(*(escape(str(value)) for value in row.values()))
        console.print(table)
        if len(rows) > max_rows:
            console.print(f"… and {len(rows) - max_rows} more files")
    if found.num_near_duplicates:
        console.print(f"{found.num_near_duplicates} pairs of videos look alike", highlight=False)
    print_shortcuts(found.shortcuts)


def print_splits(counts: Mapping[str, Mapping[str, int]]) -> None:
    """Videos with crops per split and label."""
    table = Table("split", "real", "fake", title="Videos per split")
    for name, labels in counts.items():
        table.add_row(name, str(labels["real"]), str(labels["fake"]))
    console.print(table)


def print_shortcuts(found: "Shortcuts | None") -> None:
    """Print how well metadata alone tells the labels."""
    if found is None:
        console.print("[yellow]shortcuts:[/] too few unconnected groups to tell")
        return
    table = Table("metadata", "AUC", title="What tells the label without a look at any face")
    table.add_row(
        "all together", f"{found.auc.value:.3f} ({found.auc.low:.3f}-{found.auc.high:.3f})"
    )
    for name, auc in found.by_column.items():
        table.add_row(name, f"{auc:.3f}")
    table.add_row("[dim]file name (not seen by a detector)[/]", f"[dim]{found.file_name:.3f}[/]")
    console.print(table)
    best = next(iter(found.by_column))
    said = {
        "ok": "[green]no shortcut[/]",
        "warn": f"[yellow]shortcut?[/] {best} tells most",
        "fail": f"[red]shortcut:[/] {best} gives the label away; see `reelcheck normalise`",
    }
    console.print(said[found.verdict], highlight=False)


def print_metrics(title: str, metrics: dict[str, Any]) -> None:
    """Figures of a model."""
    # A long title would be broken to the width of the table.
    console.print(title, soft_wrap=True)
    table = Table("metric", "value")
    for name, value in metrics.items():
        text = f"{value:.4f}" if isinstance(value, float) else str(value)
        table.add_row(name, "-" if value is None else text)
    console.print(table)


def print_evaluation(found: "Evaluation", *, title: str = "Held-out figures") -> None:
    """Figures with their intervals, baselines and perturbations."""
    from tasks.evaluation.sections import describe_evaluation

    shown = {"Figures": title, "Compared with": "Compared with", "Robustness": "Robustness"}
    for section in describe_evaluation(found):
        if section.title in shown:
            table = Table(*section.header, title=shown[section.title])
            for row in section.rows:
                table.add_row(*map(escape, row))
            console.print(table)
    console.print(
        f"{found['num_scored']} of {found['num_videos']} videos have a score "
        f"({found['coverage']:.1%})",
        highlight=False,
    )


def print_scores(rows: "list[ScoreRow]", *, max_rows: int = 25) -> None:
    """Print the first rows of a result table."""
    from tasks.scoring.words import format_score

    table = Table("status", "score", "verdict", "faces", "reason", title="Scores")
    table.columns.insert(0, Column("file", overflow="fold"))
    colours = {"fake": "red", "real": "green", "inconclusive": "yellow"}
    for row in rows[:max_rows]:
        verdict = row["verdict"] or ""
        score_text = "" if row["score"] is None else format_score(row["score"])
        table.add_row(
            escape(row["path"]),
            row["status"],
            score_text,
            f"[{colours[verdict]}]{verdict}[/]" if verdict else "",
            str(row["num_faces"] if row["num_faces"] is not None else ""),
            escape(row["reason"] or ""),
        )
    console.print(table)
    if len(rows) > max_rows:
        console.print(f"… and {len(rows) - max_rows} more rows in the table")


def print_score(path: str, row: "PredictionRow") -> None:
    """Print one prediction as soon as it is made, above the progress bar."""
    from tqdm import tqdm

    from tasks.scoring.words import format_score

    verdict = row["verdict"] or row["status"]
    score_text = "" if row["score"] is None else format_score(row["score"])
    remark = f"  ({row['reason']})" if row["reason"] else ""
    tqdm.write(spell_invisible(f"{verdict:<14} {score_text:>6}  {path}{remark}"))


def print_outcome(summary: dict[str, Any], *, is_new: bool) -> None:
    """Counts of a scoring run and where its time went."""
    table = Table("outcome", "files", title="Scores")
    for verdict, count in summary["verdicts"].items():
        table.add_row(verdict, str(count))
    for status, count in summary["statuses"].items():
        if status != "ok":
            table.add_row(status, str(count))
    table.add_row("[bold]all[/]", str(summary["num_files"]))
    console.print(table)
    seconds = summary["stage_seconds"]
    total = summary["cpu_seconds"] or 1.0
    seconds = {**seconds, "other": max(0.0, total - sum(seconds.values()))}
    shares = ", ".join(f"{stage} {value / total:.0%}" for stage, value in seconds.items())
    when = "" if is_new else "nothing new; the run before: "
    console.print(
        f"{when}{summary['num_new']} scored in {summary['wall_seconds']:.1f} s with "
        f"{summary['engine']} ({summary['videos_per_second']:.2f} videos/s, "
        f"{total:.1f} CPU s: {shares})",
        highlight=False,
    )


def print_recipes(recipes: list["Recipe"]) -> None:
    """Every recipe: what it is for, its backbone and its phases."""
    for recipe in recipes:
        phases = "; ".join(
            f"{phase.max_epochs} epochs at {phase.learning_rate:g}"
            + ("" if phase.backbone_share == 1 else f", {phase.backbone_share:.0%} of the backbone")
            for phase in recipe.train.phases
        )
        console.print(f"[bold]{escape(recipe.name)}[/]")
        console.print(f"  {recipe.description}", highlight=False, markup=False)
        console.print(f"  [dim]{recipe.train.detector.backbone}: {phases}[/]", highlight=False)


def print_catalogue(entries: "Sequence[tuple[CatalogueEntry, bool]]") -> None:
    """Entries of the catalogue, and whether each is in the user's cache."""
    table = Table(Column("name", no_wrap=True), "kind", "commercial use")
    table.add_column("MB", justify="right")
    table.add_column("cached")
    for entry, is_cached in entries:
        table.add_row(
            entry.name,
            entry.kind,
            entry.commercial_use,
            "" if entry.num_bytes is None else f"{entry.num_bytes / 1e6:.1f}",
            "yes" if is_cached else "",
        )
    console.print(table)


def print_entry(entry: "CatalogueEntry", *, folder: Path | None) -> None:
    """Everything that is known of an entry, and where it lies in the user's cache."""
    table = Table(Column(), Column(overflow="fold"), show_header=False, box=None)
    values = entry.model_dump(exclude={"source", "cites"}, exclude_none=True)
    values |= {f"source {key}": value for key, value in entry.source.model_dump().items()}
    for name, value in values.items():
        table.add_row(f"[bold]{name.replace('_', ' ')}[/]", escape(str(value)))
    for cite in entry.cites:
        table.add_row("[bold]read at[/]", escape(cite))
    console.print(table)
    if folder is not None:
        print_path("in the cache", folder)


def print_versions(versions: "Sequence[Version]") -> None:
    """Versions of a registry."""
    table = Table("", "version", "train videos", "validation AUC", title="Model versions")
    table.add_column("gate", overflow="fold")
    for version in versions:
        table.add_row(
            "in use" if version.is_champion else "",
            escape(version.name),
            str(version.num_train_videos),
            _figure(version.validation_auc),
            escape(version.decision),
        )
    console.print(table)


def print_details(details: "Details") -> None:
    """One version: its card, its figures, what the gate said."""
    version, card = details.version, details.card
    table = Table("", escape(version.name), title="Model version")
    rows = {
        "in use": "yes" if version.is_champion else "no",
        "model": version.model_id,
        "backbone": card.detector.backbone,
        "preprocessing": card.preprocessing_hash,
        "split": card.split_hash or "-",
        "train videos": str(version.num_train_videos),
        "validation AUC": _figure(version.validation_auc),
        "threshold": f"{card.calibration.threshold:.3f} ({card.calibration.threshold_rule})",
    }
    if card.training is not None:
        rows["began with"] = card.began_with
    rows |= {"note": "; ".join(card.notes)} if card.notes else {}
    for name, text in rows.items():
        table.add_row(name, escape(text))
    console.print(table)
    for name, found in details.evaluations.items():
        print_metrics(escape(f"{name}, coverage {found['coverage']:.1%}"), found["metrics"])
    if details.gate is None:
        console.print("the gate was never asked")
    else:
        print_gate(details.gate)


def print_comparison(names: tuple[str, str], found: "Comparison") -> None:
    """Two versions side by side."""
    table = Table("", title="Two versions")
    for name in names:
        table.add_column(escape(name), overflow="fold")
    for name, figures in found.figures.items():
        table.add_row(name.replace("_", " "), *(_count_or_figure(figure) for figure in figures))
    console.print(table)
    measured = found.measured_on or "no evaluation in common: evaluate both on one store"
    console.print(f"measured on: {measured}", highlight=False, markup=False)
    if found.gate is not None:
        print_gate(found.gate)


def print_gate(record: Mapping[str, Any]) -> None:
    """Print the decision about a challenger, rule by rule."""
    from tasks.registry.gate import format_value

    table = Table("rule", "measured", "must be", "met", title="Gate")
    for rule in record["rules"]:
        table.add_row(
            escape(rule["name"]),
            format_value(rule["value"]),
            escape(rule["limit"]),
            "yes" if rule["passed"] else "[red]NO[/]",
        )
    if record["rules"]:
        console.print(table)
    head = "promoted" if record["promoted"] else "not promoted"
    # Never wrapped: the reason may hold a command to copy.
    console.print(
        f"{head} by {record['decided_by']}: {record['reason']}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def print_phases(phases: tuple["PhaseSummary", ...]) -> None:
    """Print which layers learned in each phase."""
    table = Table("fold", "phase", "learning rate", "trainable parameters", "epochs", "best")
    table.title = "Phases"
    for phase in phases:
        table.add_row(
            "" if phase.fold is None else str(phase.fold),
            str(phase.phase),
            f"{phase.learning_rate:g}",
            f"{phase.num_trainable:,} of {phase.num_parameters:,}",
            str(phase.num_epochs),
            str(phase.best_epoch),
        )
    console.print(table)


def print_learning_curve(points: list["LearningPoint"]) -> None:
    """Print the figures by number of training videos."""
    table = Table("train videos", "validation AUC", "validation F1", title="Learning curve")
    for point in points:
        table.add_row(str(point.num_videos), _figure(point.val_auc), _figure(point.val_f1))
    console.print(table)


def print_ablation(rows: list["AblationRow"]) -> None:
    """Print the figures by switch of training."""
    table = Table("run", "what was changed", "validation AUC", "held-out AUC (95 %)")
    for row in rows:
        found = row.test_auc
        held_out = "-" if found is None else f"{found.value:.3f} ({found.low:.3f}-{found.high:.3f})"
        table.add_row(row.name, row.change, _figure(row.val_auc), held_out)
    console.print(table)


def _count_or_figure(value: float | int | None) -> str:
    return f"{value:,}" if isinstance(value, int) else _figure(value)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
