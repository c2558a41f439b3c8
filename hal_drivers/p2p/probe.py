# SPDX-License-Identifier: Apache-2.0
"""Circuits whose outcome is known, by which the plane finds out how good a node's service is (N8). Pure, seeded.

Between random one-qubit layers the probed operation stands several times, on several qubits at once, in one circuit:

- ``cnot``, ``cz``, the abstract services, ``teleportation``: a random product state is made, then the operation and a
  random Pauli, ``REPEATS`` times; then the preparation is undone. What all of it is, is a Pauli, so that each measured
  bit is known. A state of one qubit is teleported to and fro.
- ``bell_pair``: made once, each half turned to X, Y or Z by chance, and the parity of the two is known: over the three
  the fidelity of the pair is (3 s - 1) / 2, whatever its noise.
- ``measurement_feedforward``: a known bit is made and measured.

A *trial* is one such group in one shot, a *survival* one whose bits are as they must be. Under the network's noise a
trial survives with probability

    s = λ M + (1 - λ) c,   λ = (1 - p)^r,   p = (1 - F) d / (d - 1)

with r operations, d = 2^(qubits of the channel), M what the measurements alone leave (m^bits, or for a parity
m² + (1 - m)², m being the measurement's own fidelity), and c = 2^-bits (parity: 1/2) of the mixed state.

What a node sees are gates, shots and a token as in any job's circuit: shots are drawn from those that jobs use, the
token is a hash, windows are asked for and used in the same order. What it could still do is simulate the circuit and
notice that the outcome is certain. So a bound speaks of what a node does with circuits that it doesn't tell apart.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from msgspec import Struct

from hal_drivers.p2p.aliases import TABLE, channel_of
from hal_drivers.p2p.ir import Circuit, Gate, Operation, Service
from hal_drivers.p2p.rows import width

REPEATS = 6
COPIES = 3
ABOUT_SHOTS = 1_000
_SHARES = (500, 1_000, 1_000, 1_024, 2_000)
"""Of a thousand: half of what is asked for to twice as many, as jobs have them."""
MEASURE: Service = "measurement_feedforward"
_GATES: tuple[Gate, ...] = ("h", "s", "sdg", "sx", "sxdg", "x", "y", "z")
_INVERSE: dict[str, Gate] = {"s": "sdg", "sdg": "s", "sx": "sxdg", "sxdg": "sx"}
_PAULIS: tuple[Gate, ...] = ("id", "x", "y", "z")
_XZ: dict[str, tuple[int, int]] = {"id": (0, 0), "x": (1, 0), "y": (1, 1), "z": (0, 1)}


class Group(Struct, frozen=True, forbid_unknown_fields=True):
    """Bits of a row that belong to one trial and what they must be: all of ``expected``, or its parity."""

    bits: tuple[int, ...]
    expected: int
    kind: Literal["all", "parity"] = "all"


class ProbeCircuit(Struct, frozen=True, forbid_unknown_fields=True):
    """What is sent, and what only the plane knows."""

    service: Service
    circuit: Circuit
    shots: int
    seed: int
    groups: tuple[Group, ...]
    repeats: int
    channel_qubits: int


class Draw:
    """Random numbers that are a function of what they are for."""

    def __init__(self, *what: object) -> None:
        self._what = "/".join(map(str, what)).encode()
        self._count = 0

    def below(self, number: int) -> int:
        """From 0 to number - 1."""
        self._count += 1
        drawn = hashlib.sha256(self._what + b"#%d" % self._count).digest()[:8]
        return int.from_bytes(drawn, "little") % number  # 2^64 is so much more that no number is favoured


class _Sheet:
    """A circuit that is being written, and the Pauli that it is by now: an x and a z a qubit."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.operations: list[Operation] = []
        self.frame: dict[int, tuple[int, int]] = {}

    def put(self, name: Service | Gate, *qubits: int, bits: tuple[int, ...] = ()) -> None:
        self.operations.append(Operation(len(self.operations), name, qubits, bits))

    def turn(self, name: Gate, qubit: int) -> None:
        """A gate of the frame's own basis: it turns the Pauli with the state."""
        self.put(name, qubit)
        x, z = self.frame.get(qubit, (0, 0))
        if name == "h":
            x, z = z, x
        elif name in ("s", "sdg"):
            z ^= x
        elif name in ("sx", "sxdg"):
            x ^= z
        self.frame[qubit] = (x, z)

    def pauli(self, qubit: int) -> Gate:
        name = _PAULIS[self.draw.below(4)]
        self.put(name, qubit)
        x, z = self.frame.get(qubit, (0, 0))
        self.frame[qubit] = (x ^ _XZ[name][0], z ^ _XZ[name][1])
        return name

    def prepare(self, qubit: int) -> list[Gate]:
        """A random state; what undoes it."""
        made = [_GATES[self.draw.below(len(_GATES))] for _ in range(1 + self.draw.below(3))]
        for name in made:
            self.put(name, qubit)
        return [_INVERSE.get(name, name) for name in reversed(made)]


def make(service: Service, seed: int, qubit_max: int = 20, about: int = ABOUT_SHOTS) -> ProbeCircuit:
    """The probe of this seed, of ``about`` so many shots; raises ValueError where a node has too few qubits for it."""
    draw = Draw("probe", service, seed)
    sheet = _Sheet(draw)
    size = TABLE[service].operands
    copies = min(COPIES, qubit_max // size)
    if copies < 1:
        raise ValueError(f"{service} takes {size} qubits")
    groups = [_group(sheet, service, copy * size, copy * size) for copy in range(copies)]
    bits = sum(len(group.bits) for group in groups)
    numbered = _renumbered(groups)
    operations = tuple(_rebound(operation, dict(numbered)) for operation in sheet.operations)
    circuit = Circuit(copies * size, bits, operations)
    made = tuple(Group(tuple(dict(numbered)[bit] for bit in one.bits), one.expected, one.kind) for one in groups)
    once = service in ("bell_pair", MEASURE)
    return ProbeCircuit(
        service=service,
        circuit=circuit,
        shots=max(1, about * _SHARES[draw.below(len(_SHARES))] // 1_000),
        seed=draw.below(1 << 48),
        groups=made,
        repeats=1 if once else REPEATS,
        channel_qubits=len(channel_of(service)),
    )


def survivals(probe: ProbeCircuit, rows: bytes) -> tuple[int, int]:
    """(survivals, trials) of a run's rows; raises ValueError where they aren't this probe's."""
    size = width(probe.circuit.bits)
    if len(rows) != size * probe.shots:
        raise ValueError("the rows are not those of the probe")
    survived = 0
    for at in range(0, len(rows), size):
        row = int.from_bytes(rows[at : at + size], "little")
        for group in probe.groups:
            found = sum((row >> bit & 1) << place for place, bit in enumerate(group.bits))
            survived += found == group.expected if group.kind == "all" else found.bit_count() % 2 == group.expected
    return survived, probe.shots * len(probe.groups)


def _group(sheet: _Sheet, service: Service, qubit: int, bit: int) -> Group:
    if service == MEASURE:
        value = sheet.draw.below(2)
        undo = sheet.prepare(qubit)
        for name in undo:
            sheet.put(name, qubit)
        if value:
            sheet.put("x", qubit)
        sheet.put(MEASURE, qubit, bits=(bit,))
        return Group((bit,), value)
    if service == "bell_pair":
        return _bell(sheet, qubit, bit)
    if service == "teleportation":
        return _teleported(sheet, qubit, bit)
    return _repeated(sheet, service, qubit, bit)


def _bell(sheet: _Sheet, a: int, bit: int) -> Group:
    sheet.put("bell_pair", a, a + 1)
    turned = sheet.pauli(a)
    basis = ("x", "y", "z")[sheet.draw.below(3)]
    for qubit in (a, a + 1):
        for name in {"x": ("h",), "y": ("sdg", "h"), "z": ()}[basis]:
            sheet.put(name, qubit)  # type: ignore[arg-type]
    # A pair has XX = ZZ = +1 and YY = -1; a Pauli on one half turns the sign of those that it isn't.
    odd = (basis == "y") ^ (turned not in ("id", basis))
    for place in (0, 1):
        sheet.put(MEASURE, a + place, bits=(bit + place,))
    return Group((bit, bit + 1), int(odd), "parity")


def _teleported(sheet: _Sheet, qubit: int, bit: int) -> Group:
    here, there = qubit, qubit + 1
    undo = sheet.prepare(here)
    for _ in range(REPEATS):
        sheet.put("teleportation", here, there)
        sheet.frame[there] = sheet.frame.pop(here, (0, 0))
        here, there = there, here
        sheet.pauli(here)
    for name in undo:
        sheet.turn(name, here)
    sheet.put(MEASURE, here, bits=(bit,))
    return Group((bit,), sheet.frame[here][0])


def _repeated(sheet: _Sheet, service: Service, qubit: int, bit: int) -> Group:
    qubits = tuple(range(qubit, qubit + TABLE[service].operands))
    undo = {one: sheet.prepare(one) for one in qubits}
    for _ in range(REPEATS):
        sheet.put(service, *qubits)
        if len(qubits) == 2:
            a, b = (sheet.frame.get(one, (0, 0)) for one in qubits)
            if service == "cnot":
                a, b = (a[0], a[1] ^ b[1]), (b[0] ^ a[0], b[1])
            else:
                a, b = (a[0], a[1] ^ b[0]), (b[0], b[1] ^ a[0])
            sheet.frame[qubits[0]], sheet.frame[qubits[1]] = a, b
        for one in qubits:
            sheet.pauli(one)
    for one in qubits:
        for name in undo[one]:
            sheet.turn(name, one)
    for place, one in enumerate(qubits):
        sheet.put(MEASURE, one, bits=(bit + place,))
    expected = sum(sheet.frame[one][0] << place for place, one in enumerate(qubits))
    return Group(tuple(range(bit, bit + len(qubits))), expected)


def _renumbered(groups: list[Group]) -> list[tuple[int, int]]:
    return [(bit, place) for place, bit in enumerate(bit for group in groups for bit in group.bits)]


def _rebound(operation: Operation, bits: dict[int, int]) -> Operation:
    return Operation(operation.id, operation.name, operation.qubits, tuple(bits[bit] for bit in operation.bits))
