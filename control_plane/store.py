# SPDX-License-Identifier: Apache-2.0
"""What `up` and `status` read of the whole plane, as `audit`: sizes and ages, no tenant's content."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_SETTINGS = ("fsync", "full_page_writes", "synchronous_commit")


async def entries(conn: AsyncConnection) -> int:
    """How many entries the newest checkpoint covers; 0 before the first."""
    return int(await conn.scalar(text("SELECT coalesce(max(size), 0) FROM ledger.checkpoint")) or 0)


async def oldest_unsealed(conn: AsyncConnection) -> bytes | None:
    """The bytes of the entry that waits longest for its seal; None when all is sealed."""
    row = await conn.scalar(text("SELECT pending FROM ledger.inbox ORDER BY id LIMIT 1"))
    return None if row is None else bytes(row)


async def unstamped_outside(conn: AsyncConnection) -> int:
    """How many tokens of an outside time-stamping authority are still awaited."""
    counted = text("SELECT count(*) FROM ledger.unstamped WHERE operator = 'external'")
    return int(await conn.scalar(counted) or 0)


async def lax_settings(conn: AsyncConnection) -> list[str]:
    """The settings of this server that let an acknowledged commit vanish; empty when durable writes are on."""
    found = []
    for name in _SETTINGS:
        value = await conn.scalar(text("SELECT current_setting(:name)"), {"name": name})
        if value not in {"on", "remote_write", "remote_apply"}:
            found.append(name)
    return found


async def backends(conn: AsyncConnection) -> dict[str, dict[str, str]]:
    """Backend id → the walls around its untrusted work, as its worker reported them last."""
    rows = await conn.execute(text("SELECT id, capability -> 'walls' AS walls FROM jobs.backend ORDER BY id"))
    return {row.id: row.walls or {} for row in rows}
