"""Runs: the last runs of the flows, and the decisions about new models."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import streamlit as st

from page import markup
from page.prefect_state import FlowRun, find_api_url, find_ui_url, read_last_runs
from page.server import get_server
from page.words import describe_model_and_rule
from reelcheck.errors import ReelcheckError, StoreError
from storage.checked.documents import read_document
from storage.checkpoints import read_card, read_champion
from storage.layout import RegistryLayout

_MARKS = {"Completed": "✓", "Failed": "✗", "Crashed": "✗", "Running": "▶", "Cancelled": "■"}


def show() -> None:
    """Draw the page."""
    st.html('<p class="rc-kicker">reelcheck · deepfake check</p>')
    st.title("Runs", anchor=False)
    _show_flows()
    registry = get_server().settings.registry
    if registry is None:
        st.markdown("#### Models")
        st.caption("Start the page with `--registry REGISTRY` to see what retraining decided.")
    else:
        _show_registry(registry)


def _show_flows() -> None:
    api = find_api_url()
    if api is None:
        st.info(
            "No Prefect server is configured. Set `PREFECT_API_URL`, such as "
            "`http://127.0.0.1:4200/api`, before the page is started, to see the flows here.",
            icon=":material/account_tree:",
        )
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.link_button("Open Prefect", find_ui_url(api), icon=":material/open_in_new:")
        st.button("Look again", icon=":material/refresh:")
    try:
        runs = _read_runs(api)
    except ReelcheckError as error:
        st.error(markup.escape_markdown(str(error)), icon=":material/error:")
        return
    if not runs:
        st.caption("The server knows no run of reelcheck's flows yet.")
    latest: dict[str, FlowRun] = {}
    for run in runs:
        latest.setdefault(run.flow, run)
    for run in latest.values():
        with st.container(border=True):
            st.html(_render_run(run))
            st.markdown(f"[Open in Prefect]({run.url})")


@st.cache_data(ttl=5, show_spinner=False)
def _read_runs(api: str) -> list[FlowRun]:
    return read_last_runs(api)


def _render_run(run: FlowRun) -> str:
    mark = _MARKS.get(run.state, "○")
    when = "" if run.started_at is None else _format_ago(run.started_at)
    took = "" if run.seconds is None else f" · took {run.seconds:,.0f} s"
    message = (
        f'<div class="rc-muted">{markup.escape_text(run.message[:300])}</div>'
        if run.message
        else ""
    )
    return (
        f"<b>{markup.escape_text(run.flow)}</b> &nbsp; {mark} {markup.escape_text(run.state)} "
        f'<span class="rc-muted">{when}{took} · {markup.escape_text(run.name)}</span>{message}'
    )


def _format_ago(moment: datetime) -> str:
    seconds = (datetime.now(UTC) - moment).total_seconds()
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            number = int(seconds // size)
            return f"{number} {unit}{'' if number == 1 else 's'} ago"
    return "just now"


def _show_registry(registry: Path) -> None:
    layout = RegistryLayout(registry)
    st.markdown("#### Models")
    champion = read_champion(layout)
    names = layout.version_names()[::-1]
    if not names:
        st.caption("The registry holds no version yet.")
    decision = _read_json(layout.decision_path)
    if decision is not None:
        st.html(_render_decision("Last retraining", decision))
    # The version in use first, then the newest name.
    for name in sorted(names, key=lambda name: name != champion):
        model = layout.version(name)
        is_champion = name == champion
        with st.expander(
            f"{markup.escape_markdown(name)}{' · in use' if is_champion else ''}",
            expanded=is_champion,
        ):
            try:
                st.html(markup.render_facts(describe_model_and_rule(read_card(model))))
            except ReelcheckError as error:
                st.error(markup.escape_markdown(str(error)), icon=":material/error:")
            gate = _read_json(model.gate_path)
            if gate is not None:
                _show_gate(gate)
    _show_drift(layout)


def _render_decision(title: str, decision: dict[str, Any]) -> str:
    mark = "✓ promoted" if decision.get("promoted") else "✗ not promoted"
    return (
        f"<p><b>{title}:</b> {mark}. "
        f'<span class="rc-muted">{markup.escape_text(str(decision.get("reason", "")))}</span></p>'
    )


def _show_gate(gate: dict[str, Any]) -> None:
    st.html(_render_decision("The gate", gate))
    rules = gate.get("rules") or []
    if rules:
        st.table(
            {
                "rule": [rule["name"] for rule in rules],
                "measured": [
                    "" if rule["value"] is None else f"{rule['value']:.4g}" for rule in rules
                ],
                "must be": [rule["limit"] for rule in rules],
                "met": ["✓" if rule["passed"] else "✗ no" for rule in rules],
            }
        )


def _show_drift(layout: RegistryLayout) -> None:
    record = _read_json(layout.drift_path)
    if record is None:
        return
    st.markdown("#### Drift")
    plain = [
        (name.replace("_", " "), f"{value:.4g}" if isinstance(value, float) else str(value))
        for name, value in record.items()
        if isinstance(value, str | int | float | bool)
    ]
    st.html(markup.render_facts(plain))
    if layout.drift_plot_path.exists():
        st.image(str(layout.drift_plot_path), alt="New videos beside those of the champion's test")
    with st.expander("All of it"):
        st.json(record)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return read_document(path)
    except StoreError:
        return None
