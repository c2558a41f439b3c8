# SPDX-License-Identifier: Apache-2.0
"""What a job was charged, for whoever gives some of it back, in PostgreSQL (G7, I3).

Contract: every function takes a connection whose transaction its caller owns and whose tenant is set. `lock` makes
refunds and corrections of one job come one after the other; the balances are `store.refund`'s.
"""

from decimal import Decimal

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from finops.errors import CorrectionInvalid


async def lock(conn: AsyncConnection, tenant: str, job_id: str) -> None:
    """Hold the job's budgets, in the order of their ids, and its hold until the end of the transaction."""
    await conn.execute(_BUDGETS, {"tenant": tenant, "job": job_id})
    await conn.execute(_LOCK, {"tenant": tenant, "job": job_id})


async def left(conn: AsyncConnection, tenant: str, job_id: str) -> Decimal:
    """What may still be refunded: no more than was captured, and no more than the job comes to; under `lock`."""
    found: Decimal = (await conn.execute(_LEFT, {"tenant": tenant, "job": job_id})).scalar_one()
    return min(found, await net(conn, tenant, job_id))


async def usage(conn: AsyncConnection, tenant: str, job_id: str) -> RowMapping:
    """The first line of what the job used; CorrectionInvalid where it was never charged."""
    row = (await conn.execute(_USAGE, {"tenant": tenant, "job": job_id})).mappings().one_or_none()
    if row is None:
        raise CorrectionInvalid("was never charged", field=job_id)
    return row


async def net(conn: AsyncConnection, tenant: str, job_id: str) -> Decimal:
    """What the job comes to, all that was given back taken off."""
    found: Decimal = (await conn.execute(_NET, {"tenant": tenant, "job": job_id})).scalar_one()
    return found


async def month(conn: AsyncConnection, tenant: str, entry_id: str) -> str:
    """The month in which an entry's lines count."""
    found: str = (await conn.execute(_MONTH, {"tenant": tenant, "entry": entry_id})).scalar_one()
    return found


_BUDGETS = text("""
    SELECT finops.lock_budgets(:tenant, h.budgets) FROM finops.hold h WHERE h.tenant = :tenant AND h.job_id = :job""")
_LEFT = text("SELECT captured - coalesce(refunded, 0) FROM finops.hold WHERE tenant = :tenant AND job_id = :job")
_LOCK = text("SELECT 1 FROM finops.hold WHERE tenant = :tenant AND job_id = :job FOR NO KEY UPDATE")
_USAGE = text("""
    SELECT entry_id::text AS entry_id, month, project, cost_center, team, pseudonym, purpose, classification, provider,
        backend, region, started_at, ended_at, currency, rate_card
    FROM finops.charge WHERE tenant = :tenant AND job_id = :job AND category = 'usage'
    ORDER BY charged_at, entry_id, line LIMIT 1""")
_NET = text("SELECT coalesce(sum(amount), 0) FROM finops.charge WHERE tenant = :tenant AND job_id = :job")
_MONTH = text("SELECT month FROM finops.charge WHERE tenant = :tenant AND entry_id = cast(:entry AS uuid) AND line = 0")
