# SPDX-License-Identifier: Apache-2.0
"""The plane's policies over HTTP: what is in force, each revision with its files, and a push (G2)."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from msgspec import Meta, Struct

from control_plane import policies
from control_plane.api.bodies import asked_by
from control_plane.api.shapes import Answers, Hash, Instant
from control_plane.auth.access import require
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.policy import store
from control_plane.policy.decision import PolicyUnavailable
from control_plane.policy.engine_log import store as engine_log
from control_plane.policy.store import Push
from control_plane.shadow import store as shadows
from ledger.canonical import timestamp

HISTORY = 100
_REVISION = "^sha256:[0-9a-f]{64}$"


class PushRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The files of a revision by path, as text; `base` is the revision that they were made from."""

    files: Annotated[dict[str, str], Meta(min_length=1)]
    message: Annotated[str, Meta(max_length=2000)] = ""
    base: Annotated[str, Meta(extra_json_schema={"pattern": _REVISION})] | None = None


class Revision(Struct, frozen=True):
    """A push. `in_force`: it is what decides now. `state` is `pushed` until the sealer has signed it."""

    revision: Hash
    number: int
    base: Hash | None
    entry_id: str
    pushed_at: Instant
    pushed_by: str
    message: str
    state: Literal["pushed", "signed", "refused"]
    in_force: bool


class RevisionWhole(Revision, frozen=True, kw_only=True):
    """The same, with its files by path: rules, data, tests and schemas."""

    files: dict[str, str]


class Alarm(Struct, frozen=True):
    """What keeps the policies in force from deciding here."""

    code: str
    detail: str


class Engine(Struct, frozen=True):
    """The engine, and by which revision it decides at this moment; null where that can't be had."""

    name: Literal["opa", "embedded"]
    revision: Hash | None


class Shadowed(Struct, frozen=True):
    """Whether a candidate decides beside them, and which (`GET /policy/shadow` tells more)."""

    state: Literal["off", "following", "stopped"]
    revision: Hash | None = None
    reason: str | None = None


class Standing(Struct, frozen=True):
    """The policies in force, and how the engine of the process that answers stands to them."""

    revision: Hash
    number: int
    pushed_at: Instant
    engine: Engine
    alarms: tuple[Alarm, ...]
    shadow: Shadowed


class Logged(Struct, frozen=True):
    """One decision as OPA has logged it: which checks failed, by which reasons; `decision_id` is OPA's own."""

    decision_id: str
    decided_at: Instant
    revision: Hash
    failed: tuple[str, ...]
    codes: tuple[str, ...]


class EngineLog(Struct, frozen=True):
    """`taken` and `refused` came in so far, `kept` are still there of at most `bound`; `dropped_by_opa` since it
    started, null where it doesn't say.
    """

    taken: int
    refused: int
    kept: int
    bound: int
    dropped_by_opa: int | None
    decisions: tuple[Logged, ...]


_decoder = msgspec.json.Decoder(PushRequest)


@get(
    "/policy",
    opt={"action": "policy:read", "answers": Answers({200: Standing})},
    summary="The policies in force",
)
async def standing(plane: NamedDependency[Plane]) -> Response[Any]:
    """Which revision is in force, and whether the engine decides by it already."""
    async with plane.transaction(None) as conn:
        current = await store.current(conn)
        shadow = await shadows.show(conn)
    if current is None:
        raise PolicyUnavailable("no policies are in force yet")
    alarms: list[dict[str, str]] = []
    revision = None
    with contextlib.suppress(PolicyUnavailable):  # an OPA of others, without a status
        engine = await plane.pdp.standing()
        alarms += [{"code": engine.alarm, "detail": engine.detail}] if engine.alarm else []
    try:
        revision = await plane.pdp.deciding()
    except PolicyUnavailable as error:
        alarms.append({"code": "policy_unavailable", "detail": error.detail})
    if plane.watch is not None and plane.watch.fault is not None:
        alarms.append({"code": "policy_unavailable", "detail": plane.watch.fault})
    return Response(
        {
            "revision": current.revision,
            "number": current.number,
            "pushed_at": timestamp(current.pushed_at),
            "engine": {"name": plane.pdp.engine.name, "revision": revision},
            "alarms": alarms,
            "shadow": _shadowed(shadow),
        }
    )


@get(
    "/policy/log",
    opt={"action": "policy:read", "query": ("limit",), "answers": Answers({200: EngineLog}, refusals=("forbidden",))},
    summary="What OPA has logged",
)
async def logged(
    request: Request[Principal, Any, Any],
    plane: NamedDependency[Plane],
    limit: Annotated[int, QueryParameter(ge=1, le=1000, description="How many decisions, newest first.")] = 100,
) -> Response[Any]:
    """A bounded, masked copy of OPA's decision log, and what it lost: the record of a decision is its entry."""
    policies.require_tenant(plane.settings, request.user)
    async with plane.transaction(None) as conn:
        counted = await engine_log.counted(conn)
        newest = await engine_log.newest(conn, limit)
    dropped = None
    with contextlib.suppress(PolicyUnavailable):
        dropped = (await plane.pdp.standing()).dropped
    shown = [row | {"decided_at": timestamp(row["decided_at"])} for row in newest]
    return Response(counted | {"bound": engine_log.BOUND, "dropped_by_opa": dropped, "decisions": shown})


@get(
    "/policy/revisions",
    opt={"action": "policy:read", "answers": Answers({200: tuple[Revision, ...]}, refusals=("forbidden",))},
    summary="Pushes, newest first",
)
async def revisions(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """The last hundred pushes and what became of each."""
    policies.require_tenant(plane.settings, request.user)
    async with plane.transaction(None) as conn:
        told, newest = await store.history(conn, HISTORY), await store.newest(conn)
    return Response([_shown(one, newest[0] if newest else None) for one in told])


@get(
    "/policy/revisions/{revision:str}",
    opt={
        "action": "policy:read",
        "answers": Answers({200: RevisionWhole}, refusals=("forbidden", "not_found")),
    },
    summary="One revision with its files",
)
async def revision(
    request: Request[Principal, Any, Any], plane: NamedDependency[Plane], revision: FromPath[str]
) -> Response[Any]:
    """As it was pushed last, by its `sha256:…`."""
    policies.require_tenant(plane.settings, request.user)
    found = await policies.found(plane, revision)
    async with plane.transaction(None) as conn:
        newest = await store.newest(conn)
    shown = _shown(found, newest[0] if newest else None)
    return Response(shown | {"files": {path: content.decode() for path, content in sorted(found.files.items())}})


@post(
    "/policy/revisions",
    opt={
        "action": "policy:push",
        "where": "tenant",
        "answers": Answers(
            {201: Revision},
            refusals=("forbidden", "policy_refused", "policy_moved"),
            body=PushRequest,
        ),
    },
    summary="Push policies",
)
async def push(request: Request[Principal, Any, Any], plane: NamedDependency[Plane]) -> Response[Any]:
    """Judge the files and keep them as the next revision: in force once they are signed, without a restart.

    Of two pushes on the same base one wins; the other is answered 409.
    """
    asked = await asked_by(request, _decoder)
    require(request.user, "policy:push", None)
    policies.require_tenant(plane.settings, request.user)
    files = {path: content.encode() for path, content in asked.files.items()}
    kept = await policies.pushed(plane, request.user, files, asked.base, asked.message)
    async with plane.transaction(None) as conn:
        newest = await store.newest(conn)
    return Response(_shown(kept, newest[0] if newest else None), status_code=201)


def _shadowed(shadow: shadows.Shadow | None) -> dict[str, Any]:
    if shadow is None:
        return {"state": "off"}
    state = "following" if shadow.stopped_at is None else "stopped"
    return {"state": state, "revision": shadow.revision, "reason": shadow.reason}


def _shown(push: Push, current: int | None) -> dict[str, Any]:
    state = "pushed"
    if isinstance(push, store.Told):
        state = "signed" if push.signed else "refused" if push.refused else "pushed"
    elif isinstance(push, store.Stored):
        state = "signed"
    return {
        "revision": push.revision,
        "number": push.number,
        "base": push.base,
        "entry_id": push.entry_id,
        "pushed_at": timestamp(push.pushed_at),
        "pushed_by": push.actor,
        "message": push.message,
        "state": state,
        "in_force": push.number == current,
    }


HANDLERS = (standing, logged, revisions, revision, push)
