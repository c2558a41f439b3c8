# SPDX-License-Identifier: Apache-2.0
"""Whether what is written now would be sealed: looked at twice a second by each process, asked before each admission.

While an alarm stands (`ledger.alarm`), or this process's clock and the database's differ, nothing new is admitted and
no job is started: what can't be sealed would wait for ever, or carry a wrong time. Reading, waiting and cancelling go
on. A database that doesn't answer is no matter of this module: its own error says so. Also here: the clock by which a
process writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import ledger.store
from control_plane.errors import Refused

if TYPE_CHECKING:
    from control_plane.context import Plane

log = logging.getLogger("qcos.sealing")
LOOK_S = 0.5
LOOK_LIMIT_S = 2.0
LONG_AGO = dt.datetime.min.replace(tzinfo=dt.UTC)
STALLED_S = 10.0  # an entry that waits longer for its seal waits for somebody


def utc_now() -> dt.datetime:
    """The system's clock: asserted time, never called trusted."""
    return dt.datetime.now(dt.UTC)


class PlaneClock:
    """The clock by which a process writes. While all clocks are set back behind the log, it stands at the log's time.

    Jobs that end meanwhile are told of by entries, and no entry's time runs backwards.
    """

    def __init__(self, system: Callable[[], dt.datetime] = utc_now) -> None:
        """`system` is the clock that may be set back."""
        self.system = system
        self.floor = LONG_AGO

    def __call__(self) -> dt.datetime:
        """The time, aware UTC."""
        return max(self.floor, self.system())


class Sealing:
    """One process's view of the sealer; `serve` keeps it, `refuse` rests on it."""

    def __init__(self, tolerance_s: float = 5.0) -> None:
        """`tolerance_s` is how far this process's clock and the database's may differ."""
        self._tolerance_s = tolerance_s
        self._stopped: Refused | None = None

    def refuse(self) -> None:
        """Raise Refused where nothing that is written now would be sealed."""
        if self._stopped is not None:
            raise Refused(self._stopped.code, self._stopped.detail)

    def trust(self, skew: float) -> None:
        """Raise Refused `clock_skewed` where the database's clock is that far from this process's."""
        if (refused := self._skewed(skew)) is not None:
            raise refused

    @property
    def stopped(self) -> bool:
        """Whether nothing that is written now would be sealed."""
        return self._stopped is not None

    async def look(self, plane: Plane) -> ledger.store.Standing:
        """Look now; raises what the database raises."""
        clock = plane.now.system
        async with plane.transaction(None, limit_s=LOOK_LIMIT_S) as conn:
            before = clock()
            found = await ledger.store.standing(conn)
            after = clock()
        behind = found.alarm == "clock_stepped_back"
        plane.now.floor = found.sealed_at if behind and found.sealed_at else LONG_AGO
        self._judge(found, skew_s(found.now, before, after))
        return found

    async def serve(self, plane: Plane) -> None:
        """Look until cancelled."""
        while True:
            with contextlib.suppress(Exception):  # the database is away: each request says so itself
                await self.look(plane)
            await asyncio.sleep(LOOK_S)

    def _skewed(self, skew: float) -> Refused | None:
        if abs(skew) <= self._tolerance_s:
            return None
        side = "behind" if skew > 0 else "ahead of"
        return Refused("clock_skewed", f"this process's clock is {abs(skew):.1f} s {side} the database's")

    def _judge(self, found: ledger.store.Standing, skew: float) -> None:
        was = self._stopped.code if self._stopped is not None else None
        if found.alarm is not None:
            self._stopped = Refused(found.alarm, f"nothing is sealed now: {found.detail}")
        else:
            self._stopped = self._skewed(skew)
        now = self._stopped.code if self._stopped is not None else None
        if now != was:
            log.warning("admission %s", f"stops: {now}" if now else f"goes on: {was} is over")


def skew_s(theirs: dt.datetime, before: dt.datetime, after: dt.datetime) -> float:
    """By how much their clock is ahead of ours, surely: what the round trip could explain is taken off."""
    if before <= theirs <= after:
        return 0.0
    return (theirs - after).total_seconds() if theirs > after else (theirs - before).total_seconds()
