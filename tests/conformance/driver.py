# SPDX-License-Identifier: Apache-2.0
"""Conformance of a driver: what it claims is tested, the rest must be refused (decision 8, G14).

``await check_driver(driver)`` runs every check on one driver, as a worker's serves job after job: what a check leaves
behind is nothing to the next. A driver passes when it returns; a failed claim is an AssertionError that names it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest
from msgspec import UNSET

from hal_drivers.base import (
    Analyst,
    Canceled,
    Compiled,
    CompileRequest,
    Device,
    Driver,
    ExactRequest,
    Finished,
    Handle,
    Stopped,
    StoppedAfter,
    Tally,
    Task,
    TooLate,
    Unknown,
)
from hal_drivers.errors import (
    BackendUnknown,
    CircuitInvalid,
    CircuitTooComplex,
    HandleUnknown,
    NotFinished,
    ProgramUnsupported,
)

HEAD = b'OPENQASM 3.0;\ninclude "stdgates.inc";\n'
BELL = HEAD + b"qubit[2] q;\nbit[2] c;\nh q[0];\ncx q[0], q[1];\nc = measure q;\n"
BELL2 = b'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\ncreg c[2];\nh q[0];\ncx q[0], q[1];\nmeasure q -> c;\n'
ONE = HEAD + b"qubit[2] q;\nbit[2] c;\nx q[0];\nc = measure q;\n"
# Every shot measures in its middle, so a million of them last far longer than any wait here.
LONG = (
    HEAD
    + b"qubit[12] q;\nbit[12] c;\n"
    + b"h q[0];\nrx(0.3) q[1];\nc[0] = measure q[0];\nreset q[0];\n" * 50
    + b"c = measure q;\n"
)
# One bit decides over another qubit; a device without control flow has nothing like it.
DECIDED = (
    HEAD
    + b"qubit[2] q;\nbit[2] c;\nx q[0];\nc[0] = measure q[0];\nif (c[0] == true) { x q[1]; }\nc[1] = measure q[1];\n"
)
# Its own x does nothing; the y that controls it flips the other.
OWN = (
    b"OPENQASM 3.0;\ngate x a { U(0, 0, 0) a; }\ngate y a { U(pi, 0, pi) a; }\n"
    b"qubit[2] q;\nbit[2] c;\nx q[0];\ny q[1];\nc = measure q;\n"
)
AGAIN = HEAD + b"qubit[1] q;\nbit[2] c;\nx q[0];\nc[0] = measure q[0];\nreset q[0];\nc[1] = measure q[0];\n"
WAIT_S = 60.0

Check = Callable[[Driver, Device], Awaitable[None]]


async def check_driver(driver: Driver) -> None:
    """Run every check; the driver is entered here."""
    assert await driver.devices(), "a driver reaches at least one device, and says so before it is entered"
    async with driver:
        device = (await driver.devices())[0]
        for check in CHECKS:
            await check(driver, device)


async def _compile(driver: Driver, device: Device, source: bytes, shots: int = 1000) -> Compiled:
    return await driver.compile(
        CompileRequest(format="QASM3", source=source, parameters={}, backend=device.id, shots=shots)
    )


async def _run(driver: Driver, device: Device, source: bytes, *, seed: int | None, shots: int = 1000) -> Handle:
    compiled = await _compile(driver, device, source, shots)
    return await driver.submit(compiled, Task(token=str(uuid4()), shots=shots, seed=seed, deadline_s=WAIT_S))


def _long(device: Device) -> bytes:
    """For devices that measure at the end only, a state so large that its gates take seconds."""
    if device.capabilities.mid_circuit:
        return LONG
    wide = min(device.qubits, 20)
    gates = b"rx(0.3) q;\ncx q[0], q[%d];\n" % (wide - 1) * 60
    return HEAD + b"qubit[%d] q;\nbit[%d] c;\n" % (wide, wide) + gates + b"c = measure q;\n"


async def check_queries_name_the_backend(driver: Driver, device: Device) -> None:
    status = await driver.status(device.id)
    assert status.online
    assert status.queue_depth >= 0
    first, second = await driver.calibration(device.id), await driver.calibration(device.id)
    assert first == second, "a calibration is a snapshot"
    assert first.valid_from.utcoffset() is not None, "times are aware"
    for query in (driver.status, driver.calibration):
        with pytest.raises(BackendUnknown):
            await query("no-such-backend")


async def check_compiling_is_deterministic(driver: Driver, device: Device) -> None:
    first, second = await _compile(driver, device, BELL), await _compile(driver, device, BELL)
    assert first.artefact == second.artefact
    assert first.qasm3 == second.qasm3
    assert (first.facts.qubits, first.facts.clbits, first.facts.measured_bits) == (2, 2, (0, 1))
    assert first.versions


async def check_gates_and_measurements_are_counted(driver: Driver, device: Device) -> None:
    """Before and after compiling, by how many qubits they act on; the same in each text format that is claimed (G6)."""
    before = Tally(one_qubit=1, two_qubit=1, measurements=2)
    for form, source in (("QASM3", BELL), ("QASM2", BELL2)):
        if form not in device.capabilities.formats:
            continue
        request = CompileRequest(form, source, {}, device.id, 100)
        facts = (await driver.compile(request)).facts
        assert facts.submitted == before, f"{form}: {facts}"
        assert isinstance(facts.runs, Tally), f"{form}: what runs isn't counted: {facts}"
        assert facts.runs.measurements == 2
        assert facts.runs.two_qubit >= 1
        assert facts.uncounted is UNSET


async def check_usage_says_who_reports_it(driver: Driver, device: Device) -> None:
    """A simulator has no seconds of a processor; what a child of ours consumed was measured in it (G6)."""
    handle = await _run(driver, device, BELL, seed=3)
    assert isinstance(await driver.poll(handle, 60.0), Finished)
    usage = (await driver.result(handle)).usage
    assert usage.wall_s > 0
    if device.simulator:
        assert usage.qpu_s is None
        if not device.capabilities.services:  # a network reserves its nodes, whatever they are
            assert usage.reserved_s is None
    for amount in (usage.cpu_s, usage.peak_memory_bytes):
        assert amount is None or amount > 0


async def check_counts_add_up_in_qiskits_order(driver: Driver, device: Device) -> None:
    handle = await _run(driver, device, ONE, seed=None)
    assert isinstance(await driver.poll(handle, WAIT_S), Finished)
    outcome = await driver.result(handle)
    assert sum(outcome.counts.values()) == outcome.shots_executed == 1000
    assert len(outcome.blocks) <= 64
    assert sum(block.shots for block in outcome.blocks) == 1000
    assert outcome.started_at <= outcome.ended_at
    if device.simulator and outcome.metadata.get("noise_model") == "none":
        assert outcome.counts == {"01": 1000}, "the last classical bit stands left"
    assert outcome.counts.get("01", 0) > 800, "the last classical bit stands left"
    if device.simulator:
        assert outcome.usage.qpu_s is None, "a simulator has no QPU seconds"


async def check_a_sources_own_gate_is_its_own(driver: Driver, device: Device) -> None:
    """Under a name that engines know: what counts is what the source says it does."""
    handle = await _run(driver, device, OWN, seed=None)
    assert isinstance(await driver.poll(handle, WAIT_S), Finished)
    counts = (await driver.result(handle)).counts
    assert counts.get("10", 0) > 800, f"x is the source's own and does nothing: {counts}"


async def check_a_seed_repeats_the_counts(driver: Driver, device: Device) -> None:
    if not device.capabilities.seed:
        return
    outcomes = []
    for seed in (7, 7, 8):
        handle = await _run(driver, device, BELL, seed=seed)
        await driver.poll(handle, WAIT_S)
        outcomes.append(await driver.result(handle))
    assert outcomes[0].counts == outcomes[1].counts
    assert [outcome.seed for outcome in outcomes] == [7, 7, 8]
    assert outcomes[0].counts != outcomes[2].counts


async def check_a_token_runs_once(driver: Driver, device: Device) -> None:
    if not device.capabilities.idempotent_submit:
        return
    compiled = await _compile(driver, device, BELL)
    task = Task(token=str(uuid4()), shots=100, seed=1)
    first, second = await driver.submit(compiled, task), await driver.submit(compiled, task)
    assert first == second == await driver.find(task.token)


async def check_find_knows_only_what_was_submitted(driver: Driver, device: Device) -> None:
    del device
    assert await driver.find(str(uuid4())) is None


async def check_cancel_stops_the_work(driver: Driver, device: Device) -> None:
    if device.capabilities.cancel != "running":
        return
    handle = await _run(driver, device, _long(device), seed=1, shots=device.max_shots)
    with pytest.raises(NotFinished):
        await driver.result(handle)
    canceled = await driver.cancel(handle)
    assert isinstance(canceled, Canceled | StoppedAfter)
    assert isinstance(await driver.poll(handle), Stopped), "when cancel returns, nothing runs"
    assert isinstance(await driver.cancel(handle), Canceled), "cancel is idempotent"
    after = await _run(driver, device, BELL, seed=1)
    assert isinstance(await driver.poll(after, WAIT_S), Finished), "the device goes on serving"
    assert isinstance(await driver.cancel(after), TooLate)


async def check_a_deadline_ends_the_task(driver: Driver, device: Device) -> None:
    if not device.simulator:
        return
    compiled = await _compile(driver, device, _long(device), device.max_shots)
    task = Task(token=str(uuid4()), shots=device.max_shots, seed=1, deadline_s=0.2)
    status = await driver.poll(await driver.submit(compiled, task), WAIT_S)
    assert getattr(status, "code", None) == "deadline_exceeded"


async def check_foreign_handles_are_unknown(driver: Driver, device: Device) -> None:
    handle = await _run(driver, device, BELL, seed=1)
    foreign_handles: tuple[Handle, ...] = ({}, {**handle, "token": "other"}, {"driver": "other", "token": "x"})
    for foreign in foreign_handles:
        assert isinstance(await driver.poll(foreign), Unknown)
        with pytest.raises(HandleUnknown):
            await driver.result(foreign)
    await driver.poll(handle, WAIT_S)
    await driver.forget(handle)
    await driver.forget(handle)
    assert isinstance(await driver.poll(handle), Unknown)


async def check_what_is_not_claimed_is_refused(driver: Driver, device: Device) -> None:
    with pytest.raises(BackendUnknown):
        await driver.compile(
            CompileRequest(format="QASM3", source=BELL, parameters={}, backend="no-such-backend", shots=1)
        )
    with pytest.raises((CircuitInvalid, CircuitTooComplex)):
        await _compile(driver, device, b"this is no circuit")
    with pytest.raises(ProgramUnsupported):
        await _compile(driver, device, BELL, device.max_shots + 1)
    if not device.capabilities.session:
        with pytest.raises(ProgramUnsupported):
            await driver.open_session(device.id)
        with pytest.raises(ProgramUnsupported):
            await driver.close_session("none")
    if "QPY" not in device.capabilities.formats:
        with pytest.raises(CircuitInvalid):
            await driver.compile(
                CompileRequest(format="QPY", source=b"QISKIT", parameters={}, backend=device.id, shots=1)
            )


async def check_control_flow_is_as_claimed(driver: Driver, device: Device) -> None:
    claims = device.capabilities
    for claimed, source, expected in ((claims.control_flow, DECIDED, "11"), (claims.mid_circuit, AGAIN, "01")):
        if not claimed:
            with pytest.raises(ProgramUnsupported):
                await _compile(driver, device, source)
            continue
        handle = await _run(driver, device, source, seed=3, shots=200)
        assert isinstance(await driver.poll(handle, WAIT_S), Finished)
        assert (await driver.result(handle)).counts.get(expected, 0) > 150


async def check_more_qubits_than_claimed_are_refused(driver: Driver, device: Device) -> None:
    wide = device.qubits + 1
    source = HEAD + b"qubit[%d] q;\nbit[1] c;\nh q;\nt q;\nc[0] = measure q[0];\n" % wide
    with pytest.raises((CircuitTooComplex, ProgramUnsupported)):
        await _compile(driver, device, source)


async def check_exact_states_are_as_claimed(driver: Driver, device: Device) -> None:
    request = ExactRequest(format="QASM3", source=BELL, parameters={}, backend=device.id, fields=("statevector",))
    if device.capabilities.exact:
        assert isinstance(driver, Analyst), "a device claims exact states, and its driver computes none"
        assert (await driver.analyse(request)).qubits == 2
    elif isinstance(driver, Analyst):
        with pytest.raises(ProgramUnsupported):
            await driver.analyse(request)


CHECKS: tuple[Check, ...] = (
    check_queries_name_the_backend,
    check_compiling_is_deterministic,
    check_gates_and_measurements_are_counted,
    check_usage_says_who_reports_it,
    check_counts_add_up_in_qiskits_order,
    check_a_sources_own_gate_is_its_own,
    check_a_seed_repeats_the_counts,
    check_a_token_runs_once,
    check_find_knows_only_what_was_submitted,
    check_cancel_stops_the_work,
    check_a_deadline_ends_the_task,
    check_foreign_handles_are_unknown,
    check_what_is_not_claimed_is_refused,
    check_control_flow_is_as_claimed,
    check_more_qubits_than_claimed_are_refused,
    check_exact_states_are_as_claimed,
)
