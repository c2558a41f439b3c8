# SPDX-License-Identifier: Apache-2.0
"""The plane's own push of the policies that it ships: at its first start, and after an upgrade (G2, G5).

Where somebody else's push is in force it stays: their policies are theirs. Returns what is in force, verified.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.db import transaction
from control_plane.errors import Refused
from control_plane.policy import push, signed, store
from control_plane.policy.push import Asked
from control_plane.policy.revision import PolicySet, load
from control_plane.policy.store import Stored
from control_plane.sealing import utc_now
from ledger.chain import PLANE
from ledger.policy_key import public_key

ACTOR = "plane"
SIGNED_S = 30.0  # for the sealer to take the entry
_LOOK_S = 0.02


async def in_force(database: AsyncEngine, key: Path) -> tuple[Stored, PolicySet]:
    """Push what is shipped if that is due; what is in force, or PolicyUnavailable where it can't be used."""
    ours = load()
    async with transaction(database, PLANE) as conn:
        found = await store.in_force(conn)
        if found is None or (found.tenant == PLANE and found.revision != ours.revision):
            asked = Asked(tenant=PLANE, actor=ACTOR, message="shipped with the plane", base=None, at=utc_now())
            with contextlib.suppress(Refused):  # another host's start was first
                await push.put(conn, ours, asked)
            found = None
    until = time.monotonic() + SIGNED_S
    while found is None:
        async with transaction(database, PLANE) as conn:
            _, standing = await store.head(conn)
            found = await store.in_force(conn)
        if found is not None and found.revision == standing:
            break
        if time.monotonic() > until:
            raise Refused("evidence_pending", "the shipped policies aren't signed yet; qcos status says why")
        found = None
        await asyncio.sleep(_LOOK_S)
    return found, signed.opened(found, public_key(key))
