# SPDX-License-Identifier: Apache-2.0
"""A cheap look at circuit bytes before anything parses them (design, path step 2; issue 3, point 3). Pure.

Bytes and limits enter; a `Scan` leaves, or CircuitInvalid / CircuitTooComplex that names what is too much, the limit
and, where it is known, the line. It refuses what is plainly too large (size, nesting, declared bits, loops, definitions
that multiply, includes of foreign files, QPY that could run code or whose lengths don't add up), and tells which
service aliases of the network a source uses, because no other backend knows those words.

Why not a parser that exists: those that read all of OpenQASM 3 are the attack surface (ANTLR in Python needs 10 ms for
fifty gates, and recurses with its input), and no such parser may run in a process that holds a secret. So the text is
cut into statements and counted symbolically (``counting``), in time and memory linear in the source. Nobody waits for a
large one: the caller reads it beside its event loop.

It is no wall: what it lets through still meets the guarded child's limits. The API applies it before admission, the
worker again, because the two may run different versions.
"""

from __future__ import annotations

import re

from msgspec.structs import replace

from hal_drivers.base import Format
from hal_drivers.counting import count
from hal_drivers.errors import CircuitInvalid, CircuitTooComplex
from hal_drivers.limits import Limits, Scan
from hal_drivers.p2p import words
from hal_drivers.qpy_header import scan_qpy
from hal_drivers.statements import line_of

__all__ = ["Limits", "Scan", "code_alone", "prescan"]

INCLUDES = frozenset({"stdgates.inc", "qelib1.inc"})

# A reader of OpenQASM 3 ends comments and annotations at a carriage return too: nothing may hide behind one.
_LINE_END = re.compile(r"[\r\n]")
_SKIP2 = re.compile(r"//|/\*|[\"']")
_SKIP3 = re.compile(r"//|/\*|[\"']|(?:^|(?<=[;{}\r]))[ \t]*+(?:#?pragma\b|@[^\W\d])", re.MULTILINE)
_VERSION = re.compile(r"\bOPENQASM\s++(\d++)")
_BRACKETS = re.compile(r"[()\[\]{}]")
_INCLUDE = re.compile(r"\binclude\b\s*+([\"']?)")
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
        return _with_services(scan_qpy(source, limits), words.in_qpy(source))
    text = code_alone(format, source)
    _check_version(format, text)
    for mark, what in ((";", "statements"), ("{", "blocks")):
        if text.count(mark) > limits.gates:
            raise CircuitTooComplex(f"the source has more than {limits.gates} {what}")
    deepest = _check_nesting(text, limits)
    _check_includes(text)
    scan = count(text, old=format == "QASM2", limits=limits, deepest=deepest)
    return _with_services(scan, words.aliases(text))


def _with_services(scan: Scan, aliases: tuple[str, ...]) -> Scan:
    return replace(scan, services=aliases) if aliases else scan


def code_alone(format: Format, source: bytes) -> str:  # noqa: A002 - the field's name in the job spec
    """The text of a circuit with its lines, without comments, strings, pragmas and annotations; raises CircuitInvalid.

    An allowed include keeps its name.
    """
    return _code_alone(_decoded(source), _SKIP2 if format == "QASM2" else _SKIP3)


def _decoded(source: bytes) -> str:
    try:
        text = source.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _invalid("the source is not UTF-8", source[: error.start].count(b"\n") + 1) from None
    if "\0" in text:
        raise _invalid("the source has a NUL character", text.count("\n", 0, text.index("\0")) + 1)
    return text


def _invalid(what: str, line: int) -> CircuitInvalid:
    return CircuitInvalid(f"{what} (line {line})", line=line)


def _code_alone(text: str, skip: re.Pattern[str]) -> str:
    """Comments, strings, pragmas and annotations become blanks; an allowed include keeps its quotes."""
    parts: list[str] = []
    at = 0
    while (found := skip.search(text, at)) is not None:
        start, opening = found.start(), found.group()
        parts.append(text[at:start])
        if opening == "/*":
            at = _end(text, start, "*/", 2)
            parts.append(" " + "\n" * text.count("\n", start, at))
        elif opening in ("'", '"'):
            at = _end(text, start, opening, 1)
            content = text[start + 1 : at - 1]
            parts.append(f'"{content}"' if content in INCLUDES else "''" + "\n" * content.count("\n"))
        else:
            ending = _LINE_END.search(text, found.end())
            at = ending.start() if ending is not None else len(text)
    parts.append(text[at:])
    return "".join(parts)


def _end(text: str, start: int, mark: str, opening: int) -> int:
    found = text.find(mark, start + opening)
    if found < 0:
        raise _invalid("a comment or string has no end", text.count("\n", 0, start) + 1)
    return found + len(mark)


def _check_nesting(text: str, limits: Limits) -> int:
    depth = deepest = 0
    for byte in text.encode().translate(None, _NOT_BRACKETS):
        depth = depth + 1 if byte in b"([{" else depth - 1
        if depth > deepest:
            deepest = depth
            if depth > limits.nesting:
                line = line_of(text, _deep(text, limits.nesting))
                raise CircuitTooComplex(f"brackets are nested deeper than {limits.nesting} (line {line})", line=line)
    return deepest


def _deep(text: str, nesting: int) -> int:
    depth = 0
    for found in _BRACKETS.finditer(text):
        depth = depth + 1 if found.group() in "([{" else depth - 1
        if depth > nesting:
            return found.start()
    return 0


def _check_version(form: Format, text: str) -> None:
    """A reader takes a language that it doesn't know for one that it knows."""
    found = _VERSION.search(text)
    if found is not None and f"QASM{found[1]}" != form:
        raise _invalid(f"the source says OPENQASM {found[1][:9]}, its format is {form}", line_of(text, found.start()))


def _check_includes(text: str) -> None:
    for found in _INCLUDE.finditer(text):
        # _code_alone left double quotes around allowed names alone.
        if found.group(1) != '"':
            raise _invalid("only stdgates.inc and qelib1.inc may be included", line_of(text, found.start()))
