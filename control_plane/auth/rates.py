# SPDX-License-Identifier: Apache-2.0
"""What tenants may ask for by the second, as one process knows it: a moment old, and never waited for (G11, N13).

Most tenants have no such limit, and no request of theirs may cost a look for one. So a process asks once a second, in
the background, what changed for anybody. While the database is away what was known last holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from control_plane.auth import store
from control_plane.db import FAULTS, transaction

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncEngine

log = logging.getLogger("qcos.api")
LOOK_S = 1.0


class TenantRates:
    """One process's; for one event loop."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Nothing is known until the first `of`, which waits for it."""
        self._engine = engine
        self._rates: dict[str, store.Rates] = {}
        self._since: datetime | None = None
        self._next = float("-inf")
        self._looking: asyncio.Task[None] | None = None

    async def of(self, tenant: str) -> store.Rates | None:
        """The tenant's; None where the operator set none."""
        now = asyncio.get_running_loop().time()
        if now >= self._next:
            self._next = now + LOOK_S
            self._looking = asyncio.create_task(self._look())
        if self._since is None and self._looking is not None:
            await asyncio.shield(self._looking)
        return self._rates.get(tenant)

    async def close(self) -> None:
        """End a look that is under way."""
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking

    async def _look(self) -> None:
        try:
            async with transaction(self._engine, None) as conn:
                changed, self._since = await store.rates_since(conn, self._since)
        except FAULTS as error:
            log.warning("limits of tenants can't be read: %s", type(error).__name__)
            return
        for tenant, rates in changed.items():
            if rates is None:
                self._rates.pop(tenant, None)
            else:
                self._rates[tenant] = rates
