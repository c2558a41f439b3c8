# SPDX-License-Identifier: Apache-2.0
"""The one way in which this package speaks HTTP: small GETs of an issuer's public documents, and forms sent to it.

Bounded in time (`TIMEOUT_S` in all, the issuer's slowness is not the caller's) and size (`MAX_BYTES`). Follows no
redirect: the configured issuer is trusted, whoever it points to is not. No proxy or netrc of the environment is used,
and nothing is sent but the address, or what the caller gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aiohttp import ClientSession

__all__ = ["MAX_BYTES", "TIMEOUT_S", "Http"]

TIMEOUT_S: Final = 3.0
MAX_BYTES: Final = 262_144


class Http:
    """A kept session, opened at the first use in the running loop. `close` it."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._session: ClientSession | None = None

    async def fetch(self, address: str) -> bytes:
        """The body of `address`: 200 or nothing. Raises OSError, TimeoutError or ValueError."""
        status, body = await self._exchange("GET", address, None, {})
        if status != 200:
            raise ValueError("the identity provider answers with an error")
        return body

    async def send(self, address: str, form: Mapping[str, str], headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Status and body of a POST. Raises OSError, TimeoutError or ValueError; never repeats what it sent."""
        return await self._exchange("POST", address, form, headers)

    async def _exchange(
        self, method: str, address: str, form: Mapping[str, str] | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        # Late: aiohttp takes a quarter of a second to import, and a plane without outside issuers never needs it.
        import aiohttp

        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self._timeout_s)
            self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        sent = {"Accept": "application/json", **headers}
        try:
            async with self._session.request(method, address, data=form, headers=sent, allow_redirects=False) as answer:
                body = await answer.content.read(MAX_BYTES + 1)
                while len(body) <= MAX_BYTES and (more := await answer.content.read(MAX_BYTES)):
                    body += more
        except aiohttp.ClientError as error:
            raise OSError("the identity provider does not answer") from error
        if len(body) > MAX_BYTES:
            raise ValueError("the identity provider's document is too large")
        return answer.status, body

    async def close(self) -> None:
        """Ends kept connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
