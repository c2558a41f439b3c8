# SPDX-License-Identifier: Apache-2.0
"""Observables of an estimator: read, grouped into measurement bases, and estimated from counts (N15). Pure.

An observable is a real linear combination of Pauli strings, such as ``0.5*ZZ - 0.25*XI``, letters in Qiskit's order
(the last one is qubit 0). Strings that agree wherever both have a letter share a basis (qubit-wise commutation); the
grouping depends on the set of strings alone. What is measured in one basis is estimated from the same shots, so the
error of a sum takes their covariance into account; different bases are different runs and independent.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction

from msgspec import Struct

MAX_STRINGS = 2_000
"""Different Pauli strings of all observables of a program together."""
_NUMBER = r"(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][+-]?\d{1,3})?"
_TERM = re.compile(rf"\s*(?P<sign>[+-])?\s*(?:(?P<number>{_NUMBER})\s*\*\s*)?(?P<pauli>[IXYZ]+)")
LARGEST = 1e12


class ObservableInvalid(ValueError):
    """The text is no observable; the message says where and why."""


class Term(Struct, frozen=True):
    """A coefficient and its Pauli string."""

    coefficient: Fraction
    pauli: str


Observable = tuple[Term, ...]


class Estimate(Struct, frozen=True):
    """An expectation from counts, its standard error, and the shots of all bases that it rests on."""

    value: float
    standard_error: float
    shots: int


@functools.lru_cache(maxsize=4096)
def parse(text: str) -> Observable:
    """The terms, like strings added up, in the order they first appear; raises ObservableInvalid."""
    summed: dict[str, Fraction] = {}
    at = 0
    while at < len(text):
        found = _TERM.match(text, at)
        if found is None:
            raise ObservableInvalid(_fault(text, at, first=not summed))
        if summed and found["sign"] is None:
            raise ObservableInvalid(f"+ or - is needed at position {at + 1}")
        number = Fraction(found["number"] or 1)
        summed[found["pauli"]] = summed.get(found["pauli"], Fraction(0)) + (-number if found["sign"] == "-" else number)
        at = found.end() + len(text[found.end() :]) - len(text[found.end() :].lstrip())
    if not summed:
        raise ObservableInvalid("empty; an observable is such as ZZ or 0.5*ZZ - 0.25*XI")
    widths = {len(pauli) for pauli in summed}
    if len(widths) > 1:
        raise ObservableInvalid(f"its Pauli strings have {' and '.join(map(str, sorted(widths)))} letters")
    if any(abs(coefficient) > LARGEST for coefficient in summed.values()):
        raise ObservableInvalid(f"a coefficient is larger than {LARGEST:g}")
    return tuple(Term(coefficient, pauli) for pauli, coefficient in summed.items())


def _fault(text: str, at: int, *, first: bool) -> str:
    rest = text[at:].lstrip(" \t\n+-")
    where = f"at position {len(text) - len(rest) + 1}"
    word = re.match(r"[A-Za-z]+", rest)
    if word is not None and word[0].strip("IXYZ"):
        return f"a Pauli string has the letters I, X, Y and Z {where}"
    if re.match(rf"{_NUMBER}\s*[ij]", rest) or rest.startswith("("):
        return f"coefficients are real numbers {where}"
    if re.match(_NUMBER, rest):
        return f"a coefficient needs * and a Pauli string behind it {where}"
    return f"a Pauli string is needed {where}" if first or rest else "it ends in a sign"


@functools.lru_cache(maxsize=256)
def bases(observables: tuple[str, ...]) -> tuple[str, ...]:
    """The bases to measure in; a letter a qubit, I where none of their strings has one.

    First fit, the strings with most letters first and equals by the alphabet, so that neither the order of terms nor
    that of observables changes the grouping.
    """
    # The identity is 1 in every state, and needs no basis.
    ordered = sorted((pauli for pauli in strings(observables) if pauli.strip("I")), key=_by_letters)
    masks: list[tuple[int, int]] = []
    for pauli in ordered:
        x, z = _masks(pauli)
        mine = x | z
        for place, (has_x, has_z) in enumerate(masks):
            if not ((x ^ has_x) | (z ^ has_z)) & mine & (has_x | has_z):
                masks[place] = x | has_x, z | has_z
                break
        else:
            masks.append((x, z))
    width = len(ordered[0]) if ordered else 0
    return tuple(_text(x, z, width) for x, z in masks)


def strings(observables: Sequence[str]) -> set[str]:
    """The different Pauli strings of all observables."""
    return {term.pauli for text in observables for term in parse(text)}


def _by_letters(pauli: str) -> tuple[int, str]:
    return pauli.count("I"), pauli


def _masks(pauli: str) -> tuple[int, int]:
    """Where the string has an X part and where a Z part; Y has both."""
    x = "".join("1" if letter in "XY" else "0" for letter in pauli)
    z = "".join("1" if letter in "ZY" else "0" for letter in pauli)
    return int(x, 2), int(z, 2)


def _text(x: int, z: int, width: int) -> str:
    pairs = zip(f"{x:0{width}b}", f"{z:0{width}b}", strict=True)
    return "".join({"00": "I", "10": "X", "01": "Z", "11": "Y"}[a + b] for a, b in pairs)


def covers(basis: str, pauli: str) -> bool:
    """Whether what is measured in the basis tells the string's value."""
    return len(basis) == len(pauli) and all(p in ("I", b) for b, p in zip(basis, pauli, strict=True))


def grouped(observable: Observable, among: Sequence[str]) -> dict[str | None, Observable]:
    """Each term under the first basis that covers it; the identity under None."""
    groups: dict[str | None, list[Term]] = {}
    for term in observable:
        basis = next(basis for basis in among if covers(basis, term.pauli)) if term.pauli.strip("I") else None
        groups.setdefault(basis, []).append(term)
    return {basis: tuple(terms) for basis, terms in groups.items()}


def shots_for(observables: tuple[str, ...], precision: float) -> int:
    """Shots a basis that bring the standard error of each observable to `precision` or below, whatever the state.

    In one basis the estimated sum lies in [-A, A] with A the sum of its |coefficients|, so a shot's variance is at most
    A squared, and n shots in each basis have a variance of at most sum(A squared) / n.
    """
    among = bases(observables)
    worst = Fraction(0)
    for text in observables:
        groups = grouped(parse(text), among)
        bound = sum(
            (
                sum((abs(term.coefficient) for term in terms), Fraction(0)) ** 2
                for basis, terms in groups.items()
                if basis
            ),
            Fraction(0),
        )
        worst = max(worst, bound)
    return max(1, math.ceil(worst / Fraction(str(precision)) ** 2))


def estimate(observable: Observable, among: Sequence[str], counts: Mapping[str, Mapping[str, int]]) -> Estimate | None:
    """The expectation from the counts of each basis; None where a basis that it needs has none.

    The standard error is the sample's own; of a single shot, which has none, the bound of `shots_for`.
    """
    value, variance, shots = 0.0, 0.0, 0
    for basis, terms in grouped(observable, among).items():
        if basis is None:
            value += float(sum(term.coefficient for term in terms))
            continue
        measured = counts.get(basis)
        if not measured or not (n := sum(measured.values())):
            return None
        weights = [(_places(basis, term.pauli), float(term.coefficient)) for term in terms]
        found = [(sum(c * _sign(bits, places) for places, c in weights), count) for bits, count in measured.items()]
        mean = math.fsum(one * count for one, count in found) / n
        value += mean
        if n > 1:
            variance += math.fsum(count * (one - mean) ** 2 for one, count in found) / (n - 1) / n
        else:
            variance += sum(abs(c) for _, c in weights) ** 2
        shots += n
    return Estimate(value, math.sqrt(variance), shots)


def _places(basis: str, pauli: str) -> tuple[int, ...]:
    """Where the result string of this basis has the bits of the string's letters."""
    kept = [letter for measured, letter in zip(basis, pauli, strict=True) if measured != "I"]
    return tuple(place for place, letter in enumerate(kept) if letter != "I")


def _sign(bits: str, places: tuple[int, ...]) -> int:
    return -1 if sum(bits[place] == "1" for place in places) % 2 else 1
