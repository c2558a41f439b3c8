# SPDX-License-Identifier: Apache-2.0
"""What is new about jobs that somebody waits for: one listener and one query a tenant, however many wait (N9).

The sealer notifies once a batch; each move of a job is an entry, so a seal is when there may be news. A lost
notification costs `IDLE_S`, not an answer: the loop looks by itself then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psycopg
from sqlalchemy import make_url

from control_plane.context import Plane
from control_plane.jobs import store
from ledger.batch import SEALED_CHANNEL, UNSTAMPED

IDLE_S = 0.5
SILENT_S = 20.0  # a listener that heard nothing for so long asks whether anybody is there
BREATH_S = 0.002  # notifications of one moment are answered by one query
ADMITTED = "qcos_admitted"

Key = tuple[str, str]
Glance = tuple[int, str]
"""(the job's last number, the state shown)."""


class Leaving(Exception):
    """The process stops: there is no news to wait for here any more."""


class Watch:
    """One waiter's view of one job: `changed` returns the next glance that differs from the last."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._seen: Glance | None = None
        self._news = asyncio.Event()
        self._leaving = False

    def tell(self, glance: Glance) -> None:
        """Note what the database says now."""
        if glance != self._seen:
            self._seen = glance
            self._news.set()

    def leave(self) -> None:
        """Wake whoever waits, for nothing."""
        self._leaving = True
        self._news.set()

    async def changed(self) -> Glance:
        """Wait for news; raises Leaving once the process stops."""
        await self._news.wait()
        if self._leaving:
            raise Leaving
        self._news.clear()
        assert self._seen is not None
        return self._seen


class Bell:
    """Rings when the sealer has sealed what its owner waits for; run `listen` as a task.

    Its users also look by themselves now and then. A notification names the kinds of entries in a batch, or says
    `tokens` for time-stamps that came in.
    """

    def __init__(self, url: str, wanted: Callable[[frozenset[str]], bool], *channels: str) -> None:
        """`url` is the app role's; the listener has a connection of its own. Any word on `channels` rings too."""
        self._conninfo = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._wanted = wanted
        self._channels = (SEALED_CHANNEL, *channels)
        self.rung = asyncio.Event()

    async def listen(self) -> None:
        """Listen until cancelled, through any loss of the connection."""
        while True:
            with contextlib.suppress(psycopg.Error, OSError, TimeoutError):
                async with await psycopg.AsyncConnection.connect(
                    self._conninfo, autocommit=True, connect_timeout=10
                ) as conn:
                    for channel in self._channels:
                        await conn.execute(f"LISTEN {channel}")
                    while True:
                        async for notice in conn.notifies(timeout=SILENT_S):
                            if notice.channel != SEALED_CHANNEL or self._wanted(frozenset(notice.payload.split())):
                                self.rung.set()
                        async with asyncio.timeout(IDLE_S * 4):
                            await conn.execute("SELECT 1")
            await asyncio.sleep(IDLE_S)


class Live:
    """The one place of a process that waits for seals; run `listen` as a task."""

    def __init__(self, plane: Plane, url: str) -> None:
        """`url` is the app role's."""
        self._plane = plane
        self._bell = Bell(url, self._concerns)
        self._watches: dict[Key, set[Watch]] = defaultdict(set)
        self._each_move = 0
        self._leaving = False

    @asynccontextmanager
    async def watch(self, tenant: str, job_id: str, *, each_move: bool = False) -> AsyncIterator[Watch]:
        """Watch a job until the block ends: its end, or with `each_move` every move of it."""
        watch, key = Watch(), (tenant, job_id)
        self._each_move += each_move
        self._watches[key].add(watch)
        self._bell.rung.set()
        if self._leaving:
            watch.leave()
        try:
            yield watch
        finally:
            self._each_move -= each_move
            self._watches[key].discard(watch)
            if not self._watches[key]:
                del self._watches[key]

    def _concerns(self, kinds: frozenset[str]) -> bool:
        """Whether a batch brings news: what waits for its tokens is no end yet."""
        if self._each_move:
            return "tokens" in kinds or any(kind.startswith("job:") for kind in kinds)
        return "tokens" in kinds or any(kind.startswith("job:outcome:") and kind[-1] != UNSTAMPED for kind in kinds)

    def leave(self) -> None:
        """The process stops: who waits, and who will, is sent away at once."""
        self._leaving = True
        for watches in self._watches.values():
            for watch in watches:
                watch.leave()

    def ring(self) -> None:
        """There may be news."""
        self._bell.rung.set()

    async def serve(self) -> None:
        """Answer rings until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._bell.listen())
            group.create_task(self._answer())

    async def _answer(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_S):
                    await self._bell.rung.wait()
            self._bell.rung.clear()
            by_tenant: dict[str, list[str]] = defaultdict(list)
            for tenant, job_id in self._watches:
                by_tenant[tenant].append(job_id)
            for tenant, job_ids in by_tenant.items():
                with contextlib.suppress(Exception):  # the database is away: waiters wait on, readiness says so
                    (rows,) = await self._plane.read(tenant, store.glances(job_ids))
                    for row in rows:
                        for watch in self._watches.get((tenant, row["job_id"]), ()):
                            watch.tell((row["seq"], row["shown"]))
            await asyncio.sleep(BREATH_S)
