# SPDX-License-Identifier: Apache-2.0
"""An OpenQASM text cut into statements, and the few questions that a pre-scan asks of a piece of text. Pure.

Cut is at each ``;``, ``{`` and ``}`` that isn't inside the braces of a set or an array. Every function is linear in the
text it is given: patterns are chains of possessive, disjoint character classes, and start at a place or at a word's
beginning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_CHUNK = re.compile(r"[^;{}]*+[;{}]")
_SPACE = re.compile(r"\s*+")
_BRACKET = re.compile(r"[()\[\]{}]")
_PARENTHESIS = re.compile(r"[()]")


class Statement(NamedTuple):
    """A piece of the source with the mark that ends it, and its place."""

    text: str
    end: str
    at: int


def statements(text: str) -> Iterator[Statement]:
    """Each statement, block head (``end`` is ``{``) and block end (``}``, with what stood before it)."""
    pending: list[str] = []
    start = depth = last = 0
    for found in _CHUNK.finditer(text):
        chunk, last = found.group(), found.end()
        end = chunk[-1]
        if not pending:
            start = found.start()
        if end == "{" and (depth or _opens_literal(chunk)):
            depth += 1
            pending.append(chunk)
        elif end == "}" and depth:
            depth -= 1
            pending.append(chunk)
        elif pending:
            pending.append(chunk)
            yield Statement("".join(pending), end, start)
            pending, depth = [], 0
        else:
            yield Statement(chunk, end, start)
    rest = "".join(pending) + text[last:]
    if rest.strip():
        yield Statement(rest + ";", ";", start if pending else last)


def _opens_literal(head: str) -> bool:
    """Whether this brace begins a set or an array: those stand behind ``in``, ``=``, a comma or a bracket."""
    before = head[:-1].rstrip()
    if before[-1:] in ("=", ",", "(", "["):
        return True
    return before.endswith("in") and not (before[-3:-2].isalnum() or before[-3:-2] == "_")


def skip_space(text: str, at: int) -> int:
    """Where the next character stands that is no white space."""
    found = _SPACE.match(text, at)
    return found.end() if found is not None else at


def line_of(text: str, at: int) -> int:
    """The line, from 1, of the first word at or behind a place."""
    return text.count("\n", 0, skip_space(text, at)) + 1


def closing(text: str, at: int) -> int:
    """The place behind the bracket that closes the one at ``at``; the text's end where none does."""
    depth = 0
    for found in _BRACKET.finditer(text, at):
        depth += 1 if found.group() in "([{" else -1
        if depth == 0:
            return found.end()
    return len(text)


def after_parentheses(text: str, at: int) -> int:
    """The place behind a parenthesis that may stand at ``at``."""
    at = skip_space(text, at)
    if text[at : at + 1] != "(":
        return at
    depth = 0
    for found in _PARENTHESIS.finditer(text, at):
        depth += 1 if found.group() == "(" else -1
        if depth == 0:
            return found.end()
    return len(text)


def split(text: str, mark: str) -> list[str]:
    """The parts between marks that stand in no bracket."""
    if _BRACKET.search(text) is None:
        return text.split(mark)
    parts: list[str] = []
    start = depth = 0
    for found in re.finditer(r"[()\[\]{}" + re.escape(mark) + "]", text):
        sign = found.group()
        if sign == mark:
            if depth == 0:
                parts.append(text[start : found.start()])
                start = found.end()
        else:
            depth += 1 if sign in "([{" else -1
    return [*parts, text[start:]]


def last_word(text: str) -> str:
    """The word that ends a text, behind blanks or a bracket."""
    words = text.replace("]", " ").split()
    return words[-1] if words else ""
