# SPDX-License-Identifier: Apache-2.0
"""The input document of a decision, as frozen structs: the one place that names its fields.

A `reservation:create` has the document of a job without shots that would go to one node, and the `window` there; a
`job:approve` that of the job, with its approver as the principal and the `approval`.

`policies/schemas/input.json` is generated from here and `opa check` types the rules against it. The PDP
parses each document before an engine sees it, so a misspelt or missing field is `policy_unavailable` and
never a rule that silently finds nothing. Time, budgets, usage and the project's limits all stand in the
document: a decision can be made again from its input and revision alone. Money is compared in integer
micro-units; the decimal strings are for people.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from ledger.canonical import timestamp

Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Signed = Annotated[int, Meta(ge=-(2**53 - 1), le=2**53 - 1)]


class Handed(Struct, frozen=True, forbid_unknown_fields=True):
    """One step of a delegation: `by` handed a right to `to`, both as people read them."""

    delegation: str
    by: str
    to: str


class Principal(Struct, frozen=True, forbid_unknown_fields=True):
    """Who asks; `roles` are those that hold in the job's project. Of a delegate, it is the one who handed them the
    right first.
    """

    subject: str
    name: str
    domain: str
    tenant: str
    roles: tuple[str, ...]
    team: str | None
    department: str | None
    kind: Literal["user", "service"]
    groups: tuple[str, ...] = ()
    """As their provider names them; absent where it names none."""
    via: Literal["oidc", "saml", "ldap", "key", "exchange", "session", "delegation"] = "oidc"
    """How they came; absent where they came with an access token of an OIDC issuer."""
    acr: str | None = None
    """How surely they were recognised, in their provider's word; absent where it has none."""
    amr: tuple[str, ...] = ()
    """By which methods they were recognised (RFC 8176); absent where their provider names none."""
    acting: tuple[Handed, ...] = ()
    """Who acts for them, the first delegation first; absent where they act themselves."""


class Job(Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked: `executions` is circuits x parameter sets x bases x shots; `qubits` those declared or
    demanded.
    """

    project: str
    cost_center: str | None
    classification: str
    purpose: str
    justification: str | None
    format: str
    shots: Count
    executions: Count
    qubits: Count
    max_depth: Count | None
    evidence_level: str
    retention_days: Count
    allowed_providers: tuple[str, ...] | None
    backend: str | None
    services: tuple[str, ...] = ()
    """Service aliases of the network that the circuit uses; absent where it uses none."""


class Price(Struct, frozen=True, forbid_unknown_fields=True):
    """The job's upper bound."""

    amount: str
    currency: str
    micros: Count


class Estimate(Struct, frozen=True, forbid_unknown_fields=True):
    """What the job will probably cost, and the interval that holds its charge nine times in ten, by `jobs` past ones.

    `of` says whose they are; with `none` they were too few, and the interval is all that is possible.
    """

    amount: str
    low: str
    high: str
    currency: str
    micros: Count
    low_micros: Count
    high_micros: Count
    jobs: Count
    of: Literal["backend", "provider", "card", "none"]


class Budget(Struct, frozen=True, forbid_unknown_fields=True):
    """One budget that the job would touch; `available_micros` is negative after an overrun."""

    scope: str
    period: str
    limit: str
    held: str
    captured: str
    available: str
    currency: str
    available_micros: Signed
    limit_micros: Signed | None = None
    """Absent from what was recorded before thresholds were judged by it."""


class Lenient(Budget, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A budget in money that stops nothing."""

    mode: Literal["soft", "advisory"]


class Quota(Struct, frozen=True, forbid_unknown_fields=True):
    """A budget of shots or jobs that the job would touch; `available` is negative after a lowered limit."""

    scope: str
    period: str
    unit: Literal["shots", "jobs"]
    mode: Literal["hard", "soft", "advisory"]
    limit: Count
    held: Count
    captured: Count
    available: Signed


class Usage(Struct, frozen=True, forbid_unknown_fields=True):
    """What was already used today (UTC), and the project's unfinished jobs: a snapshot."""

    team_shots_today: Count
    project_shots_today: Count
    running_jobs: Count
    windows: Count = 0
    """Windows of nodes that the project has without a job; absent where none is asked for."""
    team_running_jobs: Count = 0
    """Unfinished jobs of the principal's team; absent from older records."""


class TeamLimit(Struct, frozen=True, forbid_unknown_fields=True):
    """What the principal's team may use; `name` repeats the team (null where it has none), or the check
    fails.
    """

    name: str | None
    shots_per_day: Count
    running_jobs: Count = 0
    max_qubits: Count = 0
    max_depth: Count = 0


class Span(Struct, frozen=True, forbid_unknown_fields=True):
    """A piece of a day (UTC), in minutes from its midnight; `ends` is no part of it."""

    begins: Count
    ends: Count


class Hours(Struct, frozen=True, forbid_unknown_fields=True):
    """When jobs whose purpose begins so may be submitted: `always`, or in these spans by weekday; `said` is the text
    of the data.
    """

    purpose: str
    always: bool
    days: dict[str, tuple[Span, ...]]
    said: str


class DepartmentLimit(Struct, frozen=True, forbid_unknown_fields=True):
    """Beginnings of the purposes that the principal's department may state ("*" is any), and when, the longest
    beginning first; `name` as for a team.
    """

    name: str | None
    purposes: tuple[str, ...]
    hours: tuple[Hours, ...] = ()


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """The project's slice of the limits, for this principal: made by `revision.PolicySet.limits`."""

    max_qubits: Count
    max_shots: Count
    max_depth: Count
    max_running_jobs: Count
    project_shots_per_day: Count
    team: TeamLimit
    department: DepartmentLimit
    max_windows: Count = 0
    """What was recorded before there were windows has none."""
    regions: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    budget_warning_percent: Count = 0
    budget_approval_percent: Count = 0


class Backend(Struct, frozen=True, forbid_unknown_fields=True):
    """A backend as its administrator describes it; a zone that nobody stated is ""."""

    id: str
    provider: str
    qubits: Count
    region: str
    compliance_zone: str
    sovereign: bool
    price_micros: Count


class Node(Struct, frozen=True, forbid_unknown_fields=True):
    """An enrolled node of the network as its enrolment describes it, for backends of provider ``p2p``."""

    id: str
    organisation: str
    region: str
    compliance_zone: str
    sovereign: bool


class Plan(Struct, frozen=True, forbid_unknown_fields=True):
    """A plan over nodes, at the dispatch gate; ``nodes`` are all that it may send anything to, fallbacks too."""

    plan_id: str
    mode: Literal["whole", "product"]
    fragments: Count
    nodes: tuple[str, ...]


class Window(Struct, frozen=True, forbid_unknown_fields=True):
    """A window of a node without a job; it takes the node's room from everybody's jobs."""

    node: str
    services: tuple[str, ...]
    starts_in_ms: Count
    duration_ms: Count


class Time(Struct, frozen=True, forbid_unknown_fields=True):
    """When the decision is asked for: `now` to the millisecond, `date` its UTC day, `weekday` ("mon" to "sun") and
    `minute` of that day; the last two are absent from older records. Made by `time_judged`.
    """

    now: str
    date: str
    weekday: str | None = None
    minute: Count | None = None


class Requester(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose job it is that was denied."""

    subject: str
    name: str
    domain: str


class Approval(Struct, frozen=True, forbid_unknown_fields=True):
    """What an approver is asked for, or does: `reasons` are the codes that spoke against the job."""

    requested_by: Requester
    reasons: tuple[str, ...]
    justification: str
    lasts_s: Count


class Envelope(Struct, frozen=True, forbid_unknown_fields=True):
    """Under which enrolled key of the principal's own the request was signed; `signed` is true."""

    signed: bool
    form: Literal["jose", "cose"]
    alg: str
    key_id: str


class Document(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole input; `price` is null where no candidate has one, which the budget check refuses, and `plan` until
    there is one.
    """

    action: str
    principal: Principal
    job: Job
    price: Price | None
    budgets: tuple[Budget, ...]
    usage: Usage
    limits: Limits
    backends: tuple[Backend, ...]
    nodes: tuple[Node, ...]
    plan: Plan | None
    time: Time
    window: Window | None = None
    """Absent where a job is judged."""
    approval: Approval | None = None
    """What a `job:approve` is about: the rest of its document is the job's, but the principal who approves and the
    time. Absent elsewhere.
    """
    envelope: Envelope | None = None
    """Absent where the request has no signature but that of its way here."""
    estimate: Estimate | None = None
    """Absent where no backend could take the job, and from what was recorded before there were estimates."""
    lenient_budgets: tuple[Lenient, ...] = ()
    """Soft and advisory ones in money; absent from older records."""
    quotas: tuple[Quota, ...] = ()
    """Of every mode; the hold judges the hard ones. Absent from older records."""


WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def time_judged(at: dt.datetime) -> dict[str, Any]:
    """A moment as policy sees it."""
    utc = at.astimezone(dt.UTC)
    return {
        "now": timestamp(utc),
        "date": f"{utc:%Y-%m-%d}",
        "weekday": WEEKDAYS[utc.weekday()],
        "minute": utc.hour * 60 + utc.minute,
    }


def schema() -> dict[str, Any]:
    """JSON Schema of `Document`, as committed in `policies/schemas/input.json`."""
    return msgspec.json.schema(Document)
