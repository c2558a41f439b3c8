# SPDX-License-Identifier: Apache-2.0
"""No interleaving oversells a budget: real transactions on a real PostgreSQL, some of them killed (I3)."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.db import engine as make_engine
from control_plane.db import transaction
from finops import money, store
from finops.errors import HoldClosed, HoldExists
from tests.postgres import TestDatabase

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
MIDNIGHTS = (AT, datetime(2026, 11, 22, tzinfo=UTC))
CLIENTS = 16
PRICE = Decimal("0.52")


@pytest.fixture
async def engine(database: TestDatabase) -> AsyncIterator[AsyncEngine]:
    """As many connections as clients."""
    made = make_engine(database.app, connections=CLIENTS)
    yield made
    await made.dispose()


async def budgets(engine: AsyncEngine, *wanted: tuple[str, str, str]) -> list[str]:
    """Budgets of (scope, period, limit)."""
    async with transaction(engine, "demo") as conn:
        made = [await store.set_budget(conn, "demo", s, p, Decimal(a), "USD") for s, p, a in wanted]
    return [budget.budget_id for budget in made]


async def spent(engine: AsyncEngine) -> dict[str, tuple[Decimal, Decimal]]:
    """By scope: held + captured, and the limit."""
    async with transaction(engine, "demo") as conn:
        views = await store.show(conn, "demo", AT)
    return {view.scope: (money.total((view.held, view.captured)), view.limit) for view in views}


async def watch(engine: AsyncEngine, done: asyncio.Event) -> int:
    """Look at the budgets while others spend: the count of looks, each within every limit."""
    looks = 0
    while not done.is_set():
        assert all(used <= limit for used, limit in (await spent(engine)).values())
        looks += 1
        await asyncio.sleep(0)
    return looks


async def test_a_hot_budget_is_sold_to_its_last_hold_and_no_further(engine: AsyncEngine) -> None:
    """I3: of 16 clients' 160 asks at 0.52, a budget of 50 grants exactly 96."""
    ids = await budgets(engine, ("project:p", "monthly", "50"))
    granted = refused = 0

    async def client(number: int) -> None:
        nonlocal granted, refused
        for turn in range(10):
            async with transaction(engine, "demo") as conn:
                result = await store.hold(conn, "demo", f"j{number}-{turn}", ids, PRICE, "USD", AT)
            granted += isinstance(result, store.Held)
            refused += isinstance(result, store.Exceeded)

    done = asyncio.Event()
    watcher = asyncio.create_task(watch(engine, done))
    await asyncio.gather(*(client(number) for number in range(CLIENTS - 1)), client(CLIENTS))
    done.set()
    assert await watcher > 0
    assert (granted, refused) == (96, 64)
    assert await spent(engine) == {"project:p": (Decimal("49.92"), Decimal(50))}


async def test_nested_budgets_named_in_any_order_neither_deadlock_nor_oversell(engine: AsyncEngine) -> None:
    """I3, decision 6: every client names its budgets in another order, and settles on the way."""
    ids = await budgets(
        engine,
        ("tenant:demo", "total", "30"),
        ("project:p", "monthly", "25"),
        ("cost_center:c", "quarterly", "20"),
        ("user:u", "rolling:7", "15"),
    )
    captured = money.ZERO

    async def client(number: int) -> None:
        nonlocal captured
        order = random.Random(number)
        for turn in range(10):
            job, wanted = f"j{number}-{turn}", [ids[1], *order.sample(ids, order.randint(1, 4))]
            async with transaction(engine, "demo") as conn:
                result = await store.hold(conn, "demo", job, wanted, PRICE, "USD", AT)
            if isinstance(result, store.Held) and order.random() < 0.7:
                capture = Decimal(order.randint(0, 52)).scaleb(-2)
                async with transaction(engine, "demo") as conn:
                    await store.settle(conn, "demo", job, capture)
                captured += capture

    done = asyncio.Event()
    watcher = asyncio.create_task(watch(engine, done))
    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    done.set()
    await watcher
    async with transaction(engine, "demo") as conn:
        views = {view.scope: view for view in await store.show(conn, "demo", AT)}
    assert views["project:p"].captured == captured
    assert all(view.available >= 0 for view in views.values())


async def test_a_rolling_budget_is_not_sold_twice_around_midnight(engine: AsyncEngine) -> None:
    """I3: clients whose clocks stand on either side of midnight write different days of one budget."""
    ids = await budgets(engine, ("project:p", "rolling:7", "5.2"))

    async def client(number: int) -> bool:
        async with transaction(engine, "demo") as conn:
            moment = MIDNIGHTS[number % 2]
            result = await store.hold(conn, "demo", f"j{number}", ids, PRICE, "USD", moment)
        return isinstance(result, store.Held)

    assert sum(await asyncio.gather(*(client(number) for number in range(40)))) == 10


async def test_one_of_many_settlements_of_a_job_counts(engine: AsyncEngine) -> None:
    """I3: a crash and its repair never double a charge."""
    ids = await budgets(engine, ("project:p", "monthly", "1"))
    async with transaction(engine, "demo") as conn:
        await store.hold(conn, "demo", "j1", ids, PRICE, "USD", AT)

    async def client() -> bool:
        try:
            async with transaction(engine, "demo") as conn:
                await store.settle(conn, "demo", "j1", Decimal("0.38"))
        except HoldClosed:
            return False
        return True

    assert sum(await asyncio.gather(*(client() for _ in range(CLIENTS)))) == 1
    assert await spent(engine) == {"project:p": (Decimal("0.38"), Decimal(1))}


async def test_one_of_many_holds_of_a_job_counts(engine: AsyncEngine) -> None:
    """I3: a hold is unique by (tenant, job), at any concurrency."""
    ids = await budgets(engine, ("project:p", "monthly", "10"))

    async def client() -> bool:
        try:
            async with transaction(engine, "demo") as conn:
                return isinstance(await store.hold(conn, "demo", "j1", ids, PRICE, "USD", AT), store.Held)
        except HoldExists:
            return False

    assert sum(await asyncio.gather(*(client() for _ in range(CLIENTS)))) == 1
    assert await spent(engine) == {"project:p": (PRICE, Decimal(10))}


async def test_a_limit_lowered_meanwhile_is_seen_by_the_hold_that_waited_for_it(engine: AsyncEngine) -> None:
    """I3: the limit that counts is the one committed when the hold gets its turn."""
    ids = await budgets(engine, ("project:p", "monthly", "10"))
    async with transaction(engine, "demo") as lowering:
        await store.set_budget(lowering, "demo", "project:p", "monthly", Decimal("0.1"), "USD")
        async with transaction(engine, "demo") as waiting:
            asked = asyncio.create_task(store.hold(waiting, "demo", "j1", ids, PRICE, "USD", AT))
            await blocked(engine)
            await lowering.commit()
            assert isinstance(await asked, store.Exceeded)


async def blocked(engine: AsyncEngine) -> None:
    """Return once some transaction of this database waits for a lock."""
    waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    while True:
        async with engine.connect() as conn:
            if (await conn.execute(waits)).scalar_one():
                return


async def test_a_killed_transaction_leaves_neither_hold_nor_charge(engine: AsyncEngine, database: TestDatabase) -> None:
    """I3: backends are terminated between hold or settlement and commit; the rows are what was committed."""
    ids = await budgets(engine, ("tenant:demo", "total", "20"), ("project:p", "monthly", "15"))
    committed: dict[str, Decimal | None] = {}
    killed = 0
    admin = await psycopg.AsyncConnection.connect(database.conninfo("superuser"), autocommit=True)

    async def client(number: int) -> None:
        nonlocal killed
        order = random.Random(number)
        for turn in range(6):
            job = f"j{number}-{turn}"
            for step in ("hold", "settle"):
                capture = Decimal(order.randint(0, 52)).scaleb(-2)
                try:
                    async with transaction(engine, "demo") as conn:
                        if step == "hold":
                            result = await store.hold(conn, "demo", job, ids, PRICE, "USD", AT)
                            if not isinstance(result, store.Held):
                                return
                        else:
                            await store.settle(conn, "demo", job, capture)
                        if order.random() < 0.3:
                            pid = (await conn.execute(text("SELECT pg_backend_pid()"))).scalar_one()
                            await admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
                except DBAPIError:
                    killed += 1
                    break
                committed[job] = None if step == "hold" else capture

    await asyncio.gather(*(client(number) for number in range(8)))
    await admin.close()
    async with transaction(engine, "demo") as conn:
        books = await store.books(conn, "demo")
    found = {job: hold.settlement and hold.settlement.captured for job, hold in books.holds.items()}
    assert killed > 0
    assert found == committed
    held = PRICE * sum(capture is None for capture in committed.values())
    captured = money.total(capture for capture in committed.values() if capture is not None)
    for balance in books.balances.values():
        assert (balance.held, balance.captured) == (held, captured)


async def test_holds_that_move_between_providers_while_limits_change_neither_deadlock_nor_oversell(
    engine: AsyncEngine,
) -> None:
    """I3: held, made anew elsewhere, settled, by many at once, in nested budgets and quotas; limits rise and fall."""
    ids = await budgets(
        engine,
        ("project:p", "monthly", "40"),
        ("tenant:demo", "quarterly", "30"),
        ("provider:a", "monthly", "9"),
        ("provider:b", "rolling:3", "7"),
    )
    async with transaction(engine, "demo") as conn:
        jobs = await store.set_budget(conn, "demo", "user:u", "concurrent", Decimal(9), "jobs")
        shots = await store.set_budget(conn, "demo", "project:p", "total", Decimal(60_000), "shots")
    ids += [jobs.budget_id, shots.budget_id]
    peak: list[Decimal] = []
    captured = ran = 0

    async def client(number: int) -> None:
        nonlocal captured, ran
        order = random.Random(number)
        for turn in range(8):
            job, names = f"j{number}-{turn}", order.sample([*ids[:2], *ids[4:]], 4)
            async with transaction(engine, "demo") as conn:
                result = await store.hold(conn, "demo", job, names, PRICE, "USD", AT, Decimal(1000))
            if not isinstance(result, store.Held):
                assert isinstance(result, store.Exceeded)
                continue
            for _ in range(2):
                there = [*names, ids[order.choice((2, 3))]]
                order.shuffle(there)
                amount = Decimal(order.randint(20, 90)).scaleb(-2)
                async with transaction(engine, "demo") as conn:
                    await store.rehold(conn, "demo", job, there, amount, "USD", AT, Decimal(1000))
            if order.random() < 0.8:
                cost = Decimal(order.randint(0, 20)).scaleb(-2)
                async with transaction(engine, "demo") as conn:
                    await store.settle(conn, "demo", job, cost, shots=Decimal(1000), jobs=Decimal(1))
                captured += int(cost * 100)
                ran += 1

    async def treasurer() -> None:
        for turn in range(20):
            async with transaction(engine, "demo") as conn:
                limit = Decimal(9 if turn % 2 else 1)
                await store.set_budget(conn, "demo", "provider:a", "monthly", limit, "USD")

    async def look(done: asyncio.Event) -> None:
        hard = {"project:p USD", "tenant:demo USD", "provider:b USD", "user:u jobs", "project:p shots"}
        while not done.is_set():
            async with transaction(engine, "demo") as conn:
                views = await store.show(conn, "demo", AT)
            assert all(view.available >= 0 for view in views if f"{view.scope} {view.currency}" in hard)
            assert all(view.available >= -8 for view in views)  # what stood before its limit was lowered goes on
            peak.append(max(view.held for view in views))
            await asyncio.sleep(0)

    done = asyncio.Event()
    watcher = asyncio.create_task(look(done))
    await asyncio.gather(*(client(number) for number in range(CLIENTS - 2)), treasurer())
    done.set()
    await watcher
    async with transaction(engine, "demo") as conn:
        books = await store.books(conn, "demo")
        found = {(view.scope, view.currency): view for view in await store.show(conn, "demo", AT)}
    open_holds = [hold for hold in books.holds.values() if hold.state == "held"]
    assert found["project:p", "USD"].captured == Decimal(captured).scaleb(-2)
    assert found["project:p", "USD"].held == money.total(hold.amount for hold in open_holds)
    assert found["project:p", "shots"].captured == 1000 * ran
    assert found["user:u", "jobs"].held == len(open_holds)
    providers = {ids[2], ids[3]}
    there = [hold for hold in open_holds if {share.id for share in hold.budgets} & providers]
    held = found["provider:a", "USD"].held + found["provider:b", "USD"].held
    assert (held, max(peak) > 0) == (money.total(hold.amount for hold in there), True)
