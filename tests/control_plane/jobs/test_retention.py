# SPDX-License-Identifier: Apache-2.0
"""Contents go when their retention is over, never under a hold; proofs stay, the ledger tells of it (G12, I4, I6)."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncEngine

import ledger.blob_store
import ledger.head_store
import ledger.store
from control_plane import db
from control_plane.context import Plane
from control_plane.documents.store import Issued, issue
from control_plane.errors import Refused
from control_plane.retention import acts, store
from control_plane.retention.acts import Erasing, Forgetting, Placing
from control_plane.sealing import PlaneClock, utc_now
from ledger import export, merkle
from ledger.audit import Verification, verify_log
from ledger.canonical import sha256
from ledger.chain import Pending
from ledger.documents import ISSUED
from tests.control_plane.jobs.desk import Desk, person
from tests.control_plane.jobs.ends import finish
from tests.fakes import FakeDriver

ADMIN = person("boss", "demo", "quantum-admin")
WHY = Erasing("asked for by the customer", early=True)


async def ended(desk: Desk, driver: FakeDriver, **changes: Any) -> str:
    """A job that ran, sealed."""
    job_id = await desk.admitted(**changes)
    await (await desk.attempt(driver)).advance()
    assert await finish(desk, job_id) == "COMPLETED"
    return job_id


async def verified(desk: Desk) -> Verification:
    engine: AsyncEngine = db.engine(desk.database.audit, connections=2)
    try:
        async with db.snapshot(engine) as conn:
            return await verify_log(conn)
    finally:
        await engine.dispose()


def later(desk: Desk, days: float) -> Plane:
    """The same plane, whose clock stands so many days later."""
    clock = PlaneClock(lambda: utc_now() + dt.timedelta(days=days))
    return dataclasses.replace(desk.plane, now=clock)


async def test_what_is_erased_is_gone_and_its_proof_still_verifies(desk: Desk, driver: FakeDriver) -> None:
    job_id = await ended(desk, driver)
    row = await desk.row(job_id)
    blobs = {name for (name,) in desk.sql("SELECT commitment FROM ledger.blob WHERE tenant = 'demo'")}
    told = await acts.erase(desk.plane, ADMIN, job_id, WHY)
    assert set(told["commitments"]) == blobs, "every content of the one job there is"
    assert told["early"]
    assert desk.sql("SELECT count(*) FROM ledger.blob WHERE wrapped_key IS NOT NULL OR ciphertext <> ''") == [(0,)]
    async with desk.plane.transaction("demo") as conn:
        with pytest.raises(Refused) as refused:
            await desk.plane.vault.read(conn, "demo", row["statement_blob"])
    assert refused.value.code == "content_erased"
    await desk.seal()
    async with desk.plane.transaction("demo") as conn:
        entry = await ledger.store.entry(conn, str(row["outcome_entry"]))
        head = await ledger.head_store.latest_checkpoint(conn)
        assert entry is not None
        assert head is not None
        path = await export.inclusion(conn, entry[0], head.size)
    leaf = merkle.leaf_hash(entry[1])
    merkle.verify_inclusion(index=entry[0], size=head.size, leaf=leaf, path=path, root=head.root)
    assert (await desk.replayed()).differences == []
    assert (await verified(desk)).failures == ()
    with pytest.raises(Refused, match="it was erased"):
        await acts.erase(desk.plane, ADMIN, job_id, WHY)


async def test_retention_lets_go_what_is_over_and_nothing_else(desk: Desk, driver: FakeDriver) -> None:
    short = await ended(desk, driver, evidence_requirements__retention_days=2)
    long = await ended(desk, driver, evidence_requirements__retention_days=20)
    assert await acts.sweep(later(desk, 1.9)) == 0
    assert await acts.sweep(later(desk, 3)) == 1
    assert await acts.sweep(later(desk, 3)) == 0
    erased = {job_id: (await desk.row(job_id))["erased_at"] is not None for job_id in (short, long)}
    assert erased == {short: True, long: False}
    ((body,),) = desk.sql("SELECT convert_from(pending, 'UTF8')::jsonb FROM ledger.inbox")
    assert (body["actor"], body["kind"], body["body"]["early"]) == ("retention", "evidence:content:erased", False)
    await desk.seal()
    assert (await desk.replayed()).differences == []
    assert (await verified(desk)).ok


async def test_a_denial_is_let_go_as_well(desk: Desk) -> None:
    await desk.limit("0.0001")
    denied = await desk.submit()
    assert denied.problem == "budget_exceeded"
    await desk.seal()
    assert await acts.sweep(later(desk, 4000)) == 1
    assert desk.sql("SELECT count(*) FROM ledger.blob WHERE wrapped_key IS NOT NULL") == [(0,)]


async def test_before_its_end_and_its_time_a_job_keeps_its_contents(desk: Desk, driver: FakeDriver) -> None:
    job_id = await desk.admitted()
    with pytest.raises(Refused) as refused:
        await acts.erase(desk.plane, ADMIN, job_id, WHY)
    assert refused.value.code == "transition_refused"
    assert await acts.sweep(later(desk, 40_000)) == 0, "a job that runs is not judged by its submission"
    await (await desk.attempt(driver)).advance()
    await finish(desk, job_id)
    with pytest.raises(Refused) as refused:
        await acts.erase(desk.plane, ADMIN, job_id, replace(WHY, early=False))
    assert refused.value.code == "retention_running"


@pytest.mark.parametrize("scope", ["tenant", "project:demo", "job:{job}", "actor:a-demo-ann"])
async def test_nothing_goes_that_a_hold_covers_until_it_is_released(desk: Desk, driver: FakeDriver, scope: str) -> None:
    job_id = await ended(desk, driver)
    held = await acts.place(desk.plane, ADMIN, Placing(scope.format(job=job_id), "a lawsuit"))
    assert await acts.sweep(later(desk, 4000)) == 0
    with pytest.raises(Refused) as refused:
        await acts.erase(desk.plane, ADMIN, job_id, WHY)
    assert refused.value.code == "legal_hold"
    await acts.release(desk.plane, ADMIN, held["hold_id"], "it is over")
    assert await acts.sweep(later(desk, 4000)) == 1
    await desk.seal()
    assert desk.kinds()[-3:] == ["evidence:hold:placed", "evidence:hold:released", "evidence:content:erased"]


async def test_holds_and_contents_of_another_tenant_are_not_there(desk: Desk, driver: FakeDriver) -> None:
    job_id = await ended(desk, driver)
    stranger = person("eve", "other", "quantum-admin")
    held = await acts.place(desk.plane, ADMIN, Placing("tenant", "a lawsuit"))
    await acts.place(desk.plane, stranger, Placing(f"job:{job_id}", "mischief"))
    for act in (
        acts.release(desk.plane, stranger, held["hold_id"], "mischief"),
        acts.erase(desk.plane, stranger, job_id, WHY),
        acts.forget(desk.plane, stranger, Forgetting("a-demo-ann", "mischief")),
    ):
        with pytest.raises(Refused) as refused:
            await act
        assert refused.value.code == "not_found"
    async with desk.plane.transaction("other") as conn:
        (row,) = desk.sql("SELECT statement_blob FROM jobs.job")
        assert await ledger.blob_store.erase(conn, row) == 0
    await acts.release(desk.plane, ADMIN, held["hold_id"], "it is over")
    assert await acts.sweep(later(desk, 4000)) == 1, "another tenant's hold keeps nothing here"


async def test_a_forgotten_name_is_nowhere_in_the_rows_and_the_entries_stay(desk: Desk, driver: FakeDriver) -> None:
    job_id = await ended(desk, driver)
    with pytest.raises(Refused, match="nobody"):
        await acts.forget(desk.plane, ADMIN, Forgetting("user:ann@elsewhere", "asked for"))
    (told,) = await acts.forget(desk.plane, ADMIN, Forgetting("user:ann@demo", "asked for"))
    assert (told["pseudonym"], told["jobs"]) == ("a-demo-ann", 1)
    row = await desk.row(job_id)
    assert (row["actor"], row["subject"]) == ("erased:a-demo-ann", "erased:a-demo-ann")
    async with desk.plane.transaction("demo") as conn:
        assert [one["actor"] for one in await store.actors(conn, 10)] == ["erased:a-demo-ann"]
    await desk.seal()
    assert (await desk.replayed()).differences == []


async def test_a_key_that_went_in_silence_is_found_and_one_that_did_not_go_too(desk: Desk, driver: FakeDriver) -> None:
    job_id = await ended(desk, driver)
    desk.sql("UPDATE ledger.blob SET wrapped_key = NULL WHERE commitment = (SELECT spec_blob FROM jobs.job)")
    (failure,) = (await verified(desk)).failures
    assert "no entry tells of it" in failure.reason
    await acts.erase(desk.plane, ADMIN, job_id, WHY)
    await desk.seal()
    desk.sql("UPDATE ledger.blob SET wrapped_key = 'x' WHERE commitment = (SELECT result_blob FROM jobs.job)")
    assert any("still have their keys" in failure.reason for failure in (await verified(desk)).failures)


async def test_a_document_goes_with_its_job_and_none_is_kept_of_an_erased_one(desk: Desk, driver: FakeDriver) -> None:
    job_id = await ended(desk, driver)
    bundle_id = str((await desk.row(job_id))["bundle_id"])
    (sealed,) = desk.plane.vault.seal("demo", (b"%PDF",))
    kept = Issued(blob=sealed.commitment, entry_id=str(uuid.uuid4()), sha256=sha256(b"%PDF"))
    told: dict[str, Any] = {"job_id": job_id, "bundle_id": bundle_id}
    entry = Pending(
        entry_id=kept.entry_id,
        tenant="demo",
        kind=ISSUED,
        actor="documents",
        time=utc_now(),
        body=told,
        commitments={"document": kept.blob},
    )
    async with desk.plane.transaction("demo") as conn:
        assert await issue(conn, "demo", job_id, bundle_id, kept)
        await ledger.store.append(conn, [(entry, None)], (sealed.blob,))
    erased = await acts.erase(desk.plane, ADMIN, job_id, WHY)
    assert kept.blob in erased["commitments"], "although its entry is not sealed yet"
    desk.sql("DELETE FROM jobs.document")
    async with desk.plane.transaction("demo") as conn:
        assert not await issue(conn, "demo", job_id, bundle_id, kept)
