# SPDX-License-Identifier: Apache-2.0
"""Aer by each of its methods, ideal and with an administrator's noise (G14, issue 4 item 1, decision 12)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from hal_drivers.base import Driver
from hal_drivers.errors import BackendUnavailable, CircuitTooComplex, ProgramUnsupported
from hal_drivers.noise import read_noise
from tests.conformance.driver import (
    check_cancel_stops_the_work,
    check_control_flow_is_as_claimed,
    check_driver,
)
from tests.hal_drivers.one import BELL, HEAD, compiled, one, run, several

pytestmark = [pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]
NOISE = '{"depolarizing_1q": 0.002, "depolarizing_2q": 0.02, "readout_01": 0.01, "readout_10": 0.03}'
RELAXING = '{"t1_us": 50, "t2_us": 40, "gate_1q_ns": 5000, "gate_2q_ns": 5000}'
GHZ_30 = HEAD + "qubit[30] q;\nbit[30] c;\nh q[0];\n" + "".join(f"cx q[{i}], q[{i + 1}];\n" for i in range(29))
GHZ_30 += "t q[29];\nc = measure q;\n"
MIXED = (
    HEAD
    + "qubit[4] q;\nbit[4] c;\nh q;\nccx q[0], q[1], q[2];\ncp(0.7) q[2], q[3];\nrx(0.4) q;\ncswap q[0], q[1], q[3];\n"
    + "ry(1.1) q;\nc = measure q;\n"
)


WRONG = {
    '{"depolarizing_1q": 1.5}': "depolarizing_1q",
    '{"depolarising": 0.1}': "depolarising",
    '{"t1_us": 10}': "t1_us and t2_us come together",
    '{"t1_us": 10, "t2_us": 30}': "at most twice",
    "/nowhere/lab.json": "can't be read",
    "loud": "none of them",
}
BACKENDS: dict[str, dict[str, object]] = {
    "plain": {},
    "density_matrix": {"method": "density_matrix"},
    "matrix_product_state": {"method": "matrix_product_state"},
    "stabilizer": {"method": "stabilizer"},
    "small": {"method": "density_matrix", "memory_bytes": 64 << 20},
    "tensor_network": {"method": "tensor_network"},
    "noisy": {"noise": NOISE},
    "relaxing": {"noise": RELAXING},
    **{given: {"noise": given} for given in WRONG},
}


def distance(first: dict[str, int], second: dict[str, int]) -> float:
    return sum(abs(first.get(k, 0) - second.get(k, 0)) for k in first | second) / (2 * sum(first.values()))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def aer() -> AsyncIterator[Driver]:
    """One pool, and a backend for each way to simulate."""
    async with several("aer", BACKENDS) as entered:
        yield entered


async def test_the_density_matrix_conforms_to_what_it_claims_otherwise(aer: Driver) -> None:
    device = next(one for one in await aer.devices() if one.id == "density_matrix")
    await check_control_flow_is_as_claimed(aer, device)
    await check_cancel_stops_the_work(aer, device)


async def test_a_noisy_backend_conforms() -> None:
    await check_driver(one("aer", noise=NOISE))


@pytest.mark.parametrize("method", ["density_matrix", "matrix_product_state"])
async def test_methods_agree_on_what_they_simulate(aer: Driver, method: str) -> None:
    first = await run(aer, MIXED, shots=20_000, backend="plain")
    second = await run(aer, MIXED, shots=20_000, backend=method)
    assert (first.method, second.method) == ("statevector", method)
    assert distance(first.counts, second.counts) < 0.035


async def test_a_set_method_is_kept_or_refused_with_the_reason(aer: Driver) -> None:
    assert (await compiled(aer, BELL, backend="stabilizer")).facts.method == "stabilizer"
    with pytest.raises(ProgramUnsupported, match="Clifford gates only"):
        await compiled(aer, MIXED, backend="stabilizer")
    assert next(one for one in await aer.devices() if one.id == "small").qubits == 10
    midway = HEAD + "qubit[2] q;\nbit[2] c;\nh q[0];\nc[0] = measure q[0];\nh q[0];\nc[1] = measure q[0];\n"
    with pytest.raises(ProgramUnsupported, match="every shot anew; use statevector"):
        await compiled(aer, midway, backend="small")
    with pytest.raises(CircuitTooComplex, match="12 qubits by density_matrix need more than 64 MiB"):
        await compiled(aer, HEAD + "qubit[12] q;\nbit[12] c;\nh q;\nc = measure q;\n", backend="small")
    assert (await aer.status("tensor_network")).reason == (
        "Aer has no method tensor_network here; there are automatic, statevector, density_matrix, stabilizer, "
        "matrix_product_state"
    )
    with pytest.raises(BackendUnavailable):
        await compiled(aer, BELL, backend="tensor_network")


async def test_a_matrix_product_state_takes_what_no_statevector_could(aer: Driver) -> None:
    outcome = await run(aer, GHZ_30, shots=200, backend="matrix_product_state")
    facts = (await compiled(aer, GHZ_30, backend="matrix_product_state")).facts
    assert set(outcome.counts) == {"0" * 30, "1" * 30}
    assert facts.memory_bytes < 64 << 20


async def test_noise_shows_in_counts_calibration_and_outcome(aer: Driver) -> None:
    calibration = await aer.calibration("noisy")
    outcome = await run(aer, BELL, shots=20_000, backend="noisy")
    told = json.loads(calibration.data)
    assert told["noise"]["depolarizing_2q"] == 0.02
    assert told["noise_model"] == outcome.metadata["noise_model"] == read_noise(NOISE).hash  # type: ignore[union-attr]
    assert calibration.id == "sha256:" + hashlib.sha256(calibration.data).hexdigest()
    wrong = outcome.counts["01"] + outcome.counts["10"]
    # Depolarizing leaves 3/4·0.02·2/3 = 1 % of unlike pairs, readout about 1 + 3 %.
    assert 700 < wrong < 1300, wrong
    assert outcome.method == "density_matrix"


async def test_relaxation_pulls_a_one_to_zero(aer: Driver) -> None:
    """exp(−5 µs / 50 µs) of the ones are left after one gate."""
    source = HEAD + "qubit[1] q;\nbit[1] c;\nx q[0];\nc = measure q;\n"
    outcome = await run(aer, source, shots=20_000, backend="relaxing")
    assert 0.885 < outcome.counts["1"] / 20_000 < 0.925


async def test_trajectories_carry_what_the_density_matrix_can_t(aer: Driver) -> None:
    midway = HEAD + "qubit[2] q;\nbit[2] c;\nx q[0];\nc[0] = measure q[0];\nif (c[0] == true) { x q[1]; }\n"
    outcome = await run(aer, midway + "c[1] = measure q[1];\n", backend="noisy")
    assert outcome.method == "statevector"
    assert outcome.counts["11"] > 900
    wide = HEAD + "qubit[40] q;\nbit[40] c;\nh q[0];\n" + "".join(f"cx q[0], q[{i}];\n" for i in range(1, 40))
    assert (await run(aer, wide + "c = measure q;\n", shots=50, backend="noisy")).method == "stabilizer"


@pytest.mark.parametrize("given", WRONG)
async def test_noise_that_can_t_be_takes_the_backend_offline_with_the_reason(aer: Driver, given: str) -> None:
    """That backend alone: the others serve."""
    status = await aer.status(given)
    assert not status.online
    assert status.reason is not None
    assert WRONG[given] in status.reason
    assert (await aer.status("plain")).online
