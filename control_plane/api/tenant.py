# SPDX-License-Identifier: Apache-2.0
"""The caller's own tenant: its limits and what counts against them (G11). The operator sets them, not the tenant."""

from __future__ import annotations

from typing import Any, Literal

from litestar import Request, Response, get
from litestar.di import NamedDependency
from msgspec import Struct

from control_plane.api.shapes import Answers, Instant
from control_plane.auth.access import require
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.tenants import acts


class TenantLimits(Struct, frozen=True):
    """What the operator limited; null is no limit. Rates are of all people of the tenant together."""

    requests_per_s: float | None
    bytes_per_s: float | None
    waiting_jobs: int | None
    running_jobs: int | None
    shots_per_day: int | None


class TenantUsage(Struct, frozen=True):
    """What counts against the limits now; shots are those admitted today (UTC)."""

    waiting_jobs: int
    running_jobs: int
    shots_today: int


class TenantShown(Struct, frozen=True):
    """A tenant."""

    tenant: str
    state: Literal["open", "closed"]
    created_at: Instant
    closed_at: Instant | None
    limits: TenantLimits
    usage: TenantUsage


@get(
    "/tenant",
    opt={"action": "tenant:read", "where": "tenant", "answers": Answers({200: TenantShown})},
    summary="Your tenant's limits and usage",
)
async def show(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """What the plane's operator limits of this tenant, and what counts against it."""
    require(request.user, "tenant:read", None)
    return Response(await acts.shown(plane, request.user.tenant))


HANDLERS = (show,)
