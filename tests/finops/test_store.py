# SPDX-License-Identifier: Apache-2.0
"""Budgets and the holds in them on a real PostgreSQL (I3, I6, I7)."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.db import engine as make_engine
from control_plane.db import transaction
from finops import card_store, store
from finops.budget import BudgetView
from finops.errors import (
    AmountInvalid,
    BudgetInvalid,
    CurrencyMismatch,
    HoldClosed,
    HoldExists,
    HoldOpen,
    HoldUnknown,
    UnknownPrice,
)
from tests.postgres import TestDatabase

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
AER = (Path(__file__).parents[1] / "vectors" / "cards" / "good" / "version_1_aer.json").read_bytes()
D = Decimal


@pytest.fixture
async def engine(database: TestDatabase) -> AsyncIterator[AsyncEngine]:
    """The application's own login."""
    made = make_engine(database.app)
    yield made
    await made.dispose()


@pytest.fixture
async def conn(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """One transaction of tenant `demo`."""
    async with transaction(engine, "demo") as conn:
        yield conn


async def budget(conn: AsyncConnection, amount: str = "1", scope: str = "project:p", period: str = "monthly") -> str:
    """A budget in USD."""
    return (await store.set_budget(conn, "demo", scope, period, D(amount), "USD")).budget_id


async def standing(conn: AsyncConnection, at: datetime = AT) -> dict[str, tuple[Decimal, Decimal, Decimal]]:
    """(held, captured, available) by scope and period."""
    views = await store.show(conn, "demo", at)
    return {f"{view.scope} {view.period}": (view.held, view.captured, view.available) for view in views}


async def hold(conn: AsyncConnection, job: str, budgets: list[str], amount: str, at: datetime = AT) -> store.HoldResult:
    """Hold USD."""
    return await store.hold(conn, "demo", job, budgets, D(amount), "USD", at)


async def test_a_hold_is_captured_once_and_the_rest_released(conn: AsyncConnection) -> None:
    """I3, path step 7: hold, capture, release, like a card."""
    id_ = await budget(conn)
    held = await hold(conn, "j1", [id_], "0.52")
    assert isinstance(held, store.Held)
    assert held.body() == {
        "job_id": "j1",
        "amount": "0.52",
        "currency": "USD",
        "budgets": [{"id": id_, "window": "2026-11"}],
    }
    assert await standing(conn) == {"project:p monthly": (D("0.52"), D(0), D("0.48"))}
    settled = await store.settle(conn, "demo", "j1", D("0.38"), "USD")
    assert (settled.captured, settled.released, settled.overrun) == (D("0.38"), D("0.14"), D(0))
    assert await standing(conn) == {"project:p monthly": (D(0), D("0.38"), D("0.62"))}
    with pytest.raises(HoldClosed):
        await store.settle(conn, "demo", "j1", D("0.38"))
    with pytest.raises(HoldClosed):
        await store.release(conn, "demo", "j1")
    assert await standing(conn) == {"project:p monthly": (D(0), D("0.38"), D("0.62"))}


async def test_a_hold_is_unique_by_tenant_and_job(conn: AsyncConnection) -> None:
    """I3: a job repeated holds nothing more, settled or not."""
    id_ = await budget(conn)
    await hold(conn, "j1", [id_], "0.1")
    with pytest.raises(HoldExists):
        await hold(conn, "j1", [id_], "0.1")
    await store.release(conn, "demo", "j1")
    with pytest.raises(HoldExists):
        await hold(conn, "j1", [id_], "0.1")
    assert await standing(conn) == {"project:p monthly": (D(0), D(0), D(1))}


async def test_a_job_must_fit_in_every_budget_that_it_touches(conn: AsyncConnection) -> None:
    """I3: the refusal names each budget that is too small, and nothing is held in the others."""
    large = await budget(conn, "10")
    small = await budget(conn, "0.5", "cost_center:CC-RD-42", "quarterly")
    tiny = await budget(conn, "0.4", "user:engineer", "total")
    refused = await hold(conn, "j1", [tiny, large, small], "0.52")
    assert isinstance(refused, store.Exceeded)
    assert {(view.budget_id, view.available) for view in refused.budgets} == {
        (small, D("0.5")),
        (tiny, D("0.4")),
    }
    assert all(held == 0 for held, _, _ in (await standing(conn)).values())
    assert isinstance(await hold(conn, "j1", [tiny, large, small], "0.4"), store.Held)
    assert all(held == D("0.4") for held, _, _ in (await standing(conn)).values())


async def test_a_hold_may_take_a_budget_to_the_last_decimal_and_no_further(conn: AsyncConnection) -> None:
    """I3: the boundary is exact."""
    id_ = await budget(conn, "0.3")
    for number in range(3):
        assert isinstance(await hold(conn, f"j{number}", [id_], "0.1"), store.Held)
    assert isinstance(await hold(conn, "j3", [id_], "0.000000000001"), store.Exceeded)
    assert isinstance(await hold(conn, "j4", [id_], "0"), store.Held)


async def test_a_job_needs_a_budget_of_its_project(conn: AsyncConnection) -> None:
    """`budget_missing`: no budget, another scope's alone, one that isn't there."""
    assert isinstance(await hold(conn, "j1", [], "0"), store.Missing)
    user = await budget(conn, "1", "user:engineer")
    assert isinstance(await hold(conn, "j1", [user], "0.1"), store.Missing)
    project = await budget(conn)
    assert isinstance(await hold(conn, "j1", [project, "gone"], "0.1"), store.Missing)
    assert isinstance(await hold(conn, "j1", [project, user], "0.1"), store.Held)


async def test_an_overrun_is_captured_in_full_and_told(conn: AsyncConnection) -> None:
    """Path step 7: a charge above the hold is never hidden; new holds stop."""
    id_ = await budget(conn)
    await hold(conn, "j1", [id_], "0.9")
    settled = await store.settle(conn, "demo", "j1", D("1.25"))
    assert settled.body() == {
        "job_id": "j1",
        "capture": "1.25",
        "release": "0",
        "overrun": "0.35",
        "currency": "USD",
        "budgets": [{"id": id_, "window": "2026-11"}],
    }
    assert await standing(conn) == {"project:p monthly": (D(0), D("1.25"), D("-0.25"))}
    assert isinstance(await hold(conn, "j2", [id_], "0"), store.Exceeded)


async def test_a_parked_hold_stays_until_it_is_settled(conn: AsyncConnection) -> None:
    """I3: the hold of an UNCERTAIN job outlives it, counted, and can end later."""
    id_ = await budget(conn)
    await hold(conn, "j1", [id_], "0.9")
    assert (await store.park(conn, "demo", "j1")).amount == D("0.9")
    assert isinstance(await hold(conn, "j2", [id_], "0.2"), store.Exceeded)
    with pytest.raises(HoldClosed):
        await store.rehold(conn, "demo", "j1", [id_], D(1), "USD", AT)
    await store.settle(conn, "demo", "j1", D("0.3"))
    assert await standing(conn) == {"project:p monthly": (D(0), D("0.3"), D("0.7"))}
    with pytest.raises(HoldClosed):
        await store.park(conn, "demo", "j1")


async def rehold(conn: AsyncConnection, job: str, budgets: list[str], amount: str) -> store.HoldResult:
    """Make a hold in USD anew."""
    return await store.rehold(conn, "demo", job, budgets, D(amount), "USD", AT)


async def test_a_hold_is_made_larger_within_its_budgets_or_stays(conn: AsyncConnection) -> None:
    """Path step 5: above the hold, enlarge it or fail; less is given back at once."""
    id_ = await budget(conn)
    await hold(conn, "j1", [id_], "0.5")
    assert isinstance(await rehold(conn, "j1", [id_], "0.75"), store.Held)
    assert await standing(conn) == {"project:p monthly": (D("0.75"), D(0), D("0.25"))}
    assert isinstance(await rehold(conn, "j1", [id_], "1.01"), store.Exceeded)
    assert await standing(conn) == {"project:p monthly": (D("0.75"), D(0), D("0.25"))}
    assert isinstance(await rehold(conn, "j1", [id_], "0.1"), store.Held)
    assert await standing(conn) == {"project:p monthly": (D("0.1"), D(0), D("0.9"))}


async def test_a_hold_joins_and_leaves_budgets_in_the_window_of_its_admission(conn: AsyncConnection) -> None:
    """I3: a provider's budget joins where the provider is known, and gets its share back where another has the job."""
    project = await budget(conn)
    one, two = await budget(conn, "0.6", "provider:one"), await budget(conn, "0.4", "provider:two", "rolling:2")
    await hold(conn, "j1", [project], "0.5")
    assert isinstance(await rehold(conn, "j1", [project, one], "0.5"), store.Held)
    refused = await rehold(conn, "j1", [project, two], "0.5")
    assert isinstance(refused, store.Exceeded)
    assert [(view.scope, view.asked) for view in refused.budgets] == [("provider:two", D("0.5"))]
    assert refused.detail == "provider:two (rolling:2) has 0.4 USD left of 0.4, 0.5 asked"
    moved = await rehold(conn, "j1", [project, two], "0.4")
    assert isinstance(moved, store.Held)
    assert {share.id: share.window for share in moved.budgets} == {project: "2026-11", two: "2026-11-21"}
    held = {name: figures[0] for name, figures in (await standing(conn)).items()}
    assert held == {"project:p monthly": D("0.4"), "provider:one monthly": D(0), "provider:two rolling:2": D("0.4")}
    await store.settle(conn, "demo", "j1", D("0.3"))
    captured = {name: figures[1] for name, figures in (await standing(conn)).items()}
    assert captured == {"project:p monthly": D("0.3"), "provider:one monthly": D(0), "provider:two rolling:2": D("0.3")}


async def test_a_lowered_limit_lets_a_hold_shrink_and_not_grow(conn: AsyncConnection) -> None:
    """I3, G7: what is held stays good under a limit that was lowered since; more isn't granted."""
    id_ = await budget(conn)
    await hold(conn, "j1", [id_], "0.5")
    await budget(conn, "0.1")
    assert isinstance(await rehold(conn, "j1", [id_], "0.500001"), store.Exceeded)
    assert isinstance(await rehold(conn, "j1", [id_], "0.5"), store.Held)
    assert isinstance(await rehold(conn, "j1", [id_], "0.4"), store.Held)


async def test_quotas_of_shots_and_jobs_are_held_beside_money(conn: AsyncConnection) -> None:
    """G7: shots and concurrency are holds too (decision 6); what ran is captured, what runs at once is not."""
    project = await budget(conn)
    shots = (await store.set_budget(conn, "demo", "project:p", "monthly", D(1500), "shots")).budget_id
    jobs = (await store.set_budget(conn, "demo", "user:u", "concurrent", D(1), "jobs")).budget_id
    asked = ([project, shots, jobs], D("0.1"), "USD", AT, D(1000))
    assert isinstance(await store.hold(conn, "demo", "j1", *asked), store.Held)
    refused = await store.hold(conn, "demo", "j2", *asked)
    assert isinstance(refused, store.Exceeded)
    assert refused.code == "quota_exceeded"
    assert {(view.scope, view.currency, view.available, view.asked) for view in refused.budgets} == {
        ("project:p", "shots", D(500), D(1000)),
        ("user:u", "jobs", D(0), D(1)),
    }
    await store.settle(conn, "demo", "j1", D("0.1"), shots=D(400), jobs=D(1))
    found = {(view.currency, view.period): view for view in await store.show(conn, "demo", AT)}
    assert (found["shots", "monthly"].captured, found["shots", "monthly"].held) == (D(400), D(0))
    assert (found["jobs", "concurrent"].captured, found["jobs", "concurrent"].held) == (D(0), D(0))
    assert isinstance(await store.hold(conn, "demo", "j2", *asked), store.Held)


@pytest.mark.parametrize("mode", ["soft", "advisory"])
async def test_a_budget_that_is_not_hard_counts_and_stops_nothing(conn: AsyncConnection, mode: str) -> None:
    """G7; I3 is said of hard budgets, and a mode may change at any moment."""
    project = await budget(conn, "10")
    user = (await store.set_budget(conn, "demo", "user:u", "monthly", D("0.1"), "USD", mode=mode)).budget_id
    assert isinstance(await hold(conn, "j1", [project, user], "0.5"), store.Held)
    assert (await standing(conn))["user:u monthly"] == (D("0.5"), D(0), D("-0.4"))
    changed = await store.set_budget(conn, "demo", "user:u", "monthly", D("0.1"), "USD", mode="hard")
    assert (changed.budget_id, changed.mode) == (user, "hard")
    assert isinstance(await hold(conn, "j2", [project, user], "0.01"), store.Exceeded)
    await store.settle(conn, "demo", "j1", D("0.05"))
    assert isinstance(await hold(conn, "j2", [project, user], "0.01"), store.Held)


async def test_a_project_needs_a_hard_budget_in_money(conn: AsyncConnection) -> None:
    """`budget_missing`: a quota, or a budget that stops nothing, is none."""
    shots = (await store.set_budget(conn, "demo", "project:p", "monthly", D(10), "shots")).budget_id
    soft = (await store.set_budget(conn, "demo", "project:p", "monthly", D(10), "USD", mode="soft")).budget_id
    assert isinstance(await hold(conn, "j1", [shots, soft], "0.1"), store.Missing)
    await store.set_budget(conn, "demo", "project:p", "monthly", D(10), "USD", mode="hard")
    assert isinstance(await hold(conn, "j1", [shots, soft], "0.1"), store.Held)


async def test_what_is_not_said_of_a_budget_stays(conn: AsyncConnection) -> None:
    """A new limit leaves mode and thresholds alone."""
    made = await store.set_budget(conn, "demo", "user:u", "total", D(1), "USD", mode="soft", thresholds=(50, 100))
    again = await store.set_budget(conn, "demo", "user:u", "total", D(2), "USD")
    assert again.body() == made.body() | {"limit": "2"}


@pytest.mark.parametrize(
    ("period", "amount", "unit", "terms", "field"),
    [
        ("concurrent", "1", "USD", {}, "period"),
        ("monthly", "1.5", "shots", {}, "amount"),
        ("monthly", "1", "job", {}, "currency"),
        ("monthly", "1", "USD", {"mode": "mild"}, "mode"),
        ("monthly", "1", "USD", {"thresholds": (100, 80)}, "thresholds"),
        ("monthly", "1", "USD", {"thresholds": (0,)}, "thresholds"),
        ("monthly", "1", "USD", {"thresholds": tuple(range(1, 18))}, "thresholds"),
    ],
)
async def test_terms_that_make_no_budget_are_refused_by_field(
    conn: AsyncConnection, period: str, amount: str, unit: str, terms: dict[str, Any], field: str
) -> None:
    """Nothing is set."""
    with pytest.raises((BudgetInvalid, AmountInvalid), match=f"^{field}: "):
        await store.set_budget(conn, "demo", "project:p", period, D(amount), unit, **terms)
    assert await store.show(conn, "demo", AT) == []


async def test_money_given_back_is_there_again_where_it_was_spent(conn: AsyncConnection) -> None:
    """I3: never more than was captured, never before it was; quotas keep what ran."""
    project = await budget(conn)
    shots = (await store.set_budget(conn, "demo", "project:p", "monthly", D(1000), "shots")).budget_id
    await store.hold(conn, "demo", "j1", [project, shots], D("0.5"), "USD", AT, D(1000))
    with pytest.raises(HoldOpen):
        await store.refund(conn, "demo", "j1", D("0.1"), "USD")
    await store.settle(conn, "demo", "j1", D("0.4"), shots=D(1000), jobs=D(1))
    assert (await store.refund(conn, "demo", "j1", D("0.3"), "USD")).refunded == D("0.3")
    with pytest.raises(AmountInvalid, match=r"at most 0\.1 is left"):
        await store.refund(conn, "demo", "j1", D("0.2"), "USD")
    with pytest.raises(CurrencyMismatch):
        await store.refund(conn, "demo", "j1", D("0.1"), "EUR")
    found = {view.currency: view.captured for view in await store.show(conn, "demo", AT)}
    assert found == {"USD": D("0.1"), "shots": D(1000)}


async def test_no_hold_no_settlement(conn: AsyncConnection) -> None:
    """A job that held nothing is charged nothing by accident."""
    with pytest.raises(HoldUnknown):
        await store.settle(conn, "demo", "j1", D(1))
    id_ = await budget(conn)
    with pytest.raises(HoldUnknown):
        await store.rehold(conn, "demo", "j1", [id_], D(1), "USD", AT)
    with pytest.raises(HoldClosed):
        await store.park(conn, "demo", "j1")


async def test_a_lowered_limit_stops_new_holds_and_touches_no_old_one(conn: AsyncConnection) -> None:
    """G7: lowering below what is spent is allowed."""
    id_ = await budget(conn)
    await hold(conn, "j1", [id_], "0.52")
    assert await budget(conn, "0.1") == id_
    assert await standing(conn) == {"project:p monthly": (D("0.52"), D(0), D("-0.42"))}
    assert isinstance(await hold(conn, "j2", [id_], "0.01"), store.Exceeded)
    await store.settle(conn, "demo", "j1", D("0.09"))
    assert isinstance(await hold(conn, "j2", [id_], "0.01"), store.Held)


async def test_a_month_begins_anew_and_a_job_stays_in_the_month_of_its_hold(conn: AsyncConnection) -> None:
    """G7: the UTC calendar, and one month a job."""
    monthly, total = await budget(conn), await budget(conn, "1.5", period="total")
    midnight = datetime(2026, 12, 1, tzinfo=UTC)
    before = midnight - timedelta(milliseconds=1)
    await hold(conn, "j1", [monthly, total], "0.9", before)
    assert isinstance(await hold(conn, "j2", [monthly, total], "0.2", before), store.Exceeded)
    assert isinstance(await hold(conn, "j2", [monthly, total], "0.2", midnight), store.Held)
    await store.settle(conn, "demo", "j1", D("0.8"))
    assert (await standing(conn, before))["project:p monthly"] == (D(0), D("0.8"), D("0.2"))
    assert (await standing(conn, midnight))["project:p monthly"] == (D("0.2"), D(0), D("0.8"))
    assert (await standing(conn, midnight))["project:p total"] == (D("0.2"), D("0.8"), D("0.5"))


async def test_a_rolling_budget_forgets_old_captures_but_no_open_hold(conn: AsyncConnection) -> None:
    """I3: what was captured leaves after its days, what is still held never does, over a leap day too."""
    id_ = await budget(conn, "1", period="rolling:7")
    first = datetime(2028, 2, 26, 23, tzinfo=UTC)
    await hold(conn, "j1", [id_], "0.5", first)
    await store.settle(conn, "demo", "j1", D("0.5"))
    await hold(conn, "j2", [id_], "0.3", first + timedelta(days=3))
    last = first + timedelta(days=6)
    assert isinstance(await hold(conn, "j3", [id_], "0.3", last), store.Exceeded)
    assert (await standing(conn, last))["project:p rolling:7"] == (D("0.3"), D("0.5"), D("0.2"))
    assert (await standing(conn, last + timedelta(days=1)))["project:p rolling:7"] == (
        D("0.3"),
        D(0),
        D("0.7"),
    )
    assert (await standing(conn, last + timedelta(days=99)))["project:p rolling:7"] == (
        D("0.3"),
        D(0),
        D("0.7"),
    )


async def applicable(conn: AsyncConnection, **names: Any) -> list[BudgetView]:
    """What a job with these names touches."""
    rows = await conn.exec_driver_sql(*store.applicable("demo", **names, at=AT))
    return store.views(rows.mappings())


async def test_the_budgets_that_apply_are_those_of_the_jobs_names(conn: AsyncConnection) -> None:
    """G7: tenant, project, cost centre, user, workflow, session and provider; no one else's."""
    scopes = ["tenant:demo", "project:p", "cost_center:CC", "user:u", "workflow:w", "session:s", "provider:aer"]
    for scope in [*scopes, "project:q", "user:p", "session:w"]:
        await budget(conn, scope=scope)
    await budget(conn, period="total")
    views = await applicable(conn, project="p", cost_center="CC", user="u", provider="aer", workflow="w", session="s")
    assert sorted(view.scope for view in views) == sorted([*scopes, "project:p"])
    alone = await applicable(conn, project="r", cost_center=None, user=None, provider=None)
    assert [view.scope for view in alone] == ["tenant:demo"]


async def test_a_person_has_budgets_by_name_and_by_name_and_domain(conn: AsyncConnection) -> None:
    """As evidence and costs name them; a namesake of another domain has the first alone."""
    for scope in ("user:u", "user:u@demo", "user:u@corp.example", "user:demo"):
        await budget(conn, scope=scope)
    for domain in ("demo", "corp.example"):
        views = await applicable(conn, project="r", cost_center=None, user=f"u@{domain}", provider=None)
        assert sorted(view.scope for view in views) == ["user:u", f"user:u@{domain}"]


@pytest.mark.parametrize("amount", ["NaN", "-1", "1E30", "Infinity", "1E-13"])
async def test_impossible_amounts_change_nothing(conn: AsyncConnection, amount: str) -> None:
    """NaN, negative, 10^30: refused with the field named, before PostgreSQL sees them."""
    id_ = await budget(conn)
    with pytest.raises(AmountInvalid, match=r"^amount: "):
        await budget(conn, amount)
    with pytest.raises(AmountInvalid, match=r"^amount: "):
        await hold(conn, "j1", [id_], amount)
    await hold(conn, "j1", [id_], "0.5")
    with pytest.raises(AmountInvalid, match=r"^capture: "):
        await store.settle(conn, "demo", "j1", D(amount))
    assert await standing(conn) == {"project:p monthly": (D("0.5"), D(0), D("0.5"))}


async def test_currencies_never_mix(conn: AsyncConnection) -> None:
    """Wrong currency: refused with the field named, wherever it enters."""
    id_ = await budget(conn)
    with pytest.raises(CurrencyMismatch, match=r"^currency: the budget is in USD, which never changes, not in EUR$"):
        await store.set_budget(conn, "demo", "project:p", "monthly", D(1), "EUR")
    with pytest.raises(CurrencyMismatch, match="want USD, got EUR"):
        await store.hold(conn, "demo", "j1", [id_], D("0.1"), "EUR", AT)
    await hold(conn, "j1", [id_], "0.5")
    with pytest.raises(CurrencyMismatch, match="want USD, got EUR"):
        await store.rehold(conn, "demo", "j1", [id_], D(1), "EUR", AT)
    with pytest.raises(CurrencyMismatch, match="want USD, got EUR"):
        await store.settle(conn, "demo", "j1", D("0.1"), "EUR")
    assert await standing(conn) == {"project:p monthly": (D("0.5"), D(0), D("0.5"))}


async def test_a_tenants_budget_is_its_own(conn: AsyncConnection) -> None:
    """I7: no budget is set for another tenant's name."""
    with pytest.raises(BudgetInvalid, match=r"^scope: "):
        await budget(conn, scope="tenant:other")
    for scope in ("project:Zo\u00eb", "cost_center:R&D", "provider:my cloud", "session:-1", "workflow:\uff11"):
        with pytest.raises(BudgetInvalid, match="no job can name it"):
            await budget(conn, scope=scope)
    for scope in ("user:Zo\u00eb Ray", "user:u@", "user:u@CORP.example", "user:corp/u", "user:a@b@c"):
        with pytest.raises(BudgetInvalid, match="want NAME or NAME@DOMAIN"):
            await budget(conn, scope=scope)


async def test_another_tenant_sees_and_changes_nothing(engine: AsyncEngine) -> None:
    """I7: rows, ids, job names and cards are behind the wall, existence included."""
    async with transaction(engine, "demo") as conn:
        id_ = await budget(conn)
        await hold(conn, "j1", [id_], "0.5")
        pushed = await card_store.push(conn, "demo", AER, AT)
    async with transaction(engine, "other") as conn:
        for tenant in ("demo", "other"):
            assert await store.show(conn, tenant, AT) == []
            assert isinstance(await store.hold(conn, tenant, "j2", [id_], D("0.1"), "USD", AT), store.Missing)
            with pytest.raises(HoldUnknown):
                await store.settle(conn, tenant, "j1", D("0.1"))
            with pytest.raises(UnknownPrice):
                await card_store.card(conn, tenant, pushed.hash)
        mine = await store.set_budget(conn, "other", "project:p", "monthly", D(1), "USD")
        assert isinstance(await store.hold(conn, "other", "j1", [mine.budget_id], D("0.1"), "USD", AT), store.Held)
    async with transaction(engine, "demo") as conn:
        assert await standing(conn) == {"project:p monthly": (D("0.5"), D(0), D("0.5"))}


@pytest.mark.parametrize("table", ["budget", "budget_window", "hold", "rate_card"])
async def test_the_application_deletes_no_money(engine: AsyncEngine, table: str) -> None:
    """Decision 4: what was held or priced stays."""
    with pytest.raises(ProgrammingError, match="permission denied"):
        async with transaction(engine, "demo") as conn:
            await conn.execute(text(f"DELETE FROM finops.{table}"))


async def test_the_auditor_reads_every_tenants_books_and_changes_none(
    engine: AsyncEngine, database: TestDatabase
) -> None:
    """I6, decision 4: replay runs as the audit role."""
    async with transaction(engine, "demo") as conn:
        await hold(conn, "j1", [await budget(conn)], "0.5")
    audit = make_engine(database.audit)
    async with transaction(audit, None) as conn:
        assert await store.tenants(conn) == ["demo"]
        assert (await store.books(conn, "demo")).holds["j1"].amount == D("0.5")
        with pytest.raises(ProgrammingError, match="permission denied"):
            await store.settle(conn, "demo", "j1", D(0))
    await audit.dispose()
