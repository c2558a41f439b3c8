# SPDX-License-Identifier: Apache-2.0
"""Logins and logouts of browsers at `[[saml]]` providers: begun here, finished here (G13).

The plane opens no connection to a provider: a provider that is down keeps its own people out, and nobody else. A login
under way lies sealed in the browser that began it, so strangers who begin logins fill no table; its request is used up
by the first answer, right or wrong, and each assertion by the first session. RelayState is neither sent with a login
nor followed: where to go afterwards lies in the sealed cookie alone.

That cookie is SameSite=None, because the answer comes as a form of the provider's page, and dies with the login. XML is
read in a thread, for a large message takes milliseconds in which others shouldn't wait.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from litestar.datastructures import Cookie
from msgspec import Struct

from control_plane.auth import credentials, sessions
from control_plane.auth.logins import Came, base_of
from control_plane.auth.principal import Principal
from control_plane.auth.providers import Provider
from control_plane.auth.saml import keys, logout, person, request, response, store
from control_plane.auth.saml.assertion import MAX_AGE_S, Asserted
from control_plane.auth.saml.document import decoded
from control_plane.auth.saml.keys import OwnKey
from control_plane.auth.saml.metadata import Idp, MetadataUnusable
from control_plane.auth.saml.refusals import SamlRefused
from control_plane.auth.saml.request import Us
from control_plane.auth.saml.tables import SamlFacts, idp
from control_plane.auth.sealed import Sealer
from control_plane.errors import Refused

if TYPE_CHECKING:
    from control_plane.context import Plane
    from control_plane.settings import Settings

__all__ = ["BEGUN", "SamlLogins", "Side", "done"]

BEGUN: Final = "__Host-qcos-saml"
BEGUN_S: Final = 600


class Begun(Struct, frozen=True):
    """A login under way, as the browser that began it keeps it, sealed."""

    provider: str
    request: str
    next: str


class Side(Struct, frozen=True):
    """One table's two sides at this moment: the provider as its file says, the plane as it knows us, our keys."""

    provider: Provider
    facts: SamlFacts
    idp: Idp
    us: Us
    keys: tuple[OwnKey, ...]

    @property
    def signer(self) -> OwnKey | None:
        """The key that signs: the oldest, which every provider knows."""
        return self.keys[0] if self.keys else None


class SamlLogins:
    """The SAML logins of one process."""

    def __init__(self, settings: Settings, pseudonym_key: bytes, clock: Callable[[], dt.datetime]) -> None:
        self.settings, self._pseudonym_key, self._clock = settings, pseudonym_key, clock
        self._sealer = Sealer(pseudonym_key, "saml-login")

    def us(self, facts: SamlFacts) -> Us:
        """The plane as this provider knows it."""
        base = f"{base_of(self.settings)}/auth/saml/{facts.name}"
        return Us(facts.entity_id or f"{base}/metadata", f"{base}/acs", f"{base}/logout")

    def table(self, name: str) -> tuple[Provider, SamlFacts]:
        """The provider of this name; Refused `not_found`."""
        for one in self.settings.providers:
            if one.name == name and one.kind == "saml":
                return one, self.settings.saml[one.number]
        raise Refused("not_found", "no such identity provider")

    async def side(self, name: str) -> Side:
        """The table's files, read anew, so that a rotation needs no restart."""
        provider, facts = self.table(name)
        return await asyncio.to_thread(self._side, provider, facts)

    def _side(self, provider: Provider, facts: SamlFacts) -> Side:
        try:
            described = idp(facts)
            own = keys.load(self.settings.home / "keys" / "saml")
        except (OSError, ValueError, MetadataUnusable) as error:
            raise Refused("identity_unavailable", f"the files of provider {facts.name} can't be used") from error
        if described.valid_until is not None and described.valid_until <= self._clock().timestamp():
            raise SamlRefused("metadata_expired")
        return Side(provider, facts, described, self.us(facts), own)

    async def begin(self, name: str, next: str) -> tuple[str, Cookie]:  # noqa: A002 - it is called that in addresses
        """Where the browser is to go, and the cookie that it is to keep."""
        side = await self.side(name)
        if side.idp.wants_signed and side.signer is None:
            raise Refused("identity_unavailable", f"provider {name} wants signed requests: qcos saml keys add")
        now, identifier = self._clock().timestamp(), f"_{secrets.token_hex(20)}"
        message = request.login(side.us, side.idp.login_url, identifier=identifier, now=now)
        address = request.redirect(side.idp.login_url, "SAMLRequest", message, side.signer)
        sealed = self._sealer.seal(Begun(name, identifier, next), now + BEGUN_S)
        return address, Cookie(
            BEGUN, value=sealed, max_age=BEGUN_S, secure=True, httponly=True, samesite="none", path="/"
        )

    async def finish(self, plane: Plane, name: str, form: str, sealed: str | None) -> tuple[Came, Asserted]:
        """Who came back, once; and what the provider said of them."""
        side, now = await self.side(name), self._clock()
        begun = self._sealer.open(sealed, Begun, now.timestamp())
        if begun is None or begun.provider != name:
            if not side.facts.unsolicited:
                raise SamlRefused("browser")
            begun = None
        if begun is not None:
            await self._use(plane, side, begun.request, now + dt.timedelta(seconds=2 * BEGUN_S), now)
        said = await asyncio.to_thread(self._verify, side, form, begun.request if begun else None, now.timestamp())
        skew = dt.timedelta(seconds=self.settings.clock_skew_s)
        await self._use(plane, side, said.assertion, dt.datetime.fromtimestamp(said.until, dt.UTC) + skew, now)
        who = person.principal(said, side.facts, self._pseudonym_key)
        sid = store.sid_of(name, said.name, said.session)
        return Came(principal=who, provider=name, next=begun.next if begun else "/auth", sid=sid), said

    def _verify(self, side: Side, form: str, request_id: str | None, now: float) -> Asserted:
        expected = response.Expected(
            issuer=side.facts.issuer,
            certificates=side.idp.certificates,
            audience=side.us.entity_id,
            destination=side.us.acs,
            in_response_to=request_id,
            attributes=side.facts.attributes,
            keys=tuple(one.key for one in side.keys),
            encrypted=side.facts.encrypted,
            leeway_s=self.settings.clock_skew_s,
        )
        return response.verify(decoded(form), expected, now)

    async def _use(self, plane: Plane, side: Side, identifier: str, until: dt.datetime, now: dt.datetime) -> None:
        tenant = side.facts.tenant
        async with plane.transaction(tenant) as conn:
            if not await store.take(conn, tenant, side.facts.name, identifier, until=until, now=now):
                raise SamlRefused("replayed")

    async def began(self, plane: Plane, came: Came, said: Asserted) -> None:
        """Keep what the provider calls this session, for as long as the plane's own may last."""
        now, who = self._clock(), came.principal
        one = store.Begun(came.sid or "", who.issuer, who.subject, said.name, said.session)
        until = now + dt.timedelta(seconds=self.settings.session_s)
        async with plane.transaction(who.tenant) as conn:
            await store.began(conn, who.tenant, came.provider, one, until=until, now=now)

    async def logged_out(self, plane: Plane, name: str, query: str) -> str | bool:
        """Where to send the browser with our answer to a logout begun there; or whether one begun here was done."""
        side, now = await self.side(name), self._clock()
        kind, root, relay = await asyncio.to_thread(logout.brought, query, side.idp.certificates, now.timestamp())
        skew = self.settings.clock_skew_s
        if kind == "SAMLResponse":
            return logout.read_answer(root, side.us, side.facts.issuer, now.timestamp(), skew).done
        asked = logout.read_request(root, relay, side.us, side.facts.issuer, now.timestamp(), skew)
        await self._use(plane, side, asked.identifier, now + dt.timedelta(seconds=MAX_AGE_S + 2 * skew), now)
        await self._end(plane, side, asked)
        if side.idp.logout_answer_url is None:
            return True
        message = request.logout_answer(
            side.us,
            side.idp.logout_answer_url,
            identifier=f"_{secrets.token_hex(20)}",
            now=now.timestamp(),
            in_response_to=asked.identifier,
        )
        return request.redirect(side.idp.logout_answer_url, "SAMLResponse", message, side.signer, relay)

    async def _end(self, plane: Plane, side: Side, asked: logout.Asked) -> None:
        """End the sessions that the provider names, and no other: all of that name's where it names none."""
        tenant, name = side.facts.tenant, side.facts.name
        async with plane.transaction(tenant) as conn:
            there = await store.named(conn, tenant, name, asked.name.text)
        for one in there:
            if asked.sessions and one.session not in asked.sessions:
                continue
            who = person.known(side.facts, one.issuer, one.subject, self._pseudonym_key)
            await sessions.end_all(plane, who, sid=one.sid, reason="signed out at the provider")
            async with plane.transaction(tenant) as conn:
                await store.forget(conn, tenant, name, one.sid)

    async def goodbye(self, plane: Plane, who: Principal) -> str | None:
        """Where somebody whose session here ends can sign out there, too; None where there is no such place.

        Whatever is wrong with the provider's files is no reason against signing out here.
        """
        try:
            async with plane.transaction(who.tenant) as conn:
                held = None if who.credential is None else await credentials.find(conn, who.tenant, who.credential)
                about = {} if held is None else held.about
                provider = str(about.get("provider"))
                one = await store.begun(conn, who.tenant, provider, str(about.get("sid")))
            side = await self.side(provider)
        except Refused:
            return None
        if one is None or side.idp.logout_url is None or side.signer is None:  # unsigned, nobody would believe it
            return None
        now = self._clock().timestamp()
        message = request.logout(
            side.us,
            side.idp.logout_url,
            identifier=f"_{secrets.token_hex(20)}",
            now=now,
            name=one.name,
            session=one.session,
        )
        return request.redirect(side.idp.logout_url, "SAMLRequest", message, side.signer)

    async def metadata(self, name: str) -> bytes:
        """The plane's own, for this provider."""
        _, facts = self.table(name)

        def made() -> bytes:
            return request.our_metadata(self.us(facts), keys.load(self.settings.home / "keys" / "saml"))

        return await asyncio.to_thread(made)


def done() -> Cookie:
    """What makes the browser forget the login that has ended."""
    return Cookie(BEGUN, value="", max_age=0, secure=True, httponly=True, samesite="none", path="/")
