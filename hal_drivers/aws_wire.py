# SPDX-License-Identifier: Apache-2.0
"""What Amazon Braket says, read as a stranger's word: a device's description and a task's result (pure).

Raises ValueError where it can't be what it should be. Text of the service's is told nowhere: it may quote the program.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from hal_drivers.base import Block, Outcome, Usage

PROGRAM = "braket.ir.openqasm.program"
RESULT_BYTES = 256 << 20
_PLACE = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/([A-Za-z0-9!_.*'()/-]{1,512})")
_WIDTH = re.compile(r"^bit\[(\d{1,6})\] c;$", re.MULTILINE)
_MEASURED = re.compile(r"^c\[(\d{1,6})\] = measure q\[(\d{1,6})\];$", re.MULTILINE)


def where(url: str | None) -> tuple[str, str]:
    """Bucket and prefix of ``s3://BUCKET/PREFIX``; raises ValueError."""
    found = _PLACE.fullmatch(url or "")
    if found is None:
        raise ValueError("its url is s3://BUCKET/PREFIX, where Braket puts results")
    return found.group(1), found.group(2).strip("/")


class _Service(Struct, frozen=True, rename="camel"):
    shots_range: tuple[int, int]
    updated_at: str | None = None


class _Action(Struct, frozen=True, rename="camel"):
    supported_operations: tuple[str, ...] = ()


class _Paradigm(Struct, frozen=True, rename="camel"):
    qubit_count: int


class _Described(Struct, frozen=True):
    service: _Service
    action: dict[str, _Action]
    paradigm: _Paradigm


class Facts(Struct, frozen=True):
    """What the plane takes of a device's description."""

    state: str
    queue_depth: int
    qubits: int
    max_shots: int
    gates: tuple[str, ...]
    document: bytes
    updated_at: datetime | None

    @property
    def online(self) -> bool:
        """Whether the service says that it takes tasks."""
        return self.state == "online"


def device_facts(answer: Mapping[str, Any]) -> Facts:
    """Of the answer to GetDevice; a device that takes no OpenQASM raises ValueError."""
    document = str(answer["deviceCapabilities"]).encode()
    try:
        found = msgspec.json.decode(document, type=_Described)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)[:100]) from None
    if PROGRAM not in found.action:
        raise ValueError("it takes no OpenQASM programs")
    queues = answer.get("deviceQueueInfo", [])
    # The size is text, and beyond some length "more than" it.
    depth = sum(int(digits[0]) for one in queues if (digits := re.findall(r"\d{1,9}", str(one.get("queueSize", "")))))
    state = str(answer["deviceStatus"]).lower()
    return Facts(
        state=state if state in ("online", "offline", "retired") else "in an unknown state",
        queue_depth=min(depth, 1 << 31),
        qubits=max(0, found.paradigm.qubit_count),
        max_shots=max(0, found.service.shots_range[1]),
        gates=tuple(sorted(name.lower() for name in found.action[PROGRAM].supported_operations)),
        document=document,
        updated_at=_time(found.service.updated_at),
    )


def _time(text: str | None) -> datetime | None:
    try:
        at = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return at if at.utcoffset() is not None else None


class _Source(Struct, frozen=True):
    source: str


class _Additional(Struct, frozen=True):
    action: _Source


class _Task(Struct, frozen=True):
    shots: int


class _Result(Struct, frozen=True, rename="camel"):
    task_metadata: _Task
    additional_metadata: _Additional
    measured_qubits: tuple[int, ...]
    measurements: tuple[tuple[int, ...], ...] | None = None
    measurement_probabilities: dict[str, float] | None = None


class Reading(Struct, frozen=True):
    """A finished task: what GetQuantumTask said, the bytes in the bucket, the hash of the program that was sent."""

    told: Mapping[str, Any]
    body: bytes
    program: str


def read_result(reading: Reading) -> Outcome:
    """Counts in Qiskit's order; raises ValueError for what can't be a result of this program."""
    if len(reading.body) > RESULT_BYTES:
        raise ValueError("it is too long")
    try:
        found = msgspec.json.decode(reading.body, type=_Result)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)[:100]) from None
    source = found.additional_metadata.action.source
    if reading.program and hashlib.sha256(source.encode()).hexdigest() != reading.program:
        raise ValueError("it is of another program")
    rows = _rows(found)
    counts = _in_order(source, found.measured_qubits, rows)
    shots, asked = sum(counts.values()), int(reading.told["shots"])
    if not 0 < shots <= asked:
        raise ValueError(f"it has {shots} shots, {asked} were asked")
    began, ended = reading.told["createdAt"], reading.told.get("endedAt") or reading.told["createdAt"]
    return Outcome(
        counts=counts,
        blocks=(Block(shots=shots, counts=counts, start=began, end=ended),),
        shots_executed=shots,
        partial=None if shots == asked else f"the device executed {shots} of {asked} shots",
        seed=None,
        method="device",
        usage=Usage(
            wall_s=max(0.0, (ended - began).total_seconds()), cpu_s=None, peak_memory_bytes=None, source="vendor"
        ),
        started_at=began,
        ended_at=ended,
        metadata={"quantum_task": str(reading.told["quantumTaskArn"]), "device": str(reading.told["deviceArn"])},
        accounting={"task_id": str(reading.told["quantumTaskArn"])},
    )


def _rows(found: _Result) -> Counter[str]:
    """Bits in the order of ``measuredQubits`` → how often; probabilities, where they are all it tells, become shots."""
    if found.measurements is not None:
        return Counter("".join(map(str, row)) for row in found.measurements)
    if found.measurement_probabilities is None:
        raise ValueError("it has no measurements")
    shots = found.task_metadata.shots
    return Counter({bits: n for bits, p in found.measurement_probabilities.items() if (n := round(p * shots)) > 0})


def _in_order(source: str, qubits: Sequence[int], rows: Counter[str]) -> dict[str, int]:
    width = _WIDTH.search(source)
    measured = {int(bit): int(qubit) for bit, qubit in _MEASURED.findall(source)}
    if width is None or not measured or not set(measured.values()) <= set(qubits):
        raise ValueError("it doesn't fit its program")
    column = {qubit: place for place, qubit in enumerate(qubits)}
    counts: Counter[str] = Counter()
    for row, shots in rows.items():
        if len(row) != len(qubits) or row.strip("01"):
            raise ValueError("an outcome is no bit string of its width")
        bits = ["0"] * int(width.group(1))
        for bit, qubit in measured.items():
            bits[len(bits) - 1 - bit] = row[column[qubit]]  # the last classical bit stands left
        counts["".join(bits)] += shots
    return dict(sorted(counts.items()))
