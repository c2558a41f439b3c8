# SPDX-License-Identifier: Apache-2.0
"""Logins of browsers at `[[oidc]]` providers: begun here, finished here; the provider is asked in between (G13).

Enters a provider's name; leaves the address to go to and a sealed cookie. Enters what the browser brought back with
that cookie; leaves who they are, or LoginFailed (400), or IdentityUnavailable (503): a provider that is down or slow
keeps its own people out, and nobody else. No secret of the provider's is kept: the session is the plane's own.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from litestar.datastructures import Cookie
from msgspec import Struct
from msgspec.structs import replace

from control_plane.auth import claims, flow
from control_plane.auth.browser import BEGUN, kept
from control_plane.auth.discovery import Discovery
from control_plane.auth.errors import IdentityUnavailable, LoginFailed, Unauthenticated
from control_plane.auth.flow import BEGUN_S, Begun
from control_plane.auth.http import Http
from control_plane.auth.oidc import Authenticator
from control_plane.auth.principal import Principal
from control_plane.auth.providers import OidcIssuer, Provider, client_secret
from control_plane.auth.sealed import Sealer
from control_plane.errors import Refused

if TYPE_CHECKING:
    from control_plane.settings import Settings

__all__ = ["Came", "Logins", "base_of"]

TIMEOUT_S: Final = 5.0


class Came(Struct, frozen=True):
    """Somebody who came back from their provider."""

    principal: Principal
    provider: str
    next: str
    sid: str | None


def base_of(settings: Settings) -> str:
    """The plane's own address, as browsers know it."""
    url = settings.url or ""
    return url.rstrip("/") if url.startswith("http") else f"http://{settings.http_host}:{settings.http_port}"


class Logins:
    """The logins of one process and event loop; `close` it."""

    def __init__(
        self,
        settings: Settings,
        authenticator: Authenticator,
        pseudonym_key: bytes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings, self._authenticator, self._clock = settings, authenticator, clock
        self._http = Http(TIMEOUT_S)
        self._sealer = Sealer(pseudonym_key, "oidc-login")
        self._known: dict[str, Discovery] = {}

    def provider(self, name: str, kind: str = "oidc") -> Provider:
        """The provider of this name where browsers sign in; Refused `not_found`."""
        for one in self.settings.providers:
            if one.name == name and one.kind == kind and one.browser:
                return one
        raise Refused("not_found", "no such identity provider")

    def _table(self, name: str) -> OidcIssuer:
        return self.settings.oidc[self.provider(name).number]

    def discovery(self, table: OidcIssuer) -> Discovery:
        """What a table's issuer says of itself."""
        return self._known.setdefault(table.issuer, Discovery(table.issuer, self._http.fetch, self._clock))

    def callback(self, name: str) -> str:
        """Where this provider sends people back to: an address of its own, so that no other can answer in its place."""
        return f"{base_of(self.settings)}/auth/callback/{name}"

    async def begin(self, name: str, next: str | None) -> tuple[str, Cookie]:  # noqa: A002 - it is called that in addresses
        """Where the browser is to go, and the cookie that it is to keep."""
        table = self._table(name)
        metadata = await self.discovery(table).metadata()
        begun = Begun(
            provider=name,
            state=secrets.token_urlsafe(24),
            nonce=secrets.token_urlsafe(24),
            verifier=secrets.token_urlsafe(48),
            next=flow.next_of(next),
        )
        address = flow.authorization_url(metadata, table, self.callback(name), begun)
        sealed = self._sealer.seal(begun, self._clock() + BEGUN_S)
        return address, kept(BEGUN, sealed, seconds=BEGUN_S)

    async def finish(self, name: str, parameters: Mapping[str, str], sealed: str | None) -> Came:
        """Who came back. The code is of use once: whoever sends it again is refused by the provider."""
        table = self._table(name)
        metadata = await self.discovery(table).metadata()
        begun = self._sealer.open(sealed, Begun, self._clock())
        code = flow.answered(parameters, begun, name, metadata)
        assert begun is not None
        fields, headers = flow.token_request(metadata, table, _secret(table), begun, code, self.callback(name))
        try:
            status, body = await self._http.send(metadata.token_endpoint or "", fields, headers)
        except (OSError, TimeoutError, ValueError):
            raise IdentityUnavailable from None
        given = flow.tokens(status, body)
        return await self._who(table, begun, given)

    async def _who(self, table: OidcIssuer, begun: Begun, given: flow.Tokens) -> Came:
        """The ID token says who they are, and that they were just there; an access token for this plane what they may.

        Without one, what the ID token says of roles and groups counts.
        """
        if given.id_token is None:
            raise LoginFailed("id_token", "the provider gave no ID token: the scope openid is needed")
        try:
            said, alg = await self._authenticator.signed(given.id_token, table.issuer, claims.ID)
            flow.check_id(said, alg, table.client_id or "", begun.nonce, given.access_token)
            who = self._authenticator.person(said, table)
        except Unauthenticated as error:
            raise LoginFailed(error.reason, f"the ID token is refused: {error.detail}") from None
        sid = said.get("sid")
        return Came(
            principal=await self._with_rights(who, given.access_token),
            provider=begun.provider,
            next=begun.next,
            sid=sid if isinstance(sid, str) and 0 < len(sid) <= 256 else None,
        )

    async def _with_rights(self, who: Principal, access_token: str) -> Principal:
        try:
            may = await self._authenticator.authenticate(access_token)
        except Unauthenticated:  # an access token for the provider's own addresses is none of ours to read
            return who
        if (may.tenant, may.issuer, may.subject) != (who.tenant, who.issuer, who.subject):
            return who
        return replace(may, acr=who.acr, amr=who.amr, authenticated_at=who.authenticated_at)

    async def goodbye(self, issuer: str) -> str | None:
        """Where somebody signs out at their issuer, too, if it has such a page and answers."""
        table = next((one for one in self.settings.oidc if one.issuer == issuer and one.client_id), None)
        if table is None:
            return None
        try:
            page = (await self.discovery(table).metadata()).end_session_endpoint
        except IdentityUnavailable:
            return None
        return (
            None if page is None else f"{page}{'&' if '?' in page else '?'}{urlencode({'client_id': table.client_id})}"
        )

    async def signed_out(self, name: str, token: str) -> tuple[Principal, str | None]:
        """Whom a provider's logout token signs out, and in which of its sessions (None: in all of them)."""
        table = self._table(name)
        try:
            said, _ = await self._authenticator.signed(token, table.issuer, claims.LOGOUT)
            flow.check_logout(said, table.client_id or "")
            who = self._authenticator.person(said, table)
        except Unauthenticated as error:
            raise LoginFailed(error.reason, f"the logout token is refused: {error.detail}") from None
        sid = said.get("sid")
        return who, sid if isinstance(sid, str) else None

    async def close(self) -> None:
        """Ends kept connections."""
        await self._http.close()


def _secret(table: OidcIssuer) -> str | None:
    try:
        return client_secret(table)
    except (OSError, ValueError):
        raise IdentityUnavailable from None
