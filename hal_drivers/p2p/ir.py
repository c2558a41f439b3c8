# SPDX-License-Identifier: Apache-2.0
"""The small intermediate form that a submitted circuit becomes before anything is planned (N3). Pure.

A :class:`Program` keeps what a plan needs and nothing else: how many qubits and bits, the operations in their order,
what each touches. Names are closed sets: an operation is a service of :data:`SERVICES`, a one-qubit gate of
:data:`GATES`, or a reset; whatever else a circuit says is lowered to these before, or refused. The same structs
travel to a service node, whose reader is msgspec: unknown fields, names, or indices are refused there too.
"""

from __future__ import annotations

import hashlib
from typing import Literal, TypeAlias, get_args

import msgspec
from msgspec import Struct

from hal_drivers.base import AliasModel, Format

Service: TypeAlias = Literal[
    "bell_pair", "cnot", "cz", "teleportation", "syndrome_extraction", "distillation", "measurement_feedforward"
]
SERVICES: tuple[Service, ...] = get_args(Service)

Gate: TypeAlias = Literal["id", "x", "y", "z", "h", "s", "sdg", "t", "tdg", "sx", "sxdg", "rx", "ry", "rz", "p", "u"]
GATES: tuple[Gate, ...] = get_args(Gate)

OPERATIONS = 20_000
"""The most that a program has, once gates of its own and standard gates are translated."""


class Operation(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One step. ``id`` is its place in the program's order, from 0.

    ``measurement_feedforward`` measures ``qubits[0]`` into ``bits[0]``. ``condition`` holds (bit, value) pairs: the
    step happens in those shots alone whose recorded bits all have these values. Angles are radians.
    """

    id: int
    name: Service | Gate | Literal["reset"]
    qubits: tuple[int, ...]
    bits: tuple[int, ...] = ()
    parameters: tuple[float, ...] = ()
    condition: tuple[tuple[int, int], ...] = ()


class Program(Struct, frozen=True, forbid_unknown_fields=True):
    """A circuit as the planner and the nodes know it.

    ``registers`` are the classical ones, (name, width), lowest bits first: a result is spelt by them. ``qubit_map``
    names each qubit as the source did (``q[0]``).
    """

    format: Format
    qubits: int
    bits: int
    operations: tuple[Operation, ...]
    registers: tuple[tuple[str, int], ...]
    qubit_map: tuple[str, ...]
    alias_model: AliasModel = "discard"


class Circuit(Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a program as one node gets it: qubits and bits are numbered anew from 0."""

    qubits: int
    bits: int
    operations: tuple[Operation, ...]
    alias_model: AliasModel = "discard"


def canonical(value: object) -> bytes:
    """The bytes that are hashed and signed: JSON with sorted keys, structs' fields among them, and no spaces."""
    return msgspec.json.encode(value, order="sorted")


def digest(value: object) -> str:
    """SHA-256 of the canonical bytes, hexadecimal."""
    return hashlib.sha256(canonical(value)).hexdigest()
