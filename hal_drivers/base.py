# SPDX-License-Identifier: Apache-2.0
"""The seam between the plane and every backend: three small Protocols and the values that cross them
(decision 8).

*Query* reads and changes nothing, *Compile* turns a submitted circuit into the artefact that will run,
*Control* acts. A driver claims what it can do in its capability record; the conformance suite tests what is
claimed and that the rest is refused. Values are frozen and hold no clock, connection or process: a
:data:`Handle` is plain JSON that the plane stores beside the job. Times are aware UTC, durations seconds,
memory bytes.

Not here: policy, prices, retries, ledger entries. A driver reports; ``control_plane`` decides and writes.
"""

from __future__ import annotations

from datetime import datetime
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias, runtime_checkable

from msgspec import UNSET, Struct, UnsetType

Format: TypeAlias = Literal["QASM2", "QASM3", "QPY"]
Handle: TypeAlias = dict[str, str | int]
AliasModel: TypeAlias = Literal["discard", "swap"]
"""How a network reads ``teleport a, b``: b is discarded and a reset, or the two are swapped."""
CancelLevel: TypeAlias = Literal["none", "queued", "running"]
ArtefactFormat: TypeAlias = Format | Literal["PLAN"]
"""What a compiled artefact is: a circuit, or a network's plan with its program (``hal_drivers.p2p.planned``)."""


class Capabilities(Struct, frozen=True, forbid_unknown_fields=True):
    """What a device claims; the conformance suite holds it to each line."""

    formats: tuple[Format, ...]
    control_flow: bool = False
    mid_circuit: bool = False
    """Measurement and reset before the end."""
    sampler: bool = True
    estimator: bool = False
    batch: bool = False
    session: bool = False
    """A device that bills a session's time between its jobs MUST NOT claim it: nothing holds or charges that time."""
    seed: bool = False
    cancel: CancelLevel = "none"
    partial_results: bool = False
    idempotent_submit: bool = False
    find_authoritative: bool = False
    """``find`` answering None proves that nothing runs under that token; else a lost task is UNCERTAIN."""
    handle_scope: Literal["process", "anywhere"] = "anywhere"
    """``process``: the task dies with the process that submitted it; another one polls Unknown."""
    mitigation: tuple[str, ...] = ()
    tasks_at_once: int = 1
    """How many tasks of one process run side by side; more only wait."""
    programs: bool = True
    """Whether jobs of several circuits, parameter sets or bases may come here: item by item, where it has no batch."""
    services: bool = False
    """Whether circuits may use service aliases (``bell_pair``): a network does, and no other backend knows them."""
    exact: bool = False
    """Whether its driver is an ``Analyst``: it computes states of circuits beside what devices measure."""


class Device(Struct, frozen=True, forbid_unknown_fields=True):
    """One backend. Region, zone and sovereignty are the administrator's word, not the vendor's."""

    id: str
    provider: str
    qubits: int
    """The most that any method takes; ``qubits_by_method`` bounds each."""
    simulator: bool
    region: str
    compliance_zone: str
    sovereign: bool
    max_shots: int
    capabilities: Capabilities
    qubits_by_method: dict[str, int] = {}
    sku: str | None = None
    """What a rate card may price it as, beside its id: ``local-simulator``, an ARN, a processor's name."""


class DeviceStatus(Struct, frozen=True, forbid_unknown_fields=True):
    """Whether the device takes work now, and how much waits; ``reason`` says why not."""

    online: bool
    queue_depth: int
    reason: str | None = None


class Calibration(Struct, frozen=True, forbid_unknown_fields=True):
    """The snapshot that describes the device; for an ideal simulator its version and configuration."""

    id: str
    valid_from: datetime
    data: bytes


class CompileRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A submitted circuit as it came: bytes that no process but a guarded child may parse."""

    format: Format
    source: bytes
    parameters: dict[str, float]
    backend: str
    shots: int
    basis: str | None = None
    """Pauli letters in Qiskit's order: measure these qubits so, and not as the circuit says (``hal_drivers.basis``)."""
    alias_model: AliasModel = "discard"
    allowed_nodes: tuple[str, ...] | None = None
    """Of a network those that policy allows, and nobody else receives anything (I8); None: policy was not asked."""
    plan: bytes | None = None
    """What ``planned.kept`` gave of a compilation before: the circuit is read anew, and nothing is planned anew."""


class Usage(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the work consumed, and how that is known (G6)."""

    wall_s: float
    cpu_s: float | None
    peak_memory_bytes: int | None
    """The child's high-water mark; it never falls in a warm child, so an upper bound of this task's peak."""
    qpu_s: float | None = None
    """None for simulators: simulator seconds are their own meter."""
    source: Literal["vendor", "measured", "estimated"] = "measured"
    reserved_s: float | None = None
    """For how long something was kept free for this task and nobody else; None where nothing was, or nobody says."""


class Tally(Struct, frozen=True, forbid_unknown_fields=True):
    """Gates by how many qubits they act on, and measurements, as formulas of vendors count them (``tally``)."""

    one_qubit: int = 0
    two_qubit: int = 0
    multi_qubit: int = 0
    measurements: int = 0


class CompiledFacts(Struct, frozen=True, forbid_unknown_fields=True):
    """What the compiler found; policy judges ``depth`` and ``qubits`` at the dispatch gate."""

    qubits: int
    clbits: int
    depth: int
    gates_before: int
    gates_after: int
    operations: dict[str, int]
    layout: tuple[int, ...] | None
    """Physical qubit of each virtual one; None where the device has no topology."""
    measured_bits: tuple[int, ...]
    """Classical bits that a measurement writes, ascending; result strings have the last bit left."""
    method: str
    memory_bytes: int
    """Estimated need of the run."""
    duration_s: float | None = None
    """Estimated time on the processor; None where nothing supports an estimate."""
    final_layout: tuple[int, ...] | None = None
    """As ``layout``, where routing has left them at the end."""
    submitted: Tally | UnsetType = UNSET
    """Before compilation; unset where that can't be known, and ``uncounted`` says why."""
    runs: Tally | UnsetType = UNSET
    """After it: of the artefact; unset likewise."""
    uncounted: str | UnsetType = UNSET


class Compiled(Struct, frozen=True, forbid_unknown_fields=True):
    """The artefact exactly as it will run, with what replay needs of the compiler (decision 12)."""

    backend: str
    artefact: bytes
    format: ArtefactFormat
    qasm3: str | None
    """The same program as text; None where OpenQASM 3 cannot express it."""
    facts: CompiledFacts
    versions: dict[str, str]
    usage: Usage | None = None
    ticket: str | None = None
    """The backend's own word that it compiled this; it goes back to it with ``submit`` and into no evidence."""


class Task(Struct, frozen=True, forbid_unknown_fields=True):
    """One execution. ``token`` is the plane's own and unique; at most one task ever runs under it."""

    token: str
    shots: int
    seed: int | None = None
    """None: the driver chooses one and reports it."""
    deadline_s: float = 300.0
    session: str | None = None
    """What ``open_session`` gave; ``submit`` raises SessionEnded where the device has ended it."""


class Queued(Struct, frozen=True, tag="queued"):
    """Accepted, not started."""


class Running(Struct, frozen=True, tag="running"):
    """On the device since ``started_at``."""

    started_at: datetime


class Finished(Struct, frozen=True, tag="finished"):
    """``result`` answers."""


class Failed(Struct, frozen=True, tag="failed"):
    """Ended without a result; ``code`` is a code of ``errors.py`` or ``deadline_exceeded``."""

    code: str
    detail: str


class Stopped(Struct, frozen=True, tag="stopped"):
    """Ended by ``cancel``; nothing of it runs any more."""


class Unknown(Struct, frozen=True, tag="unknown"):
    """No task under this handle in reach of this process."""


Status: TypeAlias = Queued | Running | Finished | Failed | Stopped | Unknown


class Canceled(Struct, frozen=True, tag="canceled"):
    """Stopped; no shot of it is handed out."""


class StoppedAfter(Struct, frozen=True, tag="stopped_after"):
    """Stopped with ``shots`` done; ``result`` hands them out as partial."""

    shots: int


class TooLate(Struct, frozen=True, tag="too_late"):
    """It had already ended."""


class Unsupported(Struct, frozen=True, tag="unsupported"):
    """The device cannot cancel in this state."""


Cancellation: TypeAlias = Canceled | StoppedAfter | TooLate | Unsupported


class Block(Struct, frozen=True, forbid_unknown_fields=True):
    """Raw counts of a run of consecutive shots."""

    shots: int
    counts: dict[str, int]
    start: datetime
    end: datetime


class Outcome(Struct, frozen=True, forbid_unknown_fields=True):
    """Raw data only; ``counts`` are in Qiskit's order (last classical bit left), no register gaps."""

    counts: dict[str, int]
    blocks: tuple[Block, ...]
    """At most 64; their counts add up to ``counts``."""
    shots_executed: int
    partial: str | None
    """The reason why there are fewer shots than asked, or None."""
    seed: int | None
    method: str
    usage: Usage
    started_at: datetime
    ended_at: datetime
    metadata: dict[str, str]
    accounting: dict[str, str] = {}
    """By what else the work is known where it ran: ``slurm_job_id``, a vendor's ``task_id``; accounts join on it."""


class ExactRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A submitted circuit whose state before its measurements is asked for (N15)."""

    format: Format
    source: bytes
    parameters: dict[str, float]
    backend: str
    """Whose noise model counts, where it has one."""
    fields: tuple[str, ...]
    observables: tuple[tuple[str, tuple[tuple[float, str], ...]], ...] = ()
    """Each text with its coefficients and Pauli strings; without any, Z of each qubit, ZZ and XX of each pair."""
    counts: dict[str, int] = {}
    """What was measured, for ``fidelity``."""
    alias_model: AliasModel = "discard"


class Exact(Struct, frozen=True, tag="exact", forbid_unknown_fields=True):
    """What was computed; of amplitudes and probabilities either the values or, as NumPy writes it, a file."""

    label: str
    """exact_ideal, or exact_noisy where a noise model counted."""
    qubits: int
    measured_qubits: tuple[int, ...]
    amplitudes: tuple[tuple[float, float], ...] = ()
    amplitudes_file: bytes = b""
    probabilities: dict[str, float] = {}
    probabilities_file: bytes = b""
    outcomes: dict[str, float] = {}
    expectations: tuple[tuple[str, float], ...] = ()
    reduced: tuple[tuple[tuple[float, float], ...], ...] = ()
    bloch: tuple[tuple[float, float, float], ...] = ()
    entropies: tuple[float, ...] = ()
    half_entropy: float | None = None
    agreement: tuple[float, float] | None = None
    top: tuple[tuple[str, float], ...] = ()
    refused: dict[str, str] = {}


def vendor_task(handle: Handle) -> str | None:
    """The service's own name of a handle's task, as its invoices have it; None where it hasn't told one."""
    name = handle.get("task", handle.get("job"))
    return None if name is None else str(name)


class Query(Protocol):
    """Reads; no call has a side effect, and all work before the driver is entered."""

    async def devices(self) -> tuple[Device, ...]:
        """The capability records of the devices this driver reaches."""
        ...

    async def status(self, backend: str) -> DeviceStatus:
        """Whether the device takes work now; raises BackendUnknown."""
        ...

    async def calibration(self, backend: str) -> Calibration:
        """The snapshot in force; raises BackendUnknown."""
        ...


class Compile(Protocol):
    """Turns submitted bytes into an artefact; deterministic for the same request and versions."""

    async def compile(self, request: CompileRequest) -> Compiled:
        """Raises CircuitInvalid, CircuitTooComplex, ProgramUnsupported, BackendUnknown, BackendUnavailable."""
        ...


@runtime_checkable
class Analyst(Protocol):
    """Computes what a circuit's state is, in a guarded child; beside a driver's three Protocols, not one of them."""

    async def analyse(self, request: ExactRequest) -> Exact:
        """Raises as ``compile`` does; ProgramUnsupported where there is no one state, or it is too large."""
        ...


class Exhibit(Struct, frozen=True, forbid_unknown_fields=True):
    """What a task has to show beside its outcome, to be kept as evidence under this name."""

    name: str
    media_type: str
    data: bytes


@runtime_checkable
class Witness(Protocol):
    """Tells who received what of a task that ended, however it ended; of drivers whose work is divided among others."""

    async def exhibits(self, handle: Handle) -> tuple[Exhibit, ...]:
        """Until ``forget``; raises HandleUnknown, NotFinished, BackendUnavailable."""
        ...


class Control(Protocol):
    """Acts. Every task ends: by itself, by ``cancel`` or by its deadline."""

    async def submit(self, compiled: Compiled, task: Task) -> Handle:
        """Start or queue the task; the same token again gives the same handle where the device claims it."""
        ...

    async def find(self, token: str) -> Handle | None:
        """The handle of the task under this token; see ``find_authoritative`` for what None means."""
        ...

    async def poll(self, handle: Handle, wait_s: float = 0.0) -> Status:
        """The task's status, at once when it ends and after ``wait_s`` at the latest."""
        ...

    async def cancel(self, handle: Handle) -> Cancellation:
        """Stop it; when this returns Canceled or StoppedAfter nothing of it runs. Idempotent."""
        ...

    async def result(self, handle: Handle) -> Outcome:
        """The outcome of a finished task, until ``forget``; raises NotFinished, HandleUnknown."""
        ...

    async def forget(self, handle: Handle) -> None:
        """The plane has stored the outcome: free what the driver keeps of it. Unknown handles are ignored."""
        ...

    async def open_session(self, backend: str) -> str:
        """Reserve the device for several tasks; raises ProgramUnsupported where not claimed."""
        ...

    async def close_session(self, session: str) -> None:
        """End a session; raises ProgramUnsupported where not claimed."""
        ...


class Driver(Query, Compile, Control, Protocol):
    """All three, with a lifetime: ``async with`` starts what the driver needs and ends it, tasks included."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def walls(self) -> dict[str, str]:
        """Which walls hold around untrusted work, by name; empty where the driver parses nothing locally."""
        ...
