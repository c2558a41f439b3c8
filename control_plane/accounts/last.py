# SPDX-License-Identifier: Apache-2.0
"""Nobody locks the last administrator out, themselves included (G13).

Asked around a change, inside its transaction: if somebody administered the tenant before it, somebody must after it.
Counted are active people whom the plane itself makes administrators of the whole tenant, by assignment or by a group;
of those whom their provider's own words make one, only who is asking, because of them alone the plane knows it now.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.accounts import store
from control_plane.auth.principal import Principal
from control_plane.errors import Refused

__all__ = ["kept"]


@asynccontextmanager
async def kept(conn: AsyncConnection, who: Principal) -> AsyncIterator[None]:
    """Around a change: Refused `last_administrator`, which undoes it, where nobody is left who can give rights back."""
    before = await _administered(conn, who)
    yield
    if before and not await _administered(conn, who):
        raise Refused("last_administrator", "nobody would be left who administers the tenant; give the role on first")


async def _administered(conn: AsyncConnection, who: Principal) -> bool:
    if await store.administered(conn, who.tenant):
        return True
    asking = await store.known(conn, who.tenant, who.issuer, who.subject)
    return asking is not None and asking["state"] == "active" and store.ADMIN in asking["roles"]
