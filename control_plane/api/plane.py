# SPDX-License-Identifier: Apache-2.0
"""The plane itself: who am I, health, readiness, schemas, and in dev the local issuer."""

from __future__ import annotations

import contextlib
from functools import cache
from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency

import ledger.signature_store
import ledger.store
from control_plane import witnesses
from control_plane.api.plane_shapes import Alive, Caller, Readiness, Root
from control_plane.api.shapes import Answers, Bytes
from control_plane.auth import store as accounts
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.environment import qcos_version
from control_plane.errors import Refused
from control_plane.jobs import schema
from control_plane.network.fabric import Fabric
from control_plane.policy.decision import PolicyUnavailable
from control_plane.registry import store as registry
from control_plane.sealing import LOOK_LIMIT_S, STALLED_S
from hal_drivers.p2p.office import AskStanding, Standing
from ledger import outside
from ledger.canonical import timestamp

STAMP_LATE_S = 10.0  # a token that waits longer means that `full` evidence is held up


@get("/", opt={"action": "public", "answers": Answers({200: Root})}, summary="What this is")
async def root() -> dict[str, str]:
    """Name, version and where to go."""
    return {
        "name": "qcos",
        "version": qcos_version(),
        "api": "/api/v1",
        "openapi": "/api/v1/openapi.json",
    }


@get("/health", opt={"action": "public", "answers": Answers({200: Alive})}, summary="Alive")
async def health() -> dict[str, str]:
    """The process answers; nothing is said of what it depends on."""
    return {"status": "alive"}


@get(
    "/ready",
    opt={"action": "public", "answers": Answers({200: Readiness, 503: Readiness})},
    summary="Ready, dependency by dependency",
)
async def ready(plane: NamedDependency[Plane], fabric: NamedDependency[Fabric]) -> Response[Any]:
    """200 if a job could be admitted, run, sealed and stamped now; else 503 with what is missing.

    A plane whose network is enabled is ready when its fabric answers too.
    """
    checks = {**await _database(plane), "policy": await _policy(plane), **await _network(plane, fabric)}
    ok = all(check["ok"] for check in checks.values())
    return Response({"ready": ok, "checks": checks}, status_code=200 if ok else 503)


async def _database(plane: Plane) -> dict[str, dict[str, Any]]:
    """The database, and what it tells of sealer, time-stamps and workers."""
    try:
        standing = await plane.sealing.look(plane)
        async with plane.transaction(None, limit_s=LOOK_LIMIT_S) as conn:
            awaited, oldest_s = await ledger.signature_store.unstamped(conn)
            backends = await registry.backends(conn, registry.BACKEND_STALE_S)
            others = await outside.standings(conn)
    except Exception as error:  # noqa: BLE001 - whatever keeps the database from answering is the answer
        return {"database": _check(ok=False, detail=type(error).__name__)}
    online = [row["id"] for row in backends if row["fresh"] and row["state"] == "online"]
    waiting = f"{awaited} awaited, the oldest for {oldest_s:.0f} s" if awaited else "none awaited"
    return {
        "database": _check(ok=True, detail="answers"),
        "sealer": _sealer(standing),
        "clock": _clock(plane),
        "timestamps": _check(ok=oldest_s < STAMP_LATE_S, detail=waiting),
        "backends": _check(ok=bool(online), detail=", ".join(online) or "none is online"),
        **_outside([one for one in others if one.name in witnesses.names(plane.settings)]),
    }


def _outside(others: list[outside.Standing]) -> dict[str, Any]:
    """Who holds another history of the log than the database is an alarm; who is away is only told."""
    if not others:
        return {}
    worst = next((one for one in others if one.code in outside.CONFLICT), None)
    told = ", ".join(f"{one.kind} {one.name}: {f'{one.code}: {one.detail}' if one.code else 'well'}" for one in others)
    return {"outside": _check(ok=worst is None, code=worst.code if worst else None, detail=told)}


def _sealer(standing: ledger.store.Standing) -> dict[str, Any]:
    """Whether it seals: an alarm is its own word; an entry that waits long speaks of one that says nothing."""
    if standing.alarm is not None and standing.since is not None:
        since = timestamp(standing.since)
        return _check(ok=False, code=standing.alarm, detail=f"nothing is sealed since {since}: {standing.detail}")
    if standing.waited_s >= STALLED_S:
        detail = f"the oldest entry has waited {standing.waited_s:.0f} s for its seal"
        return _check(ok=False, code="sealing_stalled", detail=detail)
    return _check(
        ok=standing.size > 0, detail=f"sealed {standing.size} entries" if standing.size else "no checkpoint yet"
    )


def _clock(plane: Plane) -> dict[str, Any]:
    try:
        plane.sealing.refuse()
    except Refused as stopped:
        if stopped.code in ("clock_skewed", "clock_stepped_back"):
            return _check(ok=False, code=stopped.code, detail=stopped.detail)
    return _check(ok=True, detail="agrees with the database's")


def _check(*, ok: bool, detail: str, code: str | None = None) -> dict[str, Any]:
    return {"ok": ok, "detail": detail} | ({"code": code} if code else {})


async def _policy(plane: Plane) -> dict[str, Any]:
    """An alarm about a newer bundle is told as long as the last good one may decide, and a fault after that."""
    alarm = None
    try:
        with contextlib.suppress(PolicyUnavailable):  # an OPA of others, without a status
            standing = await plane.pdp.standing()
            alarm = standing if standing.alarm else None
        await plane.pdp.ready()
    except PolicyUnavailable as error:
        detail = f"{error.detail}; {alarm.detail}" if alarm else error.detail
        return _check(ok=False, code=alarm.alarm if alarm else error.code, detail=detail)
    decides = f"{plane.pdp.engine.name} {plane.pdp.revision}"
    return _check(ok=True, code=alarm.alarm if alarm else None, detail=alarm.detail if alarm else decides)


async def _network(plane: Plane, fabric: Fabric) -> dict[str, Any]:
    if not plane.settings.network.enabled:
        return {}
    try:
        standing = await fabric.ask(AskStanding(), Standing)
    except Refused as refused:
        return {"network": _check(ok=False, code=refused.code, detail=refused.detail)}
    said = f"{standing.connected} connected, {standing.adverts} adverts hold, {standing.runs} runs go on"
    return {"network": _check(ok=True, detail=said)}


@get("/whoami", opt={"action": "whoami", "answers": Answers({200: Caller})}, summary="The caller's identity and rights")
async def whoami(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> dict[str, Any]:
    """Subject, tenant, roles, and the projects of the tenant in which the caller has a role."""
    principal = request.user
    (rows,) = await plane.read(principal.tenant, accounts.names_of_projects(principal.tenant))
    known = [row["project"] for row in rows]
    return {
        "subject": principal.subject,
        "actor": principal.actor,
        "tenant": principal.tenant,
        "roles": list(principal.roles),
        "project_roles": {project: list(roles) for project, roles in principal.project_roles.items()},
        "projects": sorted(name for name in {*principal.project_roles, *known} if principal.roles_in(name)),
        "team": principal.team,
        "department": principal.department,
        "kind": principal.kind,
        "groups": list(principal.groups),
        "via": principal.via,
        "credential": principal.credential,
        "scope": msgspec.to_builtins(principal.scope),
        "acting": msgspec.to_builtins(principal.chain),
    }


@get(
    "/schemas/job-spec.json",
    opt={"action": "public", "answers": Answers({200: Bytes("application/json", {"type": "object"})})},
    summary="JSON Schema of the job spec",
)
async def job_schema() -> dict[str, Any]:
    """JSON Schema 2020-12, made from the structs."""
    return _schema()


_schema = cache(schema.schema)

HANDLERS = (health, ready, whoami, job_schema)
