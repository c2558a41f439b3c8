# SPDX-License-Identifier: Apache-2.0
"""G13, N13, I7: assignments and rate buckets on a real PostgreSQL, as the role `app`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from control_plane.auth import limits, rights, store
from control_plane.auth.errors import RateLimited, TenantRefused
from control_plane.auth.limits import Limits
from control_plane.auth.principal import Assignment, Principal
from control_plane.auth.rates import TenantRates
from control_plane.db import engine, transaction
from tests.postgres import TestDatabase

ALICE = Principal("alice", "alice", "acme", "acme", "https://idp.example", "a-1")
# Fills so slowly that no test's duration matters.
SLOW = Limits(requests_per_s=1e-6, requests_burst=20, bytes_per_s=1e-6, bytes_burst=1_000)


@pytest.fixture
async def app(database: TestDatabase) -> AsyncIterator[AsyncEngine]:
    """An engine as `app`, with two tenants."""
    found = engine(database.app)
    for tenant in ("acme", "globex"):
        async with transaction(found, tenant) as conn:
            await store.add_tenant(conn, tenant)
    yield found
    await found.dispose()


async def test_projects_are_kept_and_hidden_from_other_tenants(app: AsyncEngine) -> None:
    """I7: another tenant's project looks like none, whoever is asked for."""
    async with transaction(app, "acme") as conn:
        await store.add_project(conn, "acme", "p", cost_center="CC-1", limits={"max_shots": 5})
        await store.add_project(conn, "acme", "p", cost_center="CC-2", limits={"max_shots": 6})
        found = await store.project(conn, "acme", "p")
        assert found is not None
        assert (found.cost_center, found.limits) == ("CC-2", {"max_shots": 6})
        assert [one.project for one in await store.projects(conn, "acme")] == ["p"]
        assert await store.project(conn, "acme", "q") is None
    for tenant in ("globex", None):
        async with transaction(app, tenant) as conn:
            assert await store.project(conn, "acme", "p") is None
            assert await store.projects(conn, "acme") == []
            assert [one.tenant for one in await store.tenants(conn)] == ([tenant] if tenant else [])


async def test_no_row_of_another_tenant_can_be_written(app: AsyncEngine) -> None:
    """I7: row-level security refuses it, not only the code above."""
    writes: tuple[Callable[[AsyncConnection], Awaitable[object]], ...] = (
        lambda conn: store.add_tenant(conn, "initech"),
        lambda conn: store.add_project(conn, "acme", "p"),
        lambda conn: store.assign(conn, "acme", "i", "mallory", Assignment("quantum-admin")),
        lambda conn: limits.take(conn, ALICE, SLOW),
    )
    for write in writes:
        with pytest.raises(DBAPIError, match="row-level security"):
            async with transaction(app, "globex") as conn:
                await write(conn)


@pytest.mark.parametrize("name", ["", "../p", "p q", "p\n", "-p", "p" * 129, "é"])
async def test_odd_names_are_refused_before_the_database(app: AsyncEngine, name: str) -> None:
    """N13: a project's name is safe in paths, logs and budget scopes."""
    async with transaction(app, "acme") as conn:
        with pytest.raises(ValueError, match="project"):
            await store.add_project(conn, "acme", name)
        with pytest.raises(ValueError, match="tenant"):
            await store.add_tenant(conn, name)


async def test_a_role_given_counts_at_once_and_so_does_its_end(app: AsyncEngine) -> None:
    """G13: assignments are read on each request; token roles stay beside them; other people and issuers get nothing."""
    wide, local = Assignment("auditor"), Assignment("quantum-engineer", "p")
    holder = ALICE.holding((Assignment("finops"),))
    assert await rights.enrich(app, holder) == holder
    async with transaction(app, "acme") as conn:
        for one in (wide, local, local):
            await store.assign(conn, "acme", ALICE.issuer, "alice", one)
        assert await store.roles_of(conn, "acme", ALICE.issuer, "alice") == (wide, local)
        with pytest.raises(ValueError, match="role"):
            await store.assign(conn, "acme", ALICE.issuer, "alice", Assignment("root"))
    found = await rights.enrich(app, holder)
    assert found.roles_in("p") == ("auditor", "finops", "quantum-engineer")
    assert found.roles_in("q") == ("auditor", "finops")
    for other in (
        msgspec.structs.replace(ALICE, subject="bob"),
        msgspec.structs.replace(ALICE, issuer="https://another.example"),
    ):
        assert (await rights.enrich(app, other)).roles_in("p") == ()
    async with transaction(app, "acme") as conn:
        assert await store.revoke(conn, "acme", ALICE.issuer, "alice", local)
        assert not await store.revoke(conn, "acme", ALICE.issuer, "alice", local)
    assert (await rights.enrich(app, holder)).roles_in("p") == ("auditor", "finops")


async def test_people_of_a_closed_or_unknown_tenant_are_refused(app: AsyncEngine) -> None:
    """G13, I5: a sound token is not enough."""
    with pytest.raises(TenantRefused) as caught:
        await rights.enrich(app, msgspec.structs.replace(ALICE, tenant="initech"))
    assert caught.value.code == "tenant_unknown"
    async with transaction(app, "acme") as conn:
        await conn.execute(text("UPDATE auth.tenant SET state = 'closed'"))
    with pytest.raises(TenantRefused) as caught:
        await rights.enrich(app, ALICE)
    assert caught.value.code == "tenant_closed"
    async with transaction(app, "acme") as conn:
        await store.add_tenant(conn, "acme")
    with pytest.raises(TenantRefused):
        await rights.enrich(app, ALICE)
    await rights.enrich(app, msgspec.structs.replace(ALICE, tenant="globex"))


async def test_draws_at_the_same_time_never_exceed_the_bucket(app: AsyncEngine, database: TestDatabase) -> None:
    """N13: 20 are let in, however many processes ask at once; each other principal has a bucket of their own."""
    second = engine(database.app)

    async def draw(where: AsyncEngine, who: Principal) -> RateLimited | None:
        async with transaction(where, who.tenant) as conn:
            return await limits.take(conn, who, SLOW, octets=10)

    bob = msgspec.structs.replace(ALICE, pseudonym="a-2")
    twin = msgspec.structs.replace(ALICE, tenant="globex")
    answers = await asyncio.gather(*(draw(where, ALICE) for where in (app, second) for _ in range(40)))
    assert answers.count(None) == 20
    assert await draw(app, bob) is None
    assert await draw(app, twin) is None
    await second.dispose()


@pytest.mark.parametrize(("burst", "asked"), [(20, 30), (2_000, 1_100)], ids=["one by one", "in chunks"])
async def test_two_processes_together_let_in_what_the_bucket_holds(
    app: AsyncEngine, database: TestDatabase, burst: int, asked: int
) -> None:
    """N13: what processes draw ahead comes out of the shared bucket: never more than it holds, and at the end each
    process is left with less than one draw that nobody asked it for."""
    second = engine(database.app)
    both = msgspec.structs.replace(SLOW, requests_burst=float(burst), bytes_burst=1e9)
    doors = [limits.Door(where, both) for where in (app, second)]
    answers = await asyncio.gather(*(door.let_in(ALICE, octets=3) for _ in range(asked) for door in doors))
    left_over = sum(door._purses[ALICE.tenant, ALICE.pseudonym].requests for door in doors)
    assert answers.count(None) == burst - left_over
    assert all(door._purses[ALICE.tenant, ALICE.pseudonym].requests < limits.chunk(door._limits) for door in doors)
    assert {type(one) for one in answers if one is not None} == {RateLimited}
    await second.dispose()


async def test_bytes_drawn_ahead_are_drawn_once(app: AsyncEngine) -> None:
    """N13: bodies larger than what was drawn ahead cost their size; a bucket without bytes refuses."""
    few = Limits(requests_per_s=1e-6, requests_burst=6_400, bytes_per_s=1e-6, bytes_burst=6_400)
    door = limits.Door(app, few)
    sizes = [60, 60, 500, 0, 5_000, 5_000, 700, 700]
    let_in = [size for size in sizes if await door.let_in(ALICE, octets=size) is None]
    assert let_in == [60, 60, 500, 0, 5_000, 700]


async def test_a_bucket_fills_with_the_servers_clock(app: AsyncEngine) -> None:
    """N13: `Retry-After` is when the draw would pass; a clock set back neither fills nor empties."""
    full = Limits(requests_per_s=0.5, requests_burst=2, bytes_per_s=1, bytes_burst=100)
    async with transaction(app, "acme") as conn:

        async def aged(seconds: float) -> None:
            await conn.execute(
                text("UPDATE auth.rate SET filled_at = filled_at - make_interval(secs => :s)"), {"s": seconds}
            )

        assert await limits.take(conn, ALICE, full, requests=2) is None
        refused = await limits.take(conn, ALICE, full, requests=2)
        assert refused is not None
        assert refused.retry_after_s in (3, 4)
        assert refused.headers == {"Retry-After": str(refused.retry_after_s)}
        await aged(-3_600)
        assert await limits.take(conn, ALICE, full) is not None
        await aged(3_600 + 4)
        assert await limits.take(conn, ALICE, full, requests=2) is None
        assert await limits.take(conn, ALICE, full) is not None


async def test_bytes_are_drawn_with_requests_or_not_at_all(app: AsyncEngine) -> None:
    """N13: a draw beyond the whole bucket passes only when it is full, and leaves a debt."""
    async with transaction(app, "acme") as conn:
        assert await limits.take(conn, ALICE, SLOW, octets=600) is None
        assert await limits.take(conn, ALICE, SLOW, octets=600) is not None
        assert await limits.take(conn, ALICE, SLOW, octets=400) is None
        assert await limits.take(conn, ALICE, SLOW, octets=1) is not None
        assert await limits.take(conn, ALICE, SLOW, octets=0) is None
        left = (await conn.execute(text("SELECT requests FROM auth.rate"))).scalar_one()
        assert 17 <= left < 18, "refused draws cost no request"
        bob = msgspec.structs.replace(ALICE, pseudonym="a-2")
        assert await limits.take(conn, bob, SLOW, octets=5_000) is None
        refused = await limits.take(conn, bob, SLOW, octets=1)
        assert refused is not None
        assert refused.retry_after_s == 3_600


@pytest.mark.parametrize("field", ["requests_per_s", "requests_burst", "bytes_per_s", "bytes_burst"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_limits_that_are_none_do_not_start(field: str, value: float) -> None:
    """N11: the message names the field."""
    with pytest.raises(ValueError, match=field):
        Limits(**{field: value})


def _limit(database: TestDatabase, tenant: str, **rates: float | None) -> None:
    """What the operator sets."""
    with psycopg.connect(database.conninfo("superuser"), autocommit=True) as conn:
        conn.execute(
            "INSERT INTO auth.tenant_limit (tenant, requests_per_s, bytes_per_s) VALUES (%s, %s, %s)"
            " ON CONFLICT (tenant) DO UPDATE SET requests_per_s = excluded.requests_per_s,"
            " bytes_per_s = excluded.bytes_per_s, changed_at = clock_timestamp()",
            (tenant, rates.get("requests_per_s"), rates.get("bytes_per_s")),
        )


async def test_a_tenants_people_share_its_rate_and_no_others_is_touched(
    app: AsyncEngine, database: TestDatabase
) -> None:
    """G11, N13: two processes, forty people of a limited tenant; the other tenant goes on."""
    _limit(database, "acme", requests_per_s=1e-6)
    wide = Limits()
    doors = [limits.Door(app, wide), limits.Door(app, wide)]
    people = [msgspec.structs.replace(ALICE, pseudonym=f"a-{number}") for number in range(20)]
    answers = await asyncio.gather(*(door.let_in(one) for door in doors for one in people))
    assert answers.count(None) == 1  # a bucket holds one request at least
    refused = next(one for one in answers if one is not None)
    assert (refused.code, "your tenant's people" in refused.detail) == ("rate_limited", True)
    bob = msgspec.structs.replace(ALICE, tenant="globex")
    assert [await door.let_in(bob) for door in doors] == [None, None]


async def test_a_changed_rate_is_heard_of_and_so_is_its_end(app: AsyncEngine, database: TestDatabase) -> None:
    """G11: without a restart, and without a look for each request."""
    rates = TenantRates(app)
    assert await rates.of("acme") is None
    _limit(database, "acme", bytes_per_s=100.0)
    await _until(rates, "acme", store.Rates(None, 100.0))
    _limit(database, "acme")
    await _until(rates, "acme", None)


async def _until(rates: TenantRates, tenant: str, wanted: store.Rates | None) -> None:
    rates._next = float("-inf")
    async with asyncio.timeout(20):
        while await rates.of(tenant) != wanted:
            rates._next = float("-inf")
            await asyncio.sleep(0.01)
