# SPDX-License-Identifier: Apache-2.0
"""Operations of an OpenQASM source, counted symbolically: definitions, loops, registers and powers are multiplied and
never expanded. Pure.

Enters: text without comments, strings and annotations (``prescan`` blanks them). Leaves: a Scan, or CircuitInvalid or
CircuitTooComplex with the line. The source is walked once, statement by statement; integers saturate; nothing here
recurses with the input.

A count is an upper bound of what Qiskit holds after reading the same source: each gate call, measurement and reset
once for each qubit that it broadcasts over, a definition's body for each call, a loop's body for each turn, a power's
base for each whole power, the branches of an if or a switch added up, because all of them are compiled. Two things are
not counted, and are the guarded child's to judge: what a compiler makes of control modifiers (``ctrl(5) @ x`` counts
once; the number of controls has a limit of its own), and loops whose turns only running can tell: a ``while`` is
ordinary in a dynamic circuit, so its body counts once and the run has a deadline.

It is no parser: what no reader of OpenQASM takes may pass, and is refused by the reader in the child.
"""

from __future__ import annotations

import math
import re

from hal_drivers.constant import Interval, TooManyBits
from hal_drivers.errors import CircuitInvalid
from hal_drivers.limits import Limits, Scan
from hal_drivers.names import MOST, NAME, SIZED, WORD, Frame, Names
from hal_drivers.statements import (
    Statement,
    after_parentheses,
    closing,
    last_word,
    line_of,
    skip_space,
    split,
    statements,
)

_COMPOSED = {"c3x": 31, "c4x": 26}
"""Of Qiskit's qelib1.inc those that it reads as made of others."""
_CALLED = {
    "gate": "a gate definition",
    "def": "a subroutine",
    "loop": "a loop",
    "block": "a block",
    "circuit": "the circuit",
}
_PLAIN = re.compile(r"\s*+(\w++)\s*+(?:\([^()]*+\)\s*+)?(?:\w++\s*+\[\s*+\d++\s*+\]\s*+(?:,\s*+)?)++;")
_CALL = re.compile(r"\b(\w++)\s*+\(")
_INDEX = re.compile(r"\s*+\[")
_OPERAND = re.compile(r"\s*+(\$?\w++)\s*+(\[)?")
_MODIFIER = re.compile(r"\s*+(negctrl|ctrl|pow|inv)\b\s*+(?:\((.*)\))?+\s*+", re.DOTALL)
_MEASURED = re.compile(r"\bmeasure\b")
_IN = re.compile(r"\bin\b")
_PARAMETER = re.compile(r"\b(?:qubit\s*+(?:\[([^\[\]]*+)\]\s*+)?+(\w++)|[qc]reg\s++(\w++)\s*+\[([^\[\]]*+)\])")
_SCALARS = frozenset({"int", "uint", "float", "angle", "bool", "complex", "duration", "stretch"})
_NOTHING = frozenset({"include", "OPENQASM", "extern", "opaque", "defcalgrammar", "pragma", "end", "nop"})
_PREFIXES = frozenset({"for", "while", "if", "else", "switch", "case", "default", "box"})
_WORDS2 = frozenset({"qreg", "creg", "gate", "opaque", "measure", "reset", "barrier", "if", "include", "OPENQASM"})
_WORDS3 = (
    _WORDS2
    | _SCALARS
    | _NOTHING
    | _PREFIXES
    | {"qubit", "bit", "const", "array", "let", "input", "output", "def", "cal", "defcal", "delay", "return"}
    | {"ctrl", "negctrl", "pow", "inv", "break", "continue"}
)


def count(text: str, *, old: bool, limits: Limits, deepest: int) -> Scan:
    """The counts of a source; ``old`` reads OpenQASM 2, ``deepest`` is its nesting of brackets."""
    return _Count(text, old, limits, deepest).scan()


class _Count(Names):
    """One walk over one source."""

    def __init__(self, text: str, old: bool, limits: Limits, deepest: int) -> None:
        super().__init__(text, limits)
        self._deepest = deepest
        self._old = old
        self._words = _WORDS2 if old else _WORDS3
        self._gates = dict(_COMPOSED) if old else {}
        self._subroutines: dict[str, int] = {}
        self._unbounded = 0

    def scan(self) -> Scan:
        for statement in statements(self._text):
            self._at = statement.at
            try:
                self._take(statement)
            except TooManyBits:
                self._too_complex("an integer has more bits than any program needs")
        while len(self._frames) > 1:
            self._close()
        return Scan(
            qubits_declared=self._qubits,
            clbits_declared=self._clbits,
            operations=self._frames[0].total,
            iterations=self._frames[0].turns,
            nesting=self._deepest,
            unbounded=self._unbounded,
        )

    # ---- statements and blocks

    def _take(self, statement: Statement) -> None:
        text, frame = statement.text, self._frames[-1]
        if statement.end == "}":
            # What stands before a closing brace lacks its semicolon; it is counted all the same.
            if text.strip("} \t\r\n"):
                self._simple(text[:-1], 0, frame)
            self._close()
        elif frame.kind == "calibration":
            if statement.end == "{":
                self._frames.append(Frame("calibration", statement.at, 1))
        elif statement.end == ";" and (plain := _PLAIN.match(text)) is not None and plain[1] not in self._words:
            self._add(frame, self._gates.get(plain[1], 1))
        elif statement.end == "{":
            self._open(text[:-1], statement.at)
        else:
            inner = Frame("loop", statement.at, 1)
            at = self._prefixes(text, inner)
            text = text.rstrip(";")
            if at == 0:
                self._simple(text, 0, frame)
            else:
                self._frames.append(inner)
                self._simple(text, at, inner)
                self._close()

    def _open(self, text: str, at: int) -> None:
        word = WORD.match(text)
        kind = word[1] if word is not None and word[1] in self._words else ""
        if kind in ("gate", "def"):
            name = WORD.match(text, word.end()) if word is not None else None
            frame = Frame("gate" if kind == "gate" else "def", at, 1, name[1] if name is not None else "")
            # Parameters hide constants of the same name.
            frame.constants = dict.fromkeys(NAME.findall(text))
            if kind == "def":
                for size, one, older, older_size in _PARAMETER.findall(text):
                    frame.sizes[one or older] = self._size(size or older_size) or 1
        elif kind in ("cal", "defcal"):
            frame = Frame("calibration", at, 1)
        else:
            frame = Frame("block", at, 1)
            self._prefixes(text, frame)
            self._add(frame, self._called(text))
        self._frames.append(frame)

    def _close(self) -> None:
        if len(self._frames) == 1:
            return
        frame = self._frames.pop()
        outer = self._frames[-1]
        if frame.kind == "gate":
            self._gates[frame.name] = max(1, frame.total)
        elif frame.kind == "def":
            self._subroutines[frame.name] = max(1, frame.total)
        elif frame.kind != "calibration":
            outer.turns = min(MOST, outer.turns + frame.repeats * max(frame.kind == "loop", frame.turns))
            self._at = frame.at
            self._add(outer, max(frame.least, frame.repeats * max(1, frame.total)), of=frame)

    def _add(self, frame: Frame, operations: int, of: Frame | None = None) -> None:
        frame.total = min(MOST, frame.total + operations)
        if frame.total > self._limits.gates:
            what = of if of is not None and operations > self._limits.gates else frame
            self._too_complex(f"{_CALLED[what.kind]} expands to more than {self._limits.gates} operations")

    # ---- what stands before a statement or block

    def _prefixes(self, text: str, frame: Frame) -> int:
        """Where the statement behind for, while, if … begins; the frame takes their turns and loop variables."""
        at, depth = 0, len(self._frames)
        branches = self._frames[-1].branches
        if (first := WORD.match(text)) is None or first[1] != "else":
            branches.clear()
        elif branches:
            frame.repeats, frame.constants = branches.pop()
        while (word := WORD.match(text, at)) is not None:
            name = word[1]
            if name not in _PREFIXES or name not in self._words:
                break
            depth += 1
            if depth > self._limits.nesting + 1:
                self._too_complex(f"statements are nested deeper than {self._limits.nesting}")
            self._deepest = max(self._deepest, depth - 1)
            at = word.end()
            if name == "for":
                at = self._for(text, at, frame)
            elif name in ("while", "if", "switch"):
                at = after_parentheses(text, at)
                self._unbounded += name == "while"
                if name == "if":
                    branches.append((frame.repeats, dict(frame.constants)))
            elif name == "case":
                at = len(text)
            elif name == "box" and (size := SIZED.match(text, at)) is not None:
                at = size.start(2) if size[2] is not None else size.end()
        return at

    def _for(self, text: str, at: int, frame: Frame) -> int:
        found = _IN.search(text, at)
        if found is None:
            return len(text)
        variable = last_word(text[at : found.start()])
        at = skip_space(text, found.end())
        opening = text[at : at + 1]
        values: Interval | None = None
        if opening == "[":
            end = closing(text, at)
            turns, values = self._range(text[at + 1 : end - 1])
        elif opening == "{":
            end = closing(text, at)
            turns = len(split(text[at + 1 : end - 1], ","))
        else:
            end, turns = self._named_values(text, at)
        if turns is None:
            self._unbounded += 1
            turns = 1
        elif turns > self._limits.loop:
            self._too_complex(f"a loop runs more than {self._limits.loop} times")
        frame.kind = "loop"
        if not turns:  # nothing of it runs; the loops around it turn all the same
            frame.least = max(frame.least, frame.repeats)
        frame.repeats = min(MOST, frame.repeats * turns)
        frame.constants[variable] = values
        return end

    def _range(self, inside: str) -> tuple[int | None, Interval | None]:
        parts = [self._fold(part) for part in split(inside, ":")]
        if len(parts) not in (2, 3):
            return None, None
        first, last = parts[0], parts[-1]
        step = parts[1] if len(parts) == 3 else (1, 1)
        if step == (0, 0):
            line = line_of(self._text, self._at)
            raise CircuitInvalid(f"a range has step 0 (line {line})", line=line)
        if first is None or last is None or step is None or step[0] <= 0 <= step[1]:
            return None, None
        if step[0] > 0:
            span, pace = last[1] - first[0], step[0]
        else:
            span, pace = first[1] - last[0], -step[1]
        return _turns(span, pace), (min(first[0], last[0]), max(first[1], last[1]))

    def _named_values(self, text: str, at: int) -> tuple[int, int | None]:
        word = WORD.match(text, at)
        if word is None:
            return len(text), None
        end = word.end()
        while (index := _INDEX.match(text, end)) is not None:
            end = closing(text, index.end() - 1)
        return end, self._known(word[1])

    # ---- one statement

    def _simple(self, text: str, at: int, frame: Frame) -> None:
        text = text[at:]
        word = WORD.match(text)
        while word is not None and not self._old and word[1] in ("input", "output"):
            word = WORD.match(text, word.end())
        name, behind = (word[1], word.end()) if word is not None else ("", 0)
        operations = self._keyword(name, text, behind, frame) if name in self._words else self._call(text)
        self._add(frame, operations + self._called(text))

    def _keyword(self, name: str, text: str, at: int, frame: Frame) -> int:
        match name:
            case "qubit" | "bit" | "qreg" | "creg":
                self._declare(name, text, at, frame)
                return self._measured(text)
            case "const":
                self._constant(text, at, frame)
                return 0
            case "array":
                self._array(text, at, frame)
                return 1
            case "let":
                self._alias(text, at, frame)
                return 0
            case "measure" | "reset" | "return":
                return self._measured(text) if name == "return" else self._operand(text[at:].partition("->")[0])
            case "delay":
                index = _INDEX.match(text, at)
                at = closing(text, index.end() - 1) if index is not None else at
                return sum(self._operand(operand) for operand in split(text[at:], ","))
            case "ctrl" | "negctrl" | "pow" | "inv":
                return self._call(text)
        if name in _SCALARS:
            self._scalar(text, at, frame)
            return self._measured(text) or int("=" in text)
        return 0 if name in _NOTHING else 1

    def _measured(self, text: str) -> int:
        """Measurements on the right of a declaration or an assignment; 0 where there is none."""
        found = _MEASURED.search(text)
        return self._operand(text[found.end() :]) if found is not None else 0

    def _call(self, text: str) -> int:
        head, modified, call = text.rpartition("@")
        if not modified and "=" in call:
            return self._measured(call) or 1
        factor = self._modifiers(head) if modified else 1
        word = WORD.match(call)
        if word is None:
            return 1
        behind = after_parentheses(call, word.end())
        if (index := _INDEX.match(call, behind)) is not None:
            behind = closing(call, index.end() - 1)
        broadcast = max(self._operand(operand) for operand in split(call[behind:], ","))
        return min(MOST, factor * broadcast * self._gates.get(word[1], 1))

    def _modifiers(self, head: str) -> int:
        """What powers multiply a gate by; controls are only held to their limit."""
        factor, controls = 1, 0
        for piece in head.split("@"):
            found = _MODIFIER.fullmatch(piece)
            if found is None or found[1] == "inv":
                continue
            value = self._fold(found[2]) if found[2] is not None else (1, 1)
            if value is None:
                continue
            if found[1] == "pow":
                whole = max(1, math.ceil(max(abs(value[0]), abs(value[1]))))
                factor = min(MOST, factor * whole)
            else:
                controls = min(MOST, controls + max(0, math.ceil(value[1])))
        if controls > self._limits.controls:
            self._too_complex(f"a gate has more than {self._limits.controls} controls")
        return factor

    def _operand(self, text: str) -> int:
        """Over how many qubits an operand broadcasts, at most."""
        found = _OPERAND.match(text)
        if found is None or any(frame.kind == "gate" for frame in self._frames):
            return 1
        name = found[1]
        if name.startswith("$"):
            self._physical.add(name)
            self._check_bits()
            return 1
        if found[2] is not None:
            inside = text[found.end() : closing(text, found.end() - 1) - 1]
            if not any(mark in inside for mark in ":,{"):
                return 1
        return max(1, self._known(name) or self._qubits)

    def _called(self, text: str) -> int:
        """Operations of the subroutines that an expression calls."""
        defining = {frame.name for frame in self._frames if frame.kind == "def"}
        if not self._subroutines and not defining:
            return 0
        total = 0
        for name in _CALL.findall(text):
            if name in defining:
                self._too_complex("a subroutine calls itself")
            total = min(MOST, total + self._subroutines.get(name, 0))
        return total


def _turns(span: float, pace: float) -> int:
    try:
        return max(0, int(span // pace) + 1)
    except (OverflowError, ValueError):
        return MOST
