# SPDX-License-Identifier: Apache-2.0
"""A charge is in the month that closes, or in the next; what is closed never changes (G7, I6, I7)."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.db import engine as make_engine
from control_plane.db import transaction
from finops import charge_store, money, month_store
from finops.charges import Line, Section
from tests.postgres import TestDatabase

OCTOBER = datetime(2026, 10, 31, 23, 59, 59, 999000, UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
CLIENTS = 8


@pytest.fixture
async def engine(database: TestDatabase) -> AsyncIterator[AsyncEngine]:
    """As many connections as clients."""
    made = make_engine(database.app, connections=CLIENTS)
    yield made
    await made.dispose()


async def charge(engine: AsyncEngine, at: datetime, amount: str = "1", tenant: str = "demo") -> str:
    """A shared cost of this moment; its entry's id."""
    entry, section = str(uuid.uuid4()), Section(lines=(Line(amount=amount),), currency="USD", category="shared")
    async with transaction(engine, tenant) as conn:
        await charge_store.insert(conn, tenant, entry, at, (section,))
    return entry


async def freeze(engine: AsyncEngine, month: str, tenant: str = "demo") -> None:
    """Freeze it."""
    async with transaction(engine, tenant) as conn:
        await month_store.lock(conn, tenant)
        await month_store.freeze(conn, tenant, month, str(uuid.uuid4()), NOVEMBER)


async def summed(engine: AsyncEngine, month: str, tenant: str = "demo") -> tuple[int, Decimal]:
    """How many lines, and what they come to."""
    async with transaction(engine, tenant) as conn:
        found = [row.amount async for row in charge_store.lines(conn, tenant, month=month)]
    return len(found), money.total(found)


async def test_a_charge_counts_in_its_month_until_that_is_frozen_then_in_the_next(engine: AsyncEngine) -> None:
    """By the UTC calendar, to the millisecond; over a year's end; another tenant's months are its own (I7)."""
    await charge(engine, OCTOBER)
    await charge(engine, NOVEMBER)
    await charge(engine, datetime(2024, 2, 29, 23, 59, tzinfo=UTC))
    assert [(await summed(engine, m))[0] for m in ("2026-10", "2026-11", "2024-02")] == [1, 1, 1]
    await freeze(engine, "2026-10")
    await charge(engine, OCTOBER)
    assert [(await summed(engine, m))[0] for m in ("2026-10", "2026-11")] == [1, 2]
    for month in ("2026-11", "2026-12"):
        await freeze(engine, month)
    await charge(engine, OCTOBER)
    assert (await summed(engine, "2027-01"))[0] == 1
    await charge(engine, OCTOBER, tenant="other")
    assert (await summed(engine, "2026-10", "other"))[0] == 1


async def test_whoever_charges_while_the_month_freezes_is_in_it_or_in_the_next(engine: AsyncEngine) -> None:
    """Real concurrent transactions: what is read once the freeze is committed never changes, and nothing is lost."""
    done = asyncio.Event()

    async def charging() -> int:
        made = 0
        while not done.is_set():
            await charge(engine, OCTOBER, "0.01")
            made += 1
        return made

    clients = [asyncio.create_task(charging()) for _ in range(CLIENTS - 2)]
    while (await summed(engine, "2026-10"))[0] < 20:  # noqa: ASYNC110 - a look is a transaction
        await asyncio.sleep(0)
    await freeze(engine, "2026-10")
    at_once = await summed(engine, "2026-10")
    while (await summed(engine, "2026-11"))[0] < 20:  # noqa: ASYNC110
        await asyncio.sleep(0)
    done.set()
    made = sum(await asyncio.gather(*clients))
    october, november = await summed(engine, "2026-10"), await summed(engine, "2026-11")
    assert october == at_once
    assert october[0] + november[0] == made
    assert money.total((october[1], november[1])) == Decimal("0.01") * made


async def test_freezing_waits_for_who_is_charging_and_who_comes_later_waits_for_it(engine: AsyncEngine) -> None:
    """The lock of months: shared by charges, alone for the freeze, and let go after its commit."""
    section = (Section(lines=(Line(amount="1"),), currency="USD", category="shared"),)
    async with transaction(engine, "demo") as conn:
        await charge_store.insert(conn, "demo", str(uuid.uuid4()), OCTOBER, section)
        freezing = asyncio.create_task(freeze(engine, "2026-10"))
        done, _ = await asyncio.wait({freezing}, timeout=0.2)
        assert not done
        late = asyncio.create_task(charge(engine, OCTOBER))
        waited, _ = await asyncio.wait({late}, timeout=0.2)
        assert not waited
    await asyncio.gather(freezing, late)
    assert [(await summed(engine, m))[0] for m in ("2026-10", "2026-11")] == [1, 1]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE finops.charge SET amount = 0", "what was charged stays"),
        ("DELETE FROM finops.charge", "what was charged stays"),
        (
            "INSERT INTO finops.charge SELECT (jsonb_populate_record(c, '{\"line\": 9}')).* FROM finops.charge c",
            "closed",
        ),
        ("DELETE FROM finops.month", "stays as it is"),
        ("UPDATE finops.month SET month = '2026-09'", "stays as it is"),
        ("UPDATE finops.month SET frozen_at = now()", "stays as it is"),
    ],
)
async def test_what_is_frozen_is_changed_by_nobody(
    engine: AsyncEngine, database: TestDatabase, statement: str, said: str
) -> None:
    """Not by the plane's own role, and not by a superuser who mends something by hand."""
    await charge(engine, OCTOBER)
    await freeze(engine, "2026-10")
    admin = make_engine(database.superuser)
    try:
        async with admin.connect() as conn:
            with pytest.raises(DBAPIError, match=said):
                await conn.execute(text(statement))
    finally:
        await admin.dispose()


async def test_a_month_is_frozen_once_and_closed_once(engine: AsyncEngine) -> None:
    """Two at once: the second finds the first one's statement."""
    await freeze(engine, "2026-10")
    with pytest.raises(DBAPIError):
        await freeze(engine, "2026-10")

    async def close(salt: bytes) -> bool:
        async with transaction(engine, "demo") as conn:
            evidence = (str(uuid.uuid4()), b"statement", salt)
            return await month_store.close(
                conn, "demo", "2026-10", entry_id=str(uuid.uuid4()), at=NOVEMBER, evidence=evidence
            )

    assert sorted(await asyncio.gather(*(close(bytes([n])) for n in range(4)))) == [False, False, False, True]
    async with transaction(engine, "demo") as conn:
        kept = await month_store.month(conn, "demo", "2026-10")
    assert kept is not None
    assert kept.state == "closed"
    async with transaction(engine, "other") as conn:
        assert await month_store.months(conn, "other") == []
