"""Browse results: the table of a batch run, and one that is still working."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import streamlit as st

from page import markup, queries
from page.detail import download_row, show_detail
from page.queries import Live, Wanted
from page.server import server
from page.words import MARKS, clock, score_text
from reelcheck.card import ModelCard
from reelcheck.errors import ReelcheckError
from reelcheck.page_config import PageSettings
from reelcheck.places import joined
from storage.outputs import ScoreLayout
from storage.tables import Row

_POLL_SECONDS = 2


def show() -> None:
    """Draw the page."""
    settings = server().settings
    st.html('<p class="rc-kicker">reelcheck · deepfake check</p>')
    st.title("Browse results", anchor=False)
    output = _chosen_output(settings)
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
        table = _table(str(output.parquet_path), output.parquet_path.stat().st_mtime_ns)
        _show_table(output, table)
    except ReelcheckError as error:
        st.error(str(error), icon=":material/error:")


def _chosen_output(settings: PageSettings) -> ScoreLayout | None:
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
def _table(path: str, mtime_ns: int) -> pa.Table:
    """Shared by all visitors, and read again when it was written anew: the time is in the key."""
    return queries.load_table(Path(path))


@st.cache_resource(max_entries=4, show_spinner=False)
def _live(results_dir: str) -> Live:
    return Live.of(Path(results_dir))


@st.fragment(run_every=_POLL_SECONDS)
def _show_live(folder: str) -> None:
    output = ScoreLayout(Path(folder))
    if not output.lock_holder_path.exists():
        st.rerun()
    results_dir = queries.newest_results(output)
    with st.container(border=True):
        st.markdown(":material/sync: **A run is writing here.** Answers so far:")
        if results_dir is None:
            st.caption("None yet.")
            return
        live = _live(str(results_dir))
        is_behind = live.read()
        st.html(markup.totals(live.verdicts))
        lines = [
            f"<div>{_live_chip(row)} <span class='rc-muted'>{markup.shown(row['video_id'][:16])}…"
            "</span></div>"
            for row in live.last
        ]
        st.html("".join(lines))
        st.caption(
            "The last ones, by content; names come with the table when the run has ended."
            + (" There are more that are still being read." if is_behind else "")
        )


def _live_chip(row: Row) -> str:
    verdict = row.get("verdict")
    if verdict is None:
        return markup.chip(None, row["status"].replace("_", " "))
    return markup.chip(verdict, f"{verdict} {score_text(row['score'])}")


def _show_table(output: ScoreLayout, table: pa.Table) -> None:
    wanted = _filters(table)
    found = queries.chosen(table, wanted)
    total = f"{table.num_rows:,} files"
    failures = {s: n for s, n in queries.counts(found, "status").items() if s != "ok"}
    st.html(markup.totals(queries.counts(found, "verdict") | failures))
    if found.num_rows:
        st.html(markup.histogram(queries.score_histogram(found)))
    st.caption(f"{found.num_rows:,} of {total}" if found.num_rows < table.num_rows else total)
    if not found.num_rows:
        st.info("No file matches.", icon=":material/search_off:")
        return
    page = min(st.session_state.get("results-page", 1), queries.num_pages(found))
    shown = queries.window(found, page)
    event = st.dataframe(
        _for_people(shown),
        hide_index=True,
        row_height=36,
        height=36 * min(shown.num_rows + 1, 15) + 3,
        column_config=_COLUMNS,
        on_select="rerun",
        selection_mode="single-row",
        key=f"results-table-{page}-{hash(wanted)}",
        alt="Files and their verdicts; choose a row to see the file's details",
    )
    if queries.num_pages(found) > 1:
        st.pagination(queries.num_pages(found), key="results-page")
    rows = event["selection"]["rows"]
    if rows:
        _show_file(output, table, shown["row"][rows[0]].as_py())
    else:
        st.caption("Choose a row, at its left edge, to see the file's details.")


def _filters(table: pa.Table) -> Wanted:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input("Find", placeholder="part of a path", key="find", width=230)
        sort = st.selectbox("Sort", list(queries.SORTS), key="sort", width=210)
        statuses = st.multiselect(
            "Status",
            list(queries.counts(table, "status")),
            key="statuses",
            width=240,
            format_func=lambda status: status.replace("_", " "),
            placeholder="all",
        )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        verdicts = st.pills(
            "Verdict",
            list(queries.counts(table, "verdict")),
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


def _for_people(shown: pa.Table) -> pa.Table:
    """One window of the table, in words."""
    rows = shown.to_pylist()  # one page
    columns: dict[str, list[Any]] = {
        "file": [row["path"] for row in rows],
        "verdict": [
            f"{MARKS[row['verdict']]} {row['verdict'] or row['status'].replace('_', ' ')}"
            for row in rows
        ],
        "score": [row["score"] for row in rows],
        "faces": [row["num_faces"] for row in rows],
        "length": [
            None if row["duration_seconds"] is None else clock(row["duration_seconds"])
            for row in rows
        ],
        "quality": [", ".join(row["quality_flags"]).replace("_", " ") for row in rows],
        "reason": [row["reason"] or "" for row in rows],
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


def _show_file(output: ScoreLayout, table: pa.Table, place: int) -> None:
    row = queries.full_row(output, table, place)
    st.divider()
    show_detail(
        row,
        name=row["path"],
        card=_card(row["model_id"]),
        media=_media(row),
        evidence_dir=output.path,
        key=f"row-{place}",
    )
    st.download_button(
        "Row as JSON",
        lambda: download_row(row, name=row["path"]),
        file_name=f"{Path(row['path']).stem[:60]}.json",
        mime="application/json",
        icon=":material/data_object:",
        on_click="ignore",
    )


def _media(row: Row) -> Path | None:
    """The file of a row: the operator has shown the folder that it was found in."""
    place = joined(row["root"], row["path"])
    return None if "://" in place else Path(place)


def _card(model_id: str) -> ModelCard | None:
    """That of the model, where the page knows it."""
    from page.server import models

    try:
        known = models(server().settings, None)
    except ReelcheckError:
        return None
    return next((model.card for model in known if model.card.model_id == model_id), None)
