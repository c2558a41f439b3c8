# SPDX-License-Identifier: Apache-2.0
"""The one connection that a remote backend has outward: HTTPS to the configured host and port, and nowhere else (S6).

Whatever a caller or the far side says, no other address is reached: names other than the configured one aren't
looked up, sockets to other addresses aren't made, redirects aren't followed, and proxies of the environment aren't
asked. TLS is checked against the backend's own ``ca`` file alone, or the machine's, and the host's name is part of
that. The bearer token is read when it is used and stands in no error.

``ask`` tries again, with growing pauses of random length, while nobody answers, on 429 and on 503, until its deadline;
then it raises ``Away``, which tells whether a request may have arrived. Every answer is read up to a limit.
"""

from __future__ import annotations

import asyncio
import io
import random
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from msgspec import Struct

from hal_drivers.errors import BackendUnavailable

BUSY = (429, 503)
_LONGEST_RETRY_AFTER_S = 60.0


class Patience(Struct, frozen=True):
    """How long a call may take: seconds for a connection, for an answer, for all tries; and the pauses between."""

    connect_s: float = 5.0
    answer_s: float = 10.0
    whole_s: float = 30.0
    pause_s: float = 0.1
    longest_pause_s: float = 5.0


class Away(Exception):
    """Nobody answered as wanted in time. ``sent``: a request may have arrived and been acted on."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.reason, self.sent = reason, sent


class Oversize(Exception):
    """An answer longer than its limit."""


class Answer(Struct, frozen=True):
    """Status and body of an answer that isn't one of ``BUSY``."""

    status: int
    body: bytes


class CredentialMissing(BackendUnavailable):
    """The worker holds no credential of the name that the backend's setting gives."""


class _Unsent(Exception):
    """The connection was never made. ``final``: trying again at once can't help."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.final = reason, final


class Egress(AbstractResolver):
    """Lets sockets be made to one host and port, and remembers its addresses."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._addresses = {host}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Addresses of the one host; OSError for any other."""
        if (host, port) != (self.host, self.port):
            raise OSError(f"this backend's egress is {self.host}:{self.port} alone")
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        self._addresses = {str(info[4][0]) for info in found}
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, proto, _, address in found
        ]

    async def close(self) -> None:
        """Nothing is held."""

    def make(self, info: tuple[Any, ...]) -> socket.socket:
        """A socket for aiohttp's connector; OSError for an address that isn't the host's."""
        family, kind, proto, _, address = info
        if str(address[0]) not in self._addresses or address[1] != self.port:
            raise OSError(f"this backend's egress is {self.host}:{self.port} alone")
        made = socket.socket(family=family, type=kind, proto=proto)
        made.setblocking(False)
        return made


class Link:
    """``async with`` opens and closes it; one a backend."""

    def __init__(
        self,
        url: str,
        ca: str | None,
        token: Callable[[], str | None],
        patience: Patience,
        headers: Callable[[], dict[str, str]] | None = None,
    ) -> None:
        """`url` is https; `token` gives the bearer token of now, or None where the backend wants none.

        `headers` are those that a backend wants beside, as of now.
        """
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment or parts.username:
            raise ValueError("the URL of a remote backend is https://HOST[:PORT][/PATH]")
        self.egress = Egress(parts.hostname, parts.port or 443)
        shown = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self._base = f"https://{shown}:{self.egress.port}{parts.path.rstrip('/')}"
        self._ca, self._token, self._patience = ca, token, patience
        self._headers = headers
        self._session: aiohttp.ClientSession | None = None
        self._trusted: tuple[int, int] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
        self._session = None

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        limit: int,
        wait_s: float = 0.0,
        once: bool = False,
    ) -> Answer:
        """One answer; raises Away, Oversize, CredentialMissing. ``once``: no second try."""
        clock = asyncio.get_running_loop().time
        until = clock() + self._patience.whole_s + wait_s
        pause_s, sent = self._patience.pause_s, False
        while True:
            wanted_s = 0.0
            try:
                async with asyncio.timeout(max(0.001, min(self._patience.answer_s + wait_s, until - clock()))):
                    answer, wanted_s = await self._once(method, path, body, limit)
                if answer.status not in BUSY:
                    return answer
                reason = f"it is busy ({answer.status})"
            except _Unsent as error:
                reason = error.reason
                if error.final:
                    raise Away(reason, sent=sent) from None
            except TimeoutError:
                sent, reason = True, "it does not answer in time"
            except (aiohttp.ClientError, OSError, ValueError):
                sent, reason = True, "the connection broke"
            length_s = max(wanted_s, pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - so that callers don't march in step
            if once or clock() + length_s >= until:
                raise Away(reason, sent=sent)
            await asyncio.sleep(length_s)
            pause_s = min(2 * pause_s, self._patience.longest_pause_s)

    async def _once(self, method: str, path: str, body: bytes | None, limit: int) -> tuple[Answer, float]:
        headers = {"Accept-Encoding": "identity"}
        token = self._token()
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._headers is not None:
            headers |= self._headers()
        try:
            request = await self._opened().request(
                method,
                self._base + path,
                data=None if body is None else io.BytesIO(body),
                headers=headers,
                allow_redirects=False,
            )
        except aiohttp.ConnectionTimeoutError:
            raise _Unsent("nobody can be reached there in time") from None
        except aiohttp.ClientConnectorCertificateError:
            raise _Unsent("its certificate is not one that its ca vouches for", final=True) from None
        except aiohttp.ClientConnectorError as error:
            raise _Unsent("nobody can be reached there", final=isinstance(error, aiohttp.ClientSSLError)) from None
        async with request as reply:
            data = bytearray()
            async for piece in reply.content.iter_any():
                data += piece
                if len(data) > limit:
                    raise Oversize
            return Answer(reply.status, bytes(data)), _retry_after(reply.headers.get("Retry-After"))

    def _opened(self) -> aiohttp.ClientSession:
        """The session; a new one where the ca file has changed since."""
        trusted = self._stamp()
        if self._session is not None and trusted != self._trusted:
            old, self._session = self._session, None
            asyncio.get_running_loop().create_task(old.close())
        if self._session is None:
            connector = aiohttp.TCPConnector(
                ssl=self._tls(), resolver=self.egress, socket_factory=self.egress.make, use_dns_cache=False, limit=64
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                trust_env=False,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._patience.connect_s),
            )
            self._trusted = trusted
        return self._session

    def _stamp(self) -> tuple[int, int] | None:
        if self._ca is None:
            return None
        try:
            found = Path(self._ca).stat()
        except OSError:
            raise _Unsent("its ca file can't be read", final=True) from None
        return found.st_mtime_ns, found.st_size

    def _tls(self) -> ssl.SSLContext:
        # Not create_default_context: that would write keys where SSLKEYLOGFILE says.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            if self._ca is None:
                context.load_default_certs()
            else:
                context.load_verify_locations(cafile=self._ca)
        except (OSError, ssl.SSLError):
            raise _Unsent("its ca file holds no certificate", final=True) from None
        return context


def _retry_after(value: str | None) -> float:
    return min(float(value), _LONGEST_RETRY_AFTER_S) if value is not None and value.isdecimal() else 0.0
