# SPDX-License-Identifier: Apache-2.0
"""A cheap look at circuit bytes before anything parses them (design, path step 2; issue item 4). Pure.

Bytes and limits enter; a :class:`Scan` leaves, or CircuitInvalid / CircuitTooComplex with the line where it
is known. It refuses what is plainly too large (size, nesting, declared qubits, loop bounds, gate definitions
that multiply, includes of foreign files, QPY that could run code or whose lengths don't add up) in time
linear in the source. Every pattern here is a chain of disjoint character classes, so no input makes it
backtrack over the same text twice.

It is no parser and no wall: what it lets through still meets the guarded child's limits. The API applies it
before admission, the worker again, because the two may run different versions.
"""

from __future__ import annotations

import re
import struct

from msgspec import Struct

from hal_drivers.base import Format
from hal_drivers.errors import CircuitInvalid, CircuitTooComplex


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """What a submitted circuit may ask for; the guarded child judges by the same numbers."""

    source_bytes: int = 1 << 20
    qubits: int = 1_000
    clbits: int = 4_000
    nesting: int = 32
    gates: int = 100_000
    """After expansion of gate definitions and loops."""
    loop: int = 100_000
    controls: int = 12
    qpy: bool = False
    """QPY is served only where the administrator switched it on."""


class Scan(Struct, frozen=True):
    """Literal declarations found; sizes that are expressions are not counted."""

    qubits_declared: int
    clbits_declared: int


INCLUDES = frozenset({"stdgates.inc", "qelib1.inc"})
QPY_MAGIC = b"QISKIT"
QPY_OLDEST = 13
"""Formats below 13 could run code while they load."""

_INT = r"(0[xX][0-9a-fA-F_]{1,40}|0[bBoO][0-7_]{1,80}|[0-9][0-9_]{0,80})"
_SKIP = re.compile(r"//|/\*|[\"']")
_BRACKETS = re.compile(r"[()\[\]{}]")
_DECLARED = re.compile(r"\b(?:(qreg|creg)\s+\w+|(qubit|bit))\s*\[\s*" + _INT)
_SINGLE = re.compile(r"\bqubit\s+\w")
_INCLUDE = re.compile(r"\binclude\b\s*([\"']?)")
_FOR = re.compile(r"\bfor\b")
_RANGE = re.compile(r"\[\s*(-?)" + _INT + r"\s*:\s*(-?)" + _INT + r"\s*(?::\s*(-?)" + _INT + r"\s*)?\]")
_CTRL = re.compile(r"\b(?:neg)?ctrl\s*\(\s*" + _INT)
_GATE = re.compile(r"\bgate\s+(\w+)")
_CALLEE = re.compile(r"\s*(\w+)")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"()[]{}"))


def prescan(
    format: Format,  # noqa: A002 - the field's name in the job spec
    source: bytes,
    limits: Limits,
) -> Scan:
    """Refuse what is plainly malformed or too large; costs well under a millisecond for ordinary circuits."""
    if len(source) > limits.source_bytes:
        raise CircuitTooComplex(f"the source has {len(source)} bytes, the limit is {limits.source_bytes}")
    if not source:
        raise CircuitInvalid("the source is empty")
    if format == "QPY":
        return _scan_qpy(source, limits)
    return _scan_text(source, limits)


def _scan_text(source: bytes, limits: Limits) -> Scan:
    try:
        text = source.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CircuitInvalid("the source is not UTF-8", line=source[: error.start].count(b"\n") + 1) from None
    if "\0" in text:
        raise CircuitInvalid("the source has a NUL character", line=_line(text, text.index("\0")))
    text = _blank_comments(text)
    if text.count(";") > limits.gates:
        raise CircuitTooComplex(f"the source has more than {limits.gates} statements")
    _check_nesting(text, limits)
    _check_includes(text)
    scan = _declarations(text, limits)
    _check_loops(text, limits)
    _check_gate_definitions(text, limits)
    return scan


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _blank_comments(text: str) -> str:
    """Comments and strings become blanks (an allowed include keeps its quotes): code alone is left."""
    parts: list[str] = []
    at = 0
    while (found := _SKIP.search(text, at)) is not None:
        start, opening = found.start(), found.group()
        end_mark = {"//": "\n", "/*": "*/"}.get(opening, opening)
        end = text.find(end_mark, found.end())
        if end < 0 and opening != "//":
            raise CircuitInvalid("a comment or string has no end", line=_line(text, start))
        end = len(text) if end < 0 else end
        parts.append(text[at:start])
        if opening in "\"'":
            content = text[start + 1 : end]
            quoted = f'"{content}"' if content in INCLUDES else "''"
            parts.append(quoted + "\n" * content.count("\n"))
            at = end + 1
        elif opening == "//":
            at = end
        else:
            parts.append(" " + "\n" * text.count("\n", start, end))
            at = end + 2
    parts.append(text[at:])
    return "".join(parts)


def _check_nesting(text: str, limits: Limits) -> None:
    depth = 0
    for byte in text.encode().translate(None, _NOT_BRACKETS):
        depth = depth + 1 if byte in b"([{" else depth - 1
        if depth > limits.nesting:
            raise CircuitTooComplex(
                f"brackets are nested deeper than {limits.nesting}",
                line=_line(text, _deep(text, limits.nesting)),
            )


def _deep(text: str, nesting: int) -> int:
    depth = 0
    for found in _BRACKETS.finditer(text):
        depth = depth + 1 if found.group() in "([{" else depth - 1
        if depth > nesting:
            return found.start()
    return 0


def _check_includes(text: str) -> None:
    for found in _INCLUDE.finditer(text):
        # _blank_comments left double quotes around allowed names alone.
        if found.group(1) != '"':
            raise CircuitInvalid("only stdgates.inc and qelib1.inc may be included", line=_line(text, found.start()))


def _declarations(text: str, limits: Limits) -> Scan:
    qubits, clbits = 0, 0
    for found in _DECLARED.finditer(text):
        size = _integer(found.group(3))
        if (found.group(1) or found.group(2)) in ("qreg", "qubit"):
            qubits += size
        else:
            clbits += size
        if qubits > limits.qubits or clbits > limits.clbits:
            raise CircuitTooComplex(
                f"more than {limits.qubits} qubits or {limits.clbits} classical bits are declared",
                line=_line(text, found.start()),
            )
    qubits += sum(1 for _ in _SINGLE.finditer(text))
    if qubits > limits.qubits:
        raise CircuitTooComplex(f"more than {limits.qubits} qubits are declared")
    return Scan(qubits_declared=qubits, clbits_declared=clbits)


def _integer(literal: str) -> int:
    digits = literal.replace("_", "").lower()
    try:
        return int(digits, 0 if digits[:2] in ("0x", "0b", "0o") else 10)
    except ValueError:
        raise CircuitInvalid("an integer literal is malformed") from None


def _check_loops(text: str, limits: Limits) -> None:
    for found in _FOR.finditer(text):
        window = text[found.end() : found.end() + 512]
        bounds = _RANGE.search(window.partition("{")[0])
        if bounds is None:
            continue
        first, second = _signed(bounds, 1), _signed(bounds, 3)
        last, step = (second, 1) if bounds.group(6) is None else (_signed(bounds, 5), second)
        if step and (last - first) // step + 1 > limits.loop:
            raise CircuitTooComplex(f"a loop runs more than {limits.loop} times", line=_line(text, found.start()))
    for found in _CTRL.finditer(text):
        if _integer(found.group(1)) > limits.controls:
            raise CircuitTooComplex(f"a gate has more than {limits.controls} controls", line=_line(text, found.start()))


def _signed(bounds: re.Match[str], group: int) -> int:
    value = _integer(bounds.group(group + 1))
    return -value if bounds.group(group) else value


def _check_gate_definitions(text: str, limits: Limits) -> None:
    """Expanded size of each definition, by those above it: a definition can use nothing else."""
    sizes: dict[str, int] = {}
    for found in _GATE.finditer(text):
        start = text.find("{", found.end())
        end = text.find("}", start)
        if start < 0 or end < 0:
            return
        size = 0
        for statement in text[start + 1 : end].split(";"):
            callee = _CALLEE.match(statement.rpartition("@")[2])
            if callee is not None:
                size += sizes.get(callee.group(1), 1)
        if size > limits.gates:
            raise CircuitTooComplex(
                f"a gate definition expands to more than {limits.gates} gates",
                line=_line(text, found.start()),
            )
        sizes[found.group(1)] = size


_QPY_FILE = struct.Struct("!6sBBBBQc")
_QPY_CIRCUIT = struct.Struct("!H1cHIIQIQI")
_QPY_REGISTER = struct.Struct("!1c?IH?")  # from version 18 on a byte follows: how its bits are listed
_QPY_RANGE = b"\x01"


def _scan_qpy(source: bytes, limits: Limits) -> Scan:
    """The header of QPY ≥ 13 (docs of ``qiskit.qpy``): exactly one circuit, lengths that fit the file."""
    if not limits.qpy:
        raise CircuitInvalid("QPY is not switched on here")
    if len(source) < _QPY_FILE.size + 1 or not source.startswith(QPY_MAGIC):
        raise CircuitInvalid("this is not a QPY file")
    _, version, _, _, _, programs, encoding = _QPY_FILE.unpack_from(source)
    if version < QPY_OLDEST:
        raise CircuitInvalid(f"QPY format {version} is refused, the oldest allowed is {QPY_OLDEST}")
    if programs != 1 or source[_QPY_FILE.size : _QPY_FILE.size + 1] != b"q":
        raise CircuitInvalid("a QPY file must hold exactly one circuit")
    if encoding == b"e":
        raise CircuitInvalid("QPY with symengine expressions is refused")
    at = _QPY_FILE.size + 1
    if version >= 16:
        at = int.from_bytes(source[at : at + 8], "big")
    return _scan_qpy_circuit(source, version, at, limits)


def _scan_qpy_circuit(source: bytes, version: int, at: int, limits: Limits) -> Scan:
    broken = CircuitInvalid("the lengths in the QPY file do not add up")
    if at + _QPY_CIRCUIT.size > len(source):
        raise broken
    name, _, phase, qubits, clbits, metadata, registers, instructions, variables = _QPY_CIRCUIT.unpack_from(source, at)
    if qubits > limits.qubits or clbits > limits.clbits:
        raise CircuitTooComplex(f"more than {limits.qubits} qubits or {limits.clbits} classical bits are declared")
    if instructions > limits.gates:
        raise CircuitTooComplex(f"the circuit has more than {limits.gates} gates")
    at += _QPY_CIRCUIT.size + name + phase + metadata
    # Each register, variable and instruction takes at least one byte of the file.
    if at + registers + variables + instructions > len(source):
        raise broken
    for _ in range(registers):
        if at + _QPY_REGISTER.size > len(source):
            raise broken
        _, _, size, name_size, _ = _QPY_REGISTER.unpack_from(source, at)
        at += _QPY_REGISTER.size
        listed = 8 * size
        if version >= 18:  # neighbours are told by the first one, others by 4 bytes each
            listed = 4 if source[at : at + 1] == _QPY_RANGE else 4 * size
            at += 1
        at += name_size + listed
        if at > len(source) or size > limits.qubits + limits.clbits:
            raise broken
    return Scan(qubits_declared=qubits, clbits_declared=clbits)
