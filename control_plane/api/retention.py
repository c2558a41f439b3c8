# SPDX-License-Identifier: Apache-2.0
"""Retention, legal holds, erasure, and whom the pseudonyms of the ledger stand for (G5, G12)."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from msgspec import Struct

from control_plane.api.bodies import asked_by
from control_plane.api.jobs import find
from control_plane.api.shapes import Answers, Hash, Instant
from control_plane.auth.access import require
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.retention import acts, store
from control_plane.retention.scope import covering
from ledger.canonical import timestamp

MOST = 1000


class Hold(Struct, frozen=True):
    """A legal hold: what it covers, why, and by whose pseudonym."""

    hold_id: str
    scope: str
    reason: str
    placed_at: Instant
    placed_by: str
    released_at: Instant | None
    released_by: str | None


class Due(Struct, frozen=True):
    """A job whose retention is over; `held_by` is the hold that keeps it all the same."""

    job_id: str
    project: str
    until: Instant
    held_by: str | None


class Erased(Struct, frozen=True):
    """What the entry of an erasure says."""

    job_id: str
    at: Instant
    bundle_id: str | None
    commitments: tuple[Hash, ...]
    keys: int
    reason: str
    retention_until: Instant | None
    early: bool


class Forgotten(Struct, frozen=True):
    """A pseudonym whose name is gone, and from how many jobs."""

    pseudonym: str
    jobs: int
    reason: str


class Actor(Struct, frozen=True):
    """Whom a pseudonym stands for."""

    pseudonym: str
    actor: str
    jobs: int
    first: Instant
    last: Instant


@get(
    "/retention/due",
    opt={
        "action": "retention:read",
        "where": "tenant",
        "query": ("within_days",),
        "answers": Answers({200: tuple[Due, ...]}),
    },
    summary="What retention lets go",
)
async def due(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    within_days: Annotated[int, QueryParameter(ge=0, le=36_500)] = 0,
) -> Response[Any]:
    """At most a thousand jobs whose retention is over now, or within so many days; nothing is erased by asking."""
    require(request.user, "retention:read", None)
    moment = plane.now() + dt.timedelta(days=within_days)
    async with plane.transaction(request.user.tenant) as conn:
        rows = await store.due(conn, moment, MOST)
        shown = [
            {
                "job_id": row["job_id"],
                "project": row["project"],
                "until": timestamp(row["until"]),
                "held_by": await store.keeping(conn, covering(row)),
            }
            for row in rows
        ]
    return Response(shown)


@get(
    "/retention/holds",
    opt={
        "action": "retention:read",
        "where": "tenant",
        "query": ("released",),
        "answers": Answers({200: tuple[Hold, ...]}),
    },
    summary="Legal holds",
)
async def holds(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    released: Annotated[bool, QueryParameter(name="released")] = False,
) -> Response[Any]:
    """Those that stand, oldest first; with `released` those that ended as well."""
    require(request.user, "retention:read", None)
    async with plane.transaction(request.user.tenant) as conn:
        rows = await store.holds(conn, released=released)
    return Response([_hold(row) for row in rows])


@post(
    "/retention/holds",
    status_code=201,
    opt={"action": "retention:hold", "where": "tenant", "answers": Answers({201: Hold}, body=acts.Placing)},
    summary="Place a legal hold",
)
async def place(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """From the answer on nothing that it covers is erased."""
    require(request.user, "retention:hold", None)
    asked = await asked_by(request, acts.placing)
    return Response(_hold(await acts.place(plane, request.user, asked)), status_code=201)


@post(
    "/retention/holds/{hold_id:str}/release",
    status_code=200,
    opt={"action": "retention:hold", "where": "tenant", "answers": Answers({200: Hold}, body=acts.Releasing)},
    summary="Release a legal hold",
)
async def release(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], hold_id: FromPath[str]
) -> Response[Any]:
    """What it covered goes when its retention is over, unless another keeps it."""
    require(request.user, "retention:hold", None)
    asked = await asked_by(request, acts.releasing)
    return Response(_hold(await acts.release(plane, request.user, hold_id, asked.reason)))


@post(
    "/jobs/{job_id:str}/erase",
    status_code=200,
    opt={
        "action": "retention:erase",
        "sees": "job:read",
        "answers": Answers(
            {200: Erased},
            refusals=("legal_hold", "retention_running", "transition_refused"),
            body=acts.Erasing,
        ),
    },
    summary="Erase a job's contents",
)
async def erase(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], job_id: FromPath[str]
) -> Response[Any]:
    """The keys of its blobs are gone once this answers; what was handed out before still verifies."""
    asked = await asked_by(request, acts.erasing)
    row = await find(plane, request.user, job_id, "job:read")
    require(request.user, "retention:erase", row["project"])
    return Response(await acts.erase(plane, request.user, job_id, asked))


@get(
    "/actors",
    opt={"action": "retention:read", "where": "tenant", "answers": Answers({200: tuple[Actor, ...]})},
    summary="Whom pseudonyms stand for",
)
async def actors(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """The name map: the ledger has the pseudonyms alone. At most a thousand."""
    require(request.user, "retention:read", None)
    async with plane.transaction(request.user.tenant) as conn:
        rows = await store.actors(conn, MOST)
    return Response([dict(row) | {at: timestamp(row[at]) for at in ("first", "last")} for row in rows])


@post(
    "/actors/forget",
    status_code=200,
    opt={
        "action": "retention:erase",
        "where": "tenant",
        "answers": Answers(
            {200: tuple[Forgotten, ...]}, refusals=("not_found", "legal_hold", "conflict"), body=acts.Forgetting
        ),
    },
    summary="Erase a person's name",
)
async def forget(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """The pseudonym stands for nobody then; the entries stay as they are."""
    require(request.user, "retention:erase", None)
    asked = await asked_by(request, acts.forgetting)
    return Response(await acts.forget(plane, request.user, asked))


def _hold(row: Any) -> dict[str, Any]:
    return {
        name: None if row[name] is None else timestamp(row[name]) if name.endswith("_at") else row[name]
        for name in Hold.__struct_fields__
    }


HANDLERS = (due, holds, place, release, erase, actors, forget)
