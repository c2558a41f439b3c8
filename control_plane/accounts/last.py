# SPDX-License-Identifier: Apache-2.0
"""Nobody locks the last administrator out, themselves included (G13).

Asked inside the transaction of a change, after it: whoever administers the tenant must be there still. Counted are
active people whom the plane itself makes administrators of the whole tenant, by assignment or by a group; of those whom
their provider's own words make one, only who is asking, because of them alone the plane knows it now.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane.accounts import store
from control_plane.auth.principal import Principal
from control_plane.errors import Refused

__all__ = ["keep_one"]


async def keep_one(conn: AsyncConnection, who: Principal) -> None:
    """Refused `last_administrator` where nobody would be left who can give rights back; undoes the change by that."""
    if await store.administered(conn, who.tenant):
        return
    asking = await store.known(conn, who.tenant, who.issuer, who.subject)
    if asking is None or asking["state"] != "active" or store.ADMIN not in asking["roles"]:
        raise Refused("last_administrator", "nobody would be left who administers the tenant; give the role on first")
