"""A person has the last word: asked by Prefect in a deployed run, by the command line otherwise."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow, get_client
from prefect.flow_runs import resume_flow_run

from flows.approval import ask_for_approval
from tasks.registry.gate import Decision, Rule

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_server")]

RULES = (Rule(name="AUC", value=0.9, limit="at least 0.8", passed=True),)
YES = Decision(promoted=True, reason="new is better than old", rules=RULES)
COMMAND = "reelcheck models promote models/ new"


@flow(name="asks")
def asks(hours: float) -> Decision:
    return ask_for_approval(YES, COMMAND, question="**promoted** by the gate", hours=hours)


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a run of a deployment; Prefect's own way to say so in tests."""
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", str(uuid4()))


@contextmanager
def person(**answer: Any) -> Iterator[None]:
    """Fills in the form of the run that is paused as soon as there is one."""
    gave_up = threading.Event()

    def fill_in() -> None:
        with get_client(sync_client=True) as client:
            while not gave_up.wait(0.2):
                for run in client.read_flow_runs():
                    if run.state is not None and run.state.is_paused():
                        resume_flow_run(run.id, run_input=answer)
                        return

    thread = threading.Thread(target=fill_in)
    thread.start()
    try:
        yield
    finally:
        gave_up.set()
        thread.join()


def test_person_who_agrees_is_on_record(deployed: None) -> None:
    with person(promote=True, name="Ann"):
        decision = asks(0.1)
    assert (decision.promoted, decision.decided_by) == (True, "Ann")
    assert (decision.reason, decision.rules) == (YES.reason, RULES)


def test_person_who_does_not_agree_decides(deployed: None) -> None:
    with person(promote=False, name="Bob"):
        decision = asks(0.1)
    assert (decision.promoted, decision.needs_a_person) == (False, False)
    assert decision.reason == "Bob did not approve; the gate: new is better than old"
    assert decision.decided_by == "Bob"


def test_without_an_answer_nothing_is_promoted_and_the_run_ends_well(deployed: None) -> None:
    state = asks(2 / 3600, return_state=True)
    assert state.is_completed(), state
    decision = state.result()
    assert not decision.promoted
    assert decision.reason == f"new is better than old, but nobody approved yet: {COMMAND}"
    assert (decision.decided_by, decision.needs_a_person) == ("nobody", True)


def test_outside_a_deployment_nobody_is_waited_for() -> None:
    decision = asks(100)
    assert (decision.promoted, decision.needs_a_person) == (False, True)
    assert COMMAND in decision.reason
    assert decision.rules == RULES
