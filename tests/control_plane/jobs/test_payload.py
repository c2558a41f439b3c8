# SPDX-License-Identifier: Apache-2.0
"""N15: every exact field of a network job's result is what Qiskit computes of the same circuit by itself.

The circuits mix aliases, resets that make a state mixed, and both readings of `teleport`. Equality is numerical, to
10⁻⁹; a state is compared up to its global phase, counts by the test that is named where they are.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
from qiskit.quantum_info import Pauli, Statevector, entropy, hellinger_fidelity, partial_trace, state_fidelity

from control_plane.jobs import exact, meaning, reading
from hal_drivers.base import AliasModel, Analyst, DeviceStatus, Driver, Exact, ExactRequest, Outcome
from hal_drivers.engines.network import analyse_circuit
from hal_drivers.frames import ExactCall
from hal_drivers.limits import Limits
from ledger.canonical import dumps
from tests import own_qiskit
from tests.control_plane.jobs.desk import bell
from tests.own_qiskit import Step

pytestmark = pytest.mark.filterwarnings("ignore::qiskit.exceptions.ExperimentalWarning")  # of the native reader
MIXED = "the state is mixed, and no vector"
FIELDS = (
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
PURE: list[Step] = [
    ("bell_pair", (0, 1)),
    ("t", (1,)),
    ("h", (1,)),
    ("cnot", (1, 2)),
    ("s", (2,)),
    ("teleport", (2, 3)),
    ("cz", (3, 0)),
    ("h", (3,)),
    ("syndrome_extraction", (1,)),
]
TORN: list[Step] = [
    ("bell_pair", (0, 1)),
    ("h", (2,)),
    ("t", (2,)),
    ("cnot", (2, 1)),
    ("teleport", (1, 0)),
    ("s", (2,)),
]
"""Half of the pair is discarded: what is left of it is mixed, unless the two are swapped."""
EXAMPLE: list[Step] = [
    ("bell_pair", (0, 1)),
    ("cnot", (0, 1)),
    ("cz", (0, 1)),
    ("teleport", (0, 1)),
    ("syndrome_extraction", (0,)),
    ("distillation", (1,)),
]
CASES = {
    "pure": (4, PURE, (3, 0, 2), "discard"),
    "torn": (3, TORN, (0, 1, 2), "discard"),
    "swapped": (3, TORN, (0, 2), "swap"),
    "example": (2, EXAMPLE, (0,), "discard"),
}


class InLine:
    """The network's analysis, called without its child."""

    async def devices(self) -> tuple[Any, ...]:
        claims = type("Claims", (), {"exact": True})
        return (type("Device", (), {"id": "p2p", "capabilities": claims}),)

    async def status(self, backend: str) -> DeviceStatus:
        del backend
        return DeviceStatus(online=True, queue_depth=0)

    async def analyse(self, request: ExactRequest) -> Exact:
        return analyse_circuit(ExactCall(request, Limits()))


async def computed(
    qubits: int, steps: Sequence[Step], measured: Sequence[int], model: str, counts: dict[str, int]
) -> dict[str, Any]:
    """The `quantum_result` of a job with these counts."""
    source = base64.b64encode(own_qiskit.source(qubits, steps, measured).encode()).decode()
    spec = reading.parse(
        dumps(bell(circuit__source=source, circuit__alias_model=model, execution__analysis=list(FIELDS)))
    )
    driver = InLine()
    assert isinstance(driver, Analyst)
    outcome = cast("Outcome", type("Counted", (), {"counts": counts}))
    made = await exact.compute({"p2p": cast("Driver", driver)}, "p2p", spec, outcome)
    raw = {"counts": counts, "shots": sum(counts.values())}
    found: dict[str, Any] = meaning.payload("j", raw, None, {"version": 1} | made.members)["quantum_result"]
    return found


@pytest.mark.parametrize("case", CASES)
async def test_every_field_is_what_qiskit_computes(case: str) -> None:
    qubits, steps, on, model = CASES[case]
    rho = own_qiskit.state(qubits, steps, swap=model == "swap")
    bits = own_qiskit.measured(rho, on)
    counts = {name: round(share * 4096) for name, share in bits.items() if round(share * 4096)}
    shots = sum(counts.values())
    found = await computed(qubits, steps, on, cast("AliasModel", model), counts)

    assert found["measured_qubits"] == tuple(on)
    if float(np.real(rho.purity())) > 1 - 1e-9:
        vector = Statevector(np.array([complex(*one) for one in found["statevector"]["amplitudes"]]))
        assert state_fidelity(vector, rho) == pytest.approx(1, abs=1e-9)
        assert "refused" not in found
    else:
        assert "statevector" not in found
        assert [(one["field"], one["reason"]) for one in found["refused"]] == [("statevector", MIXED)]
    assert found["probabilities"]["values"] == pytest.approx(_above(rho.probabilities_dict()))
    assert found["measured_probabilities_exact"]["values"] == pytest.approx(bits)

    values = {one["observable"]: one["value"] for one in found["observable_expectations"]}
    assert list(values) == list(own_qiskit.observables(qubits))
    for text, value in values.items():
        assert value == pytest.approx(float(np.real(rho.expectation_value(Pauli(text)))), abs=1e-9), text

    singles = [partial_trace(rho, [q for q in range(qubits) if q != qubit]) for qubit in range(qubits)]
    matrices = [
        [complex(*one) for row in matrix for one in row] for matrix in found["reduced_density_matrices"]["matrices"]
    ]
    assert np.allclose(matrices, [one.data.reshape(4) for one in singles], atol=1e-9)
    vectors = [[float(np.real(one.expectation_value(Pauli(axis)))) for axis in "XYZ"] for one in singles]
    assert np.allclose(found["bloch_vectors"]["vectors"], vectors, atol=1e-9)
    of_each = found["entanglement_entropy"]["of_each_qubit"]
    assert np.allclose(of_each, [entropy(one, base=2) for one in singles], atol=1e-9)
    half = found["entanglement_entropy"]["of_the_upper_half"]
    if half is not None:
        assert half == pytest.approx(float(entropy(partial_trace(rho, range(qubits // 2)), base=2)), abs=1e-9)

    top = {one["state"]: one["probability"] for one in found["top_basis_states_exact"]["states"]}
    assert top == pytest.approx(_above(rho.probabilities_dict()))
    shares = list(top.values())
    assert shares == sorted(shares, reverse=True)

    assert found["counts"] == counts
    assert found["measured_probabilities"] == {name: n / shots for name, n in counts.items()}
    assert found["standard_errors"]["measured_probabilities"] == {
        name: pytest.approx(math.sqrt(n / shots * (1 - n / shots) / shots)) for name, n in counts.items()
    }
    assert found["fidelity"]["value"] == pytest.approx(hellinger_fidelity(counts, bits), abs=1e-9)
    computed_here = ("probabilities", "reduced_density_matrices", "bloch_vectors", "entanglement_entropy")
    assert {found[name]["label"] for name in computed_here} == {"exact_ideal"}
    assert (found["fidelity"]["label"], found["fidelity"]["reference"]) == ("sampled", "exact_ideal")


def _above(shares: dict[str, float]) -> dict[str, float]:
    return {name: float(share) for name, share in shares.items() if share > 1e-12}
