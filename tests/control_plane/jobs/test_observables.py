# SPDX-License-Identifier: Apache-2.0
"""Observables: read, grouped, and estimated from counts, held against linear algebra (N15)."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.jobs.observables import (
    ObservableInvalid,
    Term,
    bases,
    covers,
    estimate,
    grouped,
    parse,
    shots_for,
)

PAULI: dict[str, Any] = {
    "I": np.eye(2),
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1, -1]),
}
# Rotates the eigenvectors of a letter onto |0> and |1>.
ONTO_Z: dict[str, Any] = {
    "I": np.eye(2),
    "Z": np.eye(2),
    "X": np.array([[1, 1], [1, -1]]) / math.sqrt(2),
    "Y": np.array([[1, -1j], [1, 1j]]) / math.sqrt(2),
}
coefficients = st.integers(-400, 400).map(lambda n: Fraction(n, 100))


@st.composite
def sums(draw: st.DrawFn, width: int = 3) -> str:
    """An observable's text."""
    terms = draw(
        st.lists(st.tuples(coefficients, st.text("IXYZ", min_size=width, max_size=width)), min_size=1, max_size=5)
    )
    return " ".join(f"{'-' if c < 0 else '+'} {float(abs(c))}*{pauli}" for c, pauli in terms)


def kron(pauli: str, matrices: dict[str, Any]) -> Any:
    """The operator of a string: in Qiskit's order the first letter is the highest qubit, as in a bit string."""
    return reduce(np.kron, (matrices[letter] for letter in pauli))


def value(state: Any, text: str) -> float:
    """<state|O|state>."""
    operator = sum(float(term.coefficient) * kron(term.pauli, PAULI) for term in parse(text))
    return float(np.real(np.conj(state) @ operator @ state))


def counts(state: Any, basis: str, shots: int) -> dict[str, int]:
    """What measuring in the basis gives, rounded to whole shots: letters I aren't in the bit string."""
    probabilities = np.abs(kron(basis, ONTO_Z) @ state) ** 2
    found: dict[str, int] = {}
    for place, probability in enumerate(probabilities):
        bits = "".join(bit for bit, letter in zip(f"{place:0{len(basis)}b}", basis, strict=True) if letter != "I")
        found[bits] = found.get(bits, 0) + round(float(probability) * shots)
    return {bits: n for bits, n in found.items() if n}


@st.composite
def states(draw: st.DrawFn, width: int = 3) -> Any:
    """Any pure state."""
    parts = st.lists(st.floats(-1, 1), min_size=2 * 2**width, max_size=2 * 2**width)
    flat = np.array(draw(parts.filter(lambda many: sum(x * x for x in many) > 0.1)))
    state = flat[: 2**width] + 1j * flat[2**width :]
    return state / np.linalg.norm(state)


@given(states(), st.lists(sums(), min_size=1, max_size=3))
def test_expectations_from_many_shots_are_those_of_linear_algebra(state: Any, texts: list[str]) -> None:
    among = bases(tuple(texts))
    measured = {basis: counts(state, basis, 10**9) for basis in among}
    for text in texts:
        found = estimate(parse(text), among, measured)
        assert found is not None
        assert found.value == pytest.approx(value(state, text), abs=1e-6)
        used = [basis for basis in grouped(parse(text), among) if basis is not None]
        assert found.shots == sum(sum(measured[basis].values()) for basis in used)
        # The variance of independent bases, of one basis' sum exactly.
        variance = 0.0
        for basis, terms in grouped(parse(text), among).items():
            if basis is None:
                continue
            part = " ".join(f"{float(term.coefficient):+.2f}*{term.pauli}" for term in terms)
            operator = sum(float(term.coefficient) * kron(term.pauli, PAULI) for term in parse(part))
            square = float(np.real(np.conj(state) @ operator @ operator @ state))
            variance += (square - value(state, part) ** 2) / sum(measured[basis].values())
        assert found.standard_error == pytest.approx(math.sqrt(max(0.0, variance)), abs=1e-6)


@given(st.lists(sums(), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_every_string_lies_in_one_basis_and_the_order_of_observables_is_nothing(texts: list[str], random: Any) -> None:
    among = bases(tuple(texts))
    for text in texts:
        groups = grouped(parse(text), among)
        assert sorted(term.pauli for terms in groups.values() for term in terms) == sorted(t.pauli for t in parse(text))
        assert all(covers(basis, term.pauli) for basis, terms in groups.items() if basis for term in terms)
    shuffled = random.sample(texts, len(texts))
    assert bases(tuple(shuffled)) == among
    for one, other in itertools.combinations(among, 2):
        assert any("I" not in pair and pair[0] != pair[1] for pair in zip(one, other, strict=True))


@given(states(), st.lists(sums(), min_size=1, max_size=3), st.sampled_from([0.05, 0.1, 0.5]))
def test_the_shots_for_a_precision_are_enough_for_any_state(state: Any, texts: list[str], wanted: float) -> None:
    """Σ over bases of Var / n, with the exact variance of the state, is at most the precision squared."""
    among, shots = bases(tuple(texts)), shots_for(tuple(texts), wanted)
    for text in texts:
        variance = 0.0
        for basis, terms in grouped(parse(text), among).items():
            if basis is not None:
                operator = sum(float(term.coefficient) * kron(term.pauli, PAULI) for term in terms)
                mean = float(np.real(np.conj(state) @ operator @ state))
                variance += float(np.real(np.conj(state) @ operator @ operator @ state)) - mean**2
        assert variance / shots <= wanted**2 * (1 + 1e-9)


def test_the_bound_is_met_by_the_worst_state_and_no_shot_is_wasted() -> None:
    assert shots_for(("ZZ",), 0.01) == 10_000
    assert shots_for(("0.5*ZZ - 0.25*ZI", "XX"), 0.01) == 10_000
    assert shots_for(("0.5*ZZ + 0.5*XX",), 0.01) == 5_000


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("ZZ", {"ZZ": "1"}),
        (" -ZZ ", {"ZZ": "-1"}),
        ("0.5*ZZ - 0.25*XI", {"ZZ": "0.5", "XI": "-0.25"}),
        ("+1e-3 * XY", {"XY": "0.001"}),
        (".5*ZZ+.5*ZZ", {"ZZ": "1"}),
        ("ZZ-ZZ", {"ZZ": "0"}),
    ],
)
def test_what_an_observable_may_look_like(text: str, terms: dict[str, str]) -> None:
    assert parse(text) == tuple(Term(Fraction(c), pauli) for pauli, c in terms.items())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("  ", "empty|needed"),
        ("zz", "letters I, X, Y and Z at position 1"),
        ("ZQ", "letters I, X, Y and Z|needed"),
        ("0.5 ZZ", r"needs \*"),
        ("0.5*", "needed|needs"),
        ("ZZ XX", r"\+ or - is needed at position 4"),
        ("ZZ + ", "ends in a sign"),
        ("1j*ZZ", "real numbers"),
        ("(1+2j)*ZZ", "real numbers"),
        ("ZZ + 0.5*X", "1 and 2 letters"),
        ("1e300*ZZ", "larger than"),
        ("nan*ZZ", "letters I, X, Y and Z"),
        ("Z0 Z1", r"needs \*"),
    ],
)
def test_what_is_no_observable_is_told_why(text: str, said: str) -> None:
    with pytest.raises(ObservableInvalid, match=said):
        parse(text)


def test_a_basis_without_counts_gives_no_value() -> None:
    among = bases(("ZZ", "XX"))
    assert estimate(parse("ZZ + XX"), among, {"ZZ": {"00": 5}}) is None
    assert estimate(parse("2*II"), among, {}) is not None


def test_a_single_shot_has_the_bound_for_its_error() -> None:
    found = estimate(parse("0.5*ZZ - 0.25*ZI"), ("ZZ",), {"ZZ": {"01": 1}})
    assert found is not None
    assert (found.value, found.standard_error) == (-0.75, 0.75)
