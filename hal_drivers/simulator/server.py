# SPDX-License-Identifier: Apache-2.0
"""HTTP around a desk: who may ask, how often, how much, and which answer each error is.

Before a body is read the bearer token is compared (in constant time; the file is read anew when it changes) and the
request is counted. A body is read up to ``wire.BODY_BYTES`` and within seconds, and decoded as a closed struct. Each
refusal is a ``Fault``; nothing of a request stands in a log.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import importlib.metadata
import logging
import math
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import msgspec
from aiohttp import web

from hal_drivers.base import CompileRequest
from hal_drivers.errors import DriverError
from hal_drivers.remote import wire
from hal_drivers.remote.wire import Fault, Served, Submission
from hal_drivers.simulator.desk import Desk, Refused

BODY_S = 30.0
RETRY_S = 1
log = logging.getLogger("qcos.simulator")
_STATUS = {
    "circuit_invalid": 422,
    "circuit_too_complex": 422,
    "program_unsupported": 422,
    "backend_unknown": 404,
    "backend_unavailable": 503,
}
T = TypeVar("T")


class Bearer:
    """The one token that is let in, as its file says now."""

    def __init__(self, path: Path, least: int = 16) -> None:
        """Read it; OSError or ValueError where it can't be a token of at least so many characters."""
        self._path, self._least = path, least
        self._seen: tuple[int, int] | None = None
        self._digest = b""
        self._read()

    def _read(self) -> None:
        found = self._path.stat()
        if (found.st_mtime_ns, found.st_size) == self._seen:
            return
        token = self._path.read_text(encoding="ascii").strip()
        if len(token) < self._least or not token.isprintable() or " " in token:
            raise ValueError(f"{self._path} holds no token: one line of at least {self._least} printable characters")
        self._digest = hashlib.sha256(token.encode()).digest()
        self._seen = found.st_mtime_ns, found.st_size

    def admits(self, header: str) -> bool:
        """Whether an Authorization header carries it; nobody is admitted while the file can't be read."""
        try:
            self._read()
        except (OSError, ValueError):
            return False
        kind, _, token = header.partition(" ")
        given = hashlib.sha256(token.strip().encode(errors="replace")).digest()
        return hmac.compare_digest(given, self._digest) and kind.lower() == "bearer"


class Rate:
    """So many requests a second, with a burst of two seconds' worth."""

    def __init__(self, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._clock = per_s, clock
        self._left, self._at = 2 * per_s, clock()

    def draw(self) -> bool:
        """Whether one more may come now."""
        now = self._clock()
        self._left = min(2 * self._per_s, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def application(desk: Desk, bearer: Bearer, *, engine: str, per_s: float) -> web.Application:
    """The routes of the protocol over one desk."""
    served = _Server(desk, bearer, engine, Rate(per_s))
    app = web.Application(middlewares=[served.guard], client_max_size=wire.BODY_BYTES)
    app.add_routes(
        [
            web.get("/v1/capabilities", served.capabilities),
            web.get("/v1/devices/{device}", served.device),
            web.post("/v1/compile", served.compile),
            web.put("/v1/tasks/{token}", served.put),
            web.get("/v1/tasks/{token}", served.show),
            web.get("/v1/tasks/{token}/result", served.result),
            web.post("/v1/tasks/{token}/cancel", served.cancel),
            web.delete("/v1/tasks/{token}", served.forget),
        ]
    )
    return app


class _Server:
    def __init__(self, desk: Desk, bearer: Bearer, engine: str, rate: Rate) -> None:
        self._desk, self._bearer, self._engine, self._rate = desk, bearer, engine, rate

    @web.middleware
    async def guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Count, authenticate, serve; every error becomes a Fault."""
        if not self._rate.draw():
            return _fault(429, "rate_limited", "too many requests")
        if not self._bearer.admits(request.headers.get("Authorization", "")):
            return _fault(401, "token_invalid", "the bearer token is missing or isn't the one that is let in")
        try:
            return await handler(request)
        except Refused as error:
            return _fault(error.status, error.code, error.detail, authoritative=error.authoritative)
        except DriverError as error:
            line = getattr(error, "line", None)
            return _fault(_STATUS.get(error.code, 500), error.code, error.detail, line=line)
        except web.HTTPRequestEntityTooLarge:
            return _fault(413, "body_too_large", f"a body has at most {wire.BODY_BYTES} bytes")
        except web.HTTPException as error:
            return _fault(error.status, "request_invalid", error.reason)
        except TimeoutError:
            return _fault(408, "request_invalid", f"a body comes within {BODY_S:g} s")
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - the one place that outlives any fault; its text may quote a request
            log.error("a request failed: %s", type(error).__name__)  # noqa: TRY400
            return _fault(500, "internal", "the simulator failed")

    async def capabilities(self, request: web.Request) -> web.Response:
        """What there is."""
        _no_query(request)
        return _answer(
            Served(
                protocol=wire.PROTOCOL,
                simulator=f"qcos simulator ({self._engine})",
                version=_version(),
                authoritative=self._desk.keep.authoritative,
                devices=await self._desk.devices(),
            )
        )

    async def device(self, request: web.Request) -> web.Response:
        """How it is."""
        _no_query(request)
        return _answer(await self._desk.standing(request.match_info["device"]))

    async def compile(self, request: web.Request) -> web.Response:
        """A circuit, compiled, with a ticket."""
        asked = await _body(request, CompileRequest)
        if not asked.shots >= 1 or any(not math.isfinite(value) for value in asked.parameters.values()):
            raise Refused(400, "request_invalid", "shots are at least 1, parameters finite")
        return _answer(await self._desk.compile(asked, tallied=wire.TALLIES in request.headers))

    async def put(self, request: web.Request) -> web.Response:
        """A task, once."""
        submission = await _body(request, Submission)
        # Not cut off where the client leaves: what was taken is followed.
        made, shown = await asyncio.shield(self._desk.put(request.match_info["token"], submission))
        return _answer(shown, status=201 if made else 200)

    async def show(self, request: web.Request) -> web.Response:
        """Its status; `wait` seconds at most."""
        return _answer(await self._desk.shown(request.match_info["token"], _wait(request)))

    async def result(self, request: web.Request) -> web.Response:
        """What it gave."""
        _no_query(request)
        return _answer(await self._desk.result(request.match_info["token"]))

    async def cancel(self, request: web.Request) -> web.Response:
        """Stop it."""
        return _answer(await asyncio.shield(self._desk.cancel(request.match_info["token"])))

    async def forget(self, request: web.Request) -> web.Response:
        """Free it."""
        await asyncio.shield(self._desk.forget(request.match_info["token"]))
        return web.Response(status=204)


async def _body(request: web.Request, kind: type[T]) -> T:
    _no_query(request)
    async with asyncio.timeout(BODY_S):
        data = await request.read()
    try:
        return wire.decode(data, kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        # Names the field and the type that is wanted, never a value.
        text = str(error) if isinstance(error, msgspec.ValidationError) else "the body is no JSON document"
        raise Refused(400, "request_invalid", text[:200]) from None


def _no_query(request: web.Request) -> None:
    if request.query:
        raise Refused(400, "request_invalid", "no query is taken here")


def _wait(request: web.Request) -> float:
    given = request.query.get("wait", "0")
    try:
        wait_s = float(given)
    except ValueError:
        wait_s = math.nan
    if set(request.query) - {"wait"} or not 0 <= wait_s <= wire.LONGEST_WAIT_S:
        raise Refused(400, "request_invalid", f"wait is 0 to {wire.LONGEST_WAIT_S:g} seconds, and all that is taken")
    return wait_s


def _answer(value: object, status: int = 200) -> web.Response:
    return web.Response(body=wire.encode(value), status=status, content_type="application/json")


def _fault(
    status: int, code: str, detail: str, *, line: int | None = None, authoritative: bool = False
) -> web.Response:
    answer = _answer(Fault(code=code, detail=detail, line=line, authoritative=authoritative), status)
    if status in (429, 503):
        answer.headers["Retry-After"] = str(RETRY_S)
    return answer


def _version() -> str:
    return importlib.metadata.version("qcos-plane")
