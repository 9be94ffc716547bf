"""Ask a person to approve a promotion.

A run of a deployment shows Prefect's form. In any other run nobody would see the form: the version
is not promoted, and the reason names the command that puts it into use.
"""

from dataclasses import replace

from prefect import get_client, pause_flow_run, runtime
from prefect.exceptions import FlowPauseTimeout
from prefect.input import RunInput
from prefect.states import Running

from tasks.registry.gate import Decision

_POLL_SECONDS = 5


class Approval(RunInput):
    """The form that a person fills in."""

    promote: bool
    name: str


def hold_for_approval(decision: Decision, command: str) -> Decision:
    """Change a promotion into a decision that waits for a person.

    Args:
        decision: the gate's promotion.
        command: command that puts the version into use.
    """
    return replace(
        decision,
        promoted=False,
        needs_a_person=True,
        reason=f"{decision.reason}, but nobody approved yet: {command}",
        decided_by="nobody",
    )


def ask_for_approval(decision: Decision, command: str, *, question: str, hours: float) -> Decision:
    """Ask a person and return the decision; the run pauses meanwhile, and keeps its worker.

    Args:
        decision: the gate's promotion.
        command: command that puts the version into use.
        question: Markdown above the form.
        hours: how long to wait.
    """
    if runtime.deployment.id is None:
        return hold_for_approval(decision, command)
    form = Approval.with_initial_data(description=question)
    try:
        answer = pause_flow_run(
            wait_for_input=form, timeout=round(3600 * hours), poll_interval=_POLL_SECONDS
        )
    except FlowPauseTimeout:
        _leave_pause()
        return hold_for_approval(decision, command)
    who = answer.name.strip() or "a person"
    if answer.promote:
        return replace(decision, decided_by=who)
    reason = f"{who} did not approve; the gate: {decision.reason}"
    return replace(decision, promoted=False, reason=reason, decided_by=who)


def _leave_pause() -> None:
    """Leave the pause: the server would mark a run as failed whose pause has timed out."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(runtime.flow_run.id, Running(), force=True)
