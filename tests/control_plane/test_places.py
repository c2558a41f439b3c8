# SPDX-License-Identifier: Apache-2.0
"""Places are given by tenant, in turn (G11, N13)."""

from __future__ import annotations

import asyncio

import pytest

from control_plane import places
from control_plane.auth.errors import RateLimited
from control_plane.places import Places


async def _settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Room:
    """Who is inside, and in which order they came in."""

    def __init__(self, at_once: int, hold_s: float | None = None) -> None:
        self.places, self.came = Places(at_once, hold_s=hold_s), list[str]()
        self.tasks: list[asyncio.Task[None]] = []
        self.go = asyncio.Semaphore(0)

    async def _visit(self, tenant: str) -> None:
        async with self.places.turn(tenant):
            self.came.append(tenant)
            await self.go.acquire()

    async def arrive(self, *tenants: str) -> None:
        self.tasks += [asyncio.create_task(self._visit(tenant)) for tenant in tenants]
        await _settled()

    async def done(self) -> None:
        for _ in self.tasks:
            self.go.release()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_a_flood_costs_others_one_place_in_a_round() -> None:
    """G11: who comes last of a tenant that has nothing inside is next."""
    room = Room(2)
    await room.arrive(*["flood"] * 50, "a", "b", "a")
    assert room.came == ["flood"] * 2
    await room.done()
    assert room.came[2:8] == ["flood", "a", "b", "flood", "a", "flood"]
    assert len(room.came) == 53
    assert room.places._free == 2


async def test_who_waits_for_something_else_holds_no_place() -> None:
    """N13: a request that waits for a job lets others in."""
    room = Room(1, hold_s=0.0)
    await room.arrive("a")
    await asyncio.sleep(0.001)
    await room.arrive("b")
    assert room.came == ["a", "b"]
    await room.done()
    assert room.places._free == 1


@pytest.mark.parametrize("when", ["waiting", "called"])
async def test_who_leaves_takes_no_place_along(when: str) -> None:
    """N13: a client that hangs up while it waits, or at the moment when it is called."""
    room = Room(1)
    await room.arrive("a", "b", "c")
    if when == "called":
        room.go.release()
        while not room.tasks[0].done():  # noqa: ASYNC110 - its last step is the moment that is meant
            await asyncio.sleep(0)
    room.tasks[1].cancel()
    await room.done()
    assert room.came[-1] == "c"
    assert room.places._free == 1
    assert not room.places._waiting


async def test_beyond_a_bound_a_tenant_is_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """N13: what waits takes memory."""
    monkeypatch.setattr(places, "MOST_WAITING", 2)
    room = Room(1)
    await room.arrive("a", "a", "a", "a", "b")
    assert isinstance(room.tasks[3].exception(), RateLimited)
    await room.done()
    assert room.came == ["a", "a", "b", "a"]
