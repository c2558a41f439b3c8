# SPDX-License-Identifier: Apache-2.0
"""A network's circuit computed by Qiskit alone, from what the table of services says and none of the product's code.

A circuit is a list of (name, qubits) with measurements at its end; each service is the ideal map, then the depolarising
channel of the average gate fidelity F on its channel's qubits as a mixture of Paulis, before a measurement instead of
behind it. What a result's fields should be follows from the density matrix by ``qiskit.quantum_info``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from qiskit.circuit import QuantumCircuit
from qiskit.quantum_info import DensityMatrix, Pauli

Step = tuple[str, tuple[int, ...]]
CHANNELS = {
    "bell_pair": (0, 1),
    "cnot": (0, 1),
    "cz": (0, 1),
    "teleport": (1,),
    "syndrome_extraction": (0,),
    "distillation": (0,),
}
"""By place among the operands."""


def source(qubits: int, steps: Sequence[Step], measured: Sequence[int]) -> str:
    """The circuit as somebody submits it: bit n is the n-th of `measured`."""
    lines = [f"{name} {', '.join(f'q[{qubit}]' for qubit in on)};" for name, on in steps]
    lines += [f"c[{bit}] = measure q[{qubit}];" for bit, qubit in enumerate(measured)]
    head = f'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[{qubits}] q;\nbit[{len(measured)}] c;\n'
    return head + "\n".join(lines) + "\n"


def state(qubits: int, steps: Sequence[Step], fidelity: float = 1.0, *, swap: bool = False) -> Any:
    """The density matrix before the measurements."""
    rho = DensityMatrix.from_label("0" * qubits)
    for name, on in steps:
        rho = rho.evolve(_ideal(name, swap=swap), on)
        places = (0, 1) if swap and name == "teleport" else CHANNELS.get(name, ())
        rho = depolarised(rho, tuple(on[place] for place in places), fidelity)
    return rho


def measured(rho: Any, on: Sequence[int], fidelity: float = 1.0) -> dict[str, float]:
    """The distribution of the bits, the last one left."""
    for qubit in on:
        rho = depolarised(rho, (qubit,), fidelity)
    found: Mapping[str, float] = rho.probabilities_dict(list(on))
    return {bits: float(share) for bits, share in found.items() if share > 1e-12}


def depolarised(rho: Any, on: tuple[int, ...], fidelity: float) -> Any:
    """With p = (1 - F) d / (d - 1) the maximally mixed state on these qubits: each Pauli alike."""
    if not on or fidelity == 1.0:
        return rho
    d = 2 ** len(on)
    p = (1 - fidelity) * d / (d - 1)
    mixed = sum((rho.evolve(Pauli("".join(one)), on).data for one in product("IXYZ", repeat=len(on))), 0 * rho.data)
    return DensityMatrix((1 - p) * rho.data + p / d**2 * mixed)


def _ideal(name: str, *, swap: bool) -> QuantumCircuit:
    made = QuantumCircuit(2 if name in ("bell_pair", "cnot", "cz", "teleport") else 1)
    match name:
        case "bell_pair":
            made.reset([0, 1])
            made.h(0)
            made.cx(0, 1)
        case "cnot":
            made.cx(0, 1)
        case "teleport":
            if not swap:
                made.reset(1)
            made.swap(0, 1)
        case "syndrome_extraction" | "distillation":
            made.id(0)
        case _:
            getattr(made, name)(*range(made.num_qubits))
    return made


def goodness(counts: Mapping[str, int], expected: Mapping[str, float], draws: int = 999, seed: int = 1) -> float:
    """The p-value of counts under a known distribution: the G statistic against that of `draws` multinomial samples.

    A Monte Carlo test holds its level for any number of outcomes; with a fixed seed it is a number and no chance.
    """
    if not counts.keys() <= expected.keys():
        return 0.0
    names = sorted(expected)
    shares = np.array([expected[name] for name in names])
    shares = shares / shares.sum()
    shots = sum(counts.values())
    seen = np.array([[counts.get(name, 0) for name in names]])
    drawn = np.random.default_rng(seed).multinomial(shots, shares, draws)
    ours, theirs = _g(seen, shots * shares)[0], _g(drawn, shots * shares)
    return float((1 + np.count_nonzero(theirs >= ours)) / (1 + draws))


def _g(seen: Any, expected: Any) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        return 2 * np.where(seen > 0, seen * np.log(seen / expected), 0.0).sum(axis=1)


def letters(letter: str, on: Sequence[int], qubits: int) -> str:
    """A Pauli string in Qiskit's order."""
    return "".join(letter if qubit in on else "I" for qubit in reversed(range(qubits)))


def observables(qubits: int) -> Iterator[str]:
    """Z of each qubit, ZZ and XX of each pair."""
    yield from (letters("Z", (qubit,), qubits) for qubit in range(qubits))
    for letter in "ZX":
        for a in range(qubits):
            yield from (letters(letter, (a, b), qubits) for b in range(a + 1, qubits))
