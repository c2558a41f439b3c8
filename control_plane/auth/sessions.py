# SPDX-License-Identifier: Apache-2.0
"""Browser sessions, kept by the plane (G13, S1): opened by a login of whatever kind, ended by anybody who may.

Enters a principal whom a provider has just described. Leaves the cookie's value, which is a secret of the plane's own
(`credentials`): a new one at each login, judged anew on each request, ended when idle, when its time is over, and at
once by a logout, in every process. Each opening and ending is an entry of the tenant's.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from litestar.datastructures import Cookie
from msgspec import Struct

from control_plane import administrative
from control_plane.auth import credentials, rights, tokens
from control_plane.auth.browser import SESSION, kept
from control_plane.auth.credentials import Credential, Issued
from control_plane.auth.principal import Principal

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from control_plane.auth.tokens import Kind
    from control_plane.context import Plane

__all__ = ["Opened", "command", "end", "end_all", "hand_over", "login", "own"]

KINDS: Final[tuple[Kind, ...]] = ("session", "token")
MOST_AGENT: Final = 200
"""Characters of a browser's own word for itself that are kept, for its holder to tell their sessions apart."""


class Opened(Struct, frozen=True):
    """A session that has just begun, and the cookie to answer with."""

    issued: Issued
    cookie: Cookie


async def login(
    plane: Plane,
    principal: Principal,
    *,
    provider: str,
    agent: str | None = None,
    sid: str | None = None,
    before: str | None = None,
) -> Opened:
    """Open a session for somebody whom `provider` has just described; `before` is the cookie that they came with.

    That one ends: whoever planted it has nothing. TenantRefused, PersonRemoved for those who may not enter. `sid` is
    the provider's own name for its session, so that it can be ended from there.
    """
    await rights.enrich(plane.engine, principal)
    at, settings = plane.now(), plane.settings
    about = {"provider": provider, "agent": _agent(agent)} | ({"sid": sid} if sid else {})
    async with plane.transaction(principal.tenant) as conn:
        if (old := tokens.parse(before or "")) is not None and old.tenant == principal.tenant:
            found = await credentials.find(conn, old.tenant, old.id)
            if found is not None and (found.issuer, found.subject) == (principal.issuer, principal.subject):
                await credentials.revoke(conn, old.tenant, old.id, by=principal.pseudonym, at=at)
        issued = await credentials.issue(
            conn,
            principal,
            "session",
            at=at,
            expires_at=at + dt.timedelta(seconds=settings.session_s),
            idle_s=settings.session_idle_s,
            about=about,
        )
        told = {"session": issued.id, "provider": provider}
        await administrative.append(conn, administrative.entry(principal, "identity:session:opened", told, None, at))
    return Opened(issued, kept(SESSION, issued.text, seconds=int(settings.session_s)))


async def hand_over(plane: Plane, tenant: str, session: str) -> tuple[Issued, str] | None:
    """A secret for a command, by whose session a person allowed it, and their subject; None where that has ended.

    It lasts as long as a session does, and is not that session: it ends by itself.
    """
    at = plane.now()
    async with plane.transaction(tenant) as conn:
        found = await credentials.find(conn, tenant, session)
        if found is None or found.kind != "session" or found.over(at) is not None:
            return None
        holder = await credentials.principal_of(conn, tenant, session)
        issued = await _issued(plane, conn, holder, found.about.get("provider", ""), at, allowed_in=session)
    return issued, holder.subject


async def command(plane: Plane, principal: Principal, *, provider: str) -> Issued:
    """A secret for a command of somebody whom `provider` has just described; TenantRefused, PersonRemoved."""
    await rights.enrich(plane.engine, principal)
    async with plane.transaction(principal.tenant) as conn:
        return await _issued(plane, conn, principal, provider, plane.now())


async def _issued(
    plane: Plane, conn: AsyncConnection, holder: Principal, provider: str, at: dt.datetime, **more: str
) -> Issued:
    """A command's token, told by an entry."""
    until = at + dt.timedelta(seconds=plane.settings.session_s)
    about = {"provider": provider, "agent": "command line"}
    issued = await credentials.issue(conn, holder, "token", at=at, expires_at=until, about=about)
    told = {"session": issued.id, "kind": "token", "provider": provider, **more}
    await administrative.append(conn, administrative.entry(holder, "identity:session:opened", told, None, at))
    return issued


async def own(plane: Plane, principal: Principal) -> list[Credential]:
    """What is signed in in this person's name, browsers and commands, the newest first."""
    now = plane.now()
    async with plane.transaction(principal.tenant) as conn:
        held = await _held(conn, principal)
    return [one for one in held if one.over(now) is None]


async def _held(conn: AsyncConnection, principal: Principal) -> list[Credential]:
    who = (principal.tenant, principal.issuer, principal.subject)
    found = [one for kind in KINDS for one in await credentials.held(conn, *who, kind)]
    # A token that was exchanged for another credential is that one's, and no sign-in.
    mine = [one for one in found if one.kind == "session" or (one.parent is None and "provider" in one.about)]
    return sorted(mine, key=lambda one: one.created_at, reverse=True)


async def end(plane: Plane, principal: Principal, id: str) -> bool:  # noqa: A002 - it is called that everywhere
    """End one session of this person's own; False where they have none of this id."""
    at = plane.now()
    async with plane.transaction(principal.tenant) as conn:
        found = await credentials.find(conn, principal.tenant, id)
        if found is None or found.kind not in KINDS:
            return False
        if (found.issuer, found.subject) != (principal.issuer, principal.subject):
            return False
        if await credentials.revoke(conn, principal.tenant, id, by=principal.pseudonym, at=at):
            await _told(conn, principal, [id], at)
        return True


async def end_all(plane: Plane, principal: Principal, *, sid: str | None = None, reason: str | None = None) -> int:
    """End every session of this person, or those that the provider calls `sid`; how many that were."""
    at = plane.now()
    async with plane.transaction(principal.tenant) as conn:
        held = await _held(conn, principal)
        ended = [one.id for one in held if one.over(at) is None and (sid is None or one.about.get("sid") == sid)]
        for id in ended:  # noqa: A001 - as above
            await credentials.revoke(conn, principal.tenant, id, by=principal.pseudonym, at=at)
        if ended:
            await _told(conn, principal, ended, at, reason)
    return len(ended)


async def _told(
    conn: AsyncConnection, principal: Principal, ended: Sequence[str], at: dt.datetime, reason: str | None = None
) -> None:
    entry = administrative.entry(principal, "identity:session:ended", {"sessions": list(ended)}, reason, at)
    await administrative.append(conn, entry)


def _agent(text: str | None) -> str:
    return "".join(sign for sign in (text or "")[:MOST_AGENT] if sign.isprintable())
