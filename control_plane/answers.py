# SPDX-License-Identifier: Apache-2.0
"""Every error on its way out: RFC 9457 documents, for requests and for WebSockets that aren't let in (I10)."""

from __future__ import annotations

import logging
import uuid
from typing import Any
from urllib.parse import urlencode

import msgspec
import psycopg
from litestar import Request, Response
from litestar.exceptions import HTTPException, InternalServerException, ValidationException
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp, Receive, Scope, Send
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from control_plane.auth import pages
from control_plane.errors import Refused, code_of, problem

log = logging.getLogger("qcos.api")
PROBLEM = "application/problem+json"


def methods_told(app: ASGIApp) -> ASGIApp:
    """ASGI middleware: OPTIONS names every method of the address.

    Litestar's own answer is made with the address's first handler and leaves out those that joined it later.
    """

    async def enter(scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") != "OPTIONS":
            await app(scope, receive, send)
            return
        known = (route for route in scope["litestar_app"].routes if route.path == scope["path_template"])
        allow = ", ".join(sorted({str(method) for route in known for method in getattr(route, "methods", ())}))
        await ASGIResponse(status_code=204, headers={"Allow": allow})(scope, receive, send)

    return enter


def answer(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Any error as a problem document; what nobody foresaw is logged with its id and shown as `internal` (I10)."""
    status, headers, body = document_of_error(request.scope, error)
    page = getattr(request.scope.get("route_handler"), "opt", {}).get("page")
    if page and "text/html" in request.headers.get("accept", ""):
        return _page(request, status, headers, msgspec.json.decode(body))
    return Response(body, status_code=status, media_type=PROBLEM, headers=headers)


def _page(request: Request[Any, Any, Any], status: int, headers: dict[str, str], said: dict[str, Any]) -> Response[Any]:
    """A refusal for people: whoever isn't signed in is sent to where they can, and comes back."""
    if status == 401:
        here = request.scope["path"] + (f"?{request.url.query}" if request.url.query else "")
        on = f"/auth/login?{urlencode({'next': here})}" if request.method == "GET" else "/auth/login"
        return Response("", status_code=303, headers={**pages.HEADERS, "Location": on})
    text = pages.message(
        said["title"], said["detail"], said.get("next_step", ""), link=("/auth/login", "Sign in"), id=said["request_id"]
    )
    return Response(text, status_code=status, media_type="text/html", headers={**pages.HEADERS, **headers})


def document_of_error(scope: Any, error: Exception) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and problem document of any error; an unforeseen one is logged under the request's id."""
    known = _from_litestar(error, scope.get("route_handler"))
    status, document = problem(known)
    document["request_id"] = scope.get("state", {}).get("request_id") or str(uuid.uuid4())
    if code_of(known) == "internal":
        log.error("unforeseen", exc_info=error, extra={"request_id": document["request_id"]})
    return status, dict(getattr(error, "headers", None) or {}), msgspec.json.encode(document)


def _from_litestar(error: Exception, handler: Any) -> Exception:
    match error:
        case ValidationException():
            rows = tuple(_row(row, handler) for row in (error.extra or ()) if isinstance(row, dict))
            said = "; ".join(f"{row['field']}: {row['message']}" for row in rows) or "a parameter is not valid"
            return Refused("request_invalid", said, errors=rows)
        case InternalServerException(detail="client disconnected prematurely"):  # Litestar's word for half a body
            return Refused("request_invalid", "the connection ended before the body was whole")
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
            return _of_database(error)
        case _:
            return error


def _of_database(error: Exception) -> Refused:
    """The database is away, or has no room. Whether what was asked is done isn't always known."""
    full = isinstance(getattr(error, "orig", error), psycopg.errors.DiskFull)
    said = "the database's disk is full" if full else "the database does not answer"
    code = "storage_full" if full else "database_unusable"
    return Refused(code, f"{said}; an Idempotency-Key makes it safe to ask again")


def _row(row: dict[str, Any], handler: Any) -> dict[str, str]:
    """What is wrong with a parameter, by the name that the caller knows; a form in words, not as a pattern."""
    key, message = str(row.get("key", "")), str(row.get("message", ""))
    if row.get("source") == "header":
        return {"field": key.replace("_", "-").title(), "message": message}
    known = getattr(handler, "parsed_fn_signature", None)
    told = getattr(known.parameters.get(key), "kwarg_definition", None) if known is not None else None
    described = getattr(told, "description", None)
    if described and "matching regex" in message:
        message = f"want {described[0].lower()}{described[1:].rstrip('.')}"
    return {"field": getattr(told, "name", None) or key, "message": message}
