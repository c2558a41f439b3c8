# SPDX-License-Identifier: Apache-2.0
"""Recorded bits, a row a shot: how those of fragments become those of the program, shot by shot (N4). Pure.

Rows are bytes: ``width(bits)`` of them a shot, bit b of a row being bit b of a little-endian number. All functions
check the size. Counting comes after joining: counts forget which shot of one fragment belongs to which of another.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Matrix: TypeAlias = npt.NDArray[np.uint8]


def width(bits: int) -> int:
    """Bytes a shot."""
    return (bits + 7) // 8


def join(bits: int, shots: int, recorded: Iterable[tuple[tuple[int, ...], bytes, tuple[int, ...]]]) -> bytes:
    """Rows over the program's bits from those of its parts; raises ValueError for rows of another size.

    A part is its bits as the program numbers them, its rows, and which of its bits it has written: of a bit that it
    only read, its copy says nothing new. Bits that nobody writes are 0.
    """
    joined = np.zeros((shots, width(bits)), np.uint8)
    for names, rows, written in recorded:
        matrix = _matrix(rows, len(names), shots)
        for local in written:
            _put(joined, names[local], _column(matrix, local))
    return joined.tobytes()


def pick(rows: bytes, bits: int, shots: int, wanted: tuple[int, ...]) -> bytes:
    """Rows over some of the bits, in that order; raises ValueError."""
    matrix = _matrix(rows, bits, shots)
    picked = np.zeros((shots, width(len(wanted))), np.uint8)
    for local, bit in enumerate(wanted):
        _put(picked, local, _column(matrix, bit))
    return picked.tobytes()


def counts(rows: bytes, bits: int, shots: int) -> dict[str, int]:
    """How often each outcome was recorded, spelt in Qiskit's order (last bit left), sorted; raises ValueError."""
    matrix = _matrix(rows, bits, shots)
    if bits == 0:
        return {"": shots}
    found, times = np.unique(matrix, axis=0, return_counts=True)
    spelt = {f"{int.from_bytes(row.tobytes(), 'little'):0{bits}b}": int(n) for row, n in zip(found, times, strict=True)}
    return dict(sorted(spelt.items()))


def _matrix(rows: bytes, bits: int, shots: int) -> Matrix:
    size = width(bits)
    if len(rows) != size * shots:
        raise ValueError(f"{shots} shots of {bits} bits are {size * shots} bytes, not {len(rows)}")
    matrix = np.frombuffer(rows, np.uint8).reshape(shots, size)
    if bits % 8 and bool(np.any(matrix[:, -1] >> (bits % 8))):
        raise ValueError(f"a row has more than {bits} bits")
    return matrix


def _column(matrix: Matrix, bit: int) -> Matrix:
    return np.asarray((matrix[:, bit // 8] >> (bit % 8)) & 1, np.uint8)


def _put(matrix: Matrix, bit: int, column: Matrix) -> None:
    matrix[:, bit // 8] |= column << (bit % 8)
