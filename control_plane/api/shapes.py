# SPDX-License-Identifier: Apache-2.0
"""What answers look like: the structs that the OpenAPI document is made from, and what each operation may answer.

Handlers build plain dicts (`jobs.view`), which older sealed decisions fit too; a test holds every answer of the e2e
suite against the document, in both directions. Members may be added, none taken away. Pure.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from control_plane.jobs.state import State
from finops.budget import Mode

Amount = Annotated[str, Meta(description="A plain decimal.", pattern=r"^-?[0-9]+(\.[0-9]+)?$")]
Currency = Annotated[str, Meta(description="ISO 4217.", pattern=r"^[A-Z]{3}$")]
Instant = Annotated[
    str, Meta(description="UTC, to the millisecond.", pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(\.[0-9]{3})?Z$")
]
Hash = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}$")]


class Bytes(Struct, frozen=True):
    """An answer that isn't JSON of ours to describe: its media type, and the JSON Schema where it is JSON after all."""

    media_type: str
    schema: dict[str, Any]


class Answers(Struct, frozen=True):
    """What one operation answers: a shape a status (a list where it is one of several), the refusals beyond those of
    the door, the body it takes and its media type (or, where that isn't JSON of ours, in which forms), headers of
    a good answer, and which operations it leads to.
    """

    good: dict[int, Any]
    refusals: tuple[str, ...] = ()
    body: Any = None
    headers: dict[str, str] = {}
    body_as: str = "application/json"
    links: tuple[str, ...] = ()
    takes: tuple[Bytes, ...] = ()


class FieldError(Struct, frozen=True):
    """A field at fault, as a dotted path from the document's root, or the parameter's name."""

    field: str
    message: str


class Problem(Struct, frozen=True):
    """Any refusal (RFC 9457). `code` is stable and decides what a program does; texts are for people."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: tuple[FieldError, ...]
    request_id: str
    next_step: str | None = None


class Check(Struct, frozen=True):
    """One required check of the policies."""

    name: str
    result: Literal["pass", "fail"]
    because: str
    rule: str


Unit = Annotated[str, Meta(description="ISO 4217, `shots` or `jobs`.", pattern=r"^([A-Z]{3}|shots|jobs)$")]


class Short(Struct, frozen=True):
    """A budget that had too little for what was asked of it."""

    scope: str
    period: str
    limit: Amount
    held: Amount
    captured: Amount
    available: Amount
    currency: Unit
    asked: Amount


class Reason(Struct, frozen=True):
    """One thing that spoke against the request; `want`, `have` and `fix` where the rule's own metadata gives them, and
    `budget` where it was the hold that a budget refused.
    """

    code: str
    level: Literal["hard", "soft"]
    message: str
    rule: str
    want: str | None = None
    have: str | None = None
    fix: str | None = None
    budget: Short | None = None


class Obligation(Struct, frozen=True):
    """What an allowed job is bound to; `backends` are those of a class of backends."""

    kind: str
    value: str
    because: str
    rule: str
    backends: tuple[str, ...] | None = None


class Decision(Struct, frozen=True):
    """What the policies said, and under which revision."""

    id: str
    allow: bool
    checks: tuple[Check, ...]
    reasons: tuple[Reason, ...]
    policy_revision: Hash
    allowed_nodes: tuple[str, ...] | None = None
    obligations: tuple[Obligation, ...] | None = None


class EstimateBasis(Struct, frozen=True):
    """What an estimate rests on: how many past jobs, and whose.

    `card`: the rate card alone tells the price. `none`: too few jobs, and the interval is all that is possible.
    `drift`: so many of the last charges fell outside their intervals that the backend must have changed; the newest
    jobs alone are heard then.
    """

    jobs: int
    of: Literal["backend", "provider", "card", "none"]
    drift: bool


class EstimatedWork(Struct, frozen=True):
    """What the estimate is for."""

    executions: int
    tasks: int
    qubits: int


class CostEstimate(Struct, frozen=True):
    """What the job will probably cost if it completes in full, and the interval that holds it with that probability.

    `backend` is where routing would have sent it; the interval covers all backends that policy leaves.
    """

    amount: Amount
    low: Amount
    high: Amount
    currency: Currency
    coverage: Amount
    basis: EstimateBasis
    backend: str
    work: EstimatedWork


class Cost(Struct, frozen=True):
    """What the job costs, and what sort of amount that is."""

    amount: Amount | None
    currency: Currency | None
    rate_card: str | None
    basis: Literal["upper_bound", "held", "charged", "refused"]
    held: Amount | None = None
    estimate: CostEstimate | None = None


class EvidenceState(Struct, frozen=True):
    """Which evidence a job has, and whether it can be had."""

    bundle_id: str | None
    level: Literal["full", "standard", "sealed"]
    state: Literal["sealed", "waiting"]


class Route(Struct, frozen=True):
    """A backend that was considered."""

    backend: str
    verdict: Literal["chosen", "not_chosen", "excluded"]
    reason: str
    price: Amount | None
    queue_s: float | None
    attempt: int = 1


class Submitted(Struct, frozen=True):
    """A submission that was admitted, or with `dry_run` what would become of it."""

    job_id: str | None
    state: State
    decision: Decision | None
    cost: Cost
    evidence: None
    advisory: bool = False
    route: tuple[Route, ...] = ()
    error: Failure | None = None


class Move(Struct, frozen=True):
    """A state and when it was reached."""

    state: State
    at: Instant


class Failure(Struct, frozen=True):
    """Why a job has no result; `budgets` are those that had too little for it."""

    code: str
    detail: str
    budgets: tuple[Short, ...] | None = None


class Waiting(Struct, frozen=True):
    """What a queued job waits for: room in these budgets, a backend, or the end of other jobs of its tenant."""

    code: str
    detail: str
    budgets: tuple[Short, ...]


class Settlement(Struct, frozen=True):
    """How somebody settled a job whose outcome nobody knows."""

    outcome: Literal["released", "charged"]
    amount: Amount
    currency: Currency
    reason: str
    by: str
    at: Instant


class Workflow(Struct, frozen=True):
    """The workflow that a job is a step of, in the words of its spec."""

    id: str
    session: str | None = None
    step: int | None = None


class JobListed(Struct, frozen=True):
    """One line of a list of jobs."""

    job_id: str
    state: State
    submitted_at: Instant
    project: str
    backend: str | None
    workflow: Workflow | None = None


class Denial(Problem, frozen=True):
    """A refusal that has a job, a decision and evidence."""

    job_id: str | None = None
    state: Literal["DENIED"] | None = None
    decision_id: str | None = None
    decision: Decision | None = None
    reasons: tuple[Reason, ...] | None = None


class Unreserved(Problem, frozen=True):
    """A refusal of a window that stands as a reservation, unless the node was never asked."""

    reservation_id: str | None = None
    state: Literal["REJECTED", "CANCELED", "FAILED", "EXPIRED"] | None = None
    next_free_at: Instant | None = None


class PolicyFault(Struct, frozen=True):
    """What is wrong with a policy file: the line counts from 1, the rule is named as the tool that found it does."""

    path: str
    line: int
    rule: str
    message: str


class Unfit(Problem, frozen=True):
    """A refusal of policies, with each of their faults; `errors` names them as PATH:LINE."""

    faults: tuple[PolicyFault, ...] | None = None


class Budget(Struct, frozen=True):
    """A budget in its present window."""

    scope: str
    period: str
    limit: Amount
    held: Amount
    captured: Amount
    available: Amount
    currency: Unit
    mode: Mode
    thresholds: tuple[int, ...]
    notify: tuple[str, ...] | None
    """The tables that its alerts go to; null: every one with `budgets = true`."""
