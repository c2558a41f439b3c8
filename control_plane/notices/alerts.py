# SPDX-License-Identifier: Apache-2.0
"""An alert of a budget becomes an entry and a notice to each of its channels, in one transaction (G7, G5).

The crossing itself was written with the change that crossed. A budget tells the channels that it names, else every
table with `budgets = true`. What became of each notice is written by the courier, and stands at the alert too.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import AsyncConnection

import ledger.store
from control_plane.notices import store
from control_plane.notices.channels import Channel
from control_plane.notices.store import Notice
from control_plane.seed import PLANE_ACTOR
from finops import alert_store
from finops.alert_store import FIRED, Alert
from ledger.canonical import timestamp
from ledger.chain import Pending

if TYPE_CHECKING:
    from control_plane.context import Plane

EVENT = "budget:alert"
DELIVERED = "budget:alert:delivered"
GIVEN_UP = "budget:alert:given_up"


async def fire(plane: Plane, channels: Iterable[Channel], tenant: str, alert_id: str) -> bool:
    """Tell of one alert, once; False where it was told already."""
    async with plane.transaction(tenant) as conn:
        alert = await alert_store.untold(conn, alert_id)
        if alert is None:
            return False
        names = alert.notify if alert.notify is not None else tuple(one.name for one in channels if one.budgets)
        entry_id = str(uuid.uuid4())
        body = {"version": 1, "event": EVENT, "tenant": tenant, **told(alert)}
        for name in names:
            await store.put(conn, tenant, name, body)
        entry = Pending(
            entry_id=entry_id,
            tenant=tenant,
            kind=FIRED,
            actor=PLANE_ACTOR,
            time=plane.now(),
            body=told(alert) | {"channels": list(names)},
        )
        await ledger.store.append(conn, [(entry, None)])
        await alert_store.told(conn, alert_id, entry_id, names)
    return True


def told(alert: Alert) -> dict[str, Any]:
    """What the entry says of it, beside its channels."""
    names = ("alert_id", "kind", "threshold", "scope", "period", "window", "mode", "currency")
    said = {name: getattr(alert, name) for name in names} | alert.amounts() | {"at": timestamp(alert.at)}
    return said | ({"job_id": alert.job_id} if alert.job_id is not None else {})


def differences(rows: Mapping[tuple[str, str], Alert], entries: Mapping[tuple[str, str], dict[str, Any]]) -> list[str]:
    """What rows and entries disagree about, one line each (I6)."""
    found = []
    for key in sorted(rows.keys() | entries.keys()):
        row, entry = rows.get(key), entries.get(key)
        said = None if entry is None else {name: value for name, value in entry.items() if name != "channels"}
        if said != (None if row is None else told(row)):
            found.append(f"alert {key[1]} of {key[0]}: row {row}, ledger {entry}")
    return found


async def ended(conn: AsyncConnection, notice: Notice, became: Mapping[str, Any]) -> None:
    """Note at the alert what became of its notice to one channel."""
    await alert_store.delivered(conn, notice.body["alert_id"], notice.channel, became)
