# SPDX-License-Identifier: Apache-2.0
"""A test double: a far side that speaks TLS and the remote protocol, and lies, stalls or breaks where a test says.

Behind it is the product's own desk and routes over an engine of half zeros, half ones, so that what isn't tampered with
is right. `at(place, *tricks)` sets what happens to the next answers there; the last trick stays. Places: capabilities,
device, compile, put, show, result, cancel.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

from aiohttp import web
from msgspec.structs import replace

from hal_drivers.base import Calibration, Cancellation, Handle, Outcome
from hal_drivers.config import BackendConfig
from hal_drivers.remote.link import Patience
from hal_drivers.simulator import certificate
from hal_drivers.simulator.desk import Desk
from hal_drivers.simulator.keep import InMemory, Keep
from hal_drivers.simulator.server import Bearer, application
from tests.fakes import FakeDriver

Serve: TypeAlias = Callable[[], Awaitable[web.StreamResponse]]
Trick: TypeAlias = Callable[[web.Request, Serve], Awaitable[web.StreamResponse]]
TOKEN = "a-token-of-the-hostile-side"
BACKEND = "remote-1"
SHORT = Patience(connect_s=1.5, answer_s=1.5, whole_s=2.5, pause_s=0.01, longest_pause_s=0.05)


class Engine(FakeDriver):
    """The fake, by this machine's clock."""

    def __init__(self) -> None:
        super().__init__("far")
        self.began: dict[str, dt.datetime] = {}

    async def submit(self, compiled: Any, task: Any) -> Handle:
        """Note when."""
        self.began.setdefault(task.token, dt.datetime.now(dt.UTC))
        return await super().submit(compiled, task)

    async def result(self, handle: Handle) -> Outcome:
        """Half and half."""
        said = await super().result(handle)
        began, ended = self.began[str(handle["token"])], dt.datetime.now(dt.UTC)
        block = replace(said.blocks[0], start=began, end=ended)
        usage = replace(said.usage, wall_s=(ended - began).total_seconds(), cpu_s=None)
        return replace(said, blocks=(block,), started_at=began, ended_at=ended, usage=usage)

    async def cancel(self, handle: Handle) -> Cancellation:
        """It stops at once."""
        ceased = await super().cancel(handle)
        self.gate.set()
        return ceased

    async def calibration(self, backend: str) -> Calibration:
        """Ideal."""
        return Calibration("ideal", dt.datetime(2026, 1, 1, tzinfo=dt.UTC), b"{}")


class Forgetful(InMemory):
    """Whose word on what it doesn't know is a test's."""

    def __init__(self) -> None:
        super().__init__()
        self.authoritative = False


class Hostile:
    """One far side."""

    def __init__(self, folder: Path, keep: Keep | None = None) -> None:
        self.folder, self.engine, self.keep = folder, Engine(), keep or Forgetful()
        self.seen: list[str] = []
        self.url = self.ca = ""
        self._tricks: dict[str, list[Trick]] = {}
        self._desk = Desk(self.engine, self.keep, b"k" * 32)

    def at(self, place: str, *tricks: Trick) -> None:
        """What happens there, one answer after the other."""
        self._tricks[place] = list(tricks)

    def heal(self) -> None:
        """From here on it is honest."""
        self._tricks.clear()

    def forget(self) -> None:
        """Lose every task."""
        assert isinstance(self.keep, Forgetful)
        for live in self._desk._live.values():
            live.ended.set()
        self._desk._live.clear()
        self.keep._kept.clear()

    def settings(self, **more: Any) -> BackendConfig:
        """As an administrator would write them."""
        given = {"url": self.url, "ca": self.ca, "credential": "far"} | more
        return BackendConfig(id=BACKEND, provider="remote", **given)

    @contextlib.asynccontextmanager
    async def serving(self, port: int = 0, name: str = "far") -> AsyncIterator[Hostile]:
        """On the port, under a certificate of this name."""
        token = self.folder / "token"
        token.write_text(TOKEN)
        public, private = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.prepare(public, private, ["127.0.0.1"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(public, private)
        app = application(self._desk, Bearer(token), engine="hostile", per_s=10_000)
        app.middlewares.insert(0, self._middleware())
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
            self.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
            self.ca = self.ca or str(public)
            yield self
        finally:
            await runner.cleanup()

    async def close(self) -> None:
        """Follow nothing any more."""
        await self._desk.close()

    def _middleware(self) -> Any:
        @web.middleware
        async def meddle(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            place = _place(request)
            self.seen.append(place)
            tricks = self._tricks.get(place)
            if not tricks:
                return await handler(request)
            trick = tricks.pop(0) if len(tricks) > 1 else tricks[0]
            return await trick(request, lambda: handler(request))

        return meddle


def _place(request: web.Request) -> str:
    last = request.path.rpartition("/")[2]
    if last in ("capabilities", "compile", "result", "cancel"):
        return last
    return (
        "device" if "/devices/" in request.path else {"PUT": "put", "GET": "show", "DELETE": "forget"}[request.method]
    )


# ---- tricks


async def honest(request: web.Request, serve: Serve) -> web.StreamResponse:
    """As it should be."""
    return await serve()


async def silent(request: web.Request, serve: Serve) -> web.StreamResponse:
    """Never answers."""
    await asyncio.sleep(3600)
    raise AssertionError


async def lost(request: web.Request, serve: Serve) -> web.StreamResponse:
    """Does it, and the answer never arrives."""
    await serve()
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def late(request: web.Request, serve: Serve) -> web.StreamResponse:
    """Does it, and answers when nobody waits any more."""
    answer = await serve()
    await asyncio.sleep(30.0)
    return answer


async def garbage(request: web.Request, serve: Serve) -> web.StreamResponse:
    """Something else entirely."""
    return web.Response(body=b"\xff<html>\x00[[[[", content_type="application/json")


async def mumbled(request: web.Request, serve: Serve) -> web.StreamResponse:
    """Does it, and says something else."""
    await serve()
    return await garbage(request, serve)


async def endless(request: web.Request, serve: Serve) -> web.StreamResponse:
    """More than anybody wants to read."""
    answer = web.StreamResponse()
    await answer.prepare(request)
    with contextlib.suppress(ConnectionError):
        for _ in range(3):
            await answer.write(b"[" * 1_000_000)
    return answer


async def elsewhere(request: web.Request, serve: Serve) -> web.StreamResponse:
    """A redirect to another host."""
    return web.Response(status=307, headers={"Location": "https://198.51.100.7/v1/capabilities"})


def says(status: int, code: str = "busy", detail: str = "no", **headers: str) -> Trick:
    """A refusal."""

    async def trick(request: web.Request, serve: Serve) -> web.StreamResponse:
        body = json.dumps({"code": code, "detail": detail}).encode()
        return web.Response(status=status, body=body, content_type="application/json", headers=headers)

    return trick


def changed(change: Callable[[dict[str, Any]], None]) -> Trick:
    """The true answer, changed."""

    async def trick(request: web.Request, serve: Serve) -> web.StreamResponse:
        answer = await serve()
        assert isinstance(answer, web.Response)
        assert isinstance(answer.body, bytes)
        document = json.loads(answer.body)
        change(document)
        return web.Response(body=json.dumps(document).encode(), status=answer.status, content_type="application/json")

    return trick
