# SPDX-License-Identifier: Apache-2.0
"""The job spec (G1): what a person may ask for, as frozen structs.

`reading` makes one of bytes, `accepted` writes it canonically, `schema` says it as JSON Schema. Pure.
No circuit byte is parsed here: `source` stays opaque base64 until a guarded child opens it.
"""

from __future__ import annotations

import base64
import binascii
import math
from fractions import Fraction
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from control_plane.errors import Refused
from control_plane.jobs import observables
from control_plane.strict import Invalid

MAX_SHOTS = 1_000_000
MAX_EXECUTIONS = 10_000_000
MAX_STATES = 16  # whose analysis may be asked for: each is computed apart
STATE_QUBITS = 20
MAX_ITEMS = 1_000  # each is compiled, judged, run and proven; a job is one bundle

Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@/-]*$",
        description="A name: letters, digits and . _ : @ / -",
    ),
]
JobId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Unique in its tenant. Made by the plane when absent.",
    ),
]
# What `_faults` refuses, said in the schema too: control characters, and base64 that isn't canonical.
_SPOKEN = {"pattern": r"^([^\u0000-\u0008\u000b-\u001f]*[^\u0000-\u0008\u000a-\u001f])?$"}
_BASE64 = {
    "contentEncoding": "base64",
    "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=|[A-Za-z0-9+/][AQgw]==)$",
}
Text = Annotated[str, Meta(max_length=2000, extra_json_schema=_SPOKEN)]
Shots = Annotated[int, Meta(ge=1, le=MAX_SHOTS, description="Executions of each circuit.")]
ParameterName = Annotated[
    str, Meta(min_length=1, max_length=128, extra_json_schema={"pattern": r"^[^\u0000-\u001f]+$"})
]
ParameterValues = dict[ParameterName, float]
Objective = Literal["balanced", "cheapest", "fastest", "best"]


class SpecInvalid(Invalid):
    """The document isn't a job spec; `errors` lists {field, message}."""

    def __init__(self, faults: list[tuple[str, str]]) -> None:
        """One row a fault."""
        super().__init__(faults, code="spec_invalid")


class ProgramUnsupported(Refused):
    """A well-formed program that no backend of this plane can run."""

    def __init__(self, field: str, message: str) -> None:
        """Name the field that asks for too much."""
        super().__init__(
            "program_unsupported",
            f"{field}: {message}",
            errors=({"field": field, "message": message},),
        )


class Circuit(Struct, frozen=True, forbid_unknown_fields=True):
    """One circuit: the short form of a sampler program."""

    format: Annotated[Literal["QASM3", "QASM2", "QPY"], Meta(description="The language of `source`.")]
    source: Annotated[
        str,
        Meta(
            min_length=1,
            description="The circuit's bytes in base64 (RFC 4648 section 4).",
            extra_json_schema=_BASE64,
        ),
    ]
    compiler_version: (
        Annotated[str, Meta(max_length=128, description="Provenance: recorded.", extra_json_schema=_SPOKEN)] | None
    ) = None
    parameters: ParameterValues = {}
    alias_model: (
        Annotated[
            Literal["discard", "swap"],
            Meta(
                description="How a network reads `teleport a, b`: b is discarded and receives a, a is reset (discard, "
                "also where absent), or the two are swapped (swap)."
            ),
        ]
        | None
    ) = None


class Program(Struct, frozen=True, forbid_unknown_fields=True):
    """Several circuits, parameter sets or observables under one hold; executions are their product."""

    kind: Annotated[
        Literal["sampler", "estimator"],
        Meta(description="Counts of each circuit, or expectations of `observables` in the state that each prepares."),
    ]
    circuits: Annotated[tuple[Circuit, ...], Meta(min_length=1, max_length=MAX_ITEMS, description="Of one format.")]
    parameters: Annotated[
        tuple[ParameterValues, ...],
        Meta(max_length=10_000, description="Each circuit runs with each set, which overrules the circuit's own."),
    ] = ()
    observables: Annotated[
        tuple[
            Annotated[
                str,
                Meta(
                    min_length=1,
                    max_length=2000,
                    description="Pauli strings in Qiskit's order with real coefficients: `ZZ`, `0.5*ZZ - 0.25*XI`.",
                    extra_json_schema=_SPOKEN,
                ),
            ],
            ...,
        ],
        Meta(max_length=1000),
    ] = ()
    precision: (
        Annotated[
            float,
            Meta(gt=0, le=1, description="In place of shots: the standard error that each figure has at most."),
        ]
        | None
    ) = None


class BackendConstraints(Struct, frozen=True, forbid_unknown_fields=True):
    """What a backend must offer to be considered."""

    min_qubits: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    max_depth: (
        Annotated[
            int,
            Meta(ge=1, le=10_000_000, description="Judged on the compiled circuit."),
        ]
        | None
    ) = None
    allowed_providers: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=64)] | None = None
    backend: Annotated[Name, Meta(description="Pins one backend by its id.")] | None = None


class MaxPrice(Struct, frozen=True, forbid_unknown_fields=True):
    """What the job may cost at most, anywhere: a backend whose upper bound is above it is not considered."""

    amount: Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,14})(\.[0-9]{1,12})?$", description="A plain decimal.")]
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}$", description="That of the rate card in force.")]


Field = Literal[
    "statevector",
    "probabilities",
    "measured_probabilities",
    "observable_expectations",
    "reduced_density_matrices",
    "bloch_vectors",
    "entanglement_entropy",
    "fidelity",
    "top_basis_states",
]


class Execution(Struct, frozen=True, forbid_unknown_fields=True):
    """How often and where to run."""

    shots: Shots | None = None
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1, description="Item N of a program runs under seed + N.")] | None = None
    backend_constraints: BackendConstraints = BackendConstraints()
    objective: (
        Annotated[
            Objective,
            Meta(
                description="What decides among the backends that are left: the plane's weights (balanced, also "
                "where absent), the price (cheapest), the queue (fastest) or the estimated fidelity (best)."
            ),
        ]
        | None
    ) = None
    max_price: MaxPrice | None = None
    session: (
        Annotated[bool, Meta(description="Run in a session of the backend, one for all jobs of the workflow.")] | None
    ) = None
    analysis: (
        Annotated[
            tuple[Field, ...],
            Meta(
                min_length=1,
                max_length=9,
                description="Computed of the state before measurement, without noise or with the backend's noise "
                f"model, and labelled so; to {STATE_QUBITS} qubits.",
            ),
        ]
        | None
    ) = None


class Governance(Struct, frozen=True, forbid_unknown_fields=True):
    """Who pays and why: what policy judges and evidence records."""

    project: Name
    classification: Name
    purpose: Name
    cost_center: Name | None = None
    justification: Text | None = None


class EvidenceRequirements(Struct, frozen=True, forbid_unknown_fields=True):
    """How strongly the outcome is proven, and for how long its evidence is kept."""

    level: Literal["full", "standard"] = "full"
    retention_days: Annotated[int, Meta(ge=1, le=36_500)] = 365


class Workflow(Struct, frozen=True, forbid_unknown_fields=True):
    """What ties the jobs of one hybrid loop together: all but `id` is the caller's own word (S9)."""

    id: Annotated[Name, Meta(description="The same in every job of the loop.")]
    session: Annotated[Name, Meta(description="A part of the workflow, such as one optimiser's run.")] | None = None
    step: Annotated[int, Meta(ge=0, le=2**53 - 1, description="Which turn of the loop.")] | None = None


SLURM_ID: Final = r"^[0-9]{1,19}([_+][0-9]{1,10})?$"


class Accounting(Struct, frozen=True, forbid_unknown_fields=True):
    """The batch job that submitted this one, as its scheduler named it to the submitter: provenance, recorded (G6)."""

    slurm_job_id: Annotated[
        str,
        Meta(
            pattern=SLURM_ID,
            description="As sacct names it (JobID): 4711, 4711_3 of an array, 4711+0 of a heterogeneous job.",
        ),
    ]
    account: Annotated[Name, Meta(description="SLURM_JOB_ACCOUNT.")] | None = None
    cluster: Annotated[Name, Meta(description="SLURM_CLUSTER_NAME.")] | None = None


class JobSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """A vendor-neutral, declarative request for one quantum execution (G1)."""

    execution: Execution
    governance: Governance
    job_id: JobId | None = None
    circuit: Circuit | None = None
    program: Program | None = None
    workflow: Workflow | None = None
    accounting: Accounting | None = None
    evidence_requirements: EvidenceRequirements = EvidenceRequirements()

    @property
    def single(self) -> Circuit | None:
        """The one circuit of a job that is no program of several items, with its parameters."""
        program = self.program
        if program is None:
            return self.circuit
        if program.kind != "sampler" or len(program.circuits) != 1 or len(program.parameters) > 1:
            return None
        circuit, values = program.circuits[0], program.parameters[0] if program.parameters else {}
        return msgspec.structs.replace(circuit, parameters=circuit.parameters | values)

    @property
    def circuits(self) -> tuple[Circuit, ...]:
        """The circuits asked for, short form or long."""
        if self.program is not None:
            return self.program.circuits
        return (self.circuit,) if self.circuit is not None else ()

    @property
    def shots(self) -> int:
        """Shots of each item: those asked for, or what the precision needs, at most `MAX_SHOTS`."""
        if self.execution.shots is not None or self.program is None or self.program.precision is None:
            return self.execution.shots or 0
        return min(MAX_SHOTS, needed(self.program))

    @property
    def items(self) -> int:
        """Circuits x parameter sets x bases: how many tasks the job is."""
        program = self.program
        if program is None:
            return 1
        bases = len(observables.bases(program.observables)) if program.kind == "estimator" else 1
        return len(program.circuits) * max(1, len(program.parameters)) * bases

    @property
    def executions(self) -> int:
        """Circuits x parameter sets x bases x shots: the product that price and quota use (G1)."""
        return self.items * self.shots


def needed(program: Program) -> int:
    """Shots of each item that bring every figure's standard error to the precision, whatever the state.

    A frequency's variance is at most 1/4 a shot; for expectations see `observables.shots_for`.
    """
    if program.precision is None:
        return 0
    if program.kind == "estimator":
        return observables.shots_for(program.observables, program.precision)
    return math.ceil(Fraction(1, 4) / Fraction(str(program.precision)) ** 2)


def fits_analysis(spec: JobSpec, declared: int) -> None:
    """Raise `ProgramUnsupported` where states are asked for of more qubits than are given."""
    if spec.execution.analysis and declared > STATE_QUBITS:
        said = f"states are given to {STATE_QUBITS} qubits, the circuit declares {declared}"
        raise ProgramUnsupported("execution.analysis", said)


def fits_observables(spec: JobSpec, place: int, declared: int) -> None:
    """Raise `SpecInvalid` where a circuit declares more qubits than the observables have letters.

    Fewer may be declared than there are: what a scan can't tell counts as nothing, and compiling finds it.
    """
    if spec.program is None or spec.program.kind != "estimator":
        return
    letters = len(observables.parse(spec.program.observables[0])[0].pauli)
    if declared > letters:
        at = f"program.circuits[{place}]"
        raise SpecInvalid([("program.observables", f"{letters} letters, and {at} declares {declared} qubits")])


def source_bytes(circuit: Circuit, field: str = "circuit.source") -> bytes:
    """The circuit's bytes; raises `SpecInvalid` where `source` isn't canonical base64."""
    try:
        data = base64.b64decode(circuit.source, validate=True)
    except (binascii.Error, ValueError):
        raise SpecInvalid([(field, "not base64 (RFC 4648 section 4)")]) from None
    if not data:
        raise SpecInvalid([(field, "empty")])
    if base64.b64encode(data).decode() != circuit.source:  # one circuit has one text, and so one hash
        raise SpecInvalid([(field, "not canonical base64: surplus padding or bits (RFC 4648 section 3.5)")])
    return data
