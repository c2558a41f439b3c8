# SPDX-License-Identifier: Apache-2.0
"""So many at work at once, and of those who wait each tenant in turn (G11, N13).

What is free is taken at once. Once nothing is, who waits goes in by tenant, one of each, so that a thousand requests of
one tenant cost another's a place in a round and not a thousand places in a line. A place is given back when the work
is done, or after `hold_s`: what takes longer waits for something, and waiting costs nothing. For one event loop.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

from control_plane.auth.errors import RateLimited

MOST_WAITING = 2_048
"""Of one tenant: beyond that it is told to come again."""


class Places:
    """Those of one process."""

    def __init__(self, at_once: int, *, hold_s: float | None = None) -> None:
        """`at_once` places, each held for at most `hold_s`."""
        self._free = at_once
        self._hold_s = hold_s
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, tenant: str) -> AsyncIterator[None]:
        """Wait for a place, and hold it; RateLimited where too many of the tenant's wait already."""
        await self._enter(tenant)
        place = _Place(self)
        _here.set(place)
        timer = None
        if self._hold_s is not None:
            timer = asyncio.get_running_loop().call_later(self._hold_s, place.give_back)
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
            place.give_back()

    async def _enter(self, tenant: str) -> None:
        if self._free > 0:  # then nobody waits
            self._free -= 1
            return
        queue = self._waiting.setdefault(tenant, deque())
        if len(queue) >= MOST_WAITING:
            raise RateLimited(1)
        called = asyncio.get_running_loop().create_future()
        queue.append(called)
        try:
            await called
        except asyncio.CancelledError:
            if called.cancelled():  # else it was called just now, and its place is another's
                self._forget(tenant, called)
            else:
                self.leave()
            raise

    def leave(self) -> None:
        """Give a place to the next tenant's first, or keep it free."""
        while self._waiting:
            tenant, queue = self._waiting.popitem(last=False)
            called = queue.popleft()
            if queue:
                self._waiting[tenant] = queue  # at the end of the round
            if not called.done():
                called.set_result(None)
                return
        self._free += 1

    def _forget(self, tenant: str, called: asyncio.Future[None]) -> None:
        queue = self._waiting.get(tenant)
        if queue is not None and called in queue:
            queue.remove(called)
            if not queue:
                del self._waiting[tenant]


class _Place:
    """One place, given back once."""

    def __init__(self, places: Places) -> None:
        self._places: Places | None = places

    def give_back(self) -> None:
        places, self._places = self._places, None
        if places is not None:
            places.leave()


_here: ContextVar[_Place | None] = ContextVar("place", default=None)


def waiting() -> None:
    """From here on this task waits for something else, and needs its place no more."""
    if (place := _here.get()) is not None:
        place.give_back()
