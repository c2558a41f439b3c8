# SPDX-License-Identifier: Apache-2.0
"""The words of a Rego file: texts, raw texts and comments are told from what is evaluated (G2).

Pure. A source enters; tokens leave, each with its line, and what no token can be made of as faults `(line, message)`.
Comments and spaces leave none. A template (`$"…{x}"`) is evaluated text: a token of its own kind, not looked into.
"""

from __future__ import annotations

import json
import re
from typing import Literal

from msgspec import Struct

Kind = Literal["name", "keyword", "text", "number", "mark", "template"]

KEYWORDS = frozenset(
    "as contains default else every false if import in not null package some true with".split()  # noqa: SIM905
)

_WORD = re.compile(
    r"""(?P<space>[ \t]+)|(?P<line>\n)|(?P<comment>\#[^\n]*)
    |(?P<template>\$(?:"(?:\\.|[^"\\\n])*"?|`[^`]*`?))
    |(?P<raw>`[^`]*`)|(?P<text>"(?:\\.|[^"\\\n])*")
    |(?P<number>[0-9](?:[eE][+-]|[\w.])*)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<mark>:=|==|!=|<=|>=|[-+*/%&|=<>()\[\]{}.,:;])""",
    re.VERBOSE,
)


class Token(Struct, frozen=True):
    """`text` is as written, or what a text says; `begin` to `end` is its place in the source; `first`: nothing stands
    before it in its line; `glued`: nothing stands between it and the token before.
    """

    kind: Kind
    text: str
    line: int
    first: bool
    glued: bool
    begin: int
    end: int


def tokens(source: str) -> tuple[list[Token], list[tuple[int, str]]]:
    """All tokens, and what is none; after an unreadable place the next line is read on."""
    found: list[Token] = []
    faults: list[tuple[int, str]] = []
    at, line, first, glued = 0, 1, True, False
    while at < len(source):
        word = _WORD.match(source, at)
        if word is None:
            faults.append((line, f"{_shown(source[at])} is no part of Rego here"))
            at = _next_line(source, at)
            continue
        kind, text = word.lastgroup, word.group()
        at = word.end()
        if kind in {"space", "comment", "line"}:
            first, glued = first or kind == "line", False
        else:
            read, fault = _read(text) if kind == "text" else (text[1:-1] if kind == "raw" else text, None)
            found.append(Token(_kind(str(kind), text), read, line, first, glued, word.start(), at))
            faults += [(line, fault)] if fault else []
            first, glued = False, True
        line += text.count("\n")
    return found, faults


def _kind(group: str, text: str) -> Kind:
    match group:
        case "raw" | "text":
            return "text"
        case "name" if text in KEYWORDS:
            return "keyword"
        case "number" | "template" | "name":
            return group
        case _:
            return "mark"


def _read(text: str) -> tuple[str, str | None]:
    try:
        read = str(json.loads(text))
        read.encode()
    except ValueError:  # a lone surrogate too
        return text[1:-1], f"the text {text[:60]} is no JSON text"
    return read, None


def _next_line(source: str, at: int) -> int:
    end = source.find("\n", at)
    return len(source) if end < 0 else end


def _shown(character: str) -> str:
    if character in {'"', "`"}:
        return "a text without an end"
    return repr(character) if character.isprintable() else f"the character U+{ord(character):04X}"
