# SPDX-License-Identifier: Apache-2.0
"""The SQL of shadow mode: the candidate, which worker follows, and how far each tenant's decisions were followed.

`policy.shadow` is the plane's one row. What was seen of a tenant's decisions stands in the tenant's own row, which
nobody else reads (I7). Each function belongs to the caller's transaction.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_COLUMNS = "run, revision, by_tenant, actor, message, started_at, stopped_at, reason"
_SHOW = text(f"SELECT {_COLUMNS} FROM policy.shadow")
_LEASE = text(f"""
    UPDATE policy.shadow SET holder = :holder, lease_until = clock_timestamp() + make_interval(secs => :lease_s)
    WHERE stopped_at IS NULL AND (holder = :holder OR lease_until IS NULL OR lease_until < clock_timestamp())
    RETURNING {_COLUMNS}""")
_FILES = text("SELECT files FROM policy.shadow WHERE run = :run AND stopped_at IS NULL")
_HOLDS = text("SELECT 1 FROM policy.shadow WHERE run = :run AND holder = :holder AND stopped_at IS NULL FOR SHARE")
_BEGIN = text(f"""
    INSERT INTO policy.shadow AS s (revision, files, by_tenant, actor, message, started_at)
    VALUES (:revision, :files, :by_tenant, :actor, :message, :at)
    ON CONFLICT (one) DO UPDATE SET run = s.run + 1, revision = excluded.revision, files = excluded.files,
        by_tenant = excluded.by_tenant, actor = excluded.actor, message = excluded.message,
        started_at = excluded.started_at, stopped_at = NULL, reason = NULL, holder = NULL, lease_until = NULL
    RETURNING {_COLUMNS}""")
_STOP = text(f"""
    UPDATE policy.shadow SET stopped_at = :at, reason = :reason, holder = NULL, lease_until = NULL
    WHERE stopped_at IS NULL AND (CAST(:run AS bigint) IS NULL OR run = :run) RETURNING {_COLUMNS}""")
_TENANTS = text("SELECT tenant FROM policy.shadow_tenants() ORDER BY tenant")
_FROM_NOW = text("""
    INSERT INTO policy.shadow_seen (tenant, run, place)
    SELECT :tenant, :run, coalesce(max(e.tenant_index), -1) FROM ledger.entry e WHERE e.tenant = :tenant
    ON CONFLICT (tenant) DO UPDATE SET run = excluded.run, place = excluded.place, decided = 0, same = 0,
        deny_to_allow = 0, allow_to_deny = 0, other = 0, undecided = 0, hour = NULL, told = 0, untold = 0
    RETURNING *""")
_SEEN = text("SELECT * FROM policy.shadow_seen WHERE tenant = :tenant")
_KEEP = text("""
    UPDATE policy.shadow_seen SET place = :place, decided = :decided, same = :same, deny_to_allow = :deny_to_allow,
        allow_to_deny = :allow_to_deny, other = :other, undecided = :undecided, hour = :hour, told = :told,
        untold = :untold
    WHERE tenant = :tenant AND run = :run AND place = :before""")
_HEAD = text("SELECT coalesce(max(tenant_index), -1) FROM ledger.entry WHERE tenant = :tenant")
_NEXT = text("""
    SELECT tenant_index, leaf FROM ledger.entry
    WHERE tenant = :tenant AND tenant_index > :place AND tenant_index <= :head
      AND kind IN ('policy:decision:allow', 'policy:decision:deny')
    ORDER BY tenant_index LIMIT :most""")


class Shadow(Struct, frozen=True, kw_only=True):
    """The candidate; it is followed unless it was stopped, for a reason if not by a person."""

    run: int
    revision: str
    by_tenant: str
    actor: str
    message: str
    started_at: dt.datetime
    stopped_at: dt.datetime | None
    reason: str | None


class Seen(Struct, frozen=True, kw_only=True):
    """What was seen of a tenant's decisions in this run, up to the entry at `place` in the tenant's chain.

    `told` of this hour's differences have an entry of their own; `untold` are counted and told together.
    """

    tenant: str
    run: int
    place: int
    decided: int = 0
    same: int = 0
    deny_to_allow: int = 0
    allow_to_deny: int = 0
    other: int = 0
    undecided: int = 0
    hour: dt.datetime | None = None
    told: int = 0
    untold: int = 0


async def show(conn: AsyncConnection) -> Shadow | None:
    """The shadow, running or stopped; None where there never was one."""
    return _shadow((await conn.execute(_SHOW)).mappings().one_or_none())


async def lease(conn: AsyncConnection, holder: str, lease_s: float) -> Shadow | None:
    """The running shadow where this process follows it for the next seconds."""
    return _shadow((await conn.execute(_LEASE, {"holder": holder, "lease_s": lease_s})).mappings().one_or_none())


async def files(conn: AsyncConnection, run: int) -> dict[str, bytes] | None:
    """The candidate's files; None where that run is over."""
    found = (await conn.execute(_FILES, {"run": run})).scalar_one_or_none()
    return None if found is None else {path: text.encode() for path, text in _files.decode(bytes(found)).items()}


async def holds(conn: AsyncConnection, run: int, holder: str) -> bool:
    """Whether this process still follows that run; if so it does until this transaction ends."""
    return (await conn.execute(_HOLDS, {"run": run, "holder": holder})).one_or_none() is not None


async def begin(conn: AsyncConnection, values: Mapping[str, Any], files: Mapping[str, bytes]) -> Shadow:
    """Put a candidate in the place of any before it."""
    packed = msgspec.json.encode({path: content.decode() for path, content in files.items()}, order="sorted")
    row = (await conn.execute(_BEGIN, {**values, "files": packed})).mappings().one()
    return msgspec.convert(dict(row), Shadow)


async def stop(conn: AsyncConnection, at: dt.datetime, reason: str | None, run: int | None = None) -> Shadow | None:
    """End it, or only that run of it; None where none runs."""
    row = (await conn.execute(_STOP, {"at": at, "reason": reason, "run": run})).mappings().one_or_none()
    return _shadow(row)


async def tenants(conn: AsyncConnection) -> list[str]:
    """Of whom something was recorded that the running shadow hasn't seen."""
    return [row.tenant for row in await conn.execute(_TENANTS)]


async def seen(conn: AsyncConnection, tenant: str) -> Seen | None:
    """The tenant's row, of whatever run."""
    row = (await conn.execute(_SEEN, {"tenant": tenant})).mappings().one_or_none()
    return None if row is None else msgspec.convert(dict(row), Seen)


async def from_now(conn: AsyncConnection, tenant: str, run: int) -> Seen:
    """Begin with what is recorded after this moment."""
    return msgspec.convert(dict((await conn.execute(_FROM_NOW, {"tenant": tenant, "run": run})).mappings().one()), Seen)


async def keep(conn: AsyncConnection, before: Seen, after: Seen) -> bool:
    """Move on; False where another has."""
    values = msgspec.structs.asdict(after) | {"before": before.place}
    return bool((await conn.execute(_KEEP, values)).rowcount)


async def head(conn: AsyncConnection, tenant: str) -> int:
    """The place of the tenant's last sealed entry; -1 where there is none."""
    return int((await conn.execute(_HEAD, {"tenant": tenant})).scalar_one())


async def following(conn: AsyncConnection, tenant: str, place: int, head: int, most: int) -> list[tuple[int, bytes]]:
    """(place, leaf) of the next decisions."""
    values = {"tenant": tenant, "place": place, "head": head, "most": most}
    return [(row.tenant_index, bytes(row.leaf)) for row in await conn.execute(_NEXT, values)]


_files = msgspec.json.Decoder(dict[str, str])


def _shadow(row: Any) -> Shadow | None:
    return None if row is None else msgspec.convert(dict(row), Shadow)
