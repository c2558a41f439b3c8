# SPDX-License-Identifier: Apache-2.0
"""What somebody who was recognised may do here, asked of the database anew on every request, in one round trip.

So a role that was taken away, a person who was removed, a tenant that was closed and a secret that was revoked count at
once, in every process. `enrich` is for whom an issuer named, `standing` for whom a secret of the plane's own names:
that one's rights are its holder's of this moment, of which its scope and those of its parents leave a part.

`auth.person` is what a provider said of somebody last. It is written where that is new or differs, and once in
`SEEN_S`; words that are older than those kept change nothing.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.auth import credentials, tokens
from control_plane.auth.claims import invalid
from control_plane.auth.errors import PersonRemoved, TenantRefused, Unauthenticated
from control_plane.auth.people import store
from control_plane.auth.principal import Assignment, Link, Principal, Scope, Via, parse_role
from control_plane.auth.tokens import Given, Kind
from control_plane.db import read, transaction

__all__ = ["DEEPEST", "SEEN_S", "enrich", "standing"]

SEEN_S: Final = 3_600.0
"""How old "last seen" may be."""
USED_S: Final = 60.0
"""How old "last used" of a secret may be."""
DEEPEST: Final = 4
"""How many delegations may follow one another, with the secret that the first was made with."""
_VIA: Final[dict[Kind, Via]] = {"key": "key", "token": "exchange", "session": "session", "delegation": "delegation"}


async def enrich(engine: AsyncEngine, principal: Principal) -> Principal:
    """The principal with the roles that this plane gave them. TenantRefused, PersonRemoved where they may not enter."""
    (rows,) = await read(engine, principal.tenant, store.entering(principal))
    if not rows:
        raise TenantRefused("tenant_unknown")
    _refuse_shut(rows[0])
    if _news(principal, rows[0]):
        async with transaction(engine, principal.tenant) as conn:
            await store.remember(conn, principal)
    return principal.holding((*_assignments(rows[0]["roles"]), *_assignments(rows[0]["mapped"])))


async def standing(
    engine: AsyncEngine, given: Given, kinds: Sequence[Kind], address: str | None, now: dt.datetime
) -> Principal:
    """Who holds this secret, with their rights of now. Unauthenticated where it proves nothing, or no longer.

    `address` is where the request came from, for a secret that holds in some networks only; None is inside none.
    """
    (rows,) = await read(engine, given.tenant, store.hanging(given.tenant, given.id, DEEPEST))
    if not rows or rows[0]["kind"] != given.kind or given.kind not in kinds:
        raise invalid("secret_unknown", "the token is none that this plane gave out")
    if not tokens.matches(given.secret, bytes(rows[0]["digest"])):
        raise invalid("secret_unknown", "the token is none that this plane gave out")
    for row in rows:
        _refuse_over(row, address, now)
    _refuse_shut(rows[0])
    if rows[-1]["parent"] is not None:
        raise invalid("chain_too_long", "the token hangs on more others than this plane follows")
    used = rows[0]["used_at"]
    if used is None or (now - used).total_seconds() >= min(USED_S, (rows[0]["idle_s"] or USED_S * 4) / 4):
        async with transaction(engine, given.tenant) as conn:
            await credentials.used(conn, given.tenant, given.id, now)
    return _holder(given, rows)


def _holder(given: Given, rows: Sequence[dict[str, Any]]) -> Principal:
    """The holder as they are described now, within every scope on the way from the first secret to this."""
    first = rows[0]
    known = msgspec.convert(first["principal"], Principal)
    if first["digest_seen"]:  # what their provider said last goes before what it said when the secret was made
        known = replace(known, groups=tuple(first["groups"]), roles=(), project_roles={})
        known = known.holding(tuple(role for role in map(parse_role, first["said"]) if role is not None))
    scopes = [msgspec.convert(row["scope"], Scope) for row in rows if row["scope"] is not None]
    scope = None
    for one in scopes:
        scope = one if scope is None else scope.within(one)
    links = [
        Link(delegation=row["id"], by=row["about"]["by"], to=row["about"]["to"])
        for row in reversed(rows)
        if row["kind"] == "delegation"
    ]
    who = replace(
        known,
        via=known.via if _signed_in(first) else _VIA[given.kind],
        credential=given.id,
        scope=scope,
        chain=tuple(links),
    )
    return who.holding((*_assignments(first["roles"]), *_assignments(first["mapped"])))


def _signed_in(row: Mapping[str, Any]) -> bool:
    """Whether it came of a login at a provider: a browser's session, or a command's token that hangs on nothing."""
    return row["kind"] == "session" or (
        row["kind"] == "token" and row["parent"] is None and row["about"].get("provider") is not None
    )


def _refuse_over(row: dict[str, Any], address: str | None, now: dt.datetime) -> None:
    """Unauthenticated unless this secret, and none on which it hangs, has ended or is used from elsewhere."""
    idle = row["idle_s"]
    if row["revoked_at"] is not None:
        raise invalid("revoked", "the token was revoked")
    if row["expires_at"] <= now:
        raise Unauthenticated("token_expired", "expired", "the token has expired: sign in again")
    if idle is not None and (row["used_at"] or row["created_at"]) + dt.timedelta(seconds=idle) <= now:
        raise Unauthenticated("token_expired", "idle", "the session was idle for too long: sign in again")
    if row["networks"] is not None and not _inside(address, row["networks"]):
        raise invalid("network", "the token doesn't hold in the network that it came from")


def _inside(address: str | None, networks: Sequence[str]) -> bool:
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)  # an IPv4 peer of a socket that speaks both
    return any((mapped or found) in ipaddress.ip_network(network) for network in networks)


def _refuse_shut(row: dict[str, Any]) -> None:
    if row["state"] != "open":
        raise TenantRefused("tenant_closed")
    if row["person"] == "removed":
        raise PersonRemoved


def _assignments(rows: Sequence[Sequence[str]] | None) -> tuple[Assignment, ...]:
    return tuple(Assignment(role, project or None) for role, project in rows or ())


def _news(principal: Principal, row: dict[str, Any]) -> bool:
    if row["digest"] != store.digest_of(principal):
        kept, said = row["asserted_at"], principal.asserted_at
        return kept is None or said is None or said >= kept
    return row["seen_s"] is None or row["seen_s"] >= SEEN_S
