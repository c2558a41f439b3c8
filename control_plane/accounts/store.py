# SPDX-License-Identifier: Apache-2.0
"""The rows of those who manage: every function takes the caller's connection, whose transaction names the tenant."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

# Whoever manages a tenant waits for whoever does: of two who take each other's rights away, one comes second.
_ALONE = text("SELECT state FROM auth.tenant WHERE tenant = :tenant FOR NO KEY UPDATE")
_APPOINTED = text("""
    SELECT issuer, subject, created_at FROM auth.assignment
    WHERE tenant = :tenant AND project = '' AND role = 'quantum-admin' ORDER BY created_at, issuer, subject""")


async def alone(conn: AsyncConnection, tenant: str) -> str | None:
    """The tenant's state; until this transaction ends no other manages it. None where there is no such tenant."""
    found: str | None = (await conn.execute(_ALONE, {"tenant": tenant})).scalar_one_or_none()
    return found


async def appointed(conn: AsyncConnection, tenant: str) -> Sequence[RowMapping]:
    """Who has been made an administrator of the whole tenant by this plane, oldest first."""
    return (await conn.execute(_APPOINTED, {"tenant": tenant})).mappings().all()
