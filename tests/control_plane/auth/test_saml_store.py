# SPDX-License-Identifier: Apache-2.0
"""G13, I7: a SAML message is of use once, whoever shows it at the same moment, and its rows are its tenant's."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.auth import store as tenants
from control_plane.auth.saml import store
from control_plane.auth.saml.assertion import NameId
from control_plane.db import engine, transaction
from tests.postgres import TestDatabase

NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
SOON = NOW + dt.timedelta(minutes=5)
NAME = NameId("alice", "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent", None, "https://plane")


@pytest.fixture
async def app(database: TestDatabase) -> AsyncIterator[AsyncEngine]:
    found = engine(database.app)
    for tenant in ("acme", "globex"):
        async with transaction(found, tenant) as conn:
            await tenants.add_tenant(conn, tenant)
    yield found
    await found.dispose()


async def take(app: AsyncEngine, identifier: str, tenant: str = "acme", now: dt.datetime = NOW) -> bool:
    async with transaction(app, tenant) as conn:
        return await store.take(conn, tenant, "corp", identifier, until=SOON, now=now)


async def test_of_many_at_once_exactly_one_takes_a_message(app: AsyncEngine) -> None:
    assert sum(await asyncio.gather(*(take(app, "_one") for _ in range(8)))) == 1
    assert await take(app, "_other")
    assert await take(app, "_one", "globex"), "another tenant's provider has identifiers of its own"


async def test_what_would_be_too_old_anyway_is_forgotten(app: AsyncEngine) -> None:
    assert await take(app, "_one")
    assert not await take(app, "_one", now=SOON)
    assert await take(app, "_two", now=SOON + dt.timedelta(seconds=1))
    async with transaction(app, "acme") as conn:
        assert await store.take(conn, "acme", "corp", "_one", until=SOON, now=NOW), "the row had gone"


async def test_a_session_is_found_by_what_its_provider_calls_it_and_by_no_other(app: AsyncEngine) -> None:
    sids = [store.sid_of("corp", NAME, session) for session in ("_a", "_b")]
    assert len({*sids, store.sid_of("corp", NAME, None), store.sid_of("else", NAME, "_a")}) == 4
    async with transaction(app, "acme") as conn:
        for sid, session in zip(sids, ("_a", "_b"), strict=True):
            one = store.Begun(sid, "https://idp", "alice", NAME, session)
            await store.began(conn, "acme", "corp", one, until=SOON, now=NOW)
        assert await store.begun(conn, "acme", "corp", sids[0]) == store.Begun(
            sids[0], "https://idp", "alice", NAME, "_a"
        )
        assert {one.session for one in await store.named(conn, "acme", "corp", "alice")} == {"_a", "_b"}
        assert await store.named(conn, "acme", "corp", "bob") == []
        assert await store.named(conn, "acme", "other", "alice") == []
        await store.forget(conn, "acme", "corp", sids[0])
        assert await store.begun(conn, "acme", "corp", sids[0]) is None
    async with transaction(app, "globex") as conn:
        assert await store.named(conn, "acme", "corp", "alice") == [], "row-level security"
