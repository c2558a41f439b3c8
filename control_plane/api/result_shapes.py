# SPDX-License-Identifier: Apache-2.0
"""A result as it is given: what was measured, what was computed, and what isn't given and why (N15). Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from control_plane.api.shapes import Failure, Instant


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
    fidelity_estimate: FidelityEstimate | None = None


class FragmentAttempt(Struct, frozen=True):
    """One try of a network's fragment on one node, which may have received something of it from `start` on."""

    node: str
    epoch: int
    status: Literal["running", "accepted", "refused", "failed", "late", "canceled"]
    start: Instant
    end: Instant | None
    observed_fidelity: float | None
    error: Failure | None


class FidelityEstimate(Struct, frozen=True):
    """How good a network's result may be, by its fragments; `fidelity`, where it was asked for, is another thing."""

    value: float
    label: Literal["estimated"]
    kind: str
    note: str


class Fragment(Struct, frozen=True):
    """What happened to one item of a program, or to one fragment that a node of the network ran."""

    status: Literal["completed", "failed", "canceled", "not_run", "waiting", "reserving", "running"]
    shots: int
    item: int | None = None
    circuit: int | None = None
    parameters: int | None = None
    basis: str | None = None
    fragment_id: str | None = None
    service_type: str | None = None
    node: str | None = None
    attempts: tuple[FragmentAttempt, ...] = ()
    observed_fidelity: float | None = None
    error: Failure | None = None
    partial: str | None = None
    seed: int | None = None
    method: str | None = None
    start: Instant | None = None
    end: Instant | None = None
    counts: dict[str, int] = {}


class Divided(Struct, frozen=True):
    """How a network job's circuit was divided: whole on one node, or groups that share no qubit on several."""

    plan_id: str
    mode: Literal["whole", "product"]
    mode_reason: str
    alias_model: Literal["discard", "swap"]
    approximations: tuple[str, ...]
    """What is abstract or not exact, in words."""


class Result(Struct, frozen=True):
    """The result of a completed job (N15); `plan` where it ran on a network."""

    job_id: str
    quantum_result: QuantumResult
    fragment_results: tuple[Fragment, ...]
    plan: Divided | None = None
