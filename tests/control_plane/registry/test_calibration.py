# SPDX-License-Identifier: Apache-2.0
"""Median errors out of calibrations of known layouts; what isn't understood gives none, and never breaks (G14, N13)."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.registry.calibration import IDEAL, Errors, errors

IBM = {
    "gates": [
        {"qubits": [0], "gate": "rz", "parameters": [{"name": "gate_error", "value": 0}]},
        {"qubits": [0], "gate": "sx", "parameters": [{"name": "gate_error", "value": 0.001}]},
        {"qubits": [0, 1], "gate": "cx", "parameters": [{"name": "gate_error", "value": 0.01}]},
        {"qubits": [1, 2], "gate": "cx", "parameters": [{"name": "gate_error", "value": 1}]},
    ],
    "qubits": [[{"name": "T1", "value": 100.0}, {"name": "readout_error", "value": 0.02}]] * 3,
}
BRAKET = {
    "standardized": {
        "oneQubitProperties": {
            "0": {
                "oneQubitFidelity": [
                    {"fidelityType": {"name": "RANDOMIZED_BENCHMARKING"}, "fidelity": 0.999},
                    {"fidelityType": {"name": "READOUT"}, "fidelity": 0.97},
                ]
            }
        },
        "twoQubitProperties": {"0-1": {"twoQubitGateFidelity": [{"gateName": "CZ", "fidelity": 0.99}]}},
    }
}


def read(document: Any) -> Errors | None:
    return errors(json.dumps(document).encode())


def test_an_ideal_simulator_errs_never() -> None:
    assert read({"simulator": "qiskit-aer", "noise_model": "none"}) == IDEAL
    assert IDEAL.survival == 1


def test_medians_of_each_layout() -> None:
    """A gate that is out of order, or virtual, speaks for no other."""
    assert read(IBM) == Errors(0.001, 0.01, 0.02)
    assert read({"errors": {"one_qubit": 0.1, "readout": 0.2}}) == Errors(0.1, None, 0.2)
    noise = {"depolarizing_1q": 0.001, "depolarizing_2q": 0.01, "readout_01": 0.02, "readout_10": 0.04, "t1_us": None}
    assert read({"noise_model": "sha256:0", "noise": noise}) == Errors(0.001, 0.01, 0.03)
    found = read(BRAKET)
    assert found is not None
    assert (found.one_qubit, found.two_qubit, found.readout) == pytest.approx((0.001, 0.01, 0.03))


def test_a_real_devices_properties_are_understood() -> None:
    spec = find_spec("qiskit_ibm_runtime")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "fake_provider" / "backends" / "manila"
    found = errors((folder / "props_manila.json").read_bytes())
    assert found is not None
    assert found.survival is not None
    assert 0.9 < found.survival < 1


nonsense = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "gates",
                    "qubits",
                    "parameters",
                    "name",
                    "value",
                    "errors",
                    "standardized",
                    "one_qubit",
                    "oneQubitFidelity",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(nonsense | st.binary(max_size=40))
def test_whatever_a_backend_says_gives_probabilities_or_nothing(said: Any) -> None:
    """The bytes are a stranger's."""
    found = errors(said if isinstance(said, bytes) else json.dumps(said).encode())
    assert found is None or (found.survival is not None and 0 <= found.survival <= 1)
