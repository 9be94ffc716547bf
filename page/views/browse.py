"""Browse results: the table of a batch run, and one that is still working."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import streamlit as st

from page import markup, queries
from page.queries import Live, Wanted
from page.server import get_server
from page.views.detail import format_row, show_detail
from page.words import MARKS, format_clock
from reelcheck.card import ModelCard
from reelcheck.errors import ReelcheckError
from reelcheck.locations import is_url, location_of
from reelcheck.page_config import PageSettings
from reelcheck.visible import spell_invisible
from storage.outputs import ScoreLayout
from storage.rows import PredictionRow, ScoreRow
from tasks.scoring.words import format_score

_POLL_SECONDS = 2


def show() -> None:
    """Draw the page."""
    settings = get_server().settings
    st.html('<p class="rc-kicker">reelcheck · deepfake check</p>')
    st.title("Browse results", anchor=False)
    output = _choose_output(settings)
    if output is None:
        st.info(
            "Start the page with `reelcheck page --results OUT`, where OUT is the folder that "
            "`reelcheck score … --out OUT` writes to.",
            icon=":material/table_rows:",
        )
        return
    if output.lock_holder_path.exists():
        _show_live(str(output.path))
    if not output.parquet_path.exists():
        st.info(f"`{output.path}` holds no result table yet.", icon=":material/hourglass_empty:")
        return
    try:
        table = _load_table(str(output.parquet_path), output.parquet_path.stat().st_mtime_ns)
        _show_table(output, table)
    except ReelcheckError as error:
        st.error(markup.escape_markdown(str(error)), icon=":material/error:")


def _choose_output(settings: PageSettings) -> ScoreLayout | None:
    if settings.allow_paths:
        text = st.text_input("Folder of a scoring run", key="results-folder").strip()
        if text:
            return ScoreLayout(Path(text).expanduser().resolve())
    folders = [str(path) for path in settings.results]
    if not folders:
        return None
    if len(folders) == 1:
        return ScoreLayout(Path(folders[0]))
    return ScoreLayout(Path(st.selectbox("Scoring run", folders, key="results-run")))


@st.cache_resource(max_entries=4, show_spinner="Reading the table")
def _load_table(path: str, mtime_ns: int) -> pa.Table:
    """Load a table once for all visitors, and again when it has changed: the time is in the key."""
    return queries.load_table(Path(path))


@st.cache_resource(max_entries=4, show_spinner=False)
def _open_live(results_dir: str) -> Live:
    return Live.of(Path(results_dir))


@st.fragment(run_every=_POLL_SECONDS)
def _show_live(folder: str) -> None:
    output = ScoreLayout(Path(folder))
    if not output.lock_holder_path.exists():
        st.rerun()
    results_dir = queries.find_newest_results(output)
    with st.container(border=True):
        st.markdown(":material/sync: **A run is writing here.** Predictions so far:")
        if results_dir is None:
            st.caption("None yet.")
            return
        live = _open_live(str(results_dir))
        is_behind = live.read()
        st.html(markup.render_totals(live.verdicts))
        lines = [
            f"<div>{_render_live_chip(row)} <span class='rc-muted'>"
            f"{markup.escape_text((row['video_id'] or '')[:16])}…</span></div>"
            for row in live.last
        ]
        st.html("".join(lines))
        st.caption(
            "The last predictions, by content; file names come with the table when the run ends."
            + (" More predictions are still being read." if is_behind else "")
        )


def _render_live_chip(row: PredictionRow) -> str:
    verdict, score = row["verdict"], row["score"]
    if verdict is None or score is None:
        return markup.render_chip(None, row["status"].replace("_", " "))
    return markup.render_chip(verdict, f"{verdict} {format_score(score)}")


def _show_table(output: ScoreLayout, table: pa.Table) -> None:
    wanted = _ask_filters(table)
    selected = queries.select_files(table, wanted)
    total = f"{table.num_rows:,} files"
    failures = {s: n for s, n in queries.count_values(selected, "status").items() if s != "ok"}
    st.html(markup.render_totals(queries.count_values(selected, "verdict") | failures))
    if selected.num_rows:
        st.html(markup.render_histogram(queries.count_by_score(selected)))
    st.caption(f"{selected.num_rows:,} of {total}" if selected.num_rows < table.num_rows else total)
    if not selected.num_rows:
        st.info("No file matches.", icon=":material/search_off:")
        return
    page = min(st.session_state.get("results-page", 1), queries.count_pages(selected))
    shown = queries.take_page(selected, page)
    event = st.dataframe(
        _format_page(shown),
        hide_index=True,
        row_height=36,
        height=36 * min(shown.num_rows + 1, 15) + 3,
        column_config=_COLUMNS,
        on_select="rerun",
        selection_mode="single-row",
        key=f"results-table-{page}-{hash(wanted)}",
        alt="Files and their verdicts; choose a row to see the file's details",
    )
    if queries.count_pages(selected) > 1:
        st.pagination(queries.count_pages(selected), key="results-page")
    rows = event["selection"]["rows"]
    if rows:
        _show_file(output, table, shown["row"][rows[0]].as_py())
    else:
        st.caption("Choose a row, at its left edge, to see the file's details.")


def _ask_filters(table: pa.Table) -> Wanted:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input("Find", placeholder="part of a path", key="find", width=230)
        sort = st.selectbox("Sort", list(queries.SORTS), key="sort", width=210)
        statuses = st.multiselect(
            "Status",
            list(queries.count_values(table, "status")),
            key="statuses",
            width=240,
            format_func=lambda status: status.replace("_", " "),
            placeholder="all",
        )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        verdicts = st.pills(
            "Verdict",
            list(queries.count_values(table, "verdict")),
            selection_mode="multi",
            default=None,
            key="verdicts",
            format_func=lambda verdict: f"{MARKS[verdict]} {verdict}",
        )
        low, high = st.slider("Score", 0.0, 1.0, (0.0, 1.0), 0.01, key="scores", width=320)
    return Wanted(
        verdicts=tuple(verdicts),
        statuses=tuple(statuses),
        lowest=low,
        highest=high,
        text=text.strip(),
        sort=sort,
    )


def _format_page(page: pa.Table) -> pa.Table:
    """Format one page of the table in words."""
    rows = page.to_pylist()
    columns: dict[str, list[Any]] = {
        "file": [spell_invisible(row["path"]) for row in rows],
        "verdict": [
            f"{MARKS[row['verdict']]} {row['verdict'] or row['status'].replace('_', ' ')}"
            for row in rows
        ],
        "score": [row["score"] for row in rows],
        "faces": [row["num_faces"] for row in rows],
        "length": [
            None if row["duration_seconds"] is None else format_clock(row["duration_seconds"])
            for row in rows
        ],
        "quality": [", ".join(row["quality_flags"]).replace("_", " ") for row in rows],
        "reason": [spell_invisible(row["reason"] or "") for row in rows],
    }
    return pa.table(columns)


_COLUMNS = {
    "file": st.column_config.TextColumn("file", width=250),
    "verdict": st.column_config.TextColumn("verdict", width="small"),
    "score": st.column_config.NumberColumn("score", format="%.3f", width="small"),
    "faces": st.column_config.NumberColumn("faces", width=60),
    "length": st.column_config.TextColumn("length", width="small"),
    "quality": st.column_config.TextColumn("quality", width=150),
    "reason": st.column_config.TextColumn("reason", width="medium"),
}


def _show_file(output: ScoreLayout, table: pa.Table, index: int) -> None:
    row = queries.read_full_row(output, table, index)
    st.divider()
    show_detail(
        row,
        name=row["path"],
        card=_find_card(row["model_id"]),
        media=_find_media(row),
        evidence_dir=output.path,
        key=f"row-{index}",
    )
    st.download_button(
        "Row as JSON",
        lambda: format_row(row, name=row["path"]),
        file_name=f"{Path(row['path']).stem[:60]}.json",
        mime="application/json",
        icon=":material/data_object:",
        on_click="ignore",
    )


def _find_media(row: ScoreRow) -> Path | None:
    """Find the file of a row, in the folder that the operator has named; None: it has a URL."""
    location = location_of(row)
    return None if is_url(location) else Path(location)


def _find_card(model_id: str) -> ModelCard | None:
    """Find the card of a model that the page knows."""
    from page.server import list_models

    try:
        known = list_models(get_server().settings, None)
    except ReelcheckError:
        return None
    return next((model.card for model in known if model.card.model_id == model_id), None)
