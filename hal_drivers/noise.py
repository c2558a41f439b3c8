# SPDX-License-Identifier: Apache-2.0
"""The noise model of a simulator as an administrator gives it: a few numbers, the same for every qubit.

``noise`` of a ``[[backend]]`` table is a JSON object (``{"depolarizing_1q": 0.001, …}``), the path of a file with one
(``noise/lab.json``), or the name of an IBM snapshot (``fake_hanoi``), whose median gate and readout errors are taken.
Leaves a :class:`Noise`, or ValueError with the reason. Its hash stands in the calibration and with every outcome.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from statistics import median
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

MOST_BYTES = 65_536
Probability: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Positive: TypeAlias = Annotated[float, Meta(gt=0, le=1e12)]


class Noise(Struct, frozen=True, forbid_unknown_fields=True):
    """Errors of each gate and measurement; relaxation lasts as long as the gate does."""

    depolarizing_1q: Probability = 0.0
    depolarizing_2q: Probability = 0.0
    readout_01: Probability = 0.0
    """A 0 is read as 1."""
    readout_10: Probability = 0.0
    """A 1 is read as 0."""
    t1_us: Positive | None = None
    t2_us: Positive | None = None
    gate_1q_ns: Positive = 35.0
    gate_2q_ns: Positive = 300.0

    @property
    def relaxes(self) -> bool:
        """Whether qubits decay, which no Clifford simulation can follow."""
        return self.t1_us is not None

    @property
    def hash(self) -> str:
        """The name of these numbers."""
        return "sha256:" + hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


@functools.cache
def read_noise(given: str | None) -> Noise | None:
    """What ``noise`` says, read once a process; None for no noise. Raises ValueError."""
    if given is None or given == "none":
        return None
    text = given.strip()
    if text.startswith("{"):
        return _checked(text.encode(), "noise")
    if text.endswith(".json"):
        return _from_file(Path(text).expanduser())
    return _of_snapshot(text)


def _from_file(path: Path) -> Noise:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"the noise model's file can't be read: {error.strerror}") from None
    if len(data) > MOST_BYTES:
        raise ValueError(f"the noise model's file is larger than {MOST_BYTES} bytes")
    return _checked(data, path.name)


def _checked(data: bytes, name: str) -> Noise:
    try:
        noise = msgspec.json.decode(data, type=Noise)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{name}: {error}") from None
    if (noise.t1_us is None) != (noise.t2_us is None):
        raise ValueError(f"{name}: t1_us and t2_us come together")
    if noise.t1_us is not None and noise.t2_us is not None and noise.t2_us > 2 * noise.t1_us:
        raise ValueError(f"{name}: t2_us is at most twice t1_us")
    return noise


class _Parameter(Struct, frozen=True):
    name: str
    value: float | int


class _Gate(Struct, frozen=True):
    gate: str
    qubits: tuple[int, ...]
    parameters: tuple[_Parameter, ...]


class _Properties(Struct, frozen=True):
    qubits: tuple[tuple[_Parameter, ...], ...]
    gates: tuple[_Gate, ...]


def _of_snapshot(name: str) -> Noise:
    from hal_drivers.ibm import snapshot

    files = snapshot(name)
    if files is None:
        raise ValueError(
            f"noise is a JSON object, a .json file or a fake backend of IBM's; {name[:64]} is none of them"
        )
    found = msgspec.json.decode(files[1].read_bytes(), type=_Properties)
    one, two = (_median_error(found.gates, size) for size in (1, 2))
    return Noise(
        # A gate error is an average infidelity; a depolarizing channel of this strength has it.
        depolarizing_1q=min(1.0, 2 * one),
        depolarizing_2q=min(1.0, two * 4 / 3),
        readout_01=_median_readout(found.qubits, "prob_meas1_prep0"),
        readout_10=_median_readout(found.qubits, "prob_meas0_prep1"),
    )


def _median_error(gates: tuple[_Gate, ...], size: int) -> float:
    """Over the gates that take time: those in software only (rz) have no error."""
    values = [
        parameter.value
        for gate in gates
        if len(gate.qubits) == size and gate.gate not in ("rz", "id", "reset", "measure")
        for parameter in gate.parameters
        if parameter.name == "gate_error"
    ]
    return float(median(values)) if values else 0.0


def _median_readout(qubits: tuple[tuple[_Parameter, ...], ...], name: str) -> float:
    values = [p.value for qubit in qubits for p in qubit if p.name == name]
    values = values or [p.value for qubit in qubits for p in qubit if p.name == "readout_error"]
    return float(median(values)) if values else 0.0
