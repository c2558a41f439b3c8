# SPDX-License-Identifier: Apache-2.0
"""Programs: several circuits, parameter sets and bases under one decision, one hold, one bundle (G1, I3, N9)."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from control_plane.errors import Refused
from control_plane.jobs import meaning, several
from control_plane.jobs.giveback import give_back
from hal_drivers.base import Failed
from ledger.canonical import dumps
from ledger.errors import EvidenceInvalid
from ledger.recompute import shots
from tests.control_plane.jobs.desk import Desk, bell, person, report
from tests.control_plane.jobs.ends import NOTHING, evidence_of, finish, soon
from tests.fakes import Broken, FakeDriver

SIX: dict[str, Any] = {"kind": "sampler", "parameters": [{"theta": 0.1}, {"theta": 0.2}, {"theta": 0.3}]}
H2: dict[str, Any] = {"kind": "estimator", "observables": ["-1.05*II + 0.4*ZI - 0.4*IZ", "0.18*XX", "ZZ"]}


def program(circuits: int = 1, *, shots: int | None = 100, **changes: Any) -> dict[str, Any]:
    """A spec whose program has so many circuits."""
    document = bell(execution__shots=shots)
    document["program"] = {"kind": "sampler", "circuits": [document.pop("circuit")] * circuits} | changes
    if shots is None:
        del document["execution"]["shots"]
    return document


async def admitted(desk: Desk, document: dict[str, Any]) -> str:
    """The program's job, queued and sealed."""
    admission = await desk.submit(document)
    assert admission.state == "QUEUED", admission.problem
    await desk.seal()
    return admission.job_id


async def result_of(desk: Desk, job_id: str) -> dict[str, Any]:
    """The result payload."""
    row = await desk.row(job_id)
    async with desk.plane.transaction("demo") as conn:
        names = [name for name in ("result", "execution", "analysis") if name in row["artefacts"]]
        opened = [await desk.plane.vault.read(conn, "demo", row["artefacts"][name]) for name in names]
    found = {name: msgspec.json.decode(one.content) for name, one in zip(names, opened, strict=True)}
    return meaning.payload(job_id, found["result"], found["execution"], found.get("analysis"))


async def test_what_only_a_network_could_run_is_refused_as_a_program_and_not_as_a_circuit(
    desk: Desk, driver: FakeDriver
) -> None:
    """A network's evidence is of one plan: a policy denial for want of qubits would say the wrong thing."""
    driver.capabilities = msgspec.structs.replace(driver.capabilities, programs=False)
    await report(desk, driver)
    desk.plane.known.forget()
    with pytest.raises(Refused, match="fake takes one circuit a job") as refused:
        await desk.submit(program(2))
    assert (refused.value.code, refused.value.errors[0]["field"]) == ("program_unsupported", "program")
    assert (await desk.submit(program(1))).state == "QUEUED"


async def test_a_program_is_one_hold_many_tasks_and_one_bundle(desk: Desk, driver: FakeDriver) -> None:
    """G1: two circuits under three parameter sets are six tasks; the price is that of all, the charge of what ran."""
    document = program(2, **SIX)
    document["execution"]["seed"] = 2**31 - 3
    job_id = await admitted(desk, document)
    single = (await desk.submit(bell(execution__shots=600), dry_run=True)).amount
    held, _ = await desk.money()
    assert held > Decimal(single or 0)  # a fee a task
    await (await desk.attempt(driver)).advance()
    assert await finish(desk, job_id) == "COMPLETED"
    token = (await desk.row(job_id))["token"]
    assert list(driver.tasks) == [f"{token}.{n}" for n in range(6)]
    assert [task.seed for task in driver.tasks.values()] == [2**31 - 3, 2**31 - 2, 2**31 - 1, 0, 1, 2]
    row = await desk.row(job_id)
    assert await desk.money() == (Decimal(0), row["cost_amount"])
    bundle = await evidence_of(desk, job_id)
    assert (bundle.execution_metadata.shots_executed, bundle.submission.shots, bundle.partial) == (600, 100, None)
    assert bundle.cost is not None
    assert {line.meter: line.quantity for line in bundle.cost.lines}["tasks"] == "6"
    found = await result_of(desk, job_id)
    assert [(one["circuit"], one["parameters"]) for one in found["quantum_result"]["items"]] == [
        (circuit, values) for circuit in (0, 1) for values in (0, 1, 2)
    ]
    assert all(one["status"] == "completed" and one["shots"] == 100 for one in found["fragment_results"])
    assert desk.kinds().count("job:dispatch:intended") == 1


async def test_an_estimator_measures_each_basis_once(desk: Desk, driver: FakeDriver) -> None:
    """Issue 4, item 8: qubit-wise groups; values with their standard errors, apart from the measured integers."""
    job_id = await admitted(desk, program(**H2))
    await (await desk.attempt(driver)).advance()
    assert await finish(desk, job_id) == "COMPLETED"
    bundle = await evidence_of(desk, job_id)
    measured = json.loads(bundle.contents["result"])
    assert [one["basis"] for one in measured["items"]] == ["XX", "ZZ"]
    found = (await result_of(desk, job_id))["quantum_result"]
    values = {one["observable"]: one for one in found["observable_expectations"]}
    # Half zeros, half ones: ZI and IZ are the same there, and cancel; XX and ZZ are 1 in every shot.
    assert values["ZZ"] == {
        "circuit": 0,
        "parameters": None,
        "observable": "ZZ",
        "value": 1.0,
        "standard_error": 0.0,
        "shots": 100,
        "label": "sampled",
    }
    assert values["0.18*XX"]["value"] == pytest.approx(0.18)
    assert values[H2["observables"][0]]["value"] == pytest.approx(-1.05)
    assert "standard_error" not in bundle.contents["result"].decode()


async def test_a_precision_buys_the_shots_that_it_needs_and_says_so(desk: Desk, driver: FakeDriver) -> None:
    job_id = await admitted(desk, program(shots=None, precision=0.05))
    assert (await desk.row(job_id))["executions"] == 100
    await (await desk.attempt(driver)).advance()
    assert await finish(desk, job_id) == "COMPLETED"
    await evidence_of(desk, job_id)
    bought = (await result_of(desk, job_id))["quantum_result"]["precision"]
    assert (bought["asked"], bought["shots"], bought["shots_needed"], bought["capped"]) == (0.05, 100, 100, False)


async def test_no_more_tasks_run_at_once_than_the_device_takes(desk: Desk, driver: FakeDriver) -> None:
    driver.capabilities = msgspec.structs.replace(driver.capabilities, tasks_at_once=2)
    await admitted(desk, program(5))
    driver.gate.clear()
    running = asyncio.create_task((await desk.attempt(driver)).advance())
    await soon(lambda: driver.submissions == 2)
    await asyncio.sleep(0.05)
    assert driver.submissions == 2
    driver.gate.set()
    await running
    assert driver.submissions == 5


async def test_an_item_that_fails_leaves_the_others_partial_and_is_not_charged(desk: Desk, driver: FakeDriver) -> None:
    """I3: COMPLETED with the reason; a task's fee and shots of what finished, no more."""
    job_id = await admitted(desk, program(4))
    run = await desk.attempt(driver)
    driver.gate.clear()
    running = asyncio.create_task(run.advance())
    await soon(lambda: driver.submissions == 1)
    (first,) = driver.tasks
    driver.failed[first[:-1] + "1"] = Failed("backend_failed", "it broke")
    driver.gate.set()
    await running
    assert await finish(desk, job_id) == "COMPLETED"
    row = await desk.row(job_id)
    assert row["partial"].startswith("3 of 4 items finished: item 1 (circuit 1): backend_failed: it broke")
    bundle = await evidence_of(desk, job_id)
    assert bundle.execution_metadata.shots_executed == 300
    assert bundle.cost is not None
    assert {line.meter: line.quantity for line in bundle.cost.lines}["tasks"] == "3"
    statuses = [one["status"] for one in (await result_of(desk, job_id))["fragment_results"]]
    assert statuses == ["completed", "failed", "completed", "completed"]


async def test_a_program_of_which_nothing_finishes_fails_and_costs_nothing(desk: Desk, driver: FakeDriver) -> None:
    job_id = await admitted(desk, program(8))
    driver.breaks["result"] = Broken("it broke")
    await (await desk.attempt(driver)).advance()
    assert await finish(desk, job_id) == "FAILED"
    assert (await desk.row(job_id))["error"] == {"code": "backend_failed", "detail": "item 0 (circuit 0): it broke"}
    assert driver.submissions == several.FAILURES  # the rest would break, too
    assert await desk.money() == NOTHING


async def test_a_circuit_that_does_not_compile_is_named(desk: Desk, driver: FakeDriver) -> None:
    job_id = await admitted(desk, program(1, **SIX))
    driver.breaks["compile"] = Broken("no such gate")
    await (await desk.attempt(driver)).advance()
    assert await finish(desk, job_id) == "FAILED"
    assert (await desk.row(job_id))["error"]["detail"] == "item 0 (circuit 0, parameters 0): no such gate"
    assert await desk.money() == NOTHING


async def test_one_circuit_that_is_too_deep_stops_the_program(desk: Desk, driver: FakeDriver) -> None:
    """G1: max_depth is judged for each, before anything is handed over."""
    document = program(3)
    document["execution"]["backend_constraints"] = {"max_depth": 1}
    job_id = await admitted(desk, document)
    await (await desk.attempt(driver)).advance()
    assert await finish(desk, job_id) == "FAILED"
    assert (await desk.row(job_id))["error"]["code"] == "depth_exceeded"
    assert driver.submissions == 0


async def test_a_cancel_stops_what_runs_and_keeps_what_had_finished(desk: Desk, driver: FakeDriver) -> None:
    job_id = await admitted(desk, program(5))
    run = await desk.attempt(driver)
    driver.gate.clear()
    running = asyncio.create_task(run.advance())
    await soon(lambda: driver.submissions == 1)
    (first,) = driver.tasks
    driver.held.add(first[:-1] + "2")
    driver.gate.set()
    await soon(lambda: driver.submissions == 3)
    run.cancel()
    await running
    assert await finish(desk, job_id) == "COMPLETED"
    assert (await desk.row(job_id))["partial"] == "2 of 5 items finished: canceled on request"
    assert driver.stopped == {first[:-1] + "2"}
    assert (await evidence_of(desk, job_id)).execution_metadata.shots_executed == 200


async def test_a_cancel_before_anything_has_finished_cancels_the_job(desk: Desk, driver: FakeDriver) -> None:
    job_id = await admitted(desk, program(5))
    run = await desk.attempt(driver)
    driver.gate.clear()
    running = asyncio.create_task(run.advance())
    await soon(lambda: driver.submissions == 1)
    run.cancel()
    await running
    assert await finish(desk, job_id) == "CANCELED"
    assert await desk.money() == NOTHING


async def lost(desk: Desk, driver: FakeDriver, items: int, ran: int) -> str:
    """A program whose worker was lost while item `ran` ran, those before it finished."""
    job_id = await admitted(desk, program(items))
    run = await desk.attempt(driver)
    driver.gate.clear()
    running = asyncio.create_task(run.advance())
    await soon(lambda: driver.submissions == 1)
    (first,) = driver.tasks
    driver.held.add(first[:-1] + str(ran))
    driver.gate.set()
    await soon(lambda: driver.submissions == ran + 1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    driver.held.clear()
    desk.lose_lease()
    return job_id


async def test_after_a_crash_each_item_is_found_and_the_rest_is_run_once(desk: Desk, driver: FakeDriver) -> None:
    """I3: what finished is kept where another process can read it; nothing is submitted twice."""
    job_id = await lost(desk, driver, 5, 2)
    await (await desk.attempt(driver, "w2")).advance()
    assert await finish(desk, job_id) == "COMPLETED"
    assert (driver.submissions, (await desk.row(job_id))["partial"]) == (5, None)
    assert (await evidence_of(desk, job_id)).execution_metadata.shots_executed == 500


async def test_where_nothing_of_it_is_known_the_whole_is_put_back(desk: Desk, driver: FakeDriver) -> None:
    job_id = await lost(desk, driver, 3, 1)
    driver.remembers = False
    await (await desk.attempt(driver, "w2")).advance()
    assert await desk.state(job_id) == "QUEUED"
    driver.remembers = True
    desk.sql("UPDATE jobs.job SET lease_until = NULL")
    await (await desk.attempt(driver, "w2")).advance()
    assert await finish(desk, job_id) == "COMPLETED"
    row = await desk.row(job_id)
    assert await desk.money() == (Decimal(0), row["cost_amount"])


async def test_where_the_backend_can_not_tell_the_whole_is_uncertain(desk: Desk) -> None:
    """I3: one item in doubt leaves the program's cost in doubt; its hold is parked, nothing is sent again."""
    driver = FakeDriver(find_authoritative=False)
    await _report(desk, driver)
    job_id = await lost(desk, driver, 5, 2)
    await (await desk.attempt(driver, "w2")).advance()
    assert await finish(desk, job_id) == "UNCERTAIN"
    assert driver.submissions == 3


async def _report(desk: Desk, driver: FakeDriver) -> None:
    from tests.control_plane.jobs.desk import report

    await report(desk, driver)


async def test_a_worker_that_stops_gives_its_program_back(desk: Desk, driver: FakeDriver) -> None:
    """N10: nothing of it runs on in this process."""
    driver.capabilities = msgspec.structs.replace(driver.capabilities, handle_scope="process")
    job_id = await admitted(desk, program(3))
    run = await desk.attempt(driver)
    driver.gate.clear()
    running = asyncio.create_task(run.advance())
    await soon(lambda: driver.submissions == 1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await give_back(desk.plane, {"fake": driver}, ("demo", job_id), "w1")
    assert await desk.state(job_id) == "QUEUED"
    assert driver.stopped == set(driver.tasks)


async def test_counts_that_grow_beyond_memory_end_the_program_early(
    desk: Desk, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(several, "RESULT_BYTES", 100)
    job_id = await admitted(desk, program(4))
    await (await desk.attempt(driver)).advance()
    assert await finish(desk, job_id) == "COMPLETED"
    assert (await desk.row(job_id))["partial"] == "2 of 4 items finished: the counts are larger than 100 bytes"


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"parameters": [{"a": 1.0}] * 1001}, "program", "1001 items"),
        ({"observables": ["ZZ"]}, "program.observables", "kind estimator"),
        ({"kind": "estimator"}, "program.observables", "needs an observable"),
        ({"kind": "estimator", "observables": ["II"]}, "program.observables", "nothing to measure"),
        ({"kind": "estimator", "observables": ["ZZ", "ZZZ"]}, "program.observables[1]", "3 letters"),
        ({"kind": "estimator", "observables": ["ZZ", "0.5*ZQ"]}, "program.observables[1]", "I, X, Y and Z"),
        ({"kind": "estimator", "observables": ["0.5j*ZZ"]}, "program.observables[0]", "real numbers"),
        ({"kind": "estimator", "observables": ["Z"]}, "program.observables", "declares 2 qubits"),
    ],
)
async def test_a_program_that_is_none_is_refused_by_its_field(
    desk: Desk, change: dict[str, Any], field: str, said: str
) -> None:
    """G1, N13: before anything is stored."""
    before = desk.counts()
    with pytest.raises(Refused) as caught:
        await desk.submit(program(**change), who=person())
    (fault, *_) = caught.value.errors
    assert fault["field"] == field
    assert said in fault["message"]
    assert desk.counts() == before


async def test_a_changed_count_of_any_item_is_found(desk: Desk, driver: FakeDriver) -> None:
    """I4, decision 3: sums are counted again for each item, and against what was asked for."""
    job_id = await admitted(desk, program(2, **SIX))
    await (await desk.attempt(driver)).advance()
    await finish(desk, job_id)
    bundle = await evidence_of(desk, job_id)
    result = json.loads(bundle.contents["result"])

    def counted(changed: dict[str, Any], **record: Any) -> str:
        contents = bundle.contents | {"result": dumps(changed)}
        return shots(msgspec.structs.replace(bundle, contents=contents, **record))

    assert counted(result) == "600 shots counted"
    for number in range(6):
        for lie in (
            {"counts": {"00": 51, "11": 50}},
            {"shots": 99},
            {"counts": {"00": 51, "11": 49}},
            {"parameters": 7},
            {"item": 9 + number},
        ):
            changed = json.loads(json.dumps(result))
            changed["items"][number] |= lie
            with pytest.raises(EvidenceInvalid):
                counted(changed)
    short = result | {"items": result["items"][1:], "shots": 500}
    ran = msgspec.structs.replace(bundle.execution_metadata, shots_executed=500)
    with pytest.raises(EvidenceInvalid, match="no reason in partial"):
        counted(short, execution_metadata=ran)
    assert counted(short, execution_metadata=ran, partial="5 of 6") == "500 shots counted"


async def test_the_bytes_of_one_circuits_result_are_what_they_were(desk: Desk, driver: FakeDriver) -> None:
    """Issue 4: a job of one circuit has the artefacts and the token it always had, short form or long."""
    for document in (bell(), program(1)):
        job_id = await admitted(desk, document)
        await (await desk.attempt(driver)).advance()
        await finish(desk, job_id)
        row = await desk.row(job_id)
        assert row["token"] in driver.tasks
        assert set(row["artefacts"]) == {
            "spec", "decision_input", "result", "execution", "calibration", "compiled.qpy", "compiled.qasm3",
        }  # fmt: skip
        assert set(json.loads((await evidence_of(desk, job_id)).contents["result"])) == {"counts", "shots", "blocks"}
