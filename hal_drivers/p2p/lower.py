# SPDX-License-Identifier: Apache-2.0
"""A circuit of the network as Qiskit has it: what nodes run, exact analysis computes and tests compare with (N3, N15).

Enters a checked :class:`Circuit` and, where noise is meant, the average gate fidelity of each service; leaves one
`QuantumCircuit` whose qubits and bits have the same numbers. The meaning of each service is that of ``aliases``: ideal
map, then the depolarising channel on its channel's qubits (before it, for a measurement). Qiskit is imported when the
first circuit is built, Aer only where there is noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, reduce
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from hal_drivers.base import AliasModel
from hal_drivers.p2p.aliases import channel_of, depolarising, is_service
from hal_drivers.p2p.ir import Circuit, Operation, Program

if TYPE_CHECKING:
    from qiskit.circuit import QuantumCircuit

Fidelities = Mapping[str, float]


def whole(program: Program) -> Circuit:
    """A program as the one circuit that a single node would run."""
    return Circuit(program.qubits, program.bits, program.operations, program.alias_model)


def to_qiskit(circuit: Circuit, fidelities: Fidelities | None = None) -> QuantumCircuit:
    """The circuit, ideal or with each service's channel; raises KeyError for a service without a fidelity."""
    from qiskit.circuit import QuantumCircuit

    built = QuantumCircuit(circuit.qubits, circuit.bits)
    for operation in circuit.operations:
        if not operation.condition:
            _append(built, operation, circuit.alias_model, fidelities)
            continue
        # A body over the operation's own qubits: what stands in a body counts as used, whether it is touched or not.
        body = QuantumCircuit(len(operation.qubits), len(operation.bits))
        inner = replace(operation, qubits=tuple(range(body.num_qubits)), bits=tuple(range(body.num_clbits)))
        _append(body, inner, circuit.alias_model, fidelities)
        built.if_test(_condition(built, operation), body, operation.qubits, operation.bits)
    return built


def _condition(circuit: QuantumCircuit, operation: Operation) -> Any:
    from qiskit.circuit.classical import expr

    bits = [circuit.clbits[bit] for bit, _ in operation.condition]
    if len(bits) == 1:
        return bits[0], operation.condition[0][1]
    met = [
        expr.lift(bit) if value else expr.logic_not(bit)
        for bit, (_, value) in zip(bits, operation.condition, strict=True)
    ]
    return reduce(expr.logic_and, met)


def _append(to: QuantumCircuit, operation: Operation, model: AliasModel, fidelities: Fidelities | None) -> None:
    if operation.name == "measurement_feedforward":
        _noise(to, operation, model, fidelities)
        to.measure(operation.qubits[0], operation.bits[0])
        return
    _ideal(to, operation, model)
    _noise(to, operation, model, fidelities)


def _ideal(to: QuantumCircuit, operation: Operation, model: AliasModel) -> None:
    if (made := _SERVICES.get(operation.name)) is not None:
        made(to, operation.qubits[0], operation.qubits[-1], model)
    else:
        getattr(to, operation.name)(*operation.parameters, *operation.qubits)


def _bell_pair(to: QuantumCircuit, a: int, b: int, _: AliasModel) -> None:
    to.reset(a)
    to.reset(b)
    to.h(a)
    to.cx(a, b)


def _teleport(to: QuantumCircuit, a: int, b: int, model: AliasModel) -> None:
    if model == "discard":
        to.reset(b)  # what a receives by the swap is this |0>: it is reset too
    to.swap(a, b)


def _identity(to: QuantumCircuit, a: int, b: int, _: AliasModel) -> None:
    """An abstract service: nothing but the channel."""


_SERVICES: Mapping[str, Callable[[QuantumCircuit, int, int, AliasModel], None]] = {
    "bell_pair": _bell_pair,
    "cnot": lambda to, a, b, _: to.cx(a, b),
    "cz": lambda to, a, b, _: to.cz(a, b),
    "teleportation": _teleport,
    "syndrome_extraction": _identity,
    "distillation": _identity,
}


def _noise(to: QuantumCircuit, operation: Operation, model: AliasModel, fidelities: Fidelities | None) -> None:
    if fidelities is None or not is_service(operation.name):
        return
    on = [operation.qubits[place] for place in channel_of(operation.name, model)]
    strength = depolarising(fidelities[operation.name], len(on))
    if strength > 0:
        to.append(_channel(strength, len(on)), on)


@cache
def _channel(strength: float, qubits: int) -> Any:
    from qiskit_aer.noise import depolarizing_error

    return depolarizing_error(strength, qubits)
