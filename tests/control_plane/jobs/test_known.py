# SPDX-License-Identifier: Apache-2.0
"""What a process remembers is read once for all who ask at once (N18)."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest

from control_plane.jobs import store
from control_plane.jobs.known import Known
from control_plane.registry import store as registry
from finops import card_store
from tests.control_plane.jobs.desk import Desk


async def test_many_who_ask_at_once_read_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty-four requests after a second of rest, each of a moment of its own: one read of each kind serves all."""
    reads: list[str] = []
    backends, tariff, past = registry.backends, card_store.tariff, store.past

    async def counted_backends(*arguments: object) -> object:
        reads.append("backends")
        return await backends(*arguments)  # type: ignore[arg-type]

    async def counted_tariff(*arguments: object) -> object:
        reads.append("tariff")
        return await tariff(*arguments)  # type: ignore[arg-type]

    def counted_past(days: int) -> object:
        reads.append("past")
        return past(days)

    monkeypatch.setattr(registry, "backends", counted_backends)
    monkeypatch.setattr(card_store, "tariff", counted_tariff)
    monkeypatch.setattr(store, "past", counted_past)
    fresh, engine, now = Known(), desk.plane.engine, desk.plane.now()

    async def client(number: int) -> None:
        assert await fresh.backends(engine)
        assert (await fresh.tariff(engine, "demo", now - dt.timedelta(milliseconds=number))).cards
        await fresh.past(engine, "demo", 7)
        assert fresh.learned("demo") is not None

    await asyncio.gather(*(client(number) for number in range(64)))
    assert sorted(reads) == ["backends", "past", "tariff"]


async def test_who_goes_away_takes_nobody_along(desk: Desk) -> None:
    """A request that is cancelled leaves the read to the others."""
    fresh, engine = Known(), desk.plane.engine
    first = asyncio.create_task(fresh.backends(engine))
    others = [asyncio.create_task(fresh.backends(engine)) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    assert all(await asyncio.gather(*others))
