# SPDX-License-Identifier: Apache-2.0
"""A fragment that reads bits recorded elsewhere runs shot by shot on that shot's bits, never on counts. Pure.

A row holds one shot: bit b of it is bit b of a little-endian number, padded to whole bytes. Shots with the same given
bits form a *pattern*: the circuit with its conditions on those bits decided is run once for each pattern, and each row
is put back where its shot was. Which pattern a shot has is fixed before, so that this is exact: given its pattern, a
shot's outcome is independent of all others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from hal_drivers.p2p.ir import Circuit, Operation
from hal_drivers.p2p.rows import width
from hal_drivers.p2p.wire import Given


def patterns(given: Given, shots: int) -> dict[bytes, list[int]]:
    """Pattern → the shots that have it, in order; raises ValueError where the rows are not those of `shots`."""
    size = width(len(given.bits))
    if len(given.rows) != size * shots or len(set(given.bits)) != len(given.bits):
        raise ValueError("the given rows don't fit the shots")
    found: dict[bytes, list[int]] = {}
    for shot in range(shots):
        found.setdefault(given.rows[shot * size : (shot + 1) * size], []).append(shot)
    if any(int.from_bytes(pattern, "little") >> len(given.bits) for pattern in found):
        raise ValueError("a given row has bits that nobody gave")
    return found


def known_bits(given: Given, pattern: bytes) -> dict[int, int]:
    """Bit of the circuit → its value in this pattern."""
    value = int.from_bytes(pattern, "little")
    return {bit: value >> place & 1 for place, bit in enumerate(given.bits)}


def specialise(circuit: Circuit, known: Mapping[int, int]) -> Circuit:
    """The circuit with all conditions on known bits decided; raises ValueError where it writes such a bit."""
    kept: list[Operation] = []
    for operation in circuit.operations:
        if any(bit in known for bit in operation.bits):
            raise ValueError("a fragment doesn't write what it is given")
        if all(known.get(bit, value) == value for bit, value in operation.condition):
            open_ones = tuple(pair for pair in operation.condition if pair[0] not in known)
            kept.append(replace(operation, condition=open_ones))
    return replace(circuit, operations=tuple(kept))


def seed_of(seed: int, pattern: bytes) -> int:
    """The simulator's seed for one pattern: patterns must not share their randomness."""
    return int.from_bytes(hashlib.sha256(f"{seed}/".encode() + pattern).digest()[:4], "little") >> 1


def put_back(shots: int, size: int, groups: Iterable[tuple[list[int], bytes]]) -> bytes:
    """Rows in the order of the shots, from each group's shots and their rows of `size` bytes."""
    rows = bytearray(shots * size)
    for places, part in groups:
        for number, shot in enumerate(places):
            rows[shot * size : (shot + 1) * size] = part[number * size : (number + 1) * size]
    return bytes(rows)
