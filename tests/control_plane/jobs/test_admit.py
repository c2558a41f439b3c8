# SPDX-License-Identifier: Apache-2.0
"""Admission: all of it or nothing, whoever races or dies (design path step 3)."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import psycopg
import pytest

import finops.store
from control_plane import db
from control_plane.db import FAULTS
from control_plane.errors import QcosError, Refused
from control_plane.jobs import store
from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.pdp import Pdp
from control_plane.policy.revision import PolicySet
from control_plane.sealing import utc_now
from tests.control_plane.jobs.desk import Desk, bell, person

NOTHING = (Decimal(0), Decimal(0))
_PLANS = """
    SELECT statement, generic_plans AS kept FROM pg_prepared_statements
    WHERE statement ~ 'jobs.usage|finops.standing|finops.budget' AND statement !~ 'pg_prepared_statements'"""


class Interrupted:
    """An engine that decides, and lets something happen before anyone hears of it."""

    def __init__(self, inner: Any, meanwhile: Any) -> None:
        self.inner, self.meanwhile, self.name = inner, meanwhile, inner.name

    async def evaluate(self, policies: PolicySet, input_json: bytes) -> object:
        answer = await self.inner.evaluate(policies, input_json)
        await self.meanwhile()
        return answer

    async def ready(self, policies: PolicySet) -> None:
        """Always."""

    async def close(self) -> None:
        """Nothing of its own."""


async def test_an_admission_is_decision_hold_row_and_entries_in_one(desk: Desk) -> None:
    """I3, I6, G5: the job, what it may cost, and the two entries that tell of it are there together."""
    admission = await desk.submit()
    assert (admission.state, admission.problem, admission.currency) == ("QUEUED", None, "USD")
    assert desk.kinds()[-2:] == ["policy:decision:allow", "job:admission:allowed"]
    row = await desk.row(admission.job_id)
    assert row["hold_amount"] == Decimal(admission.amount or "") == (await desk.money())[0]
    assert row["decision"]["policy_revision"] == desk.plane.pdp.revision
    assert (await desk.replayed()).differences == []


async def test_a_denied_job_holds_nothing_and_its_denial_is_kept(desk: Desk) -> None:
    """G2: a denial is durable with its reasons and its evidence before it is answered, and costs nothing."""
    admission = await desk.submit(who=person("eve", "demo", "auditor"))
    assert (admission.state, admission.problem) == ("DENIED", "policy_denied")
    assert admission.decision is not None
    assert "role_required" in {reason.code for reason in admission.decision.reasons}
    assert desk.kinds()[-2:] == ["policy:decision:deny", "job:admission:denied"]
    row = await desk.row(admission.job_id)
    assert row["final"] == "DENIED"
    assert row["bundle_id"] is not None
    assert row["statement_blob"] is not None
    assert await desk.money() == NOTHING
    assert (await desk.replayed()).differences == []


async def test_a_dry_run_writes_nothing(desk: Desk) -> None:
    before = desk.counts()
    allowed = await desk.submit(dry_run=True)
    denied = await desk.submit(who=person("eve", "demo", "auditor"), dry_run=True)
    assert (allowed.advisory, allowed.state, denied.state) == (True, "QUEUED", "DENIED")
    assert desk.counts() == before


TABLES = ("finops.hold", "finops.budget_window", "jobs.job", "jobs.idempotency", "jobs.usage", "ledger.blob")


@contextlib.contextmanager
def broken(desk: Desk, table: str, how: str = "RAISE EXCEPTION 'broken here'") -> Iterator[None]:
    """A database where each insert into a table fails."""
    desk.sql(f"""
        CREATE OR REPLACE FUNCTION public.breaks() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
            $$ BEGIN {how}; RETURN NULL; END $$;
        CREATE TRIGGER breaks AFTER INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION public.breaks();
    """)
    yield
    desk.sql(f"DROP TRIGGER breaks ON {table}")


@pytest.mark.parametrize("table", [*TABLES, "ledger.inbox"])
async def test_an_admission_that_breaks_leaves_nothing(desk: Desk, table: str) -> None:
    """I3: whichever write of the call fails, no row of any table stays, and the same request then passes."""
    await desk.submit()  # so that the day's usage and the month's window are there
    before = desk.counts()
    with broken(desk, table), pytest.raises(psycopg.Error, match="broken here"):
        await desk.submit(bell(job_id="j-1"), key="k-1")
    assert desk.counts() == before
    assert (await desk.submit(bell(job_id="j-1"), key="k-1")).state == "QUEUED"
    assert (await desk.replayed()).differences == []


async def test_a_denial_that_breaks_leaves_nothing(desk: Desk) -> None:
    before = desk.counts()
    with broken(desk, "ledger.inbox"), pytest.raises(psycopg.Error, match="broken here"):
        await desk.submit(who=person("eve", "demo", "auditor"))
    assert desk.counts() == before


async def test_an_admission_whose_connection_dies_leaves_nothing(desk: Desk) -> None:
    """I3: the server ends the session in the midst of the call, each time that it is sent again."""
    before = desk.counts()
    with broken(desk, "ledger.inbox", "PERFORM pg_terminate_backend(pg_backend_pid())"), pytest.raises(FAULTS):
        await desk.submit()
    assert desk.counts() == before
    assert (await desk.submit()).state == "QUEUED"


_WRITTEN = """
    SELECT c.relname FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_locks w ON w.pid = l.pid
    WHERE NOT w.granted AND l.granted AND l.mode = 'RowExclusiveLock' AND c.relkind = 'r'"""


async def test_budgets_are_locked_last(desk: Desk) -> None:
    """Who shares a budget waits for a hold and a commit alone; where it is refused, nothing of the rest stays (I3)."""
    for amount, state in (("100", "QUEUED"), ("0.01", "DENIED")):
        with psycopg.connect(desk.database.conninfo("superuser")) as other:
            other.execute("UPDATE finops.budget SET limit_amount = %s", (Decimal(amount),))
            waiting = asyncio.create_task(desk.submit(bell(job_id=f"j-{state}"), key=state))
            while not (written := {name for (name,) in desk.sql(_WRITTEN)}):
                assert not waiting.done()
                await asyncio.sleep(0)
            assert written >= {"job", "idempotency", "blob", "inbox"}
            assert not written & {"hold", "budget_window", "usage"}
        assert (await waiting).state == state
    assert desk.counts() | {"ledger.blob": 0} == {
        "ledger.blob": 0,
        "ledger.inbox": 4,
        "jobs.job": 2,
        "jobs.idempotency": 2,
        "finops.hold": 1,
        "held": Decimal("0.52"),
    }


async def test_the_hold_is_the_authority_and_the_decision_stays_as_made(desk: Desk) -> None:
    """I3: the budget goes between decision and hold: DENIED budget_exceeded, beside a decision that allowed."""

    async def spend() -> None:
        await desk.limit("0.10")

    pdp = Pdp(Interrupted(desk.plane.pdp.engine, spend), desk.plane.pdp.held)
    admission = await desk.submit(plane=dataclasses.replace(desk.plane, pdp=pdp))
    assert (admission.state, admission.problem) == ("DENIED", "budget_exceeded")
    assert admission.decision is not None
    assert admission.decision.allow
    assert desk.kinds()[-2:] == ["policy:decision:allow", "job:admission:denied"]
    row = await desk.row(admission.job_id)
    assert row["decision"]["allow"] is True
    assert row["error"]["code"] == "budget_exceeded"
    (short,) = row["error"]["budgets"]
    assert {name: short[name] for name in ("limit", "held", "captured", "available", "asked")} == {
        "limit": "0.1",
        "held": "0",
        "captured": "0",
        "available": "0.1",
        "asked": format(Decimal(admission.amount or "").normalize(), "f"),
    }
    assert await desk.money() == NOTHING
    assert (await desk.replayed()).differences == []


async def test_without_a_decision_nothing_is_stored(desk: Desk) -> None:
    """I5: an engine that fails admits nothing, denies nothing and leaves nothing behind."""

    async def away() -> None:
        raise PolicyUnavailable("gone")

    before = desk.counts()
    plane = dataclasses.replace(desk.plane, pdp=Pdp(Interrupted(desk.plane.pdp.engine, away), desk.plane.pdp.held))
    with pytest.raises(PolicyUnavailable):
        await desk.submit(plane=plane)
    assert desk.counts() == before


async def test_a_project_without_a_budget_runs_nothing(desk: Desk) -> None:
    admission = await desk.submit(bell(governance__project="unfunded"))
    assert (admission.state, admission.problem) == ("DENIED", "budget_missing")


@pytest.mark.parametrize("scope", ["tenant:demo", "cost_center:lab", "user:ann", "provider:aer"])
async def test_each_scope_of_budget_binds(desk: Desk, scope: str) -> None:
    """I3: whichever budget a job touches can refuse it, the backends' provider's too."""
    await desk.limit("0.10", scope)
    admission = await desk.submit(bell(governance__cost_center="lab"))
    assert (admission.state, admission.problem) == ("DENIED", "budget_exceeded")


async def test_no_backend_that_fits_is_a_denial_with_its_reason(desk: Desk) -> None:
    admission = await desk.submit(bell(execution__backend_constraints={"allowed_providers": ["ibm-quantum"]}))
    assert (admission.state, admission.problem) == ("DENIED", "policy_denied")
    assert admission.decision is not None
    assert "no_backend" in {reason.code for reason in admission.decision.reasons}


async def test_one_key_used_twenty_times_at_once_is_one_job(desk: Desk) -> None:
    """G1: an idempotency key names one job, however many requests race for it."""
    answers = await asyncio.gather(*(desk.submit(key="once") for _ in range(20)))
    assert len({answer.job_id for answer in answers}) == 1
    assert Counter(answer.repeated for answer in answers) == {True: 19, False: 1}
    assert len({(answer.amount, answer.currency, answer.rate_card) for answer in answers}) == 1
    assert desk.counts()["finops.hold"] == 1
    assert (await desk.replayed()).differences == []


async def test_a_key_with_another_body_is_refused(desk: Desk) -> None:
    await desk.submit(key="once")
    with pytest.raises(Refused) as caught:
        await desk.submit(bell(execution__shots=7), key="once")
    assert caught.value.code == "idempotency_conflict"


async def test_keys_are_a_persons_own(desk: Desk) -> None:
    """I7: another person's key of the same name is another key, in the same tenant and in another."""
    first = await desk.submit(key="once")
    second = await desk.submit(key="once", who=person("bob"))
    third = await desk.submit(bell(governance__project="other"), key="once", who=person("ann", "other"))
    assert len({first.job_id, second.job_id, third.job_id}) == 3


async def test_one_job_id_asked_for_twenty_times_at_once_is_one_job(desk: Desk) -> None:
    """G1: the id is unique in its tenant; the others are told so and hold nothing."""
    asked = [desk.submit(bell(job_id="mine")) for _ in range(20)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert Counter(a.code if isinstance(a, QcosError) else type(a).__name__ for a in answers) == {
        "Admission": 1,
        "duplicate_job_id": 19,
    }
    assert desk.counts()["finops.hold"] == desk.counts()["jobs.job"] == 1
    assert (await desk.replayed()).differences == []


@pytest.mark.parametrize("first", ["allowed", "denied"])
@pytest.mark.parametrize("second", ["allowed", "denied"])
async def test_a_used_job_id_is_refused_whatever_became_of_either(desk: Desk, first: str, second: str) -> None:
    who = {"allowed": person(), "denied": person("eve", "demo", "auditor")}
    await desk.submit(bell(job_id="mine"), who=who[first])
    before = desk.counts()
    with pytest.raises(QcosError) as caught:
        await desk.submit(bell(job_id="mine"), who=who[second])
    assert caught.value.code == "duplicate_job_id"
    assert desk.counts() == before


async def test_two_tenants_may_use_one_job_id(desk: Desk) -> None:
    """I7: what another tenant calls its jobs can't be found out."""
    mine = await desk.submit(bell(job_id="same"))
    theirs = await desk.submit(bell(job_id="same", governance__project="other"), who=person("ann", "other"))
    assert mine.job_id == theirs.job_id == "same"
    assert mine.state == theirs.state == "QUEUED"


async def test_what_each_job_looks_at_is_planned_once_a_connection(desk: Desk) -> None:
    """G7: whether jobs have a team or none, PostgreSQL keeps its plans of what is read for each."""
    pool = db.engine(desk.database.app, connections=1)
    try:
        for turn in range(40):
            team = None if turn % 2 else "photonics"
            used = store.usage(team=team, project="demo", at=utc_now())
            names = {"cost_center": None, "user": "ann", "provider": None}
            held = finops.store.applicable("demo", project="demo", at=utc_now(), **names)
            await db.read(pool, "demo", used, held)
        (plans,) = await db.read(pool, None, (_PLANS, {}))
    finally:
        await pool.dispose()
    assert len(plans) == 3, plans  # usage with a team and without one, budgets
    assert all(plan["kept"] > 0 for plan in plans), plans


async def test_a_budget_is_sold_once_to_all_who_ask_at_once(desk: Desk) -> None:
    """I3: of thirty jobs at once under a budget for ten, no more than ten hold, and the sum never exceeds it."""
    price = Decimal((await desk.submit(dry_run=True)).amount or "")
    await desk.limit(format(price * 10, "f"))
    answers = await asyncio.gather(*(desk.submit() for _ in range(30)))
    states = Counter((answer.state, answer.problem) for answer in answers)
    assert states == {("QUEUED", None): 10, ("DENIED", "budget_exceeded"): 20}
    assert await desk.money() == (price * 10, Decimal(0))
    assert (await desk.replayed()).differences == []


async def test_evidence_of_a_denial_is_of_the_spec_that_was_denied(desk: Desk) -> None:
    """G3: what the statement hashes is the accepted spec, with the id that the plane gave it."""
    admission = await desk.submit(who=person("eve", "demo", "auditor"))
    row = await desk.row(admission.job_id)
    async with desk.plane.transaction("demo") as conn:
        opened = await desk.plane.vault.read(conn, "demo", row["spec_blob"])
    assert msgspec.json.decode(opened.content)["job_id"] == admission.job_id
