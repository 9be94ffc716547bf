"""The last runs of a Prefect server, by its REST API; Prefect itself is not imported."""

import json
import os
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from uuid import uuid4

from reelcheck.errors import StoreError
from reelcheck.serving.guard import is_loopback
from reelcheck.serving.login import find_login

FLOWS = ("preprocess", "train", "evaluate", "score", "retrain", "audit")
_SECONDS = 4.0
_NUM_RUNS = 100


@dataclass(frozen=True, kw_only=True)
class FlowRun:
    """One run of a flow."""

    flow: str
    name: str
    state: str
    started_at: datetime | None
    seconds: float | None
    message: str
    url: str


def find_api_url() -> str | None:
    """Find the server's address in the environment; None: it is not set."""
    return os.environ.get("PREFECT_API_URL") or None


def find_ui_url(api: str) -> str:
    """Find the address of the server's web pages."""
    return os.environ.get("PREFECT_UI_URL") or api.rstrip("/").removesuffix("/api")


def read_last_runs(api: str) -> list[FlowRun]:
    """Read the last runs of our flows, the newest first.

    Raises:
        StoreError: the server does not answer, or wants another password.
        SettingsError: others can read the password that ``reelcheck serve`` made.
    """
    flows = _ask(api, "flows/filter", {"limit": 200})
    names = {flow["id"]: flow["name"] for flow in flows if flow["name"] in FLOWS}
    runs = _ask(
        api,
        "flow_runs/filter",
        {
            "sort": "EXPECTED_START_TIME_DESC",
            "limit": _NUM_RUNS,
            "flows": {"id": {"any_": list(names)}},
            "flow_runs": {"state": {"type": {"not_any_": ["SCHEDULED", "PENDING"]}}},
        },
    )
    return [
        _make_run(run, names[run["flow_id"]], find_ui_url(api))
        for run in runs
        if run["flow_id"] in names
    ]


def _make_run(run: Mapping[str, Any], flow: str, ui: str) -> FlowRun:
    state = run.get("state") or {}
    started = run.get("start_time")
    return FlowRun(
        flow=flow,
        name=run["name"],
        state=state.get("name") or "unknown",
        started_at=None if started is None else datetime.fromisoformat(started),
        seconds=run.get("total_run_time"),
        message=state.get("message") or "",
        url=f"{ui}/runs/flow-run/{run['id']}",
    )


def _ask(api: str, path: str, question: Mapping[str, Any]) -> list[dict[str, Any]]:
    if not api.startswith(("http://", "https://")):
        raise StoreError(f"PREFECT_API_URL is {api}; it must begin with http:// or https://")
    try:
        headers = _find_headers(api)
        content = json.dumps(question).encode()
        records: list[dict[str, Any]] = _send(f"{api.rstrip('/')}/{path}", headers, content)
    except HTTPError as error:
        if error.code == HTTPStatus.UNAUTHORIZED:
            raise StoreError(
                f"the Prefect server at {api} wants another password: set PREFECT_API_AUTH_STRING="
                "USER:PASSWORD"
            ) from error
        raise StoreError(f"the Prefect server at {api} refuses: {error}") from error
    except (OSError, ValueError) as error:
        raise StoreError(f"the Prefect server at {api} does not answer: {error}") from error
    return records


def _find_headers(api: str) -> dict[str, str]:
    """Find what the server wants to be sent: the password, and its own token against forgery."""
    headers = {"Content-Type": "application/json"}
    if login := find_login(api):
        headers["Authorization"] = f"Basic {b64encode(login.encode()).decode()}"
    client = str(uuid4())
    try:
        token = _send(f"{api.rstrip('/')}/csrf-token?client={client}", headers)["token"]
    except HTTPError as error:
        # What a server without this protection says.
        if error.code not in {HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY}:
            raise
        return headers
    return {**headers, "Prefect-Csrf-Client": client, "Prefect-Csrf-Token": token}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the password to whoever it names."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _send(url: str, headers: Mapping[str, str], content: bytes | None = None) -> Any:
    request = urllib.request.Request(url, data=content, headers=dict(headers))  # noqa: S310 - http
    is_here = is_loopback(urlsplit(url).hostname or "")
    # A proxy that the environment names shall not see what goes to this machine.
    proxies = urllib.request.ProxyHandler({} if is_here else None)
    with urllib.request.build_opener(proxies, _NoRedirect).open(
        request, timeout=_SECONDS
    ) as answer:
        return json.load(answer)
