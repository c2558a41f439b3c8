# SPDX-License-Identifier: Apache-2.0
"""The process of a served simulator: home, token, certificate, engine, listening socket, and an orderly end.

Enters: options. Leaves: a server until SIGTERM or SIGINT, told to ``told`` once it answers. What its home lacks is made
at the first start: a token, a certificate and its key, the key of tickets; each of mode 0600 but the certificate.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from aiohttp import web
from msgspec import Struct

from hal_drivers.config import BackendConfig, DriversConfig
from hal_drivers.limits import Limits
from hal_drivers.simulator import certificate
from hal_drivers.simulator.desk import Desk
from hal_drivers.simulator.keep import InFolder, InMemory, Keep
from hal_drivers.simulator.server import Bearer, application
from hal_drivers.table import open_drivers, running

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Options(Struct, frozen=True, kw_only=True):
    """What is served, where, and how much of it."""

    home: Path
    host: str = "127.0.0.1"
    port: int = 0
    name: str | None = None
    """What planes call this machine, if not `host`; the certificate names it."""
    token_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    keep: Path | None = None
    engine: str = "aer"
    device: str = "aer"
    vendor_device: str | None = None
    """The engine's own name of the device, where it has several."""
    method: str = "automatic"
    noise: str | None = None
    children: int = 1
    memory_bytes: int = 1 << 30
    max_shots: int = 1_000_000
    per_s: float = 200.0
    require_walls: bool = False


class Serving(Struct, frozen=True):
    """What a plane needs to know of a server that answers."""

    url: str
    certificate: str
    token_file: str
    authoritative: bool
    walls: dict[str, str]


async def serve(options: Options, told: Callable[[Serving], None], stop: asyncio.Event | None = None) -> None:
    """Serve until a signal, or until `stop` is set; raises OSError, ValueError, CertificateUnusable, DriverError."""
    ended = stop or asyncio.Event()
    if stop is None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with serving(options) as server:
        told(server)
        await ended.wait()


@contextlib.asynccontextmanager
async def serving(options: Options) -> AsyncIterator[Serving]:
    """A server in this process's loop, for as long as the block."""
    home = options.home
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    token_file = options.token_file or home / "token"
    if options.token_file is None and not token_file.exists():
        certificate.secret(token_file, secrets.token_urlsafe(32).encode() + b"\n")
    bearer = Bearer(token_file, 1 if options.host in LOOPBACK else 16)  # whoever is elsewhere may guess
    public, private = options.certificate or home / "certificate.pem", options.key or home / "key.pem"
    if options.certificate is None:
        certificate.prepare(public, private, [options.name or options.host])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(public, private)
    keep: Keep = InFolder(options.keep) if options.keep is not None else InMemory()
    drivers = open_drivers(_engine(options))
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(keep.close)
        await stack.enter_async_context(running(drivers))
        driver = drivers[options.device]
        desk = Desk(driver, keep, _ticket_key(home))
        app = application(desk, bearer, engine=options.engine, per_s=options.per_s)
        runner = web.AppRunner(
            app,
            access_log=None,
            logger=_silent(),
            auto_decompress=False,  # a few bytes would unpack to many
            keepalive_timeout=75.0,
            handler_cancellation=True,
            shutdown_timeout=2.0,
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, options.host, options.port, ssl_context=context)
            await site.start()
            port = runner.addresses[0][1]
            named = options.name or options.host
            shown = f"[{named}]" if ":" in named else named
            yield Serving(
                url=f"https://{shown}:{port}",
                certificate=str(public.absolute()),
                token_file=str(token_file.absolute()),
                authoritative=keep.authoritative,
                walls=driver.walls(),
            )
        finally:
            await desk.close()
            await runner.cleanup()


def _silent() -> logging.Logger:
    """For aiohttp, which would quote what it can't read."""
    quiet = logging.getLogger("qcos.simulator.http")
    quiet.disabled = True
    return quiet


def _engine(options: Options) -> DriversConfig:
    backend = BackendConfig(
        id=options.device,
        provider=options.engine,
        device=options.vendor_device,
        method=options.method,
        noise=options.noise,
        memory_bytes=options.memory_bytes,
        max_shots=options.max_shots,
    )
    return DriversConfig(
        backends=(backend,), children=options.children, require_walls=options.require_walls, limits=Limits()
    )


def _ticket_key(home: Path) -> bytes:
    path = home / "ticket.key"
    if not path.exists():
        certificate.secret(path, os.urandom(32))
    key = path.read_bytes()
    if len(key) != 32:
        raise ValueError(f"{path} is no key of 32 bytes")
    return key
