# SPDX-License-Identifier: Apache-2.0
"""A program up to its measurements, where there is one state before them (N15). Pure."""

from __future__ import annotations

from msgspec.structs import replace

from hal_drivers.base import AliasModel
from hal_drivers.errors import ProgramUnsupported
from hal_drivers.p2p.ir import Operation, Program


def before_measurement(program: Program) -> tuple[tuple[Operation, ...], dict[int, int]]:
    """The operations without the measurements at the end, and the qubit that each bit has of them.

    A reset of a qubit that nothing has touched is left out: it is |0>, and so it stays a pure state. Raises
    ProgramUnsupported for conditions and for measurements in the middle: there is no one state then.
    """
    touched: set[int] = set()
    measured: set[int] = set()
    bits: dict[int, int] = {}
    kept: list[Operation] = []
    for operation in program.operations:
        if operation.condition:
            raise ProgramUnsupported("the circuit has conditions: there is no one state before its measurement")
        if operation.name == "measurement_feedforward":
            bits[operation.bits[0]] = operation.qubits[0]
            measured.add(operation.qubits[0])
            continue
        if not measured.isdisjoint(operation.qubits):
            raise ProgramUnsupported("the circuit measures in its middle: there is no one state before its measurement")
        kept += _without_idle_resets(operation, touched, program.alias_model)
        touched.update(operation.qubits)
    return tuple(kept), bits


def _without_idle_resets(operation: Operation, touched: set[int], model: AliasModel) -> list[Operation]:
    a, b = operation.qubits[0], operation.qubits[-1]
    match operation.name:
        case "reset":
            return [operation] if a in touched else []
        case "bell_pair":
            resets = [replace(operation, name="reset", qubits=(q,)) for q in (a, b) if q in touched]
            return [*resets, replace(operation, name="h", qubits=(a,)), replace(operation, name="cnot")]
        case "teleportation" if model == "discard" and b not in touched:  # then it is a swap with |0>
            return [replace(operation, name="cnot", qubits=pair) for pair in ((a, b), (b, a))]
    return [operation]
