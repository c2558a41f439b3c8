# SPDX-License-Identifier: Apache-2.0
"""What tenants may ask for by the second, as one process knows it: a second old (G11, N13).

Most tenants have no such limit, and no request of theirs may cost a look for one. So once a second one request of a
process asks what changed for anybody, and the others go on by what was known. While the database is away that holds;
before anything is known nobody comes in.
"""

from __future__ import annotations

import asyncio
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
        self._first = asyncio.Lock()

    async def of(self, tenant: str) -> store.Rates | None:
        """The tenant's; None where the operator set none. Raises what the database does, before anything is known."""
        if self._since is None:
            async with self._first:
                if self._since is None:
                    await self._look()
        elif (now := asyncio.get_running_loop().time()) >= self._next:
            self._next = now + LOOK_S
            try:
                await self._look()
            except FAULTS as error:
                log.warning("limits of tenants can't be read: %s", type(error).__name__)
        return self._rates.get(tenant)

    async def _look(self) -> None:
        async with transaction(self._engine, None) as conn:
            changed, since = await store.rates_since(conn, self._since)
        for tenant, rates in changed.items():
            if rates is None:
                self._rates.pop(tenant, None)
            else:
                self._rates[tenant] = rates
        self._since = since
