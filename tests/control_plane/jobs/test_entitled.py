# SPDX-License-Identifier: Apache-2.0
"""G13: the dispatch gate asks anew what the asker of a job may do; a lost right ends it, an old token doesn't."""

from __future__ import annotations

import datetime as dt

import pytest
from msgspec.structs import replace

from control_plane.auth import credentials
from control_plane.auth.people import store as people
from control_plane.auth.principal import Principal
from control_plane.auth.tokens import Kind
from control_plane.sealing import utc_now
from tests.control_plane.jobs.desk import Desk, person
from tests.control_plane.jobs.ends import NOTHING, finish
from tests.fakes import FakeDriver

ANN = person()


async def seen(desk: Desk, who: Principal = ANN) -> None:
    """Their provider said this of them, just now."""
    async with desk.plane.transaction("demo") as conn:
        await people.remember(conn, who)


async def ended(desk: Desk, driver: FakeDriver, job_id: str) -> tuple[str, str]:
    """Why the job failed at the gate: nothing was handed over, and nothing is held."""
    await desk.seal()
    await (await desk.attempt(driver)).advance()
    assert driver.submissions == 0
    assert await finish(desk, job_id) == "FAILED"
    assert await desk.money() == NOTHING
    error = (await desk.row(job_id))["error"]
    return error["code"], error["detail"]


async def test_a_job_of_somebody_who_was_removed_ends_and_holds_nothing(desk: Desk, driver: FakeDriver) -> None:
    """With a second decision, made on what they have now."""
    await seen(desk)
    job_id = (await desk.submit()).job_id
    desk.sql("UPDATE auth.person SET state = 'removed'")
    assert await ended(desk, driver, job_id) == ("rights_lost", "who asked for it was removed from the tenant")
    assert desk.kinds().count("policy:decision:deny") == 1


async def test_a_job_of_somebody_who_lost_the_role_ends(desk: Desk, driver: FakeDriver) -> None:
    """Their provider says so at their next login, or this plane takes an assignment back."""
    await seen(desk)
    job_id = (await desk.submit()).job_id
    await seen(desk, replace(ANN, roles=("auditor",)))
    code, said = await ended(desk, driver, job_id)
    assert code == "rights_lost"
    assert said.startswith("who asked for it has lost a role since: ")


@pytest.mark.parametrize("way", ["token", "assignment", "group"])
async def test_a_role_that_came_another_way_meanwhile_is_as_good(desk: Desk, driver: FakeDriver, way: str) -> None:
    """What counts is that the role is held, not who gives it."""
    await seen(desk)
    job_id = await desk.admitted()
    await seen(desk, replace(ANN, roles=(("quantum-engineer",) if way == "token" else ()), groups=("lab",)))
    if way == "assignment":
        desk.sql(
            "INSERT INTO auth.assignment (tenant, issuer, subject, project, role)"
            " VALUES ('demo', 'urn:test', 's-ann', 'demo', 'quantum-engineer')"
        )
    if way == "group":
        desk.sql(
            "INSERT INTO auth.group_role (tenant, issuer, name, role)"
            " VALUES ('demo', 'urn:test', 'lab', 'quantum-engineer')"
        )
    await (await desk.attempt(driver)).advance()
    assert await finish(desk, job_id) == "COMPLETED"
    assert desk.kinds().count("policy:decision:allow") == 1


@pytest.mark.parametrize("kind", ["key", "delegation"])
async def test_a_job_whose_secret_was_revoked_ends(desk: Desk, driver: FakeDriver, kind: Kind) -> None:
    """Or one on which that secret hung."""
    now = utc_now()
    async with desk.plane.transaction("demo") as conn:
        first = await credentials.issue(conn, ANN, kind, at=now, expires_at=now + dt.timedelta(hours=1))
        made = await credentials.issue(
            conn, ANN, "token", at=now, expires_at=now + dt.timedelta(hours=1), parent=first.id
        )
    job_id = (await desk.submit(who=replace(ANN, credential=made.id))).job_id
    async with desk.plane.transaction("demo") as conn:
        await credentials.revoke(conn, "demo", first.id, by="a-1", at=now)
    code, said = await ended(desk, driver, job_id)
    assert (code, kind in said) == ("rights_lost", True)


async def test_a_token_that_expires_and_a_session_that_ends_take_no_job_away(desk: Desk, driver: FakeDriver) -> None:
    """What was asked for in time runs, waiting or under way."""
    now = utc_now()
    jobs = []
    async with desk.plane.transaction("demo") as conn:
        old = await credentials.issue(conn, ANN, "key", at=now, expires_at=now + dt.timedelta(seconds=1))
        left = await credentials.issue(conn, ANN, "session", at=now, expires_at=now + dt.timedelta(hours=1))
        await credentials.revoke(conn, "demo", left.id, by="a-1", at=now)
    desk.sql("UPDATE auth.credential SET expires_at = created_at WHERE kind = 'key'")
    for one in (old, left):
        jobs.append((await desk.submit(who=replace(ANN, credential=one.id))).job_id)
        await desk.seal()
        await (await desk.attempt(driver)).advance()
    assert [await finish(desk, job_id) for job_id in jobs] == ["COMPLETED", "COMPLETED"]
