"""Settings, visits and models of one server, and the visit that this script run belongs to."""

import atexit
import sys
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from page.visits import Advance, Check, Judge, Model, Visit, Visits
from reelcheck.card import ModelCard
from reelcheck.page_config import PageSettings
from reelcheck.processes import count_cores
from storage.checkpoints import read_card, read_champion
from storage.layout import ModelLayout, RegistryLayout
from storage.rows import ScoreRow
from storage.scratch import make_scratch_folder

_TOKEN = "visit"  # noqa: S105 - the name of a query parameter


@dataclass(frozen=True)
class Server:
    """Settings and visits of this process."""

    settings: PageSettings
    visits: Visits


@st.cache_resource(show_spinner=False)
def get_server() -> Server:
    """Get the server, which the first visitor makes; its files are removed with the process."""
    settings = PageSettings.model_validate_json(sys.argv[1] if len(sys.argv) > 1 else "{}")
    stack = ExitStack()
    folder = stack.enter_context(make_scratch_folder())
    visits = Visits(
        folder,
        _make_judge(settings),
        num_lanes=max(2, count_cores() // 2),
        keep_seconds=60 * settings.keep_minutes,
        max_checks=settings.max_checks,
        max_visit_bytes=1e6 * settings.max_visit_mb,
    )
    stack.callback(visits.close)
    atexit.register(stack.close)
    return Server(settings, visits)


def find_visit(shared: Server) -> Visit | None:
    """Find the visit by the page's address, or by what this tab did before."""
    token = st.query_params.get(_TOKEN) or st.session_state.get(_TOKEN)
    visit = shared.visits.find(token)
    if visit is None:
        st.query_params.pop(_TOKEN, None)
        return None
    return _remember(visit)


def begin_visit(shared: Server) -> Visit:
    """Find the visit, or begin one."""
    return find_visit(shared) or _remember(shared.visits.begin())


def _remember(visit: Visit) -> Visit:
    st.query_params[_TOKEN] = visit.token
    st.session_state[_TOKEN] = visit.token
    return visit


def list_models(settings: PageSettings, visit: Visit | None) -> list[Model]:
    """List the models to choose from: champion, other models of the operator, the visitor's own."""
    listed = _list_registered(settings.registry) if settings.registry is not None else []
    listed += [Model(path.resolve().name, path, _read_card_in(path)) for path in settings.models]
    return listed + (visit.models if visit is not None else [])


def _list_registered(registry: Path) -> list[Model]:
    layout = RegistryLayout(registry)
    champion = read_champion(layout)
    # The newest first; another that is being written now has no card yet.
    names = sorted(
        layout.version_names(),
        key=lambda name: (
            name != champion,
            -layout.version(name).card_path.stat().st_mtime_ns,
        ),
    )
    return [
        Model(
            f"{name} (in use)" if name == champion else name,
            layout.version(name).path,
            _read_card_in(layout.version(name).path),
        )
        for name in names
    ]


def _read_card_in(path: Path) -> ModelCard:
    return read_card(ModelLayout(path))


def _make_judge(settings: PageSettings) -> Judge:
    """Make the function that scores checks; it imports in the background, after the first paint."""
    made: list[Judge] = []
    is_made = threading.Lock()

    def judge(check: Check, advance: Advance) -> ScoreRow:
        with is_made:
            if not made:
                from page.scoring import CheckScorer

                made.append(
                    CheckScorer(
                        timeout_seconds=settings.timeout_seconds,
                        allow_private_addresses=settings.allow_private_addresses,
                    )
                )
        return made[0](check, advance)

    return judge
