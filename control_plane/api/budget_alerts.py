# SPDX-License-Identifier: Apache-2.0
"""Alerts of budgets: which fired, at which amount, and what became of telling (G7, I7)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from litestar import Request, get
from litestar.di import NamedDependency
from msgspec import Meta, Struct

from control_plane.api.budgets import visible
from control_plane.api.shapes import Amount, Answers, Instant
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from finops import alert_store
from finops.alert_store import Alert
from finops.budget import Mode
from ledger.canonical import timestamp


class ToldChannel(Struct, frozen=True):
    """A channel, and what became of the notice to it."""

    name: str
    state: Literal["waiting", "delivered", "given_up"]
    tries: int | None = None
    at: Instant | None = None
    error: str | None = None


class BudgetAlert(Struct, frozen=True):
    """A threshold that was crossed, and how the budget stood then.

    `spent` counts what was captured, `committed` that and what is held. `exceeded`: above the limit; `lowered`: the
    limit was set below what is spent; `overrun`: a job cost more than its hold; `refused`: a job was refused for want
    of budget, the first of that day.
    """

    alert_id: str
    at: Instant
    kind: Literal["spent", "committed", "exceeded", "lowered", "overrun", "refused"]
    threshold: Annotated[int, Meta(description="Per cent of the limit; 0 where there is none.")]
    scope: str
    period: str
    window: str
    mode: Mode
    limit: Amount
    held: Amount
    captured: Amount
    currency: Annotated[str, Meta(description="A currency, `shots` or `jobs`.")]
    job_id: str | None
    entry_id: Annotated[str | None, Meta(description="The entry that tells of it; null until there is one.")]
    channels: tuple[ToldChannel, ...]


@get(
    "/budgets/alerts",
    opt={"action": "budget:read", "answers": Answers({200: tuple[BudgetAlert, ...]})},
    summary="Alerts of budgets, newest first",
)
async def budget_alerts(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> list[dict[str, Any]]:
    """The last thousand of the budgets that the caller may see."""
    async with plane.transaction(request.user.tenant) as conn:
        found = await alert_store.alerts(conn, request.user.tenant)
    return [_shown(alert) for alert in found if visible(request.user, alert.scope)]


def _shown(alert: Alert) -> dict[str, Any]:
    names = ("alert_id", "kind", "threshold", "scope", "period", "window", "mode", "currency", "job_id", "entry_id")
    told = [{"name": name} | became for name, became in sorted(alert.deliveries.items())]
    shown = {name: getattr(alert, name) for name in names} | alert.amounts()
    return shown | {"at": timestamp(alert.at), "channels": told}


HANDLERS = (budget_alerts,)
