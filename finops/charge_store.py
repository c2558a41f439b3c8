# SPDX-License-Identifier: Apache-2.0
"""Charged lines in PostgreSQL (G6, G7, I6).

Contract: every function takes a connection whose transaction its caller owns and whose tenant is set. What is inserted
is told by an entry of the same transaction (`charges.sections` of its body), and its month is taken under the tenant's
lock of months: so the entry MUST be appended after the insertion. No row is ever changed.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from finops import charges
from finops.charges import Charged, Section


def writing(entry_id: str, at: datetime, told: Sequence[Section]) -> list[dict[str, Any]]:
    """The lines as `finops.add_charges` takes them; their month is found where they are written."""
    return [msgspec.to_builtins(row) for row in charges.rows(entry_id, at, told)]


async def insert(conn: AsyncConnection, tenant: str, entry_id: str, at: datetime, told: Sequence[Section]) -> None:
    """Write the lines of an entry; `at` is the entry's time, to the millisecond as the ledger writes it."""
    document = msgspec.json.encode(writing(entry_id, at, told)).decode()
    await conn.execute(_ADD, {"tenant": tenant, "charges": document})


async def lines(
    conn: AsyncConnection,
    tenant: str,
    *,
    month: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    job_id: str | None = None,
) -> AsyncIterator[Charged]:
    """The lines of a month, of [since, until), or of a job, in the order of their moments; streamed."""
    values = {"tenant": tenant, "month": month, "since": since, "until": until, "job": job_id}
    wanted = " AND ".join(clause for name, clause in _WANTED.items() if values[name] is not None)
    query = text(f"{_LINES}{' AND ' if wanted else ''}{wanted} ORDER BY charged_at, entry_id, line")
    async with conn.stream(query, values) as found:
        async for row in found.mappings():
            yield Charged(**row)


async def every(conn: AsyncConnection, tenant: str) -> dict[str, tuple[Charged, ...]]:
    """All lines that the tenant was ever charged, by entry; for the audit role (I6)."""
    found: dict[str, tuple[Charged, ...]] = {}
    async for row in lines(conn, tenant):
        found[row.entry_id] = (*found.get(row.entry_id, ()), row)
    return found


async def tenants(conn: AsyncConnection) -> list[str]:
    """Every tenant that was charged; for the audit role."""
    return list((await conn.execute(_TENANTS)).scalars())


_ADD = text("SELECT finops.add_charges(:tenant, cast(:charges AS jsonb))")
_COLUMNS = ", ".join("entry_id::text AS entry_id" if name == "entry_id" else name for name in charges.FIELDS)
_LINES = f"SELECT {_COLUMNS} FROM finops.charge WHERE tenant = :tenant"
_WANTED = {
    "month": "month = :month",
    "since": "charged_at >= :since",
    "until": "charged_at < :until",
    "job": "job_id = :job",
}
_TENANTS = text("SELECT DISTINCT tenant FROM finops.charge ORDER BY tenant")
