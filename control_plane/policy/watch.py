# SPDX-License-Identifier: Apache-2.0
"""How a process learns of a push: it looks at the newest signed one, verifies it, and puts it in force here (G2, I5).

Each process looks by itself, several times a second, and whenever an engine answers by a revision that it doesn't know.
What the sealer's signature doesn't cover is not taken: the last good policies stay in force here, for `max_age_s` at
most, and `fault` says why. Nothing here writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.db import FAULTS, transaction
from control_plane.policy import signed, store
from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.held import Held
from control_plane.policy.pdp import Engine
from control_plane.policy.revision import PolicySet
from control_plane.policy.store import Stored
from ledger.errors import LedgerError
from ledger.policy_key import public_key

log = logging.getLogger("qcos.policy")
LOOK_S = 0.2


class Watch:
    """One process's view of the policies in force; `serve` keeps `held` true to the database."""

    def __init__(
        self,
        database: AsyncEngine,
        key: Path,
        deciding: Engine,
        held: Held,
        taken: Callable[[PolicySet], None],
        max_age_s: float,
    ) -> None:
        """`key` is the folder of the public key; `taken` is told of each set before it is in force here."""
        self._database = database
        self._key = key
        self._deciding = deciding
        self._held = held
        self._taken = taken
        self._max_age_s = max_age_s
        self._number = 0
        self._faulty: int | None = None
        self._turn = asyncio.Lock()
        self.fault: str | None = None
        held.ask(self.learn)

    async def serve(self) -> None:
        """Look until cancelled."""
        while True:
            with contextlib.suppress(*FAULTS):  # the database is away: nothing can be admitted either
                await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Take up the newest push, if there is another than the one that is held; raises what the database raises."""
        async with self._turn:
            async with transaction(self._database, None) as conn:
                newest = await store.newest(conn)
                if newest is None or newest[0] in (self._number, self._faulty):
                    return
                found = await store.in_force(conn)
            assert found is not None  # no signature without its push: neither is ever deleted
            await self._take(found)

    async def learn(self, revision: str) -> None:
        """What an engine stated, where it isn't known here: newer than what is held, or one from before this start."""
        with contextlib.suppress(*FAULTS):
            await self.look()
            if self._held.known(revision) is None:
                await self._recall(revision)

    async def _recall(self, revision: str) -> None:
        async with transaction(self._database, None) as conn:
            found = await store.by_revision(conn, revision)
            since_s = None if found is None else await store.superseded_s(conn, found.number)
        if found is not None and since_s is not None and since_s < self._max_age_s:
            with contextlib.suppress(PolicyUnavailable, LedgerError):
                self._held.remember(await self._opened(found), self._max_age_s - since_s)

    async def _take(self, found: Stored) -> None:
        begun = time.monotonic()
        try:
            policies = await self._opened(found)
            self._taken(policies)
        except (PolicyUnavailable, LedgerError, ValueError) as fault:
            self._faulty, self.fault = found.number, f"push {found.number}: {fault}"
            self._held.expire()
            log.error("policy push %d is not taken: %s", found.number, fault)  # noqa: TRY400 - its words are enough
            return
        if self._deciding.name == "embedded":
            await self._compiled(policies)
        self._held.take(policies)
        self._number, self._faulty, self.fault = found.number, None, None
        log.info("policies %s in force, taken in %.0f ms", found.revision, (time.monotonic() - begun) * 1e3)

    async def _compiled(self, policies: PolicySet) -> None:
        """Compile before anybody waits for it; what doesn't compile says so with each decision."""
        with contextlib.suppress(PolicyUnavailable):
            await self._deciding.ready(policies)

    async def _opened(self, found: Stored) -> PolicySet:
        return await asyncio.to_thread(lambda: signed.opened(found, public_key(self._key)))
