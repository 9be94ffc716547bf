"""Check a file: upload, progress, verdict."""

import shutil
from pathlib import Path

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from page import markup
from page.server import Server, begin_visit, find_visit, get_server, list_models
from page.views.detail import format_row, show_detail
from page.visits import Check, Model, Stage, Visit
from page.words import LIMITS, format_time_left
from reelcheck.errors import ReelcheckError
from reelcheck.locations import is_url
from storage.checked.documents import read_document
from storage.outputs import ScoreLayout
from storage.rows import ScoreRow
from tasks.scoring.words import format_score

_POLL_SECONDS = 0.5


def show() -> None:
    """Draw the page."""
    shared = get_server()
    visit = find_visit(shared)
    st.html('<p class="rc-kicker">reelcheck · deepfake check</p>')
    st.title("Is the face in this video real?", anchor=False)
    st.html(
        '<p class="rc-lead">Drop in a video or a picture. Every face in it is judged over time; '
        "where the model cannot tell, it says so.</p>"
    )
    try:
        known = list_models(shared.settings, visit)
    except ReelcheckError as error:
        st.error(
            f"The models cannot be read: {markup.escape_markdown(str(error))}",
            icon=":material/error:",
        )
        return
    if not known:
        st.info(
            "There is no model yet. Bring one under **Your own model**, or start the page with "
            "`reelcheck page --model MODEL`.",
            icon=":material/deployed_code:",
        )
        return
    model = _choose_model(known)
    _take_files(shared, model)
    if visit is None or not visit.checks:
        _show_limits()
        return
    _show_checks(shared, visit, model)
    with st.expander("What this cannot see"):
        _show_limits(has_title=False)


def _choose_model(known: list[Model]) -> Model:
    if len(known) == 1:
        return known[0]
    names = {str(model.path): model.name for model in known}
    chosen = st.selectbox("Model", names, format_func=lambda path: names[path], key="model")
    return next(model for model in known if str(model.path) == chosen)


def _take_files(shared: Server, model: Model) -> None:
    settings = shared.settings
    number = st.session_state.setdefault("uploader", 0)
    with st.container(key="uploader-area"):
        files = st.file_uploader(
            "Drop videos or pictures here",
            accept_multiple_files=True,
            key=f"files-{number}",
            max_upload_size=settings.max_upload_mb,
            help="They are judged on this server, kept while this page is open, and then removed.",
        )
    problems = []
    for file in files:
        problems += _begin_check(shared, model, file)
    if settings.allow_paths and (source := _ask_source()):
        problems += _begin_check(shared, model, source)
    if problems:
        st.session_state["problems"] = problems
    if files:
        # A new uploader: the old one holds the files in memory.
        st.session_state["uploader"] = number + 1
        st.rerun()
    for problem in st.session_state.pop("problems", []):
        st.error(markup.escape_markdown(problem), icon=":material/error:")


def _ask_source() -> str | None:
    with st.form("source", clear_on_submit=True, border=False):
        left, right = st.columns([5, 1], vertical_alignment="bottom")
        text = left.text_input("... or a path or URL that this server can read")
        is_sent = right.form_submit_button("Check", width="stretch")
    return text.strip() if is_sent and text.strip() else None


def _begin_check(shared: Server, model: Model, source: UploadedFile | str) -> list[str]:
    """Begin to check one file; return the problems."""
    visit = begin_visit(shared)
    folder = visit.make_folder()
    try:
        if isinstance(source, str):
            location, name = _locate_source(source)
        else:
            # Stored under a fixed name: the visitor's name is only shown.
            shared.visits.require_room(visit, source.size)
            path = folder / "file"
            path.write_bytes(source.getbuffer())
            location, name = str(path), source.name
        is_upload = not isinstance(source, str)
        check = Check(name=name, source=location, is_upload=is_upload, model=model, folder=folder)
        shared.visits.add(visit, check)
    except ReelcheckError as error:
        shutil.rmtree(folder, ignore_errors=True)
        return [f"{source if isinstance(source, str) else source.name}: {error}"]
    st.session_state["open"] = None
    return []


def _locate_source(text: str) -> tuple[str, str]:
    if is_url(text):
        return text, text
    path = Path(text).expanduser().resolve()
    if not path.is_file():
        from reelcheck.errors import SourceError

        raise SourceError("no such file; a folder is scored with `reelcheck score`")
    return str(path), path.name


def _show_checks(shared: Server, visit: Visit, model: Model) -> None:
    unfinished = [check for check in visit.checks if not check.is_done]
    if unfinished:
        _show_progress(visit.token, tuple(c.folder.name for c in unfinished))
    done = [check for check in reversed(visit.checks) if check.is_done]
    if not done:
        return
    opened = st.session_state.get("open")
    shown = next((check for check in done if check.folder.name == opened), None)
    if shown is None and not unfinished:
        shown = done[0]
        # It stays open when later checks are done.
        st.session_state["open"] = shown.folder.name
    if len(visit.checks) > 1:
        _show_list(done, shown)
    if shown is not None:
        _show_check(shared, visit, shown, model)


@st.fragment(run_every=_POLL_SECONDS)
def _show_progress(token: str, waited_for: tuple[str, ...]) -> None:
    """Show the stages of unfinished checks; draw the page again when one of them is done."""
    visits = get_server().visits
    visit = visits.find(token)
    unfinished = [check for check in visit.checks if not check.is_done] if visit else []
    for check in unfinished:
        _show_stage(
            check,
            visits.estimate_share(check),
            visits.estimate_seconds(check),
            visits.count_before(check),
        )
    if tuple(check.folder.name for check in unfinished) != waited_for:
        st.rerun()


def _show_stage(check: Check, share: float, remaining: float | None, num_before: int) -> None:
    before = f" ({num_before} before it)" if check.stage is Stage.WAITING and num_before else ""
    with st.container(border=True):
        st.html(f"<b><bdi>{markup.escape_text(check.name)}</bdi></b>")
        st.progress(share, text=f"{check.stage.value}{before} · {format_time_left(remaining)}")


def _show_list(done: list[Check], shown: Check | None) -> None:
    st.markdown("#### Results")
    with st.container(border=True):
        for check in done:
            row = check.row
            verdict = row["verdict"] if row else None
            text = "failed" if row is None else verdict or row["status"].replace("_", " ")
            if row and row["score"] is not None:
                text += f" {format_score(row['score'])}"
            with st.container(horizontal=True, vertical_alignment="center", wrap=False):
                st.html(
                    f"{markup.render_chip(verdict, text)} &nbsp; "
                    f"<bdi>{markup.escape_text(check.name)}</bdi>"
                    f' <span class="rc-muted">{markup.escape_text(check.model.name)}</span>'
                )
                is_shown = check is shown
                if st.button(
                    "Shown" if is_shown else "Show",
                    key=f"show-{check.folder.name}",
                    disabled=is_shown,
                    help=None if is_shown else f"Show {markup.escape_markdown(check.name)}",
                ):
                    st.session_state["open"] = check.folder.name
                    st.rerun()


def _show_check(shared: Server, visit: Visit, check: Check, model: Model) -> None:
    row = check.row
    if row is None:
        st.error(
            f"**No verdict.** {markup.escape_markdown(check.problem or '')}",
            icon=":material/error:",
        )
        _show_removal(shared, visit, check)
        return
    out = ScoreLayout(check.folder / "out")
    show_detail(
        row,
        name=check.name,
        card=check.model.card,
        media=None if is_url(check.source) else Path(check.source),
        evidence_dir=out.path,
        key=check.folder.name,
    )
    stem = Path(check.name).stem[:60] or "file"
    with st.container(horizontal=True):
        st.download_button(
            "Row as JSON",
            lambda: format_row(row, name=check.name),
            file_name=f"{stem}.json",
            mime="application/json",
            icon=":material/data_object:",
            on_click="ignore",
        )
        st.download_button(
            "Report as HTML",
            lambda: _make_report(check, row, out),
            file_name=f"{stem}.html",
            mime="text/html",
            icon=":material/description:",
            on_click="ignore",
        )
        if model.path != check.model.path and st.button(
            f"Judge it with {model.name}", icon=":material/replay:"
        ):
            _check_again(shared, visit, check, model)
            st.rerun()
        _show_removal(shared, visit, check)


def _make_report(check: Check, row: ScoreRow, out: ScoreLayout) -> str:
    """Make the report that a batch run writes, for this one file."""
    from tasks.scoring.report import render_report

    shown: ScoreRow = {**row, "path": check.name, "root": ""}
    summary = read_document(out.summary_path)
    return render_report([shown], card=check.model.card, summary=summary, evidence_dir=out.path)


def _check_again(shared: Server, visit: Visit, check: Check, model: Model) -> None:
    folder = visit.make_folder()
    source = check.source
    try:
        if check.is_upload:
            shared.visits.require_room(visit, Path(source).stat().st_size)
            source = str(folder / "file")
            shutil.copyfile(check.source, source)
        again = Check(
            name=check.name, source=source, is_upload=check.is_upload, model=model, folder=folder
        )
        shared.visits.add(visit, again)
    except ReelcheckError as error:
        shutil.rmtree(folder, ignore_errors=True)
        st.session_state["problems"] = [str(error)]
    st.session_state["open"] = None


def _show_removal(shared: Server, visit: Visit, check: Check) -> None:
    if st.button("Remove", icon=":material/delete:", key=f"remove-{check.folder.name}"):
        shared.visits.remove(visit, check)
        st.rerun()


def _show_limits(*, has_title: bool = True) -> None:
    if has_title:
        st.markdown("#### What this cannot see")
    st.markdown("\n".join(f"- {text}" for text in LIMITS))
