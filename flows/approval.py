"""A person has the last word on a promotion, where that is wanted.

In a run of a deployment Prefect's form asks. Anywhere else nobody would see it: the version is left
as it is, and the reason names the command that puts it into use.
"""

from dataclasses import replace

from prefect import get_client, pause_flow_run, runtime
from prefect.exceptions import FlowPauseTimeout
from prefect.input import RunInput
from prefect.states import Running

from tasks.gate import Decision

_POLL_SECONDS = 5


class Approval(RunInput):
    """The form."""

    promote: bool
    name: str


def waiting(decision: Decision, command: str) -> Decision:
    """What is on record while nobody has answered.

    Args:
        decision: what the gate says: promote.
        command: what puts the version into use.
    """
    return replace(
        decision,
        promoted=False,
        needs_a_person=True,
        reason=f"{decision.reason}, but nobody approved yet: {command}",
        decided_by="nobody",
    )


def asked(decision: Decision, command: str, *, question: str, hours: float) -> Decision:
    """The decision after a person was asked; the run pauses meanwhile, and keeps its worker.

    Args:
        decision: what the gate says: promote.
        command: what puts the version into use.
        question: Markdown above the form.
        hours: how long to wait.
    """
    if runtime.deployment.id is None:
        return waiting(decision, command)
    form = Approval.with_initial_data(description=question)
    try:
        answer = pause_flow_run(
            wait_for_input=form, timeout=round(3600 * hours), poll_interval=_POLL_SECONDS
        )
    except FlowPauseTimeout:
        _go_on()
        return waiting(decision, command)
    who = answer.name.strip() or "a person"
    if answer.promote:
        return replace(decision, decided_by=who)
    reason = f"{who} did not approve; the gate: {decision.reason}"
    return replace(decision, promoted=False, reason=reason, decided_by=who)


def _go_on() -> None:
    """Leave the pause: the server takes a run whose pause has run out for failed."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(runtime.flow_run.id, Running(), force=True)
