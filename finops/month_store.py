# SPDX-License-Identifier: Apache-2.0
"""Months with their statements, and methods of allocation, in PostgreSQL (G7, I6).

Contract: every function takes a connection whose transaction its caller owns and whose tenant is set; each change is
told by an entry of the same transaction, appended after it. `lock` MUST come before any other lock of its transaction.
"""

import hashlib
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from finops.allocation import Allocation, parse_method
from finops.books import MonthRecord
from finops.errors import AllocationInvalid


class Stored(Struct, frozen=True):
    """A month as its row has it; the last five are there once it is closed."""

    month: str
    state: str
    frozen_entry: str
    frozen_at: datetime
    closed_entry: str | None
    closed_at: datetime | None
    bundle_id: str | None
    statement: bytes | None
    salt: bytes | None


async def lock(conn: AsyncConnection, tenant: str) -> None:
    """Wait until no transaction is charging, and let none begin before this one ends."""
    await conn.execute(_LOCK, {"tenant": tenant})


async def months(conn: AsyncConnection, tenant: str) -> list[Stored]:
    """All that are closing or closed, oldest first."""
    return [_stored(row) for row in (await conn.execute(_MONTHS, {"tenant": tenant})).mappings()]


async def month(conn: AsyncConnection, tenant: str, name: str) -> Stored | None:
    """One of them."""
    row = (await conn.execute(_MONTH, {"tenant": tenant, "month": name})).mappings().one_or_none()
    return None if row is None else _stored(row)


async def open_before(conn: AsyncConnection, tenant: str, name: str) -> str | None:
    """The oldest month before this one that has charges and isn't closed."""
    found: str | None = (await conn.execute(_OPEN_BEFORE, {"tenant": tenant, "month": name})).scalar_one()
    return found


async def freeze(conn: AsyncConnection, tenant: str, name: str, entry_id: str, at: datetime) -> None:
    """From the end of this transaction on nothing is charged to the month; under `lock`."""
    await conn.execute(_FREEZE, {"tenant": tenant, "month": name, "entry": entry_id, "at": at})


async def close(
    conn: AsyncConnection, tenant: str, name: str, *, entry_id: str, at: datetime, evidence: tuple[str, bytes, bytes]
) -> bool:
    """Keep the month's statement, `evidence` = its id, its bytes, its salt; False where somebody was first."""
    bundle_id, statement, salt = evidence
    values = {"tenant": tenant, "month": name, "entry": entry_id, "at": at}
    values |= {"bundle": bundle_id, "statement": statement, "salt": salt}
    return (await conn.execute(_CLOSE, values)).rowcount == 1


async def allocation(conn: AsyncConnection, tenant: str) -> Allocation | None:
    """The method in force."""
    document = (await conn.execute(_ALLOCATION, {"tenant": tenant})).scalar_one_or_none()
    return None if document is None else parse_method(bytes(document))


async def method(conn: AsyncConnection, tenant: str, digest: str) -> bytes | None:
    """The document of a method that was in force once."""
    document = (await conn.execute(_METHOD, {"tenant": tenant, "hash": digest})).scalar_one_or_none()
    return None if document is None else bytes(document)


async def set_allocation(conn: AsyncConnection, tenant: str, method: Allocation, entry_id: str, at: datetime) -> None:
    """Put a method in force; AllocationInvalid where another was set at the same moment."""
    values = {"tenant": tenant, "hash": method.hash, "document": method.document, "entry": entry_id, "at": at}
    try:
        await conn.execute(_SET_ALLOCATION, values)
    except IntegrityError as error:
        raise AllocationInvalid("another method was set at the same moment; look at it first") from error


async def recorded(conn: AsyncConnection, tenant: str) -> tuple[dict[str, MonthRecord], list[str]]:
    """Months and methods in the form of the fold (I6), for the audit role."""
    found = {
        row.month: MonthRecord(row.frozen_entry, row.closed_entry, row.bundle_id, _digest(row.statement))
        for row in await months(conn, tenant)
    }
    return found, list((await conn.execute(_HASHES, {"tenant": tenant})).scalars())


def _digest(statement: bytes | None) -> str | None:
    return None if statement is None else "sha256:" + hashlib.sha256(statement).hexdigest()


def _stored(row: Any) -> Stored:
    fields = {name: row[name] for name in Stored.__struct_fields__}
    kept = {name: None if fields[name] is None else bytes(fields[name]) for name in ("statement", "salt")}
    return Stored(**fields | kept)


_COLUMNS = (
    "month, state, frozen_entry::text AS frozen_entry, frozen_at, closed_entry::text AS closed_entry, closed_at, "
    "bundle_id::text AS bundle_id, statement, salt"
)
_LOCK = text("SELECT pg_advisory_xact_lock(hashtext('finops.month'), hashtext(:tenant))")
_MONTHS = text(f"SELECT {_COLUMNS} FROM finops.month WHERE tenant = :tenant ORDER BY month")
_MONTH = text(f"SELECT {_COLUMNS} FROM finops.month WHERE tenant = :tenant AND month = :month")
_OPEN_BEFORE = text("""
    SELECT min(c.month) FROM finops.charge c WHERE c.tenant = :tenant AND c.month < :month
        AND NOT EXISTS (SELECT 1 FROM finops.month m WHERE m.tenant = c.tenant AND m.month = c.month)""")
_FREEZE = text("""
    INSERT INTO finops.month (tenant, month, state, frozen_entry, frozen_at)
    VALUES (:tenant, :month, 'closing', cast(:entry AS uuid), :at)""")
_CLOSE = text("""
    UPDATE finops.month SET state = 'closed', closed_entry = cast(:entry AS uuid), closed_at = :at,
        bundle_id = cast(:bundle AS uuid), statement = :statement, salt = :salt
    WHERE tenant = :tenant AND month = :month AND state = 'closing'""")
_ALLOCATION = text("SELECT document FROM finops.allocation WHERE tenant = :tenant ORDER BY number DESC LIMIT 1")
_METHOD = text("SELECT document FROM finops.allocation WHERE tenant = :tenant AND hash = :hash LIMIT 1")
_HASHES = text("SELECT hash FROM finops.allocation WHERE tenant = :tenant ORDER BY number")
_SET_ALLOCATION = text("""
    INSERT INTO finops.allocation (tenant, number, hash, document, entry_id, set_at)
    SELECT :tenant, coalesce(max(number), 0) + 1, :hash, :document, cast(:entry AS uuid), :at
    FROM finops.allocation WHERE tenant = :tenant""")
