# SPDX-License-Identifier: Apache-2.0
"""The door of an API process: what every request meets before a handler sees a byte of its body (S1, N13).

Enters a connection; leaves `scope["user"]`, a principal with the rights that this plane adds, or a refusal. Addresses
that were meant to trick the routing, and parameters that the route doesn't know, end here: a misspelt `dry_run` must
not submit.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import parse_qsl

from litestar.types import ASGIApp, Receive, Scope, Send

from control_plane import telemetry
from control_plane.answers import PROBLEM, document_of_error
from control_plane.auth import browser, limits
from control_plane.auth.errors import Unauthenticated
from control_plane.auth.principal import Principal
from control_plane.auth.recognise import Recogniser
from control_plane.auth.source import Address, caller
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.places import Places, waiting

PLACES = 4
"""Requests at work at once in a process: enough to keep its core and the database busy. What waits, waits here in turn
and not in line before the event loop or a connection: with ten, a flood had ten requests before everybody else's.
"""

HOLD_S = 1.0
"""What a request holds its place for at most: one that lasts longer waits, for a job, a seal or a client."""


class Door:
    """Authentication and limits, before any handler sees a byte of the body (S1, N13)."""

    def __init__(self, plane: Plane, recogniser: Recogniser) -> None:
        """Hold what each request is checked against."""
        self.plane, self.recogniser = plane, recogniser
        settings = plane.settings
        rates = limits.Limits(
            requests_per_s=settings.rate_requests_per_s,
            requests_burst=float(settings.rate_burst),
            bytes_per_s=float(settings.rate_bytes_per_s),
            bytes_burst=float(4 * settings.rate_bytes_per_s),
        )
        self.limits = limits.Door(plane.engine, rates)
        per_s = settings.login_per_s
        self.strangers = limits.Door(plane.engine, limits.Limits(requests_per_s=per_s, requests_burst=10 * per_s + 1))
        self.crowd = limits.Crowd()
        self.places = Places(PLACES, hold_s=HOLD_S)

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """ASGI middleware: sets `scope["user"]`, or leaves it unset for a public route to be let through."""

        async def enter(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] not in ("http", "websocket"):
                await app(scope, receive, send)
                return
            async with AsyncExitStack() as place:
                await self._admit(scope, place)
                if (principal := scope.get("user")) is not None:
                    octets = _octets(dict(scope["headers"]), self.plane.settings.max_body_bytes)
                    place.enter_context(self.crowd.inside(principal, socket="method" not in scope, octets=octets))
                if "method" not in scope:  # a WebSocket, which waits for what comes
                    waiting()
                await app(scope, receive, send)

        return lambda scope, receive, send: shaken(enter, scope, receive, send)

    async def _admit(self, scope: Scope, place: AsyncExitStack) -> None:
        scope.setdefault("state", {})["request_id"] = request_id = str(uuid.uuid4())
        telemetry.bind(request_id=request_id)
        # One route takes packed bodies, and bounds what it unpacks: OPA can't be told not to pack its log.
        if not scope["route_handler"].opt.get("packed") and any(
            name.lower() == b"content-encoding" and value.lower() != b"identity" for name, value in scope["headers"]
        ):
            raise Refused("unsupported_media_type", "bodies are taken as they are, not compressed")
        if _TRICK.search(scope.get("raw_path") or b""):
            raise Refused("not_found", "no such address")
        _refuse_unknown_parameters(scope)
        address = self._address(scope)
        scope["state"]["source"] = "this machine" if address is None else str(address)
        if scope["route_handler"].opt.get("action") != "public":
            await self._identify(scope, None if address is None else str(address), place)
        elif scope["route_handler"].opt.get("limited"):
            await self._slow_down(scope["state"]["source"])
            scope["state"] |= {"address": None if address is None else str(address), "let_in": self.limits.let_in}

    def _address(self, scope: Scope) -> Address | None:
        """Where the request came from, by what the administrator's own proxies say."""
        client, header = scope.get("client"), self.plane.settings.proxy_header.lower().encode()
        told = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == header]
        return caller(client[0] if client else None, told, self.plane.settings.proxy_networks)

    async def _identify(self, scope: Scope, address: str | None, place: AsyncExitStack) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        if sum(name.lower() == b"authorization" for name, _ in scope["headers"]) > 1:
            raise Unauthenticated("token_invalid", "two_headers", "one Authorization header, not several")
        octets = _octets(headers, self.plane.settings.max_body_bytes)

        session = None if b"authorization" in headers else browser.cookie(scope["headers"], browser.SESSION)

        async def let_in(principal: Principal) -> Refused | None:
            # What is asked of the database for a request, its rights first, is asked when its tenant has its turn.
            await place.enter_async_context(self.places.turn(principal.tenant))
            return await self.limits.let_in(principal, octets=octets)

        if session is None:
            scope["user"] = await self.recogniser.recognise(headers, address, let_in)
            return
        self._demand_own_page(scope, headers, session)
        scope["state"]["session"] = session
        scope["user"] = await self.recogniser.by_secret(session, browser.KIND, address, let_in)

    def _demand_own_page(self, scope: Scope, headers: Mapping[bytes, bytes], session: str) -> None:
        """What changes something, and every WebSocket, comes from a page of this plane (S1).

        The word of a form is in its body, which its handler reads; everything else has it in a header.
        """
        if scope.get("method") in browser.SAFE:
            return
        browser.demand_own_origin(headers, browser.origins(self.plane.settings.url, headers.get(b"host")))
        if "method" in scope and not scope["route_handler"].opt.get("form"):
            browser.demand_own_form(headers.get(browser.CSRF_HEADER, b"").decode("latin-1"), session)

    async def _slow_down(self, source: str) -> None:
        """Who isn't signed in yet shares a bucket with everybody from there."""
        if (refused := await self.strangers.let_in(limits.stranger(source))) is not None:
            raise refused


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
    status, headers, body = document_of_error(scope, error)
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


def _refuse_unknown_parameters(scope: Scope) -> None:
    """A route's `opt["query"]` names the query parameters that it takes; without it there are none."""
    query = scope.get("query_string") or b""
    if not query:
        return
    taken = scope["route_handler"].opt.get("query", ())
    foreign = scope["route_handler"].opt.get("foreign_query")  # others write the addresses that they send back to
    given: set[str] = set()
    for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in taken and not foreign:
            wanted = ", ".join(sorted(taken)) or "no parameters"
            raise _parameter(name, f"unknown; this address takes {wanted}")
        if name in given:  # which of the two was meant? Not for us, nor for a proxy before us, to guess
            raise _parameter(name, "given twice")
        given.add(name)


def _parameter(name: str, message: str) -> Refused:
    shown = name[:64]
    return Refused("request_invalid", f"{shown}: {message}", errors=({"field": shown, "message": message},))
