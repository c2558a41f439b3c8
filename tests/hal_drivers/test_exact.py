# SPDX-License-Identifier: Apache-2.0
"""Exact analysis against linear algebra done another way (N15)."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal_drivers.base import Exact, ExactRequest
from hal_drivers.exact import State, agreement, describe, entropy

ALL = (
    "statevector",
    "probabilities",
    "measured_probabilities",
    "observable_expectations",
    "reduced_density_matrices",
    "bloch_vectors",
    "entanglement_entropy",
    "fidelity",
    "top_basis_states",
)
PAULI: dict[str, Any] = {
    "I": np.eye(2),
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1, -1]),
}


def operator(pauli: str) -> Any:
    """In Qiskit's order: the first letter is the highest qubit."""
    made = np.eye(1)
    for letter in pauli:
        made = np.kron(made, PAULI[letter])
    return made


@st.composite
def vectors(draw: st.DrawFn, qubits: int = 3) -> Any:
    """Any pure state."""
    size = 2 * 2**qubits
    flat = np.array(draw(st.lists(st.floats(-1, 1), min_size=size, max_size=size).filter(lambda v: np.dot(v, v) > 0.1)))
    state = flat[: size // 2] + 1j * flat[size // 2 :]
    return state / np.linalg.norm(state)


def told(state: State, counts: dict[str, int] | None = None, fields: tuple[str, ...] = ALL) -> Exact:
    request = ExactRequest("QASM3", b"", {}, "b", fields, counts=counts or {})
    return describe(state, request, {n: n for n in range(state.qubits)}, state.qubits)


@given(vectors())
def test_expectations_are_those_of_matrices(vector: Any) -> None:
    """By the transform, one by one, and of the density matrix alike."""
    pure, mixed = State(vector, 3), State(np.outer(vector, np.conj(vector)), 3)
    found = dict(told(pure).expectations)
    assert found == pytest.approx(dict(told(mixed).expectations), abs=1e-9)
    assert len(found) == 3 + 3 + 3
    for pauli in [*found, "XYZ", "YIY", "III"]:
        wanted = float(np.real(np.conj(vector) @ operator(pauli) @ vector))
        assert pure.expectation(pauli) == pytest.approx(wanted, abs=1e-9)
        assert mixed.expectation(pauli) == pytest.approx(wanted, abs=1e-9)
        assert found.get(pauli, wanted) == pytest.approx(wanted, abs=1e-9)


@given(vectors())
def test_reduced_states_are_partial_traces(vector: Any) -> None:
    rho = np.outer(vector, np.conj(vector))
    pure, mixed = told(State(vector, 3)), told(State(rho, 3))
    for qubit in range(3):
        letters = [PAULI[letter] for letter in "XYZ"]
        wanted = [
            float(np.real(np.trace(rho @ np.kron(np.kron(*_around(qubit, m)), np.eye(2**qubit))))) for m in letters
        ]
        assert pure.bloch[qubit] == pytest.approx(wanted, abs=1e-9)
        assert mixed.bloch[qubit] == pytest.approx(wanted, abs=1e-9)
        length = min(1.0, math.sqrt(sum(part**2 for part in wanted)))
        eigenvalues = np.array([(1 + length) / 2, (1 - length) / 2])
        assert pure.entropies[qubit] == pytest.approx(entropy(eigenvalues), abs=1e-6)
    assert pure.half_entropy is not None
    assert mixed.half_entropy is None
    assert (pure.label, mixed.label, mixed.amplitudes) == ("exact_ideal", "exact_noisy", ())


def _around(qubit: int, matrix: Any) -> tuple[Any, Any]:
    return np.eye(2 ** (2 - qubit)), matrix


@given(vectors(), st.permutations(range(3)), st.integers(1, 3))
def test_outcomes_follow_the_classical_bits(vector: Any, qubits: list[int], many: int) -> None:
    """Bit b holds the qubit that was measured into it; bits that nothing writes stay 0."""
    bits = {2 * place: qubits[place] for place in range(many)}
    found = State(vector, 3).outcomes(bits, 6)
    assert math.fsum(found.values()) == pytest.approx(1, abs=1e-9)
    for bit, qubit in bits.items():
        ones = math.fsum(share for text, share in found.items() if text[5 - bit] == "1")
        wanted = sum(abs(vector[place]) ** 2 for place in range(8) if place >> qubit & 1)
        assert ones == pytest.approx(wanted, abs=1e-9)
    assert all(text[5 - bit] == "0" for text in found for bit in range(6) if bit not in bits)


def test_agreement_is_one_where_counts_are_the_distribution_and_nothing_where_they_share_nothing() -> None:
    exact = {"00": 0.5, "11": 0.5}
    assert agreement({"00": 500, "11": 500}, exact) == (1.0, 0.0)
    assert agreement({"01": 10}, exact)[0] == 0.0
    value, error = agreement({"00": 493, "11": 480, "01": 27}, exact)
    assert 0.9 < value < 1.0
    # The delta method, against resampling.
    rng = np.random.default_rng(1)
    draws = rng.multinomial(1000, [0.493, 0.48, 0.027], size=4000) / 1000
    spread = ((np.sqrt(draws[:, 0] * 0.5) + np.sqrt(draws[:, 1] * 0.5)) ** 2).std()
    assert error == pytest.approx(spread, rel=0.1)


def test_beyond_ten_qubits_arrays_are_files_and_pairs_are_still_right() -> None:
    vector = np.zeros(1 << 11, dtype=complex)
    vector[0] = vector[-1] = math.sqrt(0.5)
    found = told(State(vector, 11), {"0" * 11: 1})
    assert (found.amplitudes, found.probabilities) == ((), {})
    assert found.amplitudes_file.startswith(b"\x93NUMPY")
    assert found.probabilities_file.startswith(b"\x93NUMPY")
    pairs = [value for pauli, value in found.expectations if pauli.count("Z") == 2]
    assert len(pairs) == len(list(combinations(range(11), 2)))
    assert pairs == pytest.approx([1.0] * len(pairs))
    assert found.half_entropy == pytest.approx(1)
    assert found.outcomes == {"0" * 11: pytest.approx(0.5), "1" * 11: pytest.approx(0.5)}
