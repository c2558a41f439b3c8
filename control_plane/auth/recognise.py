# SPDX-License-Identifier: Apache-2.0
"""The one way in: what a request brings becomes a `Principal` with the rights of this moment (G13, S1).

`Authorization: Bearer` brings an issuer's access token or a secret that the plane gave out itself; which, its first
letters say. Leaves a `Principal`, or the refusal of whoever judged it. No right is remembered from one request to the
next.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeAlias

from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.auth import rights, tokens
from control_plane.auth.claims import bearer, invalid
from control_plane.auth.oidc import Authenticator
from control_plane.auth.principal import Principal
from control_plane.auth.tokens import Kind
from control_plane.errors import Refused

__all__ = ["BEARER", "LetIn", "Recogniser"]

BEARER: Final[Sequence[Kind]] = ("key", "token", "delegation")
"""What may come in the header: a session comes by its cookie alone."""
LetIn: TypeAlias = Callable[[Principal], Awaitable[Refused | None]]
"""Draws a request from the buckets of somebody who is who they say; a refusal where they are empty."""


class Recogniser:
    """Who asks, by whatever they bring. One a process; `close` it."""

    def __init__(self, engine: AsyncEngine, authenticator: Authenticator, clock: Callable[[], dt.datetime]) -> None:
        """`clock` is the plane's."""
        self.engine, self.authenticator, self._clock = engine, authenticator, clock

    async def recognise(self, headers: Mapping[bytes, bytes], address: str | None, let_in: LetIn) -> Principal:
        """The principal of a request with these headers, from this address; or what refuses it is raised."""
        text = bearer(headers.get(b"authorization", b"").decode("latin-1"))
        if tokens.is_plane_token(text):
            return await self.by_secret(text, BEARER, address, let_in)
        principal = await self.authenticator.authenticate(text)
        await _draw(let_in, principal)
        return await rights.enrich(self.engine, principal)

    async def by_secret(self, text: str, kinds: Sequence[Kind], address: str | None, let_in: LetIn) -> Principal:
        """The principal of a secret that the plane gave out, if it is of one of these kinds."""
        given = tokens.parse(text)
        if given is None:
            raise invalid("form", "the token has no form that this plane gives out")
        principal = await rights.standing(self.engine, given, kinds, address, self._clock())
        await _draw(let_in, principal)
        return principal

    async def close(self) -> None:
        """Ends what recognising keeps open."""
        await self.authenticator.close()


async def _draw(let_in: LetIn, principal: Principal) -> None:
    if (refused := await let_in(principal)) is not None:
        raise refused
