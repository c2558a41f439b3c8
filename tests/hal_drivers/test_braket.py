# SPDX-License-Identifier: Apache-2.0
"""Braket's local simulators run what the others run, in their own dialect (G14, issue 4 item 1)."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from hal_drivers.base import Driver
from hal_drivers.errors import BackendUnavailable, ProgramUnsupported
from tests.conformance.driver import check_driver
from tests.hal_drivers.one import BELL, HEAD, compiled, one, run, several

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(importlib.util.find_spec("braket") is None, reason="package amazon-braket-sdk is not installed"),
]
# Each gate of the dialect, so placed that a wrong one, a wrong angle or a swapped qubit moves the counts.
EVERY_GATE = (
    HEAD
    + "qubit[4] q;\nbit[4] c;\n"
    + "h q[0];\nsx q[1];\nry(0.7) q[2];\nrx(1.1) q[3];\ns q[0];\nt q[1];\nsdg q[2];\ntdg q[3];\nrz(0.4) q[0];\n"
    + "p(0.3) q[1];\nU(0.5, 0.2, 0.9) q[2];\nid q[3];\ny q[3];\nz q[0];\nx q[1];\n"
    + "cx q[0], q[1];\ncy q[1], q[2];\ncz q[2], q[3];\ncp(0.8) q[0], q[2];\ncrx(0.6) q[1], q[3];\nswap q[0], q[3];\n"
    + "ccx q[0], q[1], q[2];\ncswap q[3], q[0], q[1];\nch q[2], q[0];\nh q;\nc = measure q;\n"
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def driver() -> AsyncIterator[Driver]:
    async with several("aws-braket", {"one": {}, "braket_dm": {"device": "braket_dm"}}) as entered:
        yield entered


async def test_the_statevector_simulator_conforms() -> None:
    await check_driver(one("aws-braket"))


async def test_the_program_is_braket_s_own_openqasm(driver: Driver) -> None:
    artefact = await compiled(driver, HEAD + "qubit[2] q;\nbit[2] c;\nsdg q[0];\ncx q[0], q[1];\nc = measure q;\n")
    text = artefact.artefact.decode()
    assert artefact.format == "QASM3"
    assert artefact.qasm3 == text
    assert "include" not in text
    assert "si q[0];\ncnot q[0], q[1];" in text


async def test_every_gate_means_what_aer_means_by_it(driver: Driver) -> None:
    """The same distribution within the bound that holds with 1 − 10⁻⁶ for total variation at 16 outcomes."""
    async with one("aer") as aer:
        theirs = (await run(aer, EVERY_GATE, shots=20_000)).counts
    for backend, kind in (("one", "braket_sv"), ("braket_dm", "braket_dm")):
        assert json.loads((await driver.calibration(backend)).data)["simulator"] == kind
        ours = (await run(driver, EVERY_GATE, shots=20_000, backend=backend)).counts
        distance = sum(abs(ours.get(key, 0) - theirs.get(key, 0)) for key in ours | theirs) / 40_000
        assert distance < 0.035, (kind, distance)


async def test_a_seed_repeats_the_counts_in_another_process(driver: Driver) -> None:
    """The simulators take none; the generator that they draw from is seeded around the run."""
    async with one("aws-braket") as fresh:
        assert (await run(fresh, BELL, seed=5)).counts == (await run(driver, BELL, seed=5)).counts


async def test_bits_that_nothing_measures_stay_zero_and_keep_their_place(driver: Driver) -> None:
    source = HEAD + "qubit[3] q;\nbit[4] c;\nx q[2];\nc[3] = measure q[2];\nc[1] = measure q[0];\n"
    assert (await run(driver, source, shots=10)).counts == {"1000": 10}


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        ("c[0] = measure q[0];\nif (c[0] == true) { x q[1]; }\nc[1] = measure q[1];", "no control flow"),
        ("reset q[0];\nc = measure q;", "no reset"),
        ("c[0] = measure q[0];\nx q[0];\nc[1] = measure q[1];", "at the end only"),
        ("c[0] = measure q[0];\nc[1] = measure q[0];", "each qubit once"),
    ],
)
async def test_what_the_dialect_lacks_is_refused_with_the_reason(driver: Driver, statements: str, reason: str) -> None:
    with pytest.raises(ProgramUnsupported, match=re.escape(reason)):
        await compiled(driver, HEAD + "qubit[2] q;\nbit[2] c;\n" + statements + "\n")


async def test_a_device_that_is_not_local_is_offline_with_the_reason() -> None:
    async with one("aws-braket", device="braket_ahs") as driver:
        status = await driver.status("one")
        assert not status.online
        assert status.reason == "Braket has no local device braket_ahs; there are braket_sv, braket_dm"
        with pytest.raises(BackendUnavailable):
            await compiled(driver, BELL)


async def test_a_missing_package_takes_the_backend_offline_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hal_drivers.braket.missing", lambda *_: "package amazon-braket-sdk is not installed")
    async with one("aws-braket") as driver:
        assert (await driver.status("one")).reason == "package amazon-braket-sdk is not installed"
        assert (await driver.devices())[0].id == "one"
        with pytest.raises(BackendUnavailable, match="not installed"):
            await compiled(driver, BELL)


async def test_no_process_starts_before_there_is_work() -> None:
    """A plane that uses Aer alone pays nothing for the other engines."""
    async with one("aws-braket") as driver:
        assert driver.walls() == {}
        await compiled(driver, BELL)
        assert driver.walls()["rlimits"] == "holds"
