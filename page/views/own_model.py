"""Your own model: choose one, or bring a checkpoint folder."""

import shutil
from pathlib import Path
from typing import IO

import streamlit as st

from page import markup
from page.server import Server, begin_visit, find_visit, get_server, list_models
from page.visits import Model, Visit
from page.words import describe_model_and_rule
from reelcheck.card import ModelCard
from reelcheck.errors import ReelcheckError

_MAX_MODELS = 5


def show() -> None:
    """Draw the page."""
    shared = get_server()
    st.html('<p class="rc-kicker">reelcheck · deepfake check</p>')
    st.title("Your own model", anchor=False)
    st.html(
        '<p class="rc-lead">Bring a detector that <code>reelcheck train</code> has made: the '
        "checkpoint folder as a ZIP. It is yours alone, and is removed with your visit.</p>"
    )
    _take_model(shared)
    try:
        visit = find_visit(shared)
        known = list_models(shared.settings, visit)
    except ReelcheckError as error:
        st.error(
            f"The models cannot be read: {markup.escape_markdown(str(error))}",
            icon=":material/error:",
        )
        return
    if known:
        st.markdown("#### Models to choose from")
    for number, model in enumerate(known):
        _show_model(shared, visit, model, is_first=number == 0)


def _take_model(shared: Server) -> None:
    number = st.session_state.setdefault("model-uploader", 0)
    file = st.file_uploader(
        "Checkpoint folder as ZIP",
        type="zip",
        key=f"model-{number}",
        max_upload_size=shared.settings.max_upload_mb,
        help="model.safetensors and card.json. What training writes beside them is left out; "
        "anything else is refused.",
    )
    if file is not None:
        visit = begin_visit(shared)
        folder, exports_dir = visit.make_folder(), visit.make_folder()
        try:
            if len(visit.models) >= _MAX_MODELS:
                raise ReelcheckError(f"{_MAX_MODELS} models are the most; remove one first")
            shared.visits.require_room(visit, file.size)
            with st.spinner("Checking it, and making it ready to score: half a minute or so"):
                card = _take_upload(shared, file, folder, exports_dir)
            name = f"{card.model_id[:12]} (yours)"
            visit.models.append(Model(name, folder, card, exports_dir))
            st.session_state["model"] = str(folder)
            st.session_state["model-news"] = (True, "Taken. Choose it under **Check a file**.")
        except ReelcheckError as error:
            for made in (folder, exports_dir):
                shutil.rmtree(made, ignore_errors=True)
            told = markup.escape_markdown(str(error))
            st.session_state["model-news"] = (False, f"**Refused:** {told}")
        st.session_state["model-uploader"] = number + 1
        st.rerun()
    if (news := st.session_state.pop("model-news", None)) is not None:
        is_good, text = news
        if is_good:
            st.success(text, icon=":material/check:")
        else:
            st.error(text, icon=":material/block:")


def _take_upload(shared: Server, file: IO[bytes], folder: Path, exports_dir: Path) -> ModelCard:
    from tasks.checkpoints.uploads import prepare_model, take_model

    # Weights hardly get smaller in a ZIP: what unpacks to more is none.
    card = take_model(file, folder, max_bytes=2 * shared.settings.max_upload_mb * 1_000_000)
    prepare_model(folder, exports_dir)
    return card


def _show_model(shared: Server, visit: Visit | None, model: Model, *, is_first: bool) -> None:
    with st.expander(
        markup.escape_markdown(model.name), expanded=is_first, icon=":material/deployed_code:"
    ):
        if model.card.notes:
            st.html(markup.render_notes(model.card.notes))
        st.html(markup.render_facts(describe_model_and_rule(model.card)))
        if visit is None or model not in visit.models:
            return
        if st.button("Remove", icon=":material/delete:", key=f"remove-{model.path.name}"):
            try:
                shared.visits.remove_model(visit, model)
                # The chosen one may have been this.
                st.session_state.pop("model", None)
                st.session_state["model-news"] = (True, "Removed.")
            except ReelcheckError as error:
                st.session_state["model-news"] = (False, str(error))
            st.rerun()
