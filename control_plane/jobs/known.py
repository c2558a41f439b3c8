# SPDX-License-Identifier: Apache-2.0
"""What a process remembers of slow-changing rows, so that each job doesn't ask again: backends and rate cards.

A card never changes under its hash and is kept; the registry of backends and which cards are in force are read anew
after `FRESH_S`. What is decided on a remembered row is decided on a snapshot either way; holds and entries never are.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.db import read, transaction
from control_plane.jobs import expected, past, store
from control_plane.jobs.asking import Asking
from control_plane.jobs.expected import Learned
from control_plane.jobs.past import Past
from control_plane.network import store as network
from control_plane.registry import store as registry
from finops import card_store
from finops.card import RateCard
from finops.errors import UnknownPrice
from finops.tariff import Tariff

FRESH_S = 1.0
PAST_FRESH_S = 5.0  # what hundreds of jobs say changes little with the next
LEARNED_FRESH_S = 30.0  # what they teach of prices changes even less, and takes longer to work out
CARDS = 256


class Known:
    """One process's memory."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._backends: tuple[float, Sequence[RowMapping]] | None = None
        self._nodes: tuple[float, tuple[dict[str, Any], ...], tuple[Asking, ...]] | None = None
        self._tariffs: dict[str, tuple[float, Tariff]] = {}
        self._cards: dict[tuple[str, str], RateCard] = {}
        self._past: dict[str, tuple[float, dict[str, Past]]] = {}
        self._learned: dict[str, tuple[float, Learned]] = {}
        self._reading: dict[tuple[str, str | None], asyncio.Future[None]] = {}

    async def _once(self, what: str, tenant: str | None, read: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Read, and whoever asks for the same meanwhile waits for that: a hundred requests need no hundred reads."""
        key = what, tenant
        if key not in self._reading:
            self._reading[key] = reading = asyncio.ensure_future(read())
            reading.add_done_callback(lambda _: self._reading.pop(key, None))
        # Of who goes away the others don't suffer.
        await asyncio.shield(self._reading[key])

    def forget(self) -> None:
        """Read everything anew from here on."""
        self._backends = self._nodes = None
        self._tariffs.clear()
        self._cards.clear()
        self._past.clear()
        self._learned.clear()

    async def backends(self, engine: AsyncEngine) -> Sequence[RowMapping]:
        """The registry, at most `FRESH_S` old."""

        async def look() -> None:
            async with transaction(engine, None) as conn:
                self._backends = time.monotonic(), await registry.backends(conn, registry.BACKEND_STALE_S)

        if self._backends is None or time.monotonic() - self._backends[0] > FRESH_S:
            await self._once("backends", None, look)
        assert self._backends is not None
        return self._backends[1]

    async def nodes(self, engine: AsyncEngine) -> tuple[dict[str, Any], ...]:
        """The approved nodes of the network as policy sees them, at most `FRESH_S` old."""
        return (await self._approved(engine))[0]

    async def asking(self, engine: AsyncEngine) -> tuple[Asking, ...]:
        """What those nodes ask."""
        return (await self._approved(engine))[1]

    async def _approved(self, engine: AsyncEngine) -> tuple[tuple[dict[str, Any], ...], tuple[Asking, ...]]:

        async def look() -> None:
            (rows,) = await read(engine, None, network.enrolments(state="approved"))
            self._nodes = time.monotonic(), tuple(map(_node, rows)), tuple(map(_asking, rows))

        if self._nodes is None or time.monotonic() - self._nodes[0] > FRESH_S:
            await self._once("nodes", None, look)
        assert self._nodes is not None
        return self._nodes[1:]

    async def backend(self, engine: AsyncEngine, backend_id: str) -> RowMapping:
        """One backend of the registry."""
        found = next((row for row in await self.backends(engine) if row["id"] == backend_id), None)
        if found is not None:
            return found
        async with transaction(engine, None) as conn:
            return await registry.backend_facts(conn, backend_id)

    async def past(self, engine: AsyncEngine, tenant: str, days: int) -> dict[str, Past]:
        """What the tenant's own last jobs say of each backend, at most `PAST_FRESH_S` old."""

        async def look() -> None:
            if tenant not in self._past and len(self._past) >= CARDS:
                self._past.clear()
                self._learned.clear()
            (rows,) = await read(engine, tenant, store.past(days))
            await self._learn(engine, tenant, rows)  # first: whoever finds the past finds what it teaches
            self._past[tenant] = time.monotonic(), past.fold(rows)

        known = self._past.get(tenant)
        if known is None or time.monotonic() - known[0] > PAST_FRESH_S:
            await self._once("past", tenant, look)
            known = self._past[tenant]
        return known[1]

    def learned(self, tenant: str) -> Learned:
        """What the tenant's last jobs teach of prices; `past` was asked for before, and reads it."""
        return self._learned[tenant][1]

    async def _learn(self, engine: AsyncEngine, tenant: str, rows: Sequence[Mapping[str, Any]]) -> None:
        known = self._learned.get(tenant)
        if known is not None and time.monotonic() - known[0] <= LEARNED_FRESH_S:
            return
        cards = {}
        for name in {row["rate_card"] for row in rows if row["bound"] is not None}:
            try:
                cards[name] = await self.card(engine, tenant, name)
            except UnknownPrice:  # changed in the database: nobody learns from it, and `ledger replay` tells
                continue
        sold = expected.parties(await self.backends(engine))
        self._learned[tenant] = time.monotonic(), expected.learn(rows, sold, cards)

    async def tariff(self, engine: AsyncEngine, tenant: str, at: dt.datetime) -> Tariff:
        """The tenant's rate cards in force; raises UnknownPrice where there is none."""

        async def look() -> None:
            async with transaction(engine, tenant) as conn:
                self._tariffs[tenant] = time.monotonic(), await card_store.tariff(conn, tenant, at)

        known = self._tariffs.get(tenant)
        if known is None or time.monotonic() - known[0] > FRESH_S or not known[1].covers(at):
            await self._once("tariff", tenant, look)
            known = self._tariffs[tenant]
        if not known[1].covers(at):  # read for another moment
            async with transaction(engine, tenant) as conn:
                return await card_store.tariff(conn, tenant, at)
        return known[1]

    async def card(self, engine: AsyncEngine, tenant: str, card_hash: str) -> RateCard:
        """The card of this hash."""
        key = tenant, card_hash
        card = self._cards.get(key)
        if card is None or (card.disputes and not card.accepted):  # that it is accepted is all that may change
            if len(self._cards) >= CARDS:
                self._cards.clear()
            async with transaction(engine, tenant) as conn:
                card = self._cards[key] = await card_store.card(conn, tenant, card_hash)
        return card


def _asking(row: Mapping[str, Any]) -> Asking:
    prices = Decimal(row["price_per_fragment"]), Decimal(row["price_per_shot"])
    return Asking(row["peer_id"], *prices, row["currency"])


def _node(row: Mapping[str, Any]) -> dict[str, Any]:
    facts = ("organisation", "region", "compliance_zone", "sovereign")
    return {"id": row["peer_id"]} | {name: row[name] for name in facts}
