# SPDX-License-Identifier: Apache-2.0
"""What can be said of a state that is known exactly: probabilities, expectations, reduced states, entropies (N15).

Runs in a guarded child only. Enters a state as NumPy has it, a vector or a density matrix over n qubits whose index has
qubit 0 as its lowest bit (Qiskit's order); leaves plain numbers. Nothing is sampled here but `agreement`, which holds
measured counts against the exact distribution and says with which error.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from qiskit.circuit import QuantumCircuit

from hal_drivers.base import Exact, ExactRequest
from hal_drivers.basis import unmeasured
from hal_drivers.errors import ProgramUnsupported

INLINE_QUBITS = 10
FILE_QUBITS = 20
HALVED_QUBITS = 16
"""Beyond them the singular values of a half take seconds."""
NOISY_QUBITS = 8
"""Up to here a gate on a density matrix takes milliseconds."""
TOP = 16
TINY = 1e-12
"""A probability below this is rounding, and left out."""


Readout: TypeAlias = Mapping[int, Any]


class State:
    """One exact state; `pure` is whether it is a vector."""

    def __init__(self, data: Any, qubits: int) -> None:
        self.data, self.qubits, self.pure = data, qubits, data.ndim == 1
        diagonal = np.abs(data) ** 2 if self.pure else np.real(np.diagonal(data)).clip(0)
        self.probabilities: Any = diagonal / diagonal.sum()
        self._index: Any = np.arange(1 << qubits)

    def expectation(self, pauli: str) -> float:
        """Tr(P rho): P maps |k> to phase(k) |k xor x>, so the sum runs over rho[k, k xor x]."""
        x = int("".join("1" if letter in "XY" else "0" for letter in pauli), 2)
        z = int("".join("1" if letter in "ZY" else "0" for letter in pauli), 2)
        flipped = self._index ^ x
        elements = self.data * np.conj(self.data[flipped]) if self.pure else self.data[self._index, flipped]
        signs = 1 - 2 * (np.bitwise_count(self._index & z).astype(np.int64) & 1)
        phase = 1j ** pauli.count("Y")
        return float(np.real(phase * np.sum(signs * elements)))

    def reduced(self, qubit: int) -> Any:
        """The 2x2 density matrix of one qubit."""
        high, low = 1 << (self.qubits - 1 - qubit), 1 << qubit
        if self.pure:
            parts = self.data.reshape(high, 2, low)
            return np.einsum("hal,hbl->ab", parts, np.conj(parts))
        return np.einsum("halhbl->ab", self.data.reshape(high, 2, low, high, 2, low))

    def half_entropy(self) -> float | None:
        """Of the upper half of the qubits; None where there is no half, the state is mixed, or it takes too long."""
        if not 2 <= self.qubits <= HALVED_QUBITS or not self.pure:
            return None
        lower = self.qubits // 2
        values = np.linalg.svd(self.data.reshape(1 << (self.qubits - lower), 1 << lower), compute_uv=False) ** 2
        return entropy(values)

    def outcomes(
        self, bits: Mapping[int, int], width: int, readout: Mapping[int, Any] | None = None
    ) -> dict[str, float]:
        """The exact distribution over result strings; `bits` says which qubit a classical bit has.

        `readout` has for a qubit what a readout makes of it: a row a true value, a column a value read.
        """
        order = sorted(bits)
        place = np.zeros_like(self._index)
        for position, bit in enumerate(order):
            place |= ((self._index >> bits[bit]) & 1) << position
        sums = np.bincount(place, weights=self.probabilities, minlength=1 << len(order))
        for position, bit in enumerate(order):
            if readout and bits[bit] in readout:
                parts = sums.reshape(-1, 2, 1 << position)
                sums = np.einsum("hal,ab->hbl", parts, np.asarray(readout[bits[bit]])).reshape(-1)
        found: dict[str, float] = {}
        for value in np.flatnonzero(sums > TINY):
            written = ["0"] * width
            for position, bit in enumerate(order):
                written[width - 1 - bit] = "1" if value >> position & 1 else "0"
            found["".join(written)] = float(sums[value])
        return found


def entropy(eigenvalues: Any) -> float:
    """Von Neumann entropy in bits."""
    kept = eigenvalues[eigenvalues > TINY]
    return float(max(0.0, -np.sum(kept * np.log2(kept))))


def measured_bits(circuit: QuantumCircuit) -> dict[int, int]:
    """The qubit that each classical bit holds at the circuit's end."""
    return {
        circuit.find_bit(instruction.clbits[0]).index: circuit.find_bit(instruction.qubits[0]).index
        for instruction in circuit.data
        if instruction.name == "measure"
    }


def one_state(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit up to its measurements; raises ProgramUnsupported where it prepares no one state of few qubits."""
    if circuit.num_qubits > FILE_QUBITS:
        raise ProgramUnsupported(f"states are given to {FILE_QUBITS} qubits, the circuit has {circuit.num_qubits}")
    bare = unmeasured(circuit)
    if any(instruction.name == "reset" for instruction in bare.decompose("initialize").data):
        raise ProgramUnsupported("the circuit resets a qubit: there is no one state before its measurement")
    return bare


def describe(
    state: State,
    request: ExactRequest,
    bits: Mapping[int, int],
    width: int,
    readout: Readout | None = None,
) -> Exact:
    """The fields that were asked for; what can't be given stands in `refused` with its reason."""
    asked = set(request.fields)
    refused: dict[str, str] = {}
    n = state.qubits
    vector = "statevector" in asked and state.pure
    if "statevector" in asked and not state.pure:
        refused["statevector"] = "the state is mixed, and no vector"
    outcomes = state.outcomes(bits, width, readout) if asked & {"measured_probabilities", "fidelity"} and bits else {}
    if not bits and asked & {"measured_probabilities", "fidelity"}:
        refused |= dict.fromkeys(asked & {"measured_probabilities", "fidelity"}, "the circuit measures nothing")
    given = outcomes if "measured_probabilities" in asked else {}
    if len(given) > 1 << INLINE_QUBITS:
        refused["measured_probabilities"] = f"{len(given)} outcomes, more than {1 << INLINE_QUBITS}"
        given = {}
    small = n <= INLINE_QUBITS
    singles = [state.reduced(q) for q in range(n)] if asked & _SINGLE else []
    return Exact(
        label="exact_ideal" if state.pure else "exact_noisy",
        qubits=n,
        measured_qubits=tuple(bits[bit] for bit in sorted(bits)),
        amplitudes=_pairs(state.data) if vector and small else (),
        amplitudes_file=_npy(state.data) if vector and not small else b"",
        probabilities=_named(state.probabilities, n) if "probabilities" in asked and small else {},
        probabilities_file=_npy(state.probabilities) if "probabilities" in asked and not small else b"",
        outcomes=given,
        expectations=_expectations(state, request) if "observable_expectations" in asked else (),
        reduced=tuple(_pairs(one.reshape(4)) for one in singles) if "reduced_density_matrices" in asked else (),
        bloch=tuple(_bloch(one) for one in singles) if "bloch_vectors" in asked else (),
        entropies=tuple(entropy(np.linalg.eigvalsh(one)) for one in singles) if "entanglement_entropy" in asked else (),
        half_entropy=state.half_entropy() if "entanglement_entropy" in asked else None,
        agreement=agreement(request.counts, outcomes) if "fidelity" in asked and outcomes and request.counts else None,
        top=_top(state) if "top_basis_states" in asked else (),
        refused=refused,
    )


_SINGLE = {"reduced_density_matrices", "bloch_vectors", "entanglement_entropy"}


def agreement(counts: Mapping[str, int], outcomes: Mapping[str, float]) -> tuple[float, float]:
    """Classical fidelity (sum of sqrt(p q))^2 of measured frequencies with the exact ones, and its standard error.

    By the delta method the variance of the sum is (sum of q over what was measured - sum^2) / 4n. With few shots over
    many outcomes the estimate lies below what it estimates.
    """
    shots = sum(counts.values())
    overlap = math.fsum(math.sqrt(n / shots * outcomes.get(bits, 0.0)) for bits, n in counts.items())
    seen = math.fsum(outcomes.get(bits, 0.0) for bits in counts)
    variance = max(0.0, seen - overlap**2) / (4 * shots)
    return min(1.0, overlap**2), 2 * overlap * math.sqrt(variance)


def _expectations(state: State, request: ExactRequest) -> tuple[tuple[str, float], ...]:
    if request.observables:
        return tuple(
            (text, math.fsum(c * state.expectation(pauli) for c, pauli in terms)) for text, terms in request.observables
        )
    n = state.qubits
    singles = [_letters("Z", (q,), n) for q in range(n)]
    pairs = [(a, b) for a in range(n) for b in range(a + 1, n)]
    strings = [*singles, *(_letters(letter, pair, n) for letter in "ZX" for pair in pairs)]
    if not state.pure:
        return tuple((pauli, state.expectation(pauli)) for pauli in strings)
    # Every string of Z's at once is one transform of the probabilities; X's are Z's after a Hadamard on each qubit.
    along_z = _transformed(state.probabilities)
    along_x = _transformed(np.abs(_transformed(state.data)) ** 2 / (1 << n))
    found = {"Z": along_z, "X": along_x}
    return tuple((pauli, float(found[pauli.strip("I")[0]][_mask(pauli)])) for pauli in strings)


def _transformed(values: Any) -> Any:
    """The Walsh-Hadamard transform: at k the sum of all values, with the sign of their index's bits under k."""
    made = values.copy()
    span = 1
    while span < len(made):
        pairs = made.reshape(-1, 2, span)
        made = np.stack((pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]), axis=1).reshape(-1)
        span *= 2
    return made


def _mask(pauli: str) -> int:
    return int("".join("0" if letter == "I" else "1" for letter in pauli), 2)


def _letters(letter: str, qubits: tuple[int, ...], n: int) -> str:
    return "".join(letter if q in qubits else "I" for q in reversed(range(n)))


def _bloch(reduced: Any) -> tuple[float, float, float]:
    x, y = 2 * float(np.real(reduced[0, 1])), -2 * float(np.imag(reduced[0, 1]))
    return x, y, float(np.real(reduced[0, 0] - reduced[1, 1]))


def _top(state: State) -> tuple[tuple[str, float], ...]:
    ranked = np.argsort(-state.probabilities, kind="stable")[:TOP]
    named = ((f"{int(place):0{state.qubits}b}", float(state.probabilities[place])) for place in ranked)
    return tuple((bits, share) for bits, share in named if share > TINY)


def _named(probabilities: Any, n: int) -> dict[str, float]:
    return {f"{int(place):0{n}b}": float(probabilities[place]) for place in np.flatnonzero(probabilities > TINY)}


def _pairs(values: Any) -> tuple[tuple[float, float], ...]:
    return tuple((float(value.real), float(value.imag)) for value in values)


def _npy(values: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(values), allow_pickle=False)
    return file.getvalue()
