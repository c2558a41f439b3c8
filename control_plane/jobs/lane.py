# SPDX-License-Identifier: Apache-2.0
"""A lane for those whose submissions keep being refused, so that everybody else goes on at their pace (N13).

A refused submission costs nearly what an admitted one costs, and nothing that a budget bounds. Whoever had many of late
in this process is let through two at a time, each refusal followed by a pause; nothing of theirs is lost or refused
for it, and it ends by itself. What waits costs no processor time. For one event loop: each process paces its own.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from control_plane.auth.principal import Principal

MANY, WITHIN_S = 20, 10.0
AT_ONCE = 2
PAUSE_S = 0.03
_LANES = 1024


class Turn:
    """One submission; `refused` until it is known to be let in."""

    refused = True


class Lane:
    """One person's refusals of late, and the slots they have while these are many."""

    def __init__(self) -> None:
        self.since, self.refusals = float("-inf"), 0
        self.slots = asyncio.Semaphore(AT_ONCE)

    def crowded(self, now: float) -> bool:
        """Whether there were many of late."""
        return self.refusals >= MANY and now - self.since < WITHIN_S

    def note(self, now: float) -> None:
        """One more; the count begins anew after a while, unless they go on."""
        if now - self.since >= WITHIN_S:
            self.refusals = MANY // 2 if self.refusals >= MANY and now - self.since < 2 * WITHIN_S else 0
            self.since = now
        self.refusals += 1


class Lanes:
    """Everybody's lanes; nobody has one before their first refusal."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock
        self._lanes: OrderedDict[tuple[str, str], Lane] = OrderedDict()

    @asynccontextmanager
    async def turn(self, principal: Principal) -> AsyncIterator[Turn]:
        """Wait for one's turn; at once for whoever has few refusals."""
        key, made = (principal.tenant, principal.pseudonym), Turn()
        lane = self._lanes.get(key)
        if lane is None or not lane.crowded(self._now()):
            try:
                yield made
            finally:
                self._end(key, made)
            return
        async with lane.slots:
            try:
                yield made
            finally:
                self._end(key, made)
                if made.refused:
                    await asyncio.sleep(PAUSE_S)

    def _end(self, key: tuple[str, str], turn: Turn) -> None:
        if not turn.refused:
            return
        self._lanes.setdefault(key, Lane()).note(self._now())
        self._lanes.move_to_end(key)
        if len(self._lanes) > _LANES:
            self._lanes.popitem(last=False)

    def _now(self) -> float:
        return self._clock() if self._clock is not None else asyncio.get_running_loop().time()
