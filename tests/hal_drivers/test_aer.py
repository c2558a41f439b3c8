# SPDX-License-Identifier: Apache-2.0
"""The Aer driver keeps what it claims, bounds memory by method, and dies with its worker (G9, decisions 9 and
12)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio

from hal_drivers.base import CompileRequest, Driver, Failed, Finished, Format, Outcome, Task, Unknown
from hal_drivers.config import BackendConfig, DriversConfig
from hal_drivers.errors import BackendUnknown, CircuitInvalid, CircuitTooComplex, ProgramUnsupported
from hal_drivers.prescan import Limits
from hal_drivers.table import open_drivers, running
from tests.conformance.driver import check_driver

GOOD = Path(__file__).parent.parent / "vectors" / "circuits" / "good"
QASM3 = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'

pytestmark = [pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]


def make(**settings: object) -> Driver:
    config = DriversConfig(limits=Limits(qpy=True), require_walls=False)
    backend = BackendConfig(id="aer-test", **settings)  # type: ignore[arg-type]
    return open_drivers(DriversConfig(backends=(backend,), limits=config.limits))["aer-test"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def driver() -> AsyncIterator[Driver]:
    """One for all, as a worker has it: whatever a test does to its children, it goes on serving."""
    async with make() as entered:
        yield entered


async def run(driver: Driver, source: bytes, *, form: Format = "QASM3", shots: int = 1000, **values: float) -> Outcome:
    compiled = await driver.compile(
        CompileRequest(format=form, source=source, parameters=values, backend="aer-test", shots=shots)
    )
    handle = await driver.submit(compiled, Task(token=str(uuid4()), shots=shots, seed=11))
    assert isinstance(await driver.poll(handle, 120), Finished)
    return await driver.result(handle)


async def test_aer_conforms() -> None:
    await check_driver(make())


async def test_every_good_circuit_runs_in_every_format(driver: Driver) -> None:
    for path in sorted(GOOD.iterdir()):
        source = path.read_bytes()
        form: Format = path.suffix[1:].upper()  # type: ignore[assignment]
        values = {"theta": 0.5} if b"theta" in source else {}
        outcome = await run(driver, source, form=form, shots=100, **values)
        assert sum(outcome.counts.values()) == 100, path.name


async def test_the_same_bell_in_three_formats_gives_the_same_counts(driver: Driver) -> None:
    """Decision 12: the artefact, the seed and the method fix the counts, whatever the text was."""
    names: list[tuple[str, Format]] = [("bell.qasm2", "QASM2"), ("bell.qasm3", "QASM3"), ("bell.qpy", "QPY")]
    outcomes = [await run(driver, (GOOD / name).read_bytes(), form=form) for name, form in names]
    assert outcomes[0].counts == outcomes[1].counts == outcomes[2].counts


@pytest.mark.parametrize(
    ("basis", "outcomes"), [("ZZ", {"00", "11"}), ("XX", {"00", "11"}), ("YY", {"01", "10"}), ("IX", {"0", "1"})]
)
async def test_a_circuit_is_measured_in_a_basis(driver: Driver, basis: str, outcomes: set[str]) -> None:
    """Issue 4, item 8: its own measurements give way to those of the observable, letters in Qiskit's order."""
    source = (GOOD / "bell.qasm3").read_bytes()
    request = CompileRequest(format="QASM3", source=source, parameters={}, backend="aer-test", shots=100, basis=basis)
    handle = await driver.submit(await driver.compile(request), Task(token=basis, shots=100, seed=11))
    assert isinstance(await driver.poll(handle, 120), Finished)
    assert set((await driver.result(handle)).counts) == outcomes


async def test_a_basis_that_is_not_the_circuits_is_refused(driver: Driver) -> None:
    for source, basis, wanted in (
        ((GOOD / "bell.qasm3").read_bytes(), "Z", "1 letters for a circuit of 2 qubits"),
        ((QASM3 + "qubit q;\nbit c;\nc = measure q;\nh q;\n").encode(), "Z", "in its middle"),
    ):
        request = CompileRequest(format="QASM3", source=source, parameters={}, backend="aer-test", shots=1, basis=basis)
        with pytest.raises((CircuitInvalid, ProgramUnsupported), match=wanted):
            await driver.compile(request)


async def test_a_large_clifford_circuit_runs_by_stabilizer(driver: Driver) -> None:
    """A 2^n memory rule alone would refuse it."""
    outcome = await run(driver, (GOOD / "ghz-100.qasm3").read_bytes(), shots=50)
    assert outcome.method == "stabilizer"
    assert set(outcome.counts) <= {"0" * 100, "1" * 100}


async def test_qubits_beyond_the_memory_of_the_backend_are_refused() -> None:
    small = make(memory_bytes=64 << 20)
    source = (QASM3 + "qubit[24] q;\nbit[24] c;\n" + "".join(f"rx(0.1) q[{i}];\n" for i in range(24))).encode()
    async with small:
        device = (await small.devices())[0]
        assert device.qubits_by_method["statevector"] == 21
        with pytest.raises(CircuitTooComplex, match="64 MiB"):
            await run(small, source + b"c = measure q;\n")


async def test_parameters_are_bound_and_named_when_wrong(driver: Driver) -> None:
    source = (GOOD / "parametrised.qasm3").read_bytes()
    outcome = await run(driver, source, theta=3.141592653589793)
    assert outcome.counts == {"1": 1000}
    with pytest.raises(CircuitInvalid, match="no value for parameter theta"):
        await run(driver, source)
    with pytest.raises(CircuitInvalid, match="no parameter phi"):
        await run(driver, source, theta=1.0, phi=1.0)
    with pytest.raises(CircuitInvalid, match="finite"):
        await run(driver, source, theta=float("nan"))


async def test_a_circuit_that_measures_nothing_is_refused(driver: Driver) -> None:
    with pytest.raises(CircuitInvalid, match="no classical bits are measured"):
        await run(driver, (QASM3 + "qubit[1] q;\nbit[1] c;\nh q[0];\n").encode())


async def test_messages_quote_no_source(driver: Driver) -> None:
    """I10: an error may stand in logs and evidence, the circuit may not."""
    for source in (QASM3 + "qubit[1] q;\nsecretname q[0];\n", QASM3 + "secretname;\n", "secretname"):
        with pytest.raises(CircuitInvalid) as caught:
            await run(driver, source.encode())
        assert "secret" not in caught.value.detail


async def test_counts_and_artefact_carry_what_replay_needs(driver: Driver) -> None:
    """Decision 12: seed, method, precision, versions, and the artefact in two forms."""
    compiled = await driver.compile(
        CompileRequest(
            format="QASM3",
            source=(GOOD / "bell.qasm3").read_bytes(),
            parameters={},
            backend="aer-test",
            shots=9,
        )
    )
    assert compiled.format == "QPY"
    assert compiled.artefact.startswith(b"QISKIT")
    assert compiled.qasm3 is not None
    assert {"qiskit", "qiskit-aer", "python"} <= compiled.versions.keys()
    handle = await driver.submit(compiled, Task(token="replay", shots=9))
    await driver.poll(handle, 60)
    outcome = await driver.result(handle)
    assert outcome.seed is not None
    assert outcome.metadata["precision"] == "double"
    assert outcome.usage.source == "measured"
    again = await driver.submit(compiled, Task(token="again", shots=9, seed=outcome.seed))
    await driver.poll(again, 60)
    assert (await driver.result(again)).counts == outcome.counts


async def test_a_dead_child_fails_its_task_and_nothing_else(driver: Driver) -> None:
    compiled = await driver.compile(
        CompileRequest(
            format="QASM3",
            source=(GOOD / "ghz-100.qasm3").read_bytes(),
            parameters={},
            backend="aer-test",
            shots=1,
        )
    )
    handle = await driver.submit(compiled, Task(token="doomed", shots=1_000_000, seed=1))
    record = driver._records["doomed"]  # type: ignore[attr-defined]
    while record.child is None:  # noqa: ASYNC110 - the driver tells nobody when a child starts
        await asyncio.sleep(0)
    os.kill(record.child.pid, signal.SIGKILL)
    status = await driver.poll(handle, 60)
    assert isinstance(status, Failed)
    assert status.code == "backend_failed"
    assert (await run(driver, (GOOD / "bell.qasm3").read_bytes())).shots_executed == 1000


async def test_after_a_restart_find_proves_that_nothing_runs() -> None:
    """The capability record claims it, so recovery may run the job again."""
    async with make() as first:
        device = (await first.devices())[0]
        compiled = await first.compile(
            CompileRequest(
                format="QASM3",
                source=(GOOD / "bell.qasm3").read_bytes(),
                parameters={},
                backend="aer-test",
                shots=1,
            )
        )
        handle = await first.submit(compiled, Task(token="lost", shots=1))
    async with make() as second:
        assert device.capabilities.find_authoritative
        assert await second.find("lost") is None
        assert isinstance(await second.poll(handle), Unknown)


async def test_no_process_outlives_its_worker() -> None:
    """A worker killed with -9 leaves neither zygote nor child."""
    program = textwrap.dedent("""
        import asyncio, os
        from hal_drivers.pool import Pool
        async def main():
            async with Pool(1, require_walls=False) as pool:
                pids = [child.pid for child in pool._idle] + [pool._zygote._process.pid]
                print(*pids, flush=True)
                os.kill(os.getpid(), 9)
        asyncio.run(main())
    """)
    command = [sys.executable, "-c", program]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 4
    for _ in range(1000):
        if not any(_alive(pid) for pid in pids):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("a child outlived its worker")


def _alive(pid: int) -> bool:
    """A zombie is dead; whoever adopted it has not looked yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


async def test_two_backends_share_one_pool_and_unknown_providers_are_refused() -> None:
    drivers = open_drivers(DriversConfig(backends=(BackendConfig(id="a"), BackendConfig(id="b", region="lab"))))
    assert drivers["a"] is drivers["b"]
    async with running(drivers):
        assert {device.region for device in await drivers["a"].devices()} == {"local", "lab"}
    with pytest.raises(BackendUnknown):
        open_drivers(DriversConfig(backends=(BackendConfig(id="x", provider="nobody"),)))
