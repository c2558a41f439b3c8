# SPDX-License-Identifier: Apache-2.0
"""What answers look like: the structs that the OpenAPI document is made from, and what each operation may answer.

Handlers build plain dicts (`jobs.view`), which older sealed decisions fit too; a test holds every answer of the e2e
suite against the document, in both directions. Members may be added, none taken away. Pure.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from control_plane.jobs.state import State

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
    the door, the body it takes, headers of a good answer, and which operations it leads to.
    """

    good: dict[int, Any]
    refusals: tuple[str, ...] = ()
    body: Any = None
    headers: dict[str, str] = {}
    links: tuple[str, ...] = ()


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


class Reason(Struct, frozen=True):
    """One thing that spoke against the request; the last three where the rule's own metadata gives them."""

    code: str
    level: Literal["hard", "soft"]
    message: str
    rule: str
    want: str | None = None
    have: str | None = None
    fix: str | None = None


class Decision(Struct, frozen=True):
    """What the policies said, and under which revision."""

    id: str
    allow: bool
    checks: tuple[Check, ...]
    reasons: tuple[Reason, ...]
    policy_revision: Hash


class Cost(Struct, frozen=True):
    """What the job costs, and what sort of amount that is."""

    amount: Amount | None
    currency: Currency | None
    rate_card: str | None
    basis: Literal["upper_bound", "held", "charged", "refused"]
    held: Amount | None = None


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


class Move(Struct, frozen=True):
    """A state and when it was reached."""

    state: State
    at: Instant


class Failure(Struct, frozen=True):
    """Why a job has no result."""

    code: str
    detail: str


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


class JobShown(Struct, frozen=True):
    """Everything of a job that its owner may see."""

    job_id: str
    state: State
    decision: Decision
    cost: Cost
    evidence: EvidenceState
    attempt: int
    backend: str | None
    history: tuple[Move, ...]
    route: tuple[Route, ...]
    error: Failure | None
    partial: str | None
    settlement: Settlement | None
    project: str
    submitted_at: Instant
    workflow: Workflow | None = None


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


class BasisState(Struct, frozen=True):
    """A measured outcome, bits in Qiskit's order (last classical bit left)."""

    state: str
    count: int


Label = Annotated[
    Literal["sampled", "exact_ideal", "exact_noisy"],
    Meta(description="Made of counts, or computed from the circuit, without noise or with the backend's noise model."),
]


class StandardErrors(Struct, frozen=True):
    """Of what is sampled, by its field."""

    measured_probabilities: dict[str, float] = {}


class ResultFile(Struct, frozen=True):
    """A part of the result that is too large to stand in it: GET …/result/files/{name}."""

    name: str
    of: str
    media_type: str
    outcomes: int | None = None


class Expectation(Struct, frozen=True):
    """An observable's expectation in the state of one circuit under one parameter set."""

    observable: str
    value: float
    label: Label
    circuit: int = 0
    parameters: int | None = None
    standard_error: float | None = None
    shots: int | None = None


class NotGiven(Struct, frozen=True):
    """A field that was asked for and isn't there, and why."""

    field: str
    reason: str
    circuit: int = 0
    parameters: int | None = None
    observable: str | None = None


class Precision(Struct, frozen=True):
    """What became of a precision that was asked for in place of shots; `capped` where it can't be promised."""

    asked: float
    shots: int
    shots_needed: int
    variance_bound: str
    capped: bool


class Measured(Struct, frozen=True):
    """One item of a program: circuit, parameter set and basis by their places, and what was measured."""

    item: int
    circuit: int
    parameters: int | None
    basis: str | None
    shots: int
    counts: dict[str, int] = {}
    measured_probabilities: dict[str, float] = {}
    top_basis_states: tuple[BasisState, ...] = ()
    standard_errors: StandardErrors = StandardErrors()
    labels: dict[str, Label] = {}


Complex = Annotated[tuple[float, float], Meta(description="Real and imaginary part.")]


class Statevector(Struct, frozen=True):
    """Amplitudes by basis state, 0 first; more than 1,024 are a file."""

    label: Label
    amplitudes: tuple[Complex, ...] = ()
    file: str | None = None


class Distribution(Struct, frozen=True):
    """Probabilities by bit string; of more than 10 qubits they are a file."""

    label: Label
    values: dict[str, float] = {}
    file: str | None = None


class ReducedStates(Struct, frozen=True):
    """The density matrix of each qubit."""

    label: Label
    of: str
    matrices: tuple[tuple[tuple[Complex, Complex], tuple[Complex, Complex]], ...]


class BlochVectors(Struct, frozen=True):
    """x, y, z of each qubit."""

    label: Label
    of: str
    vectors: tuple[tuple[float, float, float], ...]


class Entropies(Struct, frozen=True):
    """Von Neumann entropies of parts of the state."""

    label: Label
    unit: str
    of_each_qubit: tuple[float, ...]
    of_the_upper_half: float | None
    note: str


class Agreement(Struct, frozen=True):
    """How well what was measured agrees with what is computed: a consistency reference, no tomography."""

    label: Label
    value: float
    standard_error: float
    reference: Label
    kind: str
    note: str


class Likely(Struct, frozen=True):
    """A basis state and its probability."""

    state: str
    probability: float


class LikelyStates(Struct, frozen=True):
    """The most probable basis states."""

    label: Label
    states: tuple[Likely, ...]


class Computed(Struct, frozen=True):
    """What was asked for of the state that a circuit prepares, before its measurements."""

    qubits: int | None = None
    measured_qubits: tuple[int, ...] = ()
    order: str | None = None
    statevector: Statevector | None = None
    probabilities: Distribution | None = None
    measured_probabilities_exact: Distribution | None = None
    reduced_density_matrices: ReducedStates | None = None
    bloch_vectors: BlochVectors | None = None
    entanglement_entropy: Entropies | None = None
    fidelity: Agreement | None = None
    top_basis_states_exact: LikelyStates | None = None


class ComputedState(Computed, frozen=True, kw_only=True):
    """The same of one circuit under one parameter set of a program."""

    circuit: int
    parameters: int | None


class QuantumResult(Computed, frozen=True, kw_only=True):
    """What was measured, what it means, and what was computed beside it."""

    counts: dict[str, int]
    shots: int
    measured_probabilities: dict[str, float]
    top_basis_states: tuple[BasisState, ...]
    standard_errors: StandardErrors = StandardErrors()
    labels: dict[str, Label] = {}
    items: tuple[Measured, ...] = ()
    files: tuple[ResultFile, ...] = ()
    observable_expectations: tuple[Expectation, ...] = ()
    precision: Precision | None = None
    states: tuple[ComputedState, ...] = ()
    refused: tuple[NotGiven, ...] = ()


class Fragment(Struct, frozen=True):
    """What happened to one item of a program."""

    item: int
    circuit: int
    parameters: int | None
    basis: str | None
    status: Literal["completed", "failed", "canceled", "not_run"]
    shots: int
    error: Failure | None = None
    partial: str | None = None
    seed: int | None = None
    method: str | None = None
    start: Instant | None = None
    end: Instant | None = None
    counts: dict[str, int] = {}


class Result(Struct, frozen=True):
    """The result of a completed job (N15)."""

    job_id: str
    quantum_result: QuantumResult
    fragment_results: tuple[Fragment, ...]


class Budget(Struct, frozen=True):
    """A budget in its present window."""

    scope: str
    period: str
    limit: Amount
    held: Amount
    captured: Amount
    available: Amount
    currency: Currency


class Backend(Struct, frozen=True):
    """A backend, and why it is up or down."""

    id: str
    provider: str
    state: str
    qubits: int | None
    formats: tuple[str, ...]
    region: str | None
    compliance_zone: str | None
    sovereign: bool
    reason: str | None


class Errors(Struct, frozen=True):
    """Median errors by a calibration."""

    one_qubit: float | None
    two_qubit: float | None
    readout: float | None


class Calibration(Struct, frozen=True):
    """The calibration in force, as the backend names it; `hash` is of its bytes."""

    id: str
    hash: Hash
    valid_from: Instant
    errors: Errors | None


class CalibrationKept(Calibration, frozen=True):
    """A calibration that was found, and found again until `seen_at`."""

    found_at: Instant
    seen_at: Instant
    size: int


class Queue(Struct, frozen=True):
    """What waits at the backend now, by its own word."""

    depth: int | None
    seconds: float | None


class QueueNoted(Struct, frozen=True):
    """The worst of five minutes."""

    at: Instant
    online: bool
    reason: str | None
    depth: int
    queue_s: float


class Rate(Struct, frozen=True):
    """The price of one unit of a meter."""

    meter: str
    unit: str
    rate: Amount
    cap: Amount | None


class Price(Struct, frozen=True, kw_only=True):
    """What a rate card of the tenant's says of the backend, and the most that 1,000 executions cost by it."""

    rate_card: Hash
    from_: Instant = field(name="from")
    until: Instant | None
    currency: Currency
    at_most_for_1000: Amount
    rates: tuple[Rate, ...]


class BackendShown(Backend, frozen=True):
    """All that the registry knows of a backend; `since` is when it last went up or down."""

    since: Instant
    seen_at: Instant
    simulator: bool | None
    max_shots: int | None
    queue: Queue
    capability: dict[str, Any]
    calibration: Calibration | None
    calibrations: tuple[CalibrationKept, ...]
    queue_history: tuple[QueueNoted, ...]
    prices: tuple[Price, ...]


class Quantiles(Struct, frozen=True):
    """The median, and what 95 % stay below."""

    p50: float
    p95: float


class Drift(Struct, frozen=True):
    """By which part each is more than in the period before; `success_rate` is the difference itself."""

    price: float | None
    run_time: float | None
    queue: float | None
    success_rate: float | None
    jobs_before: int


class Figures(Struct, frozen=True):
    """One backend over a period, by the tenant's own ended jobs; null where nothing was measured."""

    backend: str
    provider: str | None
    jobs: int
    completed: int
    failed_over: int
    success_rate: float | None
    success_interval: tuple[float, float] | None
    failures: dict[str, int]
    queue_s: Quantiles | None
    run_s: Quantiles | None
    run_s_per_1000: float | None
    price_per_1000: Amount | None
    currency: Currency | None
    drift: Drift


class BackendFigures(Struct, frozen=True):
    """Figures of each backend, and the two periods that they are of."""

    since: Instant
    until: Instant
    compared_since: Instant
    jobs_at_most: int
    backends: tuple[Figures, ...]


class Caller(Struct, frozen=True):
    """Who the caller is here, and what they may do where."""

    subject: str
    actor: str
    tenant: str
    roles: tuple[str, ...]
    project_roles: dict[str, tuple[str, ...]]
    projects: tuple[str, ...]
    team: str | None
    department: str | None


class Dependency(Struct, frozen=True):
    """One thing that a job needs; `code` where a fault has a stable one."""

    ok: bool
    detail: str
    code: str | None = None


class Readiness(Struct, frozen=True):
    """Whether a job could be admitted, run, sealed and stamped now."""

    ready: bool
    checks: dict[str, Dependency]


class Alive(Struct, frozen=True):
    """The process answers."""

    status: Literal["alive"]


class Root(Struct, frozen=True):
    """Name, version and where to go."""

    name: str
    version: str
    api: str
    openapi: str
