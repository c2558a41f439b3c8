# SPDX-License-Identifier: Apache-2.0
"""No tenant starves another in the queue, and each keeps to the limits that the operator set (G11, N9)."""

from __future__ import annotations

import asyncio
from collections import Counter

import psycopg

from control_plane.jobs import leases
from control_plane.jobs.admit import Admission, Crowded
from control_plane.jobs.control import signal
from tests.control_plane.jobs.desk import Desk, bell, person

# Rows of jobs that only wait: claiming looks at nothing else of them.
WAIT = """
    INSERT INTO jobs.job (tenant, job_id, project, subject, actor, pseudonym, state, seq, level, executions,
        submitted_at, history, decision_id, decision, spec_blob, input_blob, admission_entry, retention_days,
        erase_from)
    SELECT %s, %s || n, 'p', 's', 'a', 'a-1', %s, 1, 'full', 1, now() - interval '1 hour' + n * interval '1 ms', '[]',
           gen_random_uuid(), '{}', 'b', 'b', gen_random_uuid(), 30, now()
    FROM generate_series(1, %s) AS n
"""


def wait(desk: Desk, tenant: str, jobs: int, *, state: str = "QUEUED") -> None:
    """So many jobs of a tenant, each submitted before any of the tenant after it in a test."""
    desk.sql("INSERT INTO auth.tenant (tenant) VALUES (%s) ON CONFLICT DO NOTHING", tenant)
    desk.sql(WAIT, tenant, f"{tenant}-", state, jobs)


def running(desk: Desk, tenant: str, limit: int) -> None:
    """Set the tenant's limit of running jobs."""
    desk.sql("INSERT INTO auth.tenant_limit (tenant, running_jobs) VALUES (%s, %s)", tenant, limit)


async def take(desk: Desk, at_most: int, rounds: leases.Rounds | None = None, **given: list[str]) -> list[str]:
    """Whose jobs one claim gets, in their order."""
    engine = desk.plane.engine
    return [tenant for tenant, _ in await leases.claim(engine, "w", 60, at_most, rounds=rounds, **given)]


async def test_tenants_take_turns_however_many_jobs_one_has(desk: Desk) -> None:
    """G11: a flood that came first gets as much as each of the others."""
    wait(desk, "flood", 500)
    for name in ("a", "b", "z"):
        wait(desk, name, 4)
    rounds = leases.Rounds()
    taken = [tenant for _ in range(8) for tenant in await take(desk, 2, rounds)]
    assert Counter(taken) == {"flood": 4, "a": 4, "b": 4, "z": 4}


async def test_one_free_place_at_a_time_goes_round(desk: Desk) -> None:
    """G11: where each claim gets one job, who waits longest doesn't get each of them."""
    wait(desk, "flood", 100)
    wait(desk, "late", 3)
    rounds = leases.Rounds()
    taken = [tenant for _ in range(6) for tenant in await take(desk, 1, rounds)]
    assert Counter(taken) == {"flood": 3, "late": 3}


async def test_who_has_work_here_waits_for_who_has_none(desk: Desk) -> None:
    """G11: long jobs of one tenant don't fill a worker while another's wait."""
    wait(desk, "flood", 10)
    wait(desk, "other2", 10)
    assert await take(desk, 3, busy=["flood", "flood"]) == ["other2", "other2", "flood"]
    assert await take(desk, 1, shut=["other2"]) == ["flood"]


async def test_of_one_tenant_first_comes_first(desk: Desk) -> None:
    """N9: what waits longest, as before."""
    wait(desk, "a", 5)
    taken = await leases.claim(desk.plane.engine, "w", 60, 3)
    assert [job_id for _, job_id in taken] == ["a-1", "a-2", "a-3"]


async def test_what_is_looked_at_again_takes_turns_with_what_can_begin(desk: Desk) -> None:
    """G7: jobs that wait for a budget are older and due each second, and keep none behind them from beginning."""
    wait(desk, "a", 100)
    desk.sql("UPDATE jobs.job SET lease_until = now() - interval '1 second'")
    desk.sql("UPDATE jobs.job SET lease_until = NULL WHERE job_id IN ('a-98', 'a-99', 'a-100')")
    rounds = leases.Rounds()
    taken = [job_id for _, job_id in await leases.claim(desk.plane.engine, "w", 60, 6, rounds=rounds)]
    assert rounds.more, "as many as it might: the next claim need not wait"
    assert sorted(set(taken) & {"a-98", "a-99", "a-100"}) == ["a-100", "a-98", "a-99"]
    assert len(taken) == 6


async def test_more_tenants_than_one_look_sees_all_get_their_turn(desk: Desk) -> None:
    """G11: forty tenants wait, of whom those that look for a backend have nothing to take."""
    for number in range(80):
        wait(desk, f"t{number:02}", 2)
    desk.sql("UPDATE jobs.job SET lease_until = now() + interval '1 hour' WHERE tenant BETWEEN 't00' AND 't39'")
    rounds, taken = leases.Rounds(), Counter[str]()
    for _ in range(30):
        taken.update(await take(desk, 4, rounds))
    assert taken == {f"t{number:02}": 2 for number in range(40, 80)}


async def test_what_waits_for_approval_is_prepared_in_turn_too(desk: Desk) -> None:
    """G2, G11: requests of one tenant keep no other's jobs waiting."""
    wait(desk, "flood", 50, state="AWAITING_APPROVAL")
    wait(desk, "late", 2)
    assert Counter(await take(desk, 4)) == {"flood": 2, "late": 2}


async def test_a_limit_on_running_jobs_holds_whoever_claims(desk: Desk) -> None:
    """G11: ten claims at once take no more than there is room for; what ends makes room."""
    wait(desk, "a", 40)
    wait(desk, "b", 4)
    running(desk, "a", 3)
    taken = await asyncio.gather(*(take(desk, 4) for _ in range(10)))
    assert Counter(tenant for some in taken for tenant in some) == {"a": 3, "b": 4}
    assert await take(desk, 4) == []
    desk.sql("UPDATE jobs.job SET state = 'SEALING' WHERE tenant = 'a' AND worker IS NOT NULL AND job_id = 'a-1'")
    assert await take(desk, 4) == ["a"]


async def test_a_job_whose_worker_was_lost_keeps_its_place(desk: Desk) -> None:
    """N10: recovering a job is no claim of one more."""
    wait(desk, "a", 2)
    running(desk, "a", 1)
    assert await take(desk, 4) == ["a"]
    desk.sql("UPDATE jobs.job SET state = 'EXECUTING' WHERE tenant = 'a' AND worker IS NOT NULL")
    desk.lose_lease()
    assert await leases.claim(desk.plane.engine, "w2", 60, 4) == [("a", "a-1")]


async def test_two_claims_at_once_miss_nothing(desk: Desk) -> None:
    """N9: what one claim holds for a moment another passes over, and finds the rest."""
    wait(desk, "a", 6)
    with psycopg.connect(desk.database.conninfo("app")) as first:
        first.execute("SELECT jobs.claim('w1', 60, 3)")
        assert len(await take(desk, 3)) == 3


async def test_what_a_claim_reads_does_not_grow_with_the_queue(desk: Desk) -> None:
    """N18: by its indexes; what is put off isn't looked at before its time (G7)."""
    wait(desk, "flood", 5_000)
    wait(desk, "asking", 5_000, state="AWAITING_APPROVAL")
    wait(desk, "broke", 5_000)
    desk.sql("UPDATE jobs.job SET lease_until = now() + interval '1 hour' WHERE tenant IN ('asking', 'broke')")
    desk.sql("UPDATE jobs.job SET lease_until = now() WHERE job_id IN ('asking-7', 'broke-3')")
    desk.sql("ANALYZE jobs.job")
    with psycopg.connect(desk.database.conninfo("superuser")) as conn:
        (found,) = conn.execute("SELECT jobs.claim('w', 60, 4)").fetchone() or (None,)
        read = "SELECT seq_tup_read, idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'job'"
        (scanned, fetched) = conn.execute(read.encode()).fetchone() or (None, None)
    jobs = {job_id for _, job_id in found["jobs"]}
    assert jobs == {"asking-7", "broke-3", "flood-1", "flood-2"}
    assert scanned == 0
    assert fetched < 200


def limit(desk: Desk, **limits: int) -> None:
    """Set limits of tenant demo."""
    places = ", ".join(["%s"] * len(limits))
    desk.sql(f"INSERT INTO auth.tenant_limit (tenant, {', '.join(limits)}) VALUES ('demo', {places})", *limits.values())


async def test_a_full_queue_takes_nothing_and_keeps_nothing(desk: Desk) -> None:
    """G11: however many come at once; a cancelled job leaves room."""
    limit(desk, waiting_jobs=2)
    made = await asyncio.gather(*(desk.submit() for _ in range(6)), return_exceptions=True)
    refused = [one for one in made if isinstance(one, Crowded)]
    assert len(refused) == 4
    assert (refused[0].code, refused[0].headers) == ("tenant_queue_full", {"Retry-After": "1"})
    assert desk.counts()["jobs.job"] == 2
    assert (await desk.submit(who=person("bob", "other"), spec=bell(governance__project="other"))).state == "QUEUED"
    await signal(desk.plane, person(), "cancel", next(one.job_id for one in made if isinstance(one, Admission)))
    assert (await desk.submit()).state == "QUEUED"


async def test_shots_of_a_day_are_counted_exactly(desk: Desk) -> None:
    """G11, I3: what doesn't fit is denied with evidence and costs nothing; smaller ones still fit."""
    limit(desk, shots_per_day=2500)
    made = await asyncio.gather(*(desk.submit() for _ in range(5)))
    assert Counter(one.state for one in made) == {"QUEUED": 2, "DENIED": 3}
    denied = next(one for one in made if one.state == "DENIED")
    assert denied.problem == "tenant_quota_exceeded"
    row = await desk.row(denied.job_id)
    assert (row["error"]["code"], row["hold_amount"], row["decision"]["allow"]) == ("tenant_quota_exceeded", None, True)
    assert (await desk.submit(bell(execution__shots=500))).state == "QUEUED"
    await desk.seal()
    assert (await desk.replayed()).agrees
