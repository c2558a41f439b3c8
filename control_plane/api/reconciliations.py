# SPDX-License-Identifier: Apache-2.0
"""Providers' invoices against the ledger: compare one, and what was found before (G7)."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from msgspec import Struct, field

from control_plane.api.bodies import asked_by
from control_plane.api.shapes import Answers, Hash, Instant
from control_plane.auth.access import require
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.costs import invoice_store, reconciling
from control_plane.errors import Refused

MOST = 100


class FoundClass(Struct, frozen=True):
    """Findings of one class: how many, and what they add up to; what was charged, by currency."""

    kind: str = field(name="class")
    count: int = 0
    invoiced: str = "0"
    charged: dict[str, str] = {}


class Summary(Struct, frozen=True):
    """One reconciliation, as its entry tells of it: hashes, counts and exact sums."""

    reconciliation_id: str
    provider: str
    months: tuple[str, ...]
    at: Instant
    invoice: Hash
    original: Hash | None
    mapping: Hash
    lines: int
    tolerance: str
    time_tolerance_s: int
    findings: Hash
    agrees: bool
    currency: str
    invoiced: str
    charged: dict[str, str]
    classes: tuple[FoundClass, ...]


class Found(Struct, frozen=True):
    """Some lines of the invoice beside some charges; `difference` is null where they are in two currencies."""

    kind: str = field(name="class")
    lines: tuple[int, ...] = ()
    job_id: str | None = None
    found_by: str | None = None
    vendor_id: str | None = None
    meter: str | None = None
    invoiced: str = "0"
    charged: str = "0"
    currency: str = ""
    charged_currency: str = ""
    difference: str | None = None
    invoiced_quantity: str | None = None
    charged_quantity: str | None = None
    device: str | None = None
    at: Instant | None = None
    user: str | None = None
    candidates: tuple[str, ...] = ()
    detail: str = ""


class Reconciled(Summary, frozen=True):
    """The summary, and every finding: in the invoice's order, then what was charged and not billed."""

    found: tuple[Found, ...]


@post(
    "/costs/reconciliations",
    status_code=201,
    opt={
        "action": "cost:manage",
        "where": "tenant",
        "answers": Answers(
            {201: Reconciled}, refusals=("invoice_invalid", "amount_invalid"), body=reconciling.Reconciling
        ),
    },
    summary="Compare a provider's invoice with the ledger",
)
async def compare(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """Every line explained; what was found is kept, with an entry. Charges stay as they are."""
    require(request.user, "cost:manage", None)
    asked = await asked_by(request, reconciling.asking)
    return Response(await reconciling.compare(plane, request.user, asked), status_code=201)


@get(
    "/costs/reconciliations",
    opt={
        "action": "cost:manage",
        "where": "tenant",
        "query": ("limit",),
        "answers": Answers({200: tuple[Summary, ...]}),
    },
    summary="Invoices that were compared",
)
async def listed(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    limit: Annotated[int, QueryParameter(ge=1, le=MOST)] = MOST,
) -> Response[Any]:
    """The newest first, without their findings."""
    require(request.user, "cost:manage", None)
    async with plane.transaction(request.user.tenant) as conn:
        return Response(await invoice_store.newest(conn, request.user.tenant, limit))


@get(
    "/costs/reconciliations/{reconciliation_id:str}",
    opt={"action": "cost:manage", "where": "tenant", "owner": "tenant", "answers": Answers({200: Reconciled})},
    summary="What was found of an invoice",
)
async def shown(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], reconciliation_id: FromPath[str]
) -> Response[Any]:
    """Summary and findings, as they were found."""
    require(request.user, "cost:manage", None)
    try:
        name = str(uuid.UUID(reconciliation_id))
    except ValueError:
        raise Refused("not_found", "no such reconciliation") from None
    async with plane.transaction(request.user.tenant) as conn:
        row = await invoice_store.one(conn, request.user.tenant, name)
    if row is None:
        raise Refused("not_found", "no such reconciliation")
    return Response(row["summary"] | {"found": row["findings"]})


HANDLERS = (compare, listed, shown)
