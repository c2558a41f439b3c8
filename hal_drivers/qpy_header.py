# SPDX-License-Identifier: Apache-2.0
"""The header of a QPY file (docs of ``qiskit.qpy``), measured without deserialising anything. Pure.

Exactly one circuit of format 13 or newer, counts within the limits, and lengths that the file has bytes for: a file of
178 bytes with one changed length took 1.3 GB. What stands behind the header is the guarded child's to read.
"""

from __future__ import annotations

import struct

from hal_drivers.errors import CircuitInvalid, CircuitTooComplex
from hal_drivers.limits import Limits, Scan

MAGIC = b"QISKIT"
OLDEST = 13
"""Formats below 13 could run code while they load."""

_FILE = struct.Struct("!6sBBBBQc")
_CIRCUIT = struct.Struct("!H1cHIIQIQI")
_REGISTER = struct.Struct("!1c?IH?")  # from version 18 on a byte follows: how its bits are listed
_RANGE = b"\x01"
_INSTRUCTION = struct.Struct("!HHHIIBHqII")
"""Before its name and arguments; the least that an instruction takes."""


def scan_qpy(source: bytes, limits: Limits) -> Scan:
    """The header of QPY ≥ 13 (docs of ``qiskit.qpy``): exactly one circuit, lengths that fit the file."""
    if not limits.qpy:
        raise CircuitInvalid("QPY is not switched on here")
    if len(source) < _FILE.size + 1 or not source.startswith(MAGIC):
        raise CircuitInvalid("this is not a QPY file")
    _, version, _, _, _, programs, encoding = _FILE.unpack_from(source)
    if version < OLDEST:
        raise CircuitInvalid(f"QPY format {version} is refused, the oldest allowed is {OLDEST}")
    if programs != 1 or source[_FILE.size : _FILE.size + 1] != b"q":
        raise CircuitInvalid("a QPY file must hold exactly one circuit")
    if encoding == b"e":
        raise CircuitInvalid("QPY with symengine expressions is refused")
    at = _FILE.size + 1
    if version >= 16:
        at = int.from_bytes(source[at : at + 8], "big")
    return _scan_circuit(source, version, at, limits)


def _scan_circuit(source: bytes, version: int, at: int, limits: Limits) -> Scan:
    broken = CircuitInvalid("the lengths in the QPY file do not add up")
    if at + _CIRCUIT.size > len(source):
        raise broken
    name, _, phase, qubits, clbits, metadata, registers, instructions, variables = _CIRCUIT.unpack_from(source, at)
    if qubits > limits.qubits or clbits > limits.clbits:
        raise CircuitTooComplex(f"more than {limits.qubits} qubits or {limits.clbits} classical bits are declared")
    if instructions > limits.gates:
        raise CircuitTooComplex(f"the circuit has more than {limits.gates} gates")
    at += _CIRCUIT.size + name + phase + metadata
    # Each register and variable takes at least one byte of the file.
    if at + registers + variables > len(source):
        raise broken
    for _ in range(registers):
        if at + _REGISTER.size > len(source):
            raise broken
        _, _, size, name_size, _ = _REGISTER.unpack_from(source, at)
        at += _REGISTER.size
        listed = 8 * size
        if version >= 18:  # neighbours are told by the first one, others by 4 bytes each
            listed = 4 if source[at : at + 1] == _RANGE else 4 * size
            at += 1
        at += name_size + listed
        if at > len(source) or size > limits.qubits + limits.clbits:
            raise broken
    if at + instructions * _INSTRUCTION.size > len(source):
        raise broken
    return Scan(qubits_declared=qubits, clbits_declared=clbits, operations=instructions)
