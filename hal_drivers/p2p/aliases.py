# SPDX-License-Identifier: Apache-2.0
"""What each service of the network is: the one table that ingestion, planner, nodes, probes and docs use (N3). Pure.

A service takes ``operands`` qubits, no ancillas of the program's, and acts as an ideal map followed by a depolarising
channel on its *channel's qubits*: with the average gate fidelity F of the node and d = 2^(qubits of the channel) the
state there is replaced by the maximally mixed one with probability p = (1 - F) d / (d - 1). A measurement's channel
stands before it. One-qubit gates and resets are no services: noiseless, and any node has them.

*Abstract* services stand for protocols that aren't simulated gate by gate: the identity with the node's channel. Plan
and result label them so. They take one operand; with more they would need a stabiliser to extract or pairs to distil
from, which the words alone don't say, so such a call is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeGuard

from msgspec import Struct

from hal_drivers.base import AliasModel
from hal_drivers.p2p.ir import SERVICES, Operation, Service


class Alias(Struct, frozen=True):
    """One service. ``channel`` are the operands, by place, that the channel acts on where ``teleport`` discards.

    ``failure`` is the chance that the operation reports failure and must be tried again: none in this model, where
    what goes wrong is in the channel and a heralded protocol counts until it has succeeded.
    """

    service: Service
    words: tuple[str, ...]
    """How a circuit calls it; the first is the usual one."""
    operands: int
    channel: tuple[int, ...]
    meaning: str
    ancillas: int = 0
    failure: float = 0.0
    abstract: bool = False
    swapped: tuple[int, ...] = ()
    """``channel`` where ``teleport`` swaps; empty: the same."""


TABLE: dict[Service, Alias] = {
    alias.service: alias
    for alias in (
        Alias("bell_pair", ("bell_pair",), 2, (0, 1), "both are reset, then H on a and CX from a to b"),
        Alias("cnot", ("cnot", "cx"), 2, (0, 1), "CX from a to b"),
        Alias("cz", ("cz",), 2, (0, 1), "CZ"),
        Alias(
            "teleportation",
            ("teleport", "teleportation"),
            2,
            (1,),
            "b is discarded and receives the state of a, a is reset (alias model swap: SWAP)",
            swapped=(0, 1),
        ),
        Alias("syndrome_extraction", ("syndrome_extraction",), 1, (0,), "identity", abstract=True),
        Alias("distillation", ("distillation",), 1, (0,), "identity", abstract=True),
        Alias("measurement_feedforward", ("measure",), 1, (0,), "the channel, then a measurement in Z into a bit"),
    )
}
DECLARED: dict[str, Service] = {
    word: alias.service
    for alias in TABLE.values()
    for word in alias.words
    if alias.service != "measurement_feedforward" and word != "cx"
}
"""Words that OpenQASM doesn't know (``cz``: not without its include) and that a circuit may use undeclared."""
OWN = frozenset(DECLARED) - {"cnot", "cz"}
"""Those of them that no simulator or processor knows as a gate of its own."""
ANGLES: dict[str, int] = {"rx": 1, "ry": 1, "rz": 1, "p": 1, "u": 3}
"""How many angles a gate takes; the others take none."""


def is_service(name: str) -> TypeGuard[Service]:
    """Whether an operation of this name needs a node that offers it."""
    return name in TABLE


def channel_of(service: Service, model: AliasModel = "discard") -> tuple[int, ...]:
    """The operands, by place, that the service's channel acts on."""
    alias = TABLE[service]
    return alias.swapped if model == "swap" and alias.swapped else alias.channel


def depolarising(fidelity: float, qubits: int) -> float:
    """The strength p of the channel on so many qubits whose average gate fidelity this is; raises ValueError.

    Below 1/d no mixture with the maximally mixed state is that bad.
    """
    d = 1 << qubits
    if not 1 / d <= fidelity <= 1:
        raise ValueError(f"an average gate fidelity on {qubits} qubits is from {1 / d} to 1, not {fidelity}")
    return (1 - fidelity) * d / (d - 1)


def services_of(operations: Iterable[Operation]) -> tuple[Service, ...]:
    """The services that operations need, in the order of :data:`SERVICES`."""
    names = {operation.name for operation in operations}
    return tuple(service for service in SERVICES if service in names)


def faults(operations: Iterable[Operation], qubits: int, bits: int) -> Iterator[str]:
    """What is wrong with operations by this table; a node asks before it runs a stranger's circuit."""
    for place, operation in enumerate(operations):
        for fault in _faults(operation, qubits, bits):
            yield f"operation {place}: {fault}"


def _faults(operation: Operation, qubits: int, bits: int) -> Iterator[str]:
    operands = TABLE[operation.name].operands if is_service(operation.name) else 1
    if len(operation.qubits) != operands or len(set(operation.qubits)) != operands:
        yield f"{operation.name} takes {operands} different qubits"
    if not all(0 <= qubit < qubits for qubit in operation.qubits):
        yield "a qubit is out of range"
    if len(operation.bits) != (operation.name == "measurement_feedforward"):
        yield f"{operation.name} has a wrong number of bits"
    if not all(0 <= bit < bits for bit in operation.bits) or not all(0 <= bit < bits for bit, _ in operation.condition):
        yield "a bit is out of range"
    if not all(value in (0, 1) for _, value in operation.condition):
        yield "a condition's value is 0 or 1"
    if len(operation.parameters) != ANGLES.get(operation.name, 0):
        yield f"{operation.name} has a wrong number of angles"
