# SPDX-License-Identifier: Apache-2.0
"""The fold of what the store says equals the store's rows, whatever was asked of it (I3, I6)."""

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from control_plane.db import transaction
from finops import money, store
from finops.books import Books, differences, fold
from finops.errors import FinopsError
from tests.postgres import TestDatabase

BUDGETS = (
    ("project:p", "monthly"),
    ("project:p", "rolling:2"),
    ("cost_center:c", "quarterly"),
    ("user:u", "total"),
)
START = datetime(2028, 2, 28, 20, tzinfo=UTC)
AMOUNTS = st.decimals(min_value=0, max_value=3, places=4, allow_nan=False)
JOBS = st.integers(0, 5).map("j{}".format)
OPERATIONS = st.one_of(
    st.tuples(st.just("set"), st.integers(0, len(BUDGETS) - 1), AMOUNTS),
    st.tuples(st.just("hold"), JOBS, AMOUNTS, st.integers(0, 96)),
    st.tuples(st.just("rehold"), JOBS, AMOUNTS),
    st.tuples(st.just("settle"), JOBS, AMOUNTS),
    st.tuples(st.just("release"), JOBS),
    st.tuples(st.just("park"), JOBS),
)


async def perform(conn: AsyncConnection, tenant: str, operation: Any) -> tuple[str, dict[str, Any]] | None:
    """One operation; the kind and body of the entry that its caller would write, if it did anything."""
    match operation:
        case ("set", index, limit):
            scope, period = BUDGETS[index]
            return "budget:set", (await store.set_budget(conn, tenant, scope, period, limit, "USD")).body()
        case ("hold", job, amount, hours):
            ids = [view.budget_id for view in await store.show(conn, tenant, START)]
            held = await store.hold(conn, tenant, job, ids, amount, "USD", START + timedelta(hours=hours))
            return ("job:admission:allowed", {"hold": held.body()}) if isinstance(held, store.Held) else None
        case ("rehold", job, amount):
            ids = [view.budget_id for view in await store.show(conn, tenant, START)]
            grown = await store.rehold(conn, tenant, job, ids, amount, "USD", START)
            return ("job:intended", {"rehold": grown.body()}) if isinstance(grown, store.Held) else None
        case ("settle", job, amount):
            return "job:outcome", {"settle": (await store.settle(conn, tenant, job, amount)).body()}
        case ("release", job):
            return "job:outcome", {"settle": (await store.release(conn, tenant, job)).body()}
        case ("park", job):
            return "job:outcome", {"settle": (await store.park(conn, tenant, job)).body()}
    raise AssertionError(operation)


async def check(database: TestDatabase, tenant: str, operations: list[Any]) -> None:
    """Run the operations, each in a transaction; compare rows and fold; then check what must hold of both."""
    engine = create_async_engine(database.app, poolclass=NullPool)
    folded = Books()
    overrun = money.ZERO
    async with transaction(engine, tenant) as conn:
        for operation in operations:
            try:
                entry = await perform(conn, tenant, operation)
            except FinopsError:
                continue
            if entry is not None:
                fold(folded, *entry)
                overrun += Decimal(entry[1].get("settle", {}).get("overrun", "0"))
        rows = await store.books(conn, tenant)
        assert differences(rows, folded) == []
    held = money.total(hold.amount for hold in folded.holds.values() if hold.state != "settled")
    for budget_id, budget in folded.budgets.items():
        balances = [balance for key, balance in folded.balances.items() if key[0] == budget_id]
        mine = [hold for hold in folded.holds.values() if budget_id in {share.id for share in hold.budgets}]
        assert money.total(balance.held for balance in balances) <= held
        assert money.total(balance.captured for balance in balances) == money.total(
            hold.settlement.captured for hold in mine if hold.settlement
        ), budget
    await engine.dispose()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_fold_of_the_bodies_equals_the_rows(database: TestDatabase) -> None:
    """I6: any sequence of operations, refused ones included, over month end and leap day; all exact."""
    numbers = iter(range(10**6))

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.lists(OPERATIONS, min_size=5, max_size=40))
    def property_(operations: list[Any]) -> None:
        first = [("set", 0, Decimal(2))]
        running: Coroutine[Any, Any, None] = check(database, f"t{next(numbers)}", first + operations)
        asyncio.run(running)

    property_()
