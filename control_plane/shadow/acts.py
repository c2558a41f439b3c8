# SPDX-License-Identifier: Apache-2.0
"""What a person does to the shadow: begin one, end it, see how it does (G2, G5).

A candidate is judged as a push is, and signed by nobody: it decides nothing, and its sealed entry names each file. Who
may do this is the caller's.
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import msgspec

import ledger.store
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.policy.revision import PolicySet
from control_plane.shadow import store
from control_plane.shadow.follower import begun, stopped
from control_plane.shadow.store import Seen, Shadow
from ledger.canonical import sha256, timestamp
from ledger.chain import Pending

BEGUN = "policy:shadow:begun"
NONE: dict[str, Any] = {"state": "off"}


async def begin(plane: Plane, who: Principal, policies: PolicySet, message: str) -> Shadow:
    """Follow by these policies from now on, in the place of any others."""
    now = plane.now()
    values = {
        "revision": policies.revision,
        "by_tenant": who.tenant,
        "actor": who.pseudonym,
        "message": message,
        "at": now,
    }
    async with plane.transaction(who.tenant) as conn:
        before = await store.show(conn)
        shadow = await store.begin(conn, values, policies.files)
        body = begun(shadow) | {"files": {path: sha256(content) for path, content in sorted(policies.files.items())}}
        entry = Pending(
            entry_id=str(uuid.uuid4()), tenant=who.tenant, kind=BEGUN, actor=who.pseudonym, time=now, body=body
        )
        entries: list[Pending] = []
        if before is not None and before.stopped_at is None and before.by_tenant == who.tenant:
            entries.append(stopped(before, who.pseudonym, now, "another takes its place"))
        await ledger.store.append(conn, [(one, None) for one in (*entries, entry)])
        tenants = await store.tenants(conn)
    for tenant in tenants:
        async with plane.transaction(tenant) as conn:
            await store.from_now(conn, tenant, shadow.run)
    return shadow


async def end(plane: Plane, who: Principal) -> Shadow | None:
    """Stop following; None where nothing was followed."""
    now = plane.now()
    async with plane.transaction(who.tenant) as conn:
        shadow = await store.stop(conn, now, None)
        if shadow is not None:
            here = msgspec.structs.replace(shadow, by_tenant=who.tenant)
            await ledger.store.append(conn, [(stopped(here, who.pseudonym, now, None), None)])
    return shadow


async def shown(plane: Plane, tenant: str) -> dict[str, Any]:
    """The shadow and what was seen of this tenant's decisions; counts of others are nobody's business here (I7)."""
    async with plane.transaction(tenant) as conn:
        shadow = await store.show(conn)
        if shadow is None:
            return NONE
        seen = await store.seen(conn, tenant)
        head = await store.head(conn, tenant)
        if seen is None or seen.run != shadow.run:
            seen = Seen(tenant=tenant, run=shadow.run, place=head)
        waiting = len(await store.following(conn, tenant, seen.place, head, _MANY))
    return _document(shadow, seen, waiting)


_MANY = 10_000


def _document(shadow: Shadow, seen: Seen, waiting: int) -> dict[str, Any]:
    over: dt.datetime | None = shadow.stopped_at
    counts = ("decided", "same", "deny_to_allow", "allow_to_deny", "other", "undecided")
    return {
        "state": "following" if over is None else "stopped",
        "revision": shadow.revision,
        "message": shadow.message,
        "started_at": timestamp(shadow.started_at),
        "stopped_at": None if over is None else timestamp(over),
        "reason": shadow.reason,
        "counts": {name: getattr(seen, name) for name in counts},
        "lag": waiting if over is None else 0,
    }
