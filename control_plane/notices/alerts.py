# SPDX-License-Identifier: Apache-2.0
"""An alert of a budget becomes an entry and a notice to each of its channels, in one transaction (G7, G5).

The crossing itself was written with the change that crossed. A budget tells the channels that it names, else every
table with `budgets = true`. What became of each notice is written by the courier, and stands at the alert too.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

import ledger.store
from control_plane.context import Plane
from control_plane.notices import store
from control_plane.notices.channels import Channel
from control_plane.notices.store import Notice
from control_plane.seed import PLANE_ACTOR
from finops import alert_store
from finops.alert_store import Alert
from ledger.canonical import timestamp
from ledger.chain import Pending

EVENT = "budget:alert"
FIRED = "budget:alert:fired"
DELIVERED = "budget:alert:delivered"
GIVEN_UP = "budget:alert:given_up"


async def fire(plane: Plane, channels: Iterable[Channel], tenant: str, alert_id: str) -> bool:
    """Tell of one alert, once; False where it was told already."""
    async with plane.transaction(tenant) as conn:
        alert = await alert_store.untold(conn, alert_id)
        if alert is None:
            return False
        names = alert.notify if alert.notify is not None else tuple(one.name for one in channels if one.budgets)
        entry_id, body = str(uuid.uuid4()), _body(tenant, alert)
        for name in names:
            await store.put(conn, tenant, name, body)
        told = {name: value for name, value in body.items() if name not in ("version", "event", "tenant")}
        entry = Pending(
            entry_id=entry_id,
            tenant=tenant,
            kind=FIRED,
            actor=PLANE_ACTOR,
            time=plane.now(),
            body=told | {"channels": list(names)},
        )
        await ledger.store.append(conn, [(entry, None)])
        await alert_store.told(conn, alert_id, entry_id, names)
    return True


def _body(tenant: str, alert: Alert) -> dict[str, Any]:
    names = ("alert_id", "kind", "threshold", "scope", "period", "window", "mode", "currency")
    body = {"version": 1, "event": EVENT, "tenant": tenant, **{name: getattr(alert, name) for name in names}}
    body |= alert.amounts() | {"at": timestamp(alert.at)}
    return body | ({"job_id": alert.job_id} if alert.job_id is not None else {})


async def ended(conn: AsyncConnection, notice: Notice, became: Mapping[str, Any]) -> None:
    """Note at the alert what became of its notice to one channel."""
    await alert_store.delivered(conn, notice.body["alert_id"], notice.channel, became)
