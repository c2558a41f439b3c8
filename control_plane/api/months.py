# SPDX-License-Identifier: Apache-2.0
"""Closed months with their statements, and who bears what of a month (G7); all of a tenant's."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Stream
from msgspec import Meta, Struct

from control_plane.api.bodies import asked_by
from control_plane.api.shapes import Answers, Bytes, Instant
from control_plane.auth.access import require
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.costs import allocating, closing, statements
from control_plane.strict import Reason, want_json
from finops import month_store
from finops.allocation import Method
from finops.month_store import Stored
from ledger.canonical import sha256, timestamp
from ledger.cost_statement import Amounts, Borne, Lines, Pool, Spent
from ledger.cost_statement import Method as Named

JSONL = "application/jsonl"
_FILE = Bytes(
    "application/json",
    {"type": "object", "required": ["type", "version", "month", "totals", "cost_centers", "signatures", "proof"]},
)
_LINES = Bytes(JSONL, {"type": "string", "description": "A line of canonical JSON each."})


class Closing(Struct, frozen=True, forbid_unknown_fields=True):
    """Why the month is closed."""

    reason: Reason


class MonthShown(Struct, frozen=True):
    """A month that is closing, or closed; `statement` is the hash of the signed Statement, `lines` how many it has."""

    month: str
    state: Literal["closing", "closed"]
    frozen_at: Instant
    closed_at: Instant | None
    statement: str | None
    statement_id: str | None
    lines: int | None


class MonthSums(Struct, frozen=True):
    """What a month comes to, by the method of allocation in force, or by that of its statement."""

    month: str
    state: Literal["open", "closing", "closed"]
    allocation: Named | None
    lines: Lines
    totals: tuple[Amounts, ...]
    projects: tuple[Spent, ...]
    providers: tuple[Spent, ...]
    cost_centers: tuple[Borne, ...]
    pools: tuple[Pool, ...]
    rate_cards: tuple[str, ...]


class MethodShown(Struct, frozen=True):
    """The method of allocation in force; both null where there is none."""

    sha256: str | None
    method: Annotated[Method | None, Meta(description="As it was set.")]


class _Predicate(Struct, frozen=True):
    lines: Lines


class _Statement(Struct, frozen=True):
    predicate: _Predicate


_closing = msgspec.json.Decoder(Closing)
_counted = msgspec.json.Decoder(_Statement)
_PENDING = ("month_invalid", "not_found", "evidence_pending")


@get(
    "/costs/months",
    opt={"action": "cost:read", "where": "tenant", "answers": Answers({200: tuple[MonthShown, ...]})},
    summary="Months that are closed",
)
async def months(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """All that were ever closed, oldest first."""
    require(request.user, "cost:read", None)
    async with plane.transaction(request.user.tenant) as conn:
        found = await month_store.months(conn, request.user.tenant)
    return Response([_shown(one) for one in found])


@post(
    "/costs/months/{month:str}/close",
    status_code=200,
    opt={
        "action": "cost:manage",
        "where": "tenant",
        "owner": None,
        "answers": Answers({200: MonthShown}, refusals=("month_invalid", "conflict"), body=Closing),
    },
    summary="Close a month",
)
async def close(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], month: FromPath[str]
) -> Response[Any]:
    """Nothing is charged to it any more, and its statement is signed; asked for again, it goes on where it stands."""
    require(request.user, "cost:manage", None)
    asked = await asked_by(request, _closing)
    return Response(_shown(await closing.close(plane, request.user, month, asked.reason)))


@get(
    "/costs/months/{month:str}",
    opt={
        "action": "cost:read",
        "where": "tenant",
        "owner": None,
        "answers": Answers({200: MonthSums}, refusals=("month_invalid",)),
    },
    summary="Who bears what of a month",
)
async def sums(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], month: FromPath[str]
) -> Response[Any]:
    """By cost centre, shared costs split; of a closed month what its statement says."""
    require(request.user, "cost:read", None)
    return Response(await statements.sums(plane, request.user.tenant, month))


@get(
    "/costs/months/{month:str}/statement",
    opt={
        "action": "cost:read",
        "where": "tenant",
        "owner": None,
        "answers": Answers({200: [_FILE]}, refusals=(*_PENDING, "document_failed")),
    },
    summary="The statement of a closed month",
)
async def statement(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], month: FromPath[str]
) -> Response[bytes]:
    """Signed, stamped, with its place in the log: `qcos verify` judges it offline."""
    require(request.user, "cost:read", None)
    data = await statements.file(plane, request.user.tenant, month)
    return Response(data, media_type="application/json")


@get(
    "/costs/months/{month:str}/lines",
    opt={
        "action": "cost:read",
        "where": "tenant",
        "owner": None,
        "answers": Answers({200: [_LINES]}, refusals=_PENDING),
    },
    media_type=JSONL,
    summary="The lines of a closed month",
)
async def lines(request: Request[Principal, Any, Any], plane: NamedDependency[Plane], month: FromPath[str]) -> Stream:
    """Every charged line; the SHA-256 of these bytes stands in the statement."""
    require(request.user, "cost:read", None)
    await statements.found(plane, request.user.tenant, month)
    return Stream(statements.lines(plane, request.user.tenant, month), media_type=JSONL)


@get(
    "/costs/allocation",
    opt={"action": "cost:read", "where": "tenant", "answers": Answers({200: MethodShown})},
    summary="The method of allocation",
)
async def method(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """By which shared costs are split, and who bears what names no cost centre."""
    require(request.user, "cost:read", None)
    found = await allocating.current(plane, request.user.tenant)
    return Response(_method(None if found is None else found.document))


@put(
    "/costs/allocation",
    opt={
        "action": "cost:manage",
        "where": "tenant",
        "answers": Answers({200: MethodShown}, refusals=("allocation_invalid",), body=Method),
    },
    summary="Set the method of allocation",
)
async def set_method(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """In force for every month that isn't closed."""
    require(request.user, "cost:manage", None)
    want_json(request.headers.get("content-type", ""))
    put_in_force = await allocating.put(plane, request.user, await request.body())
    return Response(_method(put_in_force.document))


def _method(document: bytes | None) -> dict[str, Any]:
    if document is None:
        return {"sha256": None, "method": None}
    return {"sha256": sha256(document), "method": msgspec.json.decode(document)}


def _shown(stored: Stored) -> dict[str, Any]:
    return {
        "month": stored.month,
        "state": stored.state,
        "frozen_at": timestamp(stored.frozen_at),
        "closed_at": None if stored.closed_at is None else timestamp(stored.closed_at),
        "statement": None if stored.statement is None else sha256(stored.statement),
        "statement_id": stored.bundle_id,
        "lines": None if stored.statement is None else _counted.decode(stored.statement).predicate.lines.count,
    }


HANDLERS = (months, close, sums, statement, lines, method, set_method)
