# SPDX-License-Identifier: Apache-2.0
"""Median errors out of a calibration's bytes, as far as their layout is known: what routing's fidelity rests on.

Known are an own simulator's (`noise_model` none, its `noise`, or an `errors` table), IBM's backend properties and
Braket's device properties. Bytes are a stranger's: what isn't understood gives None, never an error. Pure: no clock,
randomness or I/O.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import median
from typing import Any

import msgspec
from msgspec import Struct

MAX_BYTES = 8 << 20


class Errors(Struct, frozen=True):
    """Median errors: of a one-qubit gate, of a two-qubit gate, of one qubit's readout; None where none is told."""

    one_qubit: float | None
    two_qubit: float | None
    readout: float | None

    @property
    def survival(self) -> float | None:
        """The chance that one qubit passes one of each without a fault; None where nothing at all is told."""
        told = [error for error in (self.one_qubit, self.two_qubit, self.readout) if error is not None]
        return math.prod(1 - error for error in told) if told else None


IDEAL = Errors(0.0, 0.0, 0.0)


def errors(data: bytes) -> Errors | None:
    """The device's median errors, or None where the bytes tell none."""
    if len(data) > MAX_BYTES:
        return None
    try:
        document = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    found = _own(document) or _ibm(document) or _braket(document)
    return found if found is not None and found.survival is not None else None


def _own(document: dict[str, Any]) -> Errors | None:
    told = document.get("errors")
    if isinstance(told, dict):
        return Errors(*(_error(told.get(name)) for name in ("one_qubit", "two_qubit", "readout")))
    if document.get("noise_model") == "none":
        return IDEAL
    noise = document.get("noise")
    if not isinstance(noise, dict):
        return None
    # Relaxation comes on top and isn't counted: an order of merit, and never better than the gates alone.
    read = [error for name in ("readout_01", "readout_10") if (error := _error(noise.get(name))) is not None]
    one, two = (_error(noise.get(f"depolarizing_{size}q")) for size in (1, 2))
    return Errors(one, two, sum(read) / len(read) if read else None)


def _ibm(document: dict[str, Any]) -> Errors | None:
    """`gates` with a `gate_error` each, `qubits` with a `readout_error` each."""
    gates, qubits = document.get("gates"), document.get("qubits")
    if not isinstance(gates, list) or not isinstance(qubits, list):
        return None
    by_width: dict[int, list[Any]] = {1: [], 2: []}
    for gate in gates:
        if isinstance(gate, dict) and isinstance(gate.get("qubits"), list) and len(gate["qubits"]) in by_width:
            by_width[len(gate["qubits"])] += _named(gate.get("parameters"), "gate_error")
    read = [value for qubit in qubits for value in _named(qubit, "readout_error")]
    # A virtual rotation errs by 0 by definition and isn't what runs.
    return Errors(_median(by_width[1], above=0.0), _median(by_width[2]), _median(read))


def _named(rows: object, name: str) -> list[Any]:
    if not isinstance(rows, list):
        return []
    return [row.get("value") for row in rows if isinstance(row, dict) and row.get("name") == name]


def _braket(document: dict[str, Any]) -> Errors | None:
    """Fidelities by qubit and by pair, as `provider.properties` or `standardized` has them."""
    standard = document.get("standardized")
    if not isinstance(standard, dict):
        return None
    one: list[float | None] = []
    two: list[float | None] = []
    read: list[float | None] = []
    for qubit in _values(standard.get("oneQubitProperties")):
        for row in _rows(qubit.get("oneQubitFidelity")):
            kind = row.get("fidelityType")
            name = str(kind.get("name") if isinstance(kind, dict) else kind)
            (read if "READOUT" in name else one).append(_complement(row.get("fidelity")))
    for pair in _values(standard.get("twoQubitProperties")):
        two += [_complement(row.get("fidelity")) for row in _rows(pair.get("twoQubitGateFidelity"))]
    return Errors(_median(one), _median(two), _median(read))


def _values(table: object) -> list[dict[str, Any]]:
    return [value for value in table.values() if isinstance(value, dict)] if isinstance(table, dict) else []


def _rows(rows: object) -> list[dict[str, Any]]:
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _complement(fidelity: object) -> float | None:
    told = _error(fidelity)
    return None if told is None else 1 - told


def _median(values: Iterable[Any], above: float = -1.0) -> float | None:
    """The median of what is a probability; a gate that is out of order says 1 and speaks for no other."""
    known = [error for value in values if (error := _error(value)) is not None and above < error < 1]
    return median(known) if known else None


def _error(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return float(value)
