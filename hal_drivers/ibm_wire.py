# SPDX-License-Identifier: Apache-2.0
"""What IBM Quantum's REST interface says, read as a stranger's word: a processor, a job, its result (pure).

Raises ValueError where it can't be what it should be. Text of the service's is told nowhere: it may quote the circuit.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from hal_drivers.base import Block, Failed, Finished, Outcome, Queued, Running, Status, Stopped, Usage
from hal_drivers.errors import BackendFailed

TOO_LONG = 1305
"""The reason code of a job that IBM cancelled for its running time."""


class Configuration(Struct, frozen=True):
    """GET /backends/NAME/configuration."""

    n_qubits: int
    max_shots: int = 100_000
    simulator: bool = False


class Standing(Struct, frozen=True):
    """GET /backends/NAME/status."""

    state: bool = False
    length_queue: int = 0


class _State(Struct, frozen=True):
    status: str
    reason_code: int | None = None


class Job(Struct, frozen=True):
    """GET /jobs/ID."""

    id: str
    state: _State
    backend: str = ""
    tags: tuple[str, ...] = ()
    created: str | None = None


class Jobs(Struct, frozen=True):
    """GET /jobs."""

    jobs: tuple[Job, ...]
    count: int = 0


class Created(Struct, frozen=True):
    """POST /jobs."""

    id: str


class _Usage(Struct, frozen=True):
    quantum_seconds: float | None = None


class _Times(Struct, frozen=True):
    created: str | None = None
    running: str | None = None
    finished: str | None = None


class Metrics(Struct, frozen=True):
    """GET /jobs/ID/metrics."""

    usage: _Usage = _Usage()
    timestamps: _Times = _Times()


class _Register(Struct, frozen=True):
    samples: tuple[str, ...]
    num_bits: int


class _Pub(Struct, frozen=True):
    data: dict[str, _Register]


class _Results(Struct, frozen=True):
    results: tuple[_Pub, ...]


class Signed(Struct, frozen=True):
    """POST /identity/token."""

    access_token: str
    expires_in: int


def status_of(job: Job) -> Status:
    """The job's state in the plane's words."""
    match job.state.status.upper():
        case "QUEUED":
            return Queued()
        case "COMPLETED":
            return Finished()
        case "CANCELLED" if job.state.reason_code == TOO_LONG:
            return Failed(code="deadline_exceeded", detail="IBM stopped the job at its longest running time")
        case "CANCELLED":
            return Stopped()
        case "FAILED":
            return Failed(code=BackendFailed.code, detail="IBM says that the job failed")
        case _:
            return Running(started_at=_time(job.created) or datetime.now(UTC))


def outcome_of(body: bytes, metrics: Metrics, job: Job, asked: int | None) -> Outcome:
    """Counts of the one register ``c``; bits come in Qiskit's order. Raises ValueError."""
    try:
        found = msgspec.json.decode(body, type=_Results)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)[:100]) from None
    if len(found.results) != 1 or set(found.results[0].data) != {"c"}:
        raise ValueError("it is not of one circuit with one register")
    register = found.results[0].data["c"]
    counts = dict(sorted(Counter(_bits(s, register.num_bits) for s in register.samples).items()))
    shots = len(register.samples)
    if shots == 0 or (asked is not None and shots > asked):
        raise ValueError(f"it has {shots} shots, {asked} were asked")
    times = metrics.timestamps
    began = _time(times.running) or _time(times.created) or datetime.now(UTC)
    ended = max(began, _time(times.finished) or began)
    seconds = metrics.usage.quantum_seconds
    if seconds is not None and not 0 <= seconds < 1e7:
        raise ValueError("its usage can't be")
    return Outcome(
        counts=counts,
        blocks=(Block(shots=shots, counts=counts, start=began, end=ended),),
        shots_executed=shots,
        partial=None if asked in (None, shots) else f"the processor executed {shots} of {asked} shots",
        seed=None,
        method="device",
        usage=Usage(
            wall_s=(ended - began).total_seconds(),
            cpu_s=None,
            peak_memory_bytes=None,
            qpu_s=seconds,
            source="vendor",
        ),
        started_at=began,
        ended_at=ended,
        metadata={"ibm_job": job.id, "device": job.backend},
        accounting={"task_id": job.id},
    )


def _bits(sample: str, width: int) -> str:
    value = int(sample, 16)
    if not 0 < width <= 100_000 or not 0 <= value < 1 << width:
        raise ValueError("an outcome is no bit string of its width")
    return format(value, f"0{width}b")


def _time(text: str | None) -> datetime | None:
    try:
        at = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return at if at.utcoffset() is not None else at.replace(tzinfo=UTC)
