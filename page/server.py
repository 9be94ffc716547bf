"""What all visitors of one server share, and who the visitor of this script run is."""

import atexit
import sys
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from page.visits import Advance, Check, Judge, Model, Visit, Visits
from reelcheck.card import ModelCard
from reelcheck.cores import available_cores
from reelcheck.page_config import PageSettings
from storage.checkpoints import read_card, read_champion
from storage.layout import ModelLayout, RegistryLayout
from storage.scratch import scratch_folder
from storage.tables import Row

_TOKEN = "visit"  # noqa: S105 - the name of a query parameter


@dataclass(frozen=True)
class Server:
    """The one of this process."""

    settings: PageSettings
    visits: Visits


@st.cache_resource(show_spinner=False)
def server() -> Server:
    """Made by the first visitor; its files go when the process ends, however it ends."""
    settings = PageSettings.model_validate_json(sys.argv[1] if len(sys.argv) > 1 else "{}")
    stack = ExitStack()
    folder = stack.enter_context(scratch_folder())
    visits = Visits(
        folder,
        _judge(settings),
        num_lanes=max(2, available_cores() // 2),
        keep_seconds=60 * settings.keep_minutes,
        max_checks=settings.max_checks,
        max_visit_bytes=1e6 * settings.max_visit_mb,
    )
    stack.callback(visits.close)
    atexit.register(stack.close)
    return Server(settings, visits)


def visit_of(shared: Server) -> Visit | None:
    """Who is here, by the page's address or by what this tab did before."""
    token = st.query_params.get(_TOKEN) or st.session_state.get(_TOKEN)
    visit = shared.visits.find(token)
    if visit is None:
        st.query_params.pop(_TOKEN, None)
        return None
    return _remembered(visit)


def visit_begun(shared: Server) -> Visit:
    """The visitor's visit, a new one if need be."""
    return visit_of(shared) or _remembered(shared.visits.new())


def _remembered(visit: Visit) -> Visit:
    st.query_params[_TOKEN] = visit.token
    st.session_state[_TOKEN] = visit.token
    return visit


def models(settings: PageSettings, visit: Visit | None) -> list[Model]:
    """What can be chosen, the default first: champion, other models of the operator, own ones."""
    found = _registered(settings.registry) if settings.registry is not None else []
    found += [Model(path.resolve().name, path, _card(path)) for path in settings.models]
    return found + (visit.models if visit is not None else [])


def _registered(registry: Path) -> list[Model]:
    layout = RegistryLayout(registry)
    champion = read_champion(layout)
    # The newest first; another that is being written now has no card yet.
    names = sorted(
        (path.parent.name for path in registry.glob("*/card.json")),
        key=lambda name: (
            name != champion,
            -layout.version(name).card_path.stat().st_mtime_ns,
        ),
    )
    return [
        Model(
            f"{name} (in use)" if name == champion else name,
            layout.version(name).path,
            _card(layout.version(name).path),
        )
        for name in names
    ]


def _card(path: Path) -> ModelCard:
    return read_card(ModelLayout(path))


def _judge(settings: PageSettings) -> Judge:
    """What judges checks, imported in the background: the page is drawn first."""
    made: list[Judge] = []
    is_made = threading.Lock()

    def judge(check: Check, advance: Advance) -> Row:
        with is_made:
            if not made:
                from page.scoring import Judging

                made.append(Judging(timeout_seconds=settings.timeout_seconds))
        return made[0](check, advance)

    return judge
