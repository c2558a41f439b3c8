# SPDX-License-Identifier: Apache-2.0
"""Constant expressions of OpenQASM, folded to the interval that their value lies in. Pure.

Text and the known names enter; (lowest, highest) leaves, or None where the value can't be told: a name set while the
program runs, a function, text that is no such expression. A loop variable is an interval, all else a point. Integers
are exact and bounded in bits, so that no expression costs more than its length; TooManyBits tells of one beyond.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator
from typing import TypeAlias

Number: TypeAlias = int | float
Interval: TypeAlias = tuple[Number, Number]
Names: TypeAlias = Callable[[str], Interval | None]

MAX_BITS = 4_096
MAX_CHARACTERS = 2_000
MAX_TOKENS = 100

_TOKEN = re.compile(
    r"\s*+(?:(?P<based>0[xXbBoO][0-9a-fA-F_]++)"
    r"|(?P<number>(?:[0-9][0-9_]*+(?:\.[0-9_]*+)?|\.[0-9][0-9_]*+)(?:[eE][+-]?[0-9]++)?)"
    r"|(?P<name>[^\W\d]\w*+)|(?P<mark>\*\*|<<|>>|[-+*/%()&|^~])|(?P<odd>\S))"
)
_BINDS = {"|": 1, "^": 2, "&": 3, "<<": 4, ">>": 4, "+": 5, "-": 5, "*": 6, "/": 6, "%": 6, "**": 8}
_UNARY = 7
_KNOWN = {"pi": math.pi, "π": math.pi, "tau": math.tau, "τ": math.tau, "euler": math.e, "ε": math.e}


class TooManyBits(Exception):
    """An integer that no program needs."""


class _Unknown(Exception):
    """The value can't be told."""


def fold(text: str, names: Names) -> Interval | None:
    """The interval of an expression's value; raises TooManyBits."""
    if len(text) > MAX_CHARACTERS:
        digits = text.strip().replace("_", "")
        if digits.isalnum() and digits[0].isdigit():
            raise TooManyBits
        return None
    tokens = [(found.lastgroup or "", found[found.lastgroup or 0]) for found in _TOKEN.finditer(text)]
    if not tokens or len(tokens) > MAX_TOKENS:
        return None
    try:
        reading = _Reading(iter([*tokens, ("end", "")]), names)
        value = reading.expression(0)
    except (_Unknown, ArithmeticError, ValueError):
        return None
    return value if reading.kind == "end" else None


class _Reading:
    """Precedence climbing over a bounded list of tokens."""

    def __init__(self, tokens: Iterator[tuple[str, str]], names: Names) -> None:
        self._tokens, self._names = tokens, names
        self.kind, self.text = next(tokens)

    def _next(self) -> None:
        self.kind, self.text = next(self._tokens)

    def expression(self, least: int) -> Interval:
        value = self._operand()
        while self.kind == "mark" and (binds := _BINDS.get(self.text, -1)) > 0 and binds >= least:
            sign = self.text
            self._next()
            # The power alone groups to the right.
            value = _bounded(_combine(sign, value, self.expression(binds if sign == "**" else binds + 1)))
        return value

    def _operand(self) -> Interval:
        kind, text = self.kind, self.text
        if kind == "end":
            raise _Unknown
        self._next()
        if kind == "mark" and text in ("+", "-", "~"):
            value = self.expression(_UNARY)
            return value if text == "+" else _negative(value) if text == "-" else _inverted(value)
        if kind == "mark" and text == "(":
            value = self.expression(0)
            if (self.kind, self.text) != ("mark", ")"):
                raise _Unknown
            self._next()
            return value
        return self._atom(kind, text)

    def _atom(self, kind: str, text: str) -> Interval:
        if kind == "based":
            return _point(int(text.replace("_", ""), 0))
        if kind == "number":
            plain = text.replace("_", "")
            return _point(int(plain) if plain.isdigit() else float(plain))
        if kind != "name" or (self.kind, self.text) == ("mark", "("):
            raise _Unknown
        known = self._names(text) or (_point(_KNOWN[text]) if text in _KNOWN else None)
        if known is None:
            raise _Unknown
        return known


def _point(value: Number) -> Interval:
    return _bounded((value, value))


def _negative(value: Interval) -> Interval:
    return -value[1], -value[0]


def _inverted(value: Interval) -> Interval:
    if value[0] != value[1] or not isinstance(value[0], int):
        raise _Unknown
    return _point(~value[0])


def _bounded(value: Interval) -> Interval:
    for end in value:
        if isinstance(end, float):
            if not math.isfinite(end):
                raise _Unknown
        elif end.bit_length() > MAX_BITS:
            raise TooManyBits
    return value


def _combine(sign: str, left: Interval, right: Interval) -> Interval:
    match sign:
        case "+":
            return left[0] + right[0], left[1] + right[1]
        case "-":
            return left[0] - right[1], left[1] - right[0]
        case "*":
            products = [a * b for a in left for b in right]
            return min(products), max(products)
    if left[0] != left[1] or right[0] != right[1]:
        raise _Unknown
    value = _point_wise(sign, left[0], right[0])
    return value, value


def _point_wise(sign: str, left: Number, right: Number) -> Number:
    if not isinstance(left, int) or not isinstance(right, int):
        if sign == "**":
            power = float(left) ** float(right)
            return power if isinstance(power, float) else math.nan
        if sign == "/":
            return left / right
        raise _Unknown
    if sign == "/":
        whole = abs(left) // abs(right)
        return whole if (left < 0) == (right < 0) else -whole
    if sign in ("**", "<<", ">>"):
        return _grown(sign, left, right)
    return _PLAIN[sign](left, right)


_PLAIN: dict[str, Callable[[int, int], int]] = {
    "%": operator.mod,
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
}


def _grown(sign: str, left: int, right: int) -> Number:
    if right < 0:
        raise _Unknown
    if sign == ">>":
        return left >> min(right, MAX_BITS)
    bits = right if sign == "<<" else right * max(1, abs(left).bit_length() - 1)
    if bits > MAX_BITS and (left != 0 if sign == "<<" else abs(left) > 1):
        raise TooManyBits
    return left << min(right, MAX_BITS) if sign == "<<" else int(left ** min(right, MAX_BITS))
