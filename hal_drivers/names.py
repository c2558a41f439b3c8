# SPDX-License-Identifier: Apache-2.0
"""The names of an OpenQASM source while it is walked: registers with their sizes, constants and loop variables with
their values, in the blocks that are open (``counting``). Pure.

A size or value that can't be told without running the program is None, or for a register at most all qubits. More bits
than the limits grant, in a declaration, a type or an array, are CircuitTooComplex with the line.
"""

from __future__ import annotations

import math
import re
from typing import Literal, NoReturn, TypeAlias

from hal_drivers.constant import Interval, fold
from hal_drivers.errors import CircuitTooComplex
from hal_drivers.limits import Limits
from hal_drivers.statements import line_of, split

MOST = 1 << 62
"""Where counting stops: nobody needs to know by how much more than this a limit is passed."""

Kind: TypeAlias = Literal["circuit", "block", "loop", "gate", "def", "calibration"]
WORD = re.compile(r"\s*+([^\W\d]\w*+)")
NAME = re.compile(r"\b[^\W\d]\w*+")
SIZED = re.compile(r"\s*+(?:\[([^\[\]]*+)\]\s*+)?+([^\W\d]\w*+)?+")
_ARRAY = re.compile(r"\s*+\[\s*+(\w++)\s*+(?:\[[^\[\]]*+\])?+\s*+,([^\[\]]*+)\]\s*+(\w++)")


class Frame:
    """A block that is open: what it adds to, how often, and the names known in it."""

    def __init__(self, kind: Kind, at: int, repeats: int, name: str = "") -> None:
        self.kind, self.at, self.repeats, self.name = kind, at, repeats, name
        self.total = self.turns = self.least = 0
        self.constants: dict[str, Interval | None] = {}
        self.sizes: dict[str, int] = {}
        self.branches: list[tuple[int, dict[str, Interval | None]]] = []
        """Of each if that an else may still follow: how often it runs, and the loop variables before it."""


class Names:
    """What is declared so far; ``_at`` is where the statement stands that is being read."""

    def __init__(self, text: str, limits: Limits) -> None:
        self._text, self._limits = text, limits
        self._frames = [Frame("circuit", 0, 1)]
        self._qubits = self._clbits = 0
        self._physical: set[str] = set()
        self._at = 0

    def _declare(self, word: str, text: str, at: int, frame: Frame) -> None:
        if word in ("qubit", "bit"):
            found = SIZED.match(text, at)
            written, name = (found[1], found[2]) if found is not None else (None, None)
        else:
            named = WORD.match(text, at)
            found = SIZED.match(text, named.end()) if named is not None else None
            written, name = found[1] if found is not None else None, named[1] if named is not None else None
        size = 1 if written is None else self._size(written)
        if name is not None:
            frame.sizes[name] = size or max(1, self._qubits)
            frame.constants[name] = None
        if word in ("qubit", "qreg"):
            self._qubits += size or 0
        else:
            self._clbits += size or 0
        self._check_bits()

    def _check_bits(self) -> None:
        qubits, clbits = self._limits.qubits, self._limits.clbits
        if self._qubits + len(self._physical) > qubits or self._clbits > clbits:
            self._too_complex(f"more than {qubits} qubits or {clbits} classical bits are declared")

    def _scalar(self, text: str, at: int, frame: Frame) -> None:
        found = SIZED.match(text, at)
        if found is not None:
            if found[1] is not None and (self._size(found[1]) or 0) > self._limits.clbits:
                self._too_complex(f"a type has more than {self._limits.clbits} bits")
            if found[2] is not None:
                frame.constants[found[2]] = None

    def _constant(self, text: str, at: int, frame: Frame) -> None:
        kind = WORD.match(text, at)
        found = SIZED.match(text, kind.end()) if kind is not None else None
        if kind is None or found is None or found[2] is None:
            return
        self._scalar(text, kind.end(), frame)
        value = self._fold(text[found.end() :].partition("=")[2].rstrip("; \t\r\n"))
        if value is not None and kind[1] in ("int", "uint"):
            value = math.trunc(value[0]), math.trunc(value[1])
        frame.constants[found[2]] = value

    def _array(self, text: str, at: int, frame: Frame) -> None:
        found = _ARRAY.match(text, at)
        if found is None:
            return
        elements = 1
        for part in split(found[2], ","):
            elements = min(MOST, elements * max(1, self._size(part) or 1))
        if elements > self._limits.loop:
            self._too_complex(f"an array has more than {self._limits.loop} elements")
        frame.sizes[found[3]] = elements
        frame.constants[found[3]] = None

    def _alias(self, text: str, at: int, frame: Frame) -> None:
        left, _, right = text[at:].partition("=")
        sizes = [self._known(name) or 0 for name in NAME.findall(right)]
        if name := left.strip():
            frame.sizes[name] = min(MOST, sum(sizes)) or max(1, self._qubits)
            frame.constants[name] = None

    def _known(self, name: str) -> int | None:
        return next((frame.sizes[name] for frame in reversed(self._frames) if name in frame.sizes), None)

    def _value(self, name: str) -> Interval | None:
        return next((frame.constants[name] for frame in reversed(self._frames) if name in frame.constants), None)

    def _fold(self, text: str) -> Interval | None:
        return fold(text, self._value)

    def _size(self, text: str) -> int | None:
        value = self._fold(text)
        return None if value is None else max(0, math.floor(value[1]))

    def _too_complex(self, what: str) -> NoReturn:
        line = line_of(self._text, self._at)
        raise CircuitTooComplex(f"{what} (line {line})", line=line)
