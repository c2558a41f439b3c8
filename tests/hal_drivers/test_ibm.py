# SPDX-License-Identifier: Apache-2.0
"""IBM's fake backends: real targets, recorded layouts, the snapshot's noise and its date (G14, issue 4 item 1)."""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.util
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from hal_drivers.base import Analyst, Driver, ExactRequest
from hal_drivers.errors import BackendUnavailable, ProgramUnsupported
from tests.conformance.driver import check_driver
from tests.hal_drivers.one import BELL, HEAD, compiled, one, run, several
from tests.hal_drivers.test_aer_methods import RELAXING

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(
        importlib.util.find_spec("qiskit_ibm_runtime") is None, reason="package qiskit-ibm-runtime is not installed"
    ),
]
GHZ = HEAD + "qubit[5] q;\nbit[5] c;\nh q[0];\n" + "".join(f"cx q[0], q[{i}];\n" for i in range(1, 5))
GHZ += "c = measure q;\n"
BACKENDS: dict[str, dict[str, object]] = {
    "hanoi": {},
    "ideal": {"noise": "none"},
    "sampled": {"method": "statevector"},
    "manila": {"device": "fake_manila"},
    "fez": {"device": "fake_fez"},
    "nowhere": {"device": "fake_../../etc"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ibm() -> AsyncIterator[Driver]:
    """One pool, and a backend for each device and way to simulate it."""
    async with several("ibm-quantum", BACKENDS) as entered:
        yield entered


async def test_a_fake_backend_conforms() -> None:
    await check_driver(one("ibm-quantum"))


async def test_the_circuit_is_placed_on_the_device_and_the_layouts_are_recorded(ibm: Driver) -> None:
    """A star of four targets doesn't fit Hanoi's couplings: it is routed, and grows."""
    facts = (await compiled(ibm, GHZ, backend="hanoi")).facts
    assert (facts.qubits, facts.clbits) == (5, 5)
    assert facts.layout is not None
    assert facts.final_layout is not None
    assert len(set(facts.layout)) == len(set(facts.final_layout)) == 5
    assert all(0 <= qubit < 27 for qubit in (*facts.layout, *facts.final_layout))
    assert set(facts.operations) <= {"rz", "sx", "x", "cx", "measure", "barrier"}
    assert facts.operations["cx"] > 4
    assert facts.depth > 6
    assert facts.duration_s is not None
    assert 1e-6 < facts.duration_s < 1e-4


async def test_a_routed_circuit_has_one_hash(ibm: Driver) -> None:
    """QPY would write the layout's registers in any order."""
    assert len({(await compiled(ibm, GHZ, backend="hanoi")).artefact for _ in range(8)}) == 1


async def test_the_calibration_is_the_snapshot_s_own_with_its_date(ibm: Driver) -> None:
    found = await ibm.calibration("manila")
    device = next(one for one in await ibm.devices() if one.id == "manila")
    assert device.qubits == 5
    assert found.valid_from == dt.datetime(2024, 5, 27, 18, 27, 23, tzinfo=dt.UTC)
    assert json.loads(found.data)["backend_name"] == "ibmq_manila"
    assert found.id == "sha256:" + hashlib.sha256(found.data).hexdigest()


async def test_noise_is_the_device_s_own_or_none(ibm: Driver) -> None:
    real = await run(ibm, GHZ, shots=4000, backend="hanoi")
    perfect = await run(ibm, GHZ, shots=4000, backend="ideal")
    assert set(perfect.counts) == {"00000", "11111"}
    wrong = 4000 - real.counts["00000"] - real.counts["11111"]
    assert 40 < wrong < 1600, wrong
    assert (real.metadata["noise_model"], perfect.metadata["noise_model"]) == ("the device's own", "none")
    assert real.method == "density_matrix"


async def test_a_large_device_costs_what_its_used_qubits_cost(ibm: Driver) -> None:
    """156 qubits of noise would take seconds a run and gigabytes by a 2^n rule."""
    outcome = await run(ibm, BELL, backend="fez")
    assert outcome.usage.cpu_s is not None
    assert outcome.usage.cpu_s < 2
    assert outcome.counts["00"] + outcome.counts["11"] > 900


async def test_a_trajectory_and_the_density_matrix_agree(ibm: Driver) -> None:
    first = await run(ibm, GHZ, shots=8000, backend="sampled")
    second = await run(ibm, GHZ, shots=8000, backend="hanoi")
    assert (first.method, second.method) == ("statevector", "density_matrix")
    distance = sum(abs(first.counts.get(k, 0) - second.counts.get(k, 0)) for k in first.counts | second.counts) / 16_000
    assert distance < 0.06, distance


async def test_a_wide_circuit_and_an_unknown_device_are_refused_with_the_reason(ibm: Driver) -> None:
    with pytest.raises(ProgramUnsupported, match="the circuit has 6 qubits, fake_manila 5"):
        await compiled(ibm, HEAD + "qubit[6] q;\nbit[1] c;\nh q[0];\nc[0] = measure q[0];\n", backend="manila")
    status = await ibm.status("nowhere")
    assert not status.online
    assert status.reason == "qiskit-ibm-runtime has no fake backend fake_../../etc"
    with pytest.raises(BackendUnavailable):
        await ibm.calibration("nowhere")


@pytest.mark.parametrize(("provider", "settings"), [("ibm-quantum", {}), ("aer", {"noise": RELAXING})])
async def test_the_exact_state_counts_the_noise_and_agrees_with_what_is_measured(
    provider: str, settings: dict[str, str]
) -> None:
    """N15: exact_noisy, readout included; the amplitudes alone are the ideal ones, for a vector has no noise."""
    fields = ("statevector", "measured_probabilities", "observable_expectations", "fidelity")
    async with one(provider, **settings) as driver:
        assert isinstance(driver, Analyst)
        outcome = await run(driver, BELL, shots=8000)
        request = ExactRequest("QASM3", BELL.encode(), {}, "one", fields, counts=outcome.counts)
        found = await driver.analyse(request)
    assert found.label == "exact_noisy"
    assert [abs(complex(*one)) for one in found.amplitudes] == pytest.approx([0.5**0.5, 0, 0, 0.5**0.5])
    assert 0.8 < dict(found.expectations)["ZZ"] < 1
    assert found.agreement is not None
    assert found.agreement[0] > 0.999
    for bits, share in found.outcomes.items():
        error = (share * (1 - share) / 8000) ** 0.5
        assert abs(outcome.counts.get(bits, 0) / 8000 - share) < 5 * error
