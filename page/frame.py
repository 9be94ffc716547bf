"""The frame around all pages: look and navigation."""

from pathlib import Path

import streamlit as st

_ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32"
rx="7" fill="#00609f"/><circle cx="14" cy="14" r="7" fill="none" stroke="#fff" stroke-width="3"/>
<path d="M19 19l7 7" stroke="#fff" stroke-width="4" stroke-linecap="round"/></svg>"""
"""Drawn here: an icon by name would be fetched from elsewhere."""


def main() -> None:
    """Draw the page that the visitor is on."""
    st.set_page_config(
        page_title="reelcheck",
        page_icon=_ICON,
        layout="wide",
        menu_items={"About": "reelcheck: deepfake detection for videos and pictures."},
    )
    st.html(f"<style>{_read_style()}</style>")
    pages = [
        st.Page(_check, title="Check a file", icon=":material/frame_inspect:", default=True),
        st.Page(
            _own_model, title="Your own model", icon=":material/deployed_code:", url_path="model"
        ),
        st.Page(_browse, title="Browse results", icon=":material/table_rows:", url_path="results"),
        st.Page(_runs, title="Runs", icon=":material/account_tree:", url_path="runs"),
    ]
    st.navigation(pages, position="top").run()


def _read_style() -> str:
    return (Path(__file__).parent / "assets" / "style.css").read_text(encoding="utf-8")


# Each page imports its modules when it is drawn, so that the first paint is quick.


def _check() -> None:
    from page.views.check import show

    show()


def _own_model() -> None:
    from page.views.own_model import show

    show()


def _browse() -> None:
    from page.views.browse import show

    show()


def _runs() -> None:
    from page.views.runs import show

    show()
