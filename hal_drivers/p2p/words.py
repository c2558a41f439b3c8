# SPDX-License-Identifier: Apache-2.0
"""Which service aliases an OpenQASM source uses without defining them, and how it is made readable (N3). Pure.

Enters the source's code alone (``prescan`` blanks comments and strings, lines stay). A word counts where it is called:
at a statement's beginning, with operands behind it. A word that the source defines as a gate or subroutine of its own
is the source's; ``cz`` is the include's where there is one. An ``opaque`` of OpenQASM 2 has no meaning of its own, so
the alias is meant.

No modifier may stand before an alias, or before a gate that is made of aliases: ``inv @ teleport`` is no service, and a
reader would silently take the empty declaration's inverse. Such a source is refused here, with the line, and so is an
alias with another number of operands than its table has: a reader that was told of it says no more than "malformed".
"""

from __future__ import annotations

import re
from collections import defaultdict

from hal_drivers.errors import CircuitInvalid
from hal_drivers.p2p.aliases import DECLARED, OWN, TABLE
from hal_drivers.statements import line_of, statements

_ANY = re.compile(r"\b(?:" + "|".join(sorted(DECLARED)) + r")\b")
_TOKEN = re.compile(r"[^\W\d]\w*+|\d[\w.]*+|[^\s\w]")
_NAME = re.compile(r"[^\W\d]\w*+")
_GATE = re.compile(r"\s*+(?:gate|def)\s++([^\W\d]\w*+)")
_MODIFIED = re.compile(r"@\s*+([^\W\d]\w*+)")
_BEFORE = frozenset({"", ";", "{", "}", ")", "]", "@", ":", "else"})
_DEFINES = frozenset({"gate", "def", "extern"})
# What follows a word up to the end of its statement; a brace inside (a set of indices) is left to the reader.
_CALL = re.compile(
    r"(?:\b(?P<defines>gate|def|extern|opaque)\s++)?\b(?P<word>"
    + "|".join(sorted(DECLARED, key=len, reverse=True))
    + r")\b\s*+(?P<operands>[\w$(][^;{}]*+);"
)
_BRACKET = re.compile(r"[\[\](),]")
_INCLUDE = re.compile(r"\binclude\b")
_VERSION = re.compile(r"\A(?:\s|//[^\r\n]*+|/\*.*?\*/)*+OPENQASM\s*+[0-9.]++\s*+;", re.DOTALL)
# A row of the table: size of the name, kind, qubits, bits, whether a definition follows, three sizes and a state; name.
_IN_QPY = re.compile(
    rb"[gi]\x00\x00\x00.\x00{4}\x00.{24}("
    + "|".join(sorted(OWN | {"cnot"}, key=len, reverse=True)).encode()
    + rb")_[0-9a-f]",
    re.DOTALL,
)
_BIT = re.compile(r"(\[[^\[\]:,{}]*+\]\s*+)(==|!=)\s*+([01])\b(?![\w.])")


def aliases(code: str) -> tuple[str, ...]:
    """The alias words that the code uses as such, sorted."""
    if _ANY.search(code) is None:
        return ()
    called, defined, _ = _uses(code)
    return tuple(sorted(called - defined))


def undeclared(code: str) -> tuple[str, ...]:
    """Those of :func:`aliases` that a reader must be told of: the others stand there as ``opaque``."""
    _, _, opaque = _uses(code)
    return tuple(word for word in aliases(code) if word not in opaque)


def _uses(code: str) -> tuple[set[str], set[str], set[str]]:
    """Words that are called, words that are defined, words that are opaque."""
    called: set[str] = set()
    opaque: set[str] = set()
    defined = {"cz"} if _INCLUDE.search(code) else set()
    before, word = "", ""
    for found in _TOKEN.finditer(code):
        token = found.group()
        if word in DECLARED:
            if before in _DEFINES:
                defined.add(word)
            elif before == "opaque":
                opaque.add(word)
            elif before in _BEFORE and (token[0].isalpha() or token[0] in "_$("):
                called.add(word)
        before, word = word, token
    return called, defined, opaque


def refuse_modified(code: str) -> None:
    """Raises CircuitInvalid where a modifier stands before an alias, or a gate that is made of aliases."""
    meant = set(aliases(code))
    if not meant or "@" not in code:
        return
    body_of: dict[str, set[str]] = defaultdict(set)
    modified: list[tuple[str, int]] = []
    inside, depth = "", 0
    for statement in statements(code):
        if statement.end == "{" and depth == 0:
            head = _GATE.match(statement.text)
            inside = head.group(1) if head is not None else ""
        elif inside:
            body_of[inside].update(_NAME.findall(statement.text))
        modified += [(found.group(1), statement.at) for found in _MODIFIED.finditer(statement.text)]
        depth += {"{": 1, "}": -1}.get(statement.end, 0)
        inside = inside if depth > 0 else ""
    tainted = _made_of(meant, body_of)
    for name, at in modified:
        if name in tainted:
            line = line_of(code, at)
            raise CircuitInvalid(f"a service alias takes no modifier (line {line})", line=line)


def refuse_miscalled(code: str) -> None:
    """Raises CircuitInvalid where an alias has angles, or not the operands that it takes."""
    meant = set(aliases(code))
    for found in _CALL.finditer(code) if meant else ():
        word, text = found["word"], found["operands"]
        if found["defines"] or word not in meant:
            continue
        operands, takes = _operands(text), TABLE[DECLARED[word]].operands
        if text.startswith("("):
            fault = "takes no angles"
        elif len(operands) != takes:
            fault = f"takes {takes} qubit{'s' if takes > 1 else ''}, {len(operands)} are given"
        elif len(set(operands)) != takes:
            fault = f"takes {takes} different qubits"
        else:
            continue
        line = line_of(code, found.start("word"))
        raise CircuitInvalid(f"{word} {fault} (line {line})", line=line)


def _operands(text: str) -> list[str]:
    """Cut at each comma that stands in no bracket."""
    made, depth, start = [], 0, 0
    for found in _BRACKET.finditer(text):
        mark = found.group()
        depth += (mark in "[(") - (mark in "])")
        if mark == "," and depth == 0:
            made.append(text[start : found.start()])
            start = found.end()
    return ["".join(one.split()) for one in (*made, text[start:])]


def _made_of(meant: set[str], body_of: dict[str, set[str]]) -> set[str]:
    users: dict[str, set[str]] = defaultdict(set)
    for gate, names in body_of.items():
        for name in names:
            users[name].add(gate)
    reached, todo = set(meant), list(meant)
    while todo:
        for gate in users.get(todo.pop(), ()):
            if gate not in reached:
                reached.add(gate)
                todo.append(gate)
    return reached


def declared(source: str, names: tuple[str, ...]) -> str:
    """The source with empty gates of these names, behind the version and on its line: lines keep their numbers."""
    made = "".join(f" gate {name} {', '.join('ab'[: TABLE[DECLARED[name]].operands])} {{}}" for name in names)
    version = _VERSION.match(source)
    at = version.end() if version is not None else 0
    return f"{source[:at]}{made} {source[at:]}" if made else source


def bits_as_booleans(source: str) -> str:
    """``c[0] == 1`` as the reader of OpenQASM 3 wants it: ``c[0] == true``; a slice is compared with a number."""
    return _BIT.sub(lambda found: f"{found[1]}{found[2]} {'true' if found[3] == '1' else 'false'}", source)


def in_qpy(source: bytes) -> tuple[str, ...]:
    """Aliases among the gates without a definition of a QPY file, by its table of gates; nothing is deserialised."""
    return tuple(sorted({found[1].decode() for found in _IN_QPY.finditer(source)}))
