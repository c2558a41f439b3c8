# SPDX-License-Identifier: Apache-2.0
"""The job's states, the ruleset of allowed moves, and the fold of ledger entries into job states (S3, S4, I6).

Pure: entry bodies enter, frozen values leave. Same state and same entry give the same next state, byte for
byte; a move that the ruleset doesn't name raises `TransitionRefused`. COMPLETED, FAILED and CANCELED are no
entry of their own: the outcome entry moves a job to SEALING and names its `final` state, which the job has
once that entry is sealed. Lease, heartbeat and vendor handle are operational and not here.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from control_plane.errors import QcosError

State: TypeAlias = Literal[
    "QUEUED",
    "COMPILING",
    "RESERVING",
    "EXECUTING",
    "SEALING",
    "COMPLETED",
    "FAILED",
    "DENIED",
    "CANCELED",
    "HELD",
    "AWAITING_APPROVAL",
    "UNCERTAIN",
]

FINAL: frozenset[State] = frozenset({"COMPLETED", "FAILED", "CANCELED", "DENIED", "UNCERTAIN"})
ACTIVE: frozenset[State] = frozenset({"COMPILING", "RESERVING", "EXECUTING"})

# The explicit ruleset (S3). None is the state of a job that doesn't exist yet. A lost worker's job goes back
# to QUEUED: before its intent is committed always, after it only where `find` proves that nothing ran. A job that waits
# for an approval moves in place when what is to be approved is known.
MOVES: dict[State | None, frozenset[State]] = {
    None: frozenset({"QUEUED", "DENIED", "AWAITING_APPROVAL"}),
    "AWAITING_APPROVAL": frozenset({"AWAITING_APPROVAL", "QUEUED", "SEALING"}),
    "QUEUED": frozenset({"COMPILING", "HELD", "SEALING"}),
    "HELD": frozenset({"QUEUED", "SEALING"}),
    "COMPILING": frozenset({"RESERVING", "QUEUED", "SEALING"}),
    "RESERVING": frozenset({"EXECUTING", "QUEUED", "SEALING"}),
    "EXECUTING": frozenset({"SEALING", "QUEUED"}),
    "SEALING": frozenset(),
    "DENIED": frozenset(),
}


class TransitionRefused(QcosError):
    """A move that the ruleset doesn't allow, or one out of its turn."""

    code = "transition_refused"


class Event(Struct, frozen=True, forbid_unknown_fields=True):
    """One numbered move of one job; `at` is the plane's clock, UTC."""

    seq: int
    state: State
    at: str


class JobState(Struct, frozen=True):
    """What the ledger says of one job."""

    tenant: str
    job_id: str
    state: State | None = None
    final: State | None = None
    seq: int = 0
    attempt: int = 0
    project: str | None = None
    decision_id: str | None = None
    backend: str | None = None
    error: str | None = None
    cost: str | None = None
    currency: str | None = None
    bundle_id: str | None = None


def check_move(source: State | None, target: State) -> None:
    """Raise `TransitionRefused` unless the ruleset names this move."""
    if target not in MOVES.get(source, frozenset()):
        raise TransitionRefused(f"a job can't go from {source or 'nothing'} to {target}")


def moves(source: State | None, seq: int, targets: tuple[State, ...], at: str) -> tuple[Event, ...]:
    """The numbered events that lead from `source` through `targets`, each checked against the ruleset."""
    events: list[Event] = []
    for number, target in enumerate(targets, start=seq + 1):
        check_move(source, target)
        events.append(Event(number, target, at))
        source = target
    return tuple(events)


def apply(state: JobState, body: dict[str, Any]) -> JobState:
    """Fold one job entry's body into a job's state; raises `TransitionRefused` where it doesn't follow."""
    for event in body.get("events", ()):
        if event["seq"] != state.seq + 1:
            raise TransitionRefused(f"{state.job_id}: move {event['seq']} after {state.seq}")
        check_move(state.state, event["state"])
        state = replace(state, state=event["state"], seq=event["seq"])
    cost = body.get("cost")
    return replace(
        state,
        final="DENIED" if state.state == "DENIED" else body.get("final", state.final),
        attempt=body.get("attempt", state.attempt),
        project=body.get("project", state.project),
        decision_id=body.get("decision_id", state.decision_id),
        backend=body.get("backend", state.backend),
        error=body.get("error", state.error),
        cost=cost["amount"] if cost else state.cost,
        currency=cost["currency"] if cost else state.currency,
        bundle_id=body.get("bundle_id", state.bundle_id),
    )


def fold(jobs: dict[tuple[str, str], JobState], tenant: str, kind: str, body: dict[str, Any]) -> None:
    """Fold one ledger entry into `jobs`; entries that aren't a job's pass by."""
    if not kind.startswith("job:"):
        return
    key = (tenant, body["job_id"])
    jobs[key] = apply(jobs.get(key, JobState(tenant, body["job_id"])), body)
