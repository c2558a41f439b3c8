# SPDX-License-Identifier: Apache-2.0
"""Alerts of budgets in PostgreSQL: what crossed, whom it told (G7, I7).

Contract: `finops.alert` is filled by the triggers of revision 0044, in the transaction that crosses. Every function
takes a connection whose transaction names the tenant, but `due`, which finds work whosesoever it is. An alert is told
once: `told` is conditional, and belongs in the transaction of the entry that tells of it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import RowMapping, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from finops import money

FIRED: Final = "budget:alert:fired"
MOST: Final = 1000


class Alert(Struct, frozen=True):
    """A threshold that was crossed, and how its budget stood then; `notify` are the channels of the budget, if it names
    any.
    """

    alert_id: str
    kind: str
    threshold: int
    scope: str
    period: str
    window: str
    mode: str
    limit: Decimal
    held: Decimal
    captured: Decimal
    currency: str
    job_id: str | None
    at: datetime
    notify: tuple[str, ...] | None
    entry_id: str | None
    deliveries: dict[str, Any]

    def amounts(self) -> dict[str, str]:
        """Limit and balance, as they are written."""
        return {name: money.text(getattr(self, name)) for name in ("limit", "held", "captured")}


async def due(conn: AsyncConnection, lease_s: float, most: int) -> list[tuple[str, str]]:
    """(tenant, alert) of what nobody was told of; nobody else is given these until the lease is over."""
    rows = await conn.execute(_DUE, {"lease_s": lease_s, "most": most})
    return [(tenant, alert) for tenant, alert in rows]


async def untold(conn: AsyncConnection, alert_id: str) -> Alert | None:
    """The alert, locked until the transaction ends; None where it was told."""
    row = (await conn.execute(_UNTOLD, {"alert": alert_id})).mappings().one_or_none()
    return None if row is None else _alert(row)


async def told(conn: AsyncConnection, alert_id: str, entry_id: str, channels: Sequence[str]) -> None:
    """Note which entry tells of it, and which channels will."""
    waiting = {channel: {"state": "waiting"} for channel in channels}
    await conn.execute(_TOLD, {"alert": alert_id, "entry": entry_id, "deliveries": waiting})


async def delivered(conn: AsyncConnection, alert_id: str, channel: str, became: Mapping[str, Any]) -> None:
    """What became of it at one channel."""
    await conn.execute(_DELIVERED, {"alert": alert_id, "became": {channel: dict(became)}})


async def alerts(conn: AsyncConnection, tenant: str, most: int = MOST) -> list[Alert]:
    """The tenant's alerts, newest first, the last `most`."""
    rows = await conn.execute(_ALERTS, {"tenant": tenant, "most": most})
    return [_alert(row) for row in rows.mappings()]


async def every(conn: AsyncConnection) -> dict[tuple[str, str], Alert]:
    """(tenant, alert) → each that an entry tells of, of every tenant; for the audit role (I6)."""
    rows = (await conn.execute(_EVERY)).mappings()
    return {(row["tenant"], row["alert_id"]): _alert({k: v for k, v in row.items() if k != "tenant"}) for row in rows}


def _alert(row: Mapping[str, Any] | RowMapping) -> Alert:
    values = dict(row)
    values["notify"] = None if row["notify"] is None else tuple(row["notify"])
    return Alert(**values)


_COLUMNS = """a.alert_id::text, a.kind, a.threshold, a.scope, a.period, a.window_key AS "window", a.mode,
    a.limit_amount AS "limit", a.held, a.captured, a.unit AS currency, a.job_id, a.at, b.notify, a.entry_id::text,
    a.deliveries"""
_FROM = "FROM finops.alert a JOIN finops.budget b ON b.tenant = a.tenant AND b.budget_id = a.budget_id"
_DUE = text("SELECT tenant, alert_id::text FROM finops.due_alerts(:lease_s, :most)")
_UNTOLD = text(
    f"SELECT {_COLUMNS} {_FROM} WHERE a.alert_id = CAST(:alert AS uuid) AND a.entry_id IS NULL FOR UPDATE OF a"
)
_TOLD = text("""
    UPDATE finops.alert SET entry_id = CAST(:entry AS uuid), deliveries = :deliveries
    WHERE alert_id = CAST(:alert AS uuid)""").bindparams(bindparam("deliveries", type_=JSONB))
_DELIVERED = text("""
    UPDATE finops.alert SET deliveries = deliveries || :became WHERE alert_id = CAST(:alert AS uuid)""").bindparams(
    bindparam("became", type_=JSONB)
)
_EVERY = text(f"SELECT a.tenant, {_COLUMNS} {_FROM} WHERE a.entry_id IS NOT NULL")
_ALERTS = text(f"SELECT {_COLUMNS} {_FROM} WHERE a.tenant = :tenant ORDER BY a.at DESC, a.alert_id LIMIT :most")
