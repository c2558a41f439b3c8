# SPDX-License-Identifier: Apache-2.0
"""Builds the Litestar app: the one place where an API process's parts are wired.

A request passes the door (identity, rights from the database, rate and byte limits), the guard (its route's action), a
thin handler, and on the way out one mapping of every error to RFC 9457. The same app serves TCP and the Unix socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import psycopg
from litestar import Litestar, Request, Response, Router, get
from litestar.di import Provide
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.config import OpenAPIConfig
from litestar.types import ASGIApp, Receive, Scope, Send
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from control_plane.api import budgets as budget_routes
from control_plane.api import issuer as issuer_routes
from control_plane.api import jobs as job_routes
from control_plane.api import ledger as ledger_routes
from control_plane.api import plane as plane_routes
from control_plane.auth import limits
from control_plane.auth.access import check_routes, guard
from control_plane.auth.claims import bearer
from control_plane.auth.issuer import LocalIssuer
from control_plane.auth.keys import pseudonym_key
from control_plane.auth.oidc import Authenticator
from control_plane.auth.store import enrich
from control_plane.context import Plane, open_plane
from control_plane.db import Database
from control_plane.environment import qcos_version
from control_plane.errors import Refused, code_of, problem
from control_plane.jobs import spec
from control_plane.jobs.live import Live
from control_plane.settings import Settings

log = logging.getLogger("qcos.api")
PROBLEM = "application/problem+json"
PREFIX = "/api/v1"


def build(settings: Settings, database: Database) -> Litestar:
    """The app of one API process; refuses to be built with a route that has no rule."""
    url = settings.url or f"http://{settings.http_host}:{settings.http_port}"
    local = LocalIssuer.opened(settings.home, url=url, profile=settings.profile) if settings.local_issuer else None
    plane = open_plane(settings, database, connections=settings.database_connections, name="qcos-api")
    live = Live(plane, database.app)
    door = Door(
        plane,
        Authenticator(
            settings.oidc,
            pseudonym_key=pseudonym_key(settings.home),
            local=local.trusted() if local is not None else None,
            leeway_s=settings.clock_skew_s,
        ),
    )
    app = assemble(
        settings,
        door,
        {"plane": plane, "live": live, "local": local},
        [running(plane, live, door)],
    )
    check_routes(app)
    return app


def assemble(settings: Settings, door: Any, parts: dict[str, Any], lifespan: list[Any]) -> Litestar:
    """Routes, limits, error mapping and OpenAPI around given parts; `openapi` builds it with none."""
    handlers: list[Any] = [
        *job_routes.HANDLERS,
        *ledger_routes.HANDLERS,
        *budget_routes.HANDLERS,
        *plane_routes.HANDLERS,
        openapi_document,
    ]
    api = Router(PREFIX, route_handlers=handlers)
    dependencies = {
        name: Provide(_given(part), sync_to_thread=False) for name, part in parts.items() if name != "local"
    }
    routes: list[Any] = [plane_routes.root, api]
    if parts.get("local") is not None:
        routes += issuer_routes.handlers(parts["local"], settings.home)
    return Litestar(
        route_handlers=routes,
        dependencies=dependencies,
        guards=[guard],
        middleware=[door.middleware] if door is not None else [],
        exception_handlers={Exception: answer},
        request_max_body_size=settings.max_body_bytes,
        # Litestar mounts its own pages beside the document; they are as public as it is, and out of the schema.
        openapi_config=OpenAPIConfig(
            title="QCOS",
            version=qcos_version(),
            render_plugins=[],
            openapi_router=Router("/openapi", route_handlers=[], include_in_schema=False, opt={"action": "public"}),
        ),
        lifespan=lifespan,
        logging_config=None,
        debug=False,
    )


def _given(part: Any) -> Any:
    def provide() -> Any:
        return part

    return provide


def running(plane: Plane, live: Live, door: Door) -> Any:
    """What runs beside the requests of a process, and is closed after them."""

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        listening = asyncio.create_task(live.serve())
        try:
            yield
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening
            await door.authenticator.close()
            await plane.pdp.close()
            await plane.engine.dispose()

    return lifespan


class Door:
    """Authentication and limits, before any handler sees a byte of the body (S1, N13)."""

    def __init__(self, plane: Plane, authenticator: Authenticator) -> None:
        """Hold what each request is checked against."""
        self.plane, self.authenticator = plane, authenticator
        settings = plane.settings
        rates = limits.Limits(
            requests_per_s=settings.rate_requests_per_s,
            requests_burst=float(settings.rate_burst),
            bytes_per_s=float(settings.rate_bytes_per_s),
            bytes_burst=float(4 * settings.rate_bytes_per_s),
        )
        self.limits = limits.Door(plane.engine, rates)

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """ASGI middleware: sets `scope["user"]`, or leaves it unset for a public route to be let through."""

        async def enter(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] in ("http", "websocket"):
                await self._admit(scope)
            await app(scope, receive, send)

        return lambda scope, receive, send: shaken(enter, scope, receive, send)

    async def _admit(self, scope: Scope) -> None:
        scope.setdefault("state", {})["request_id"] = str(uuid.uuid4())
        if _TRICK.search(scope.get("raw_path") or b""):
            raise Refused("not_found", "no such address")
        if scope["route_handler"].opt.get("action") != "public":
            await self._identify(scope)

    async def _identify(self, scope: Scope) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        principal = await self.authenticator.authenticate(bearer(headers.get(b"authorization", b"").decode("latin-1")))
        refused = await self.limits.let_in(principal, octets=_octets(headers, self.plane.settings.max_body_bytes))
        if refused is not None:
            raise refused
        async with self.plane.transaction(principal.tenant) as conn:
            principal = await enrich(conn, principal)
        scope["user"] = principal


async def shaken(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run the app; a WebSocket that is refused before it is accepted gets the answer that a request would get.

    What a handler raises reaches here as a close without a reason, so it leaves its error in `state.refused`.
    """
    able = "websocket.http.response" in (scope.get("extensions") or {})
    answered = False

    async def told(message: Any) -> None:
        nonlocal answered
        refused = scope.get("state", {}).get("refused")
        if message["type"] == "websocket.close" and able and not answered and refused is not None:
            await _refuse(scope, send, refused)
        else:
            await send(message)
        answered = True

    try:
        await app(scope, receive, told)
    except Exception as error:
        if answered or not able:
            raise
        await _refuse(scope, send, error)


async def _refuse(scope: Scope, send: Send, error: Exception) -> None:
    status, headers, body = _document(scope, error)
    headers |= {"content-type": PROBLEM, "content-length": str(len(body))}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    start: Any = {"type": "websocket.http.response.start", "status": status, "headers": raw}
    rest: Any = {"type": "websocket.http.response.body", "body": body, "more_body": False}
    await send(start)
    await send(rest)


# No address of this API needs an escaped slash, a NUL or a step upwards; what routing made of one is not meant.
_TRICK = re.compile(rb"%(?:2f|5c|00)|/(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)


def _octets(headers: Mapping[bytes, bytes], largest: int) -> int:
    """What the body may count for: no more than what is read of it, and all of that where its length is unsaid."""
    length = headers.get(b"content-length", b"")
    if length.isdigit():
        return largest if len(length) > 15 else min(int(length), largest)
    return largest if b"transfer-encoding" in headers else 0


def answer(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Any error as a problem document; what nobody foresaw is logged with its id and shown as `internal` (I10)."""
    status, headers, body = _document(request.scope, error)
    return Response(body, status_code=status, media_type=PROBLEM, headers=headers)


def _document(scope: Any, error: Exception) -> tuple[int, dict[str, str], bytes]:
    known = _from_litestar(error)
    status, document = problem(known)
    document["request_id"] = scope.get("state", {}).get("request_id") or str(uuid.uuid4())
    if code_of(known) == "internal":
        log.error("unforeseen", exc_info=error, extra={"request_id": document["request_id"]})
    return status, dict(getattr(error, "headers", None) or {}), msgspec.json.encode(document)


def _from_litestar(error: Exception) -> Exception:
    match error:
        case ValidationException():
            rows = tuple(
                {
                    "field": _parameter(row),
                    "message": str(row.get("message", "")),
                }
                for row in (error.extra or ())
                if isinstance(row, dict)
            )
            said = "; ".join(f"{row['field']}: {row['message']}" for row in rows) or "a parameter is not valid"
            return Refused("request_invalid", said, errors=rows)
        case HTTPException(status_code=404):
            return Refused("not_found", "no such address")
        case HTTPException(status_code=405):
            return Refused("method_not_allowed", "this address takes another method")
        case HTTPException(status_code=413):
            return Refused("body_too_large", "the body is larger than this plane takes")
        case HTTPException(status_code=415):
            return Refused("unsupported_media_type", "wanted application/json")
        case HTTPException(status_code=status) if status < 500:
            return Refused("request_invalid", error.detail)
        case psycopg.OperationalError() | OperationalError() | InterfaceError() | PoolTimeout():
            return Refused(
                "database_unusable", "the database does not answer; an Idempotency-Key makes it safe to ask again"
            )
        case _:
            return error


def _parameter(row: dict[str, Any]) -> str:
    """The name by which the caller knows a parameter: a header's isn't Python's, `state` is Litestar's own."""
    key = str(row.get("key", ""))
    if row.get("source") == "header":
        return key.replace("_", "-").title()
    return "state" if key == "in_state" else key


@get(
    "/openapi.json",
    opt={"action": "public"},
    include_in_schema=False,
    summary="This API",
)
async def openapi_document(request: Request[Any, Any, Any]) -> Response[bytes]:
    """The same bytes as docs/openapi.json."""
    return Response(document_of(request.app), media_type="application/json")


def document_of(app: Litestar) -> bytes:
    """The OpenAPI document, with the job spec's schemas made from the structs."""
    document = app.openapi_schema.to_schema()
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    (_,), components = msgspec.json.schema_components([spec.JobSpec], ref_template="#/components/schemas/{name}")
    schemas.update(components)
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "RFC 9068"}
    }
    document["security"] = [{"bearer": []}]
    return msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=1) + b"\n"


def openapi() -> bytes:
    """The document without a plane: what `docs/openapi.json` holds."""
    return document_of(assemble(Settings(), None, {"plane": None, "live": None}, []))


def create_app(settings: Settings, name: str) -> Litestar:
    """The app of the process `name`, which `up` has started."""
    del name  # every API process is alike
    return build(settings, Database.of_home(settings.home / "db"))
