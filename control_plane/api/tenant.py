# SPDX-License-Identifier: Apache-2.0
"""The caller's own tenant: limits, what counts against them, and all that it owns as a file (G11).

The operator sets limits, not the tenant. docs/tenant-export.md is the file's format.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.response import Stream
from msgspec import Struct

from control_plane.api.shapes import Answers, Bytes, Instant
from control_plane.auth.access import require
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.strict import Reason, decode, want_json
from control_plane.tenants import acts, export

TAR = "application/x-tar"
_ARCHIVE = Bytes(TAR, {"type": "string", "format": "binary", "description": "docs/tenant-export.md has its files."})


class Exporting(Struct, frozen=True, forbid_unknown_fields=True):
    """Why it is asked for: kept in the ledger."""

    reason: Reason


_exporting = msgspec.json.Decoder(Exporting)


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


@post(
    "/tenant/export",
    status_code=200,
    opt={
        "action": "tenant:export",
        "where": "tenant",
        "answers": Answers({200: [_ARCHIVE]}, body=Exporting),
    },
    media_type=TAR,
    summary="Everything that your tenant owns",
)
async def exported(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Stream:
    """Rows, evidence, contents and the tenant's chain of entries, of one moment; without a manifest it broke off."""
    want_json(request.headers.get("content-type", ""))
    require(request.user, "tenant:export", None)
    asked = decode(await request.body(), _exporting, code="request_invalid")
    await export.ask(plane, request.user, request.user.tenant, asked.reason)
    return Stream(export.stream(plane, request.user.tenant), media_type=TAR)


HANDLERS = (show, exported)
