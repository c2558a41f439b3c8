# SPDX-License-Identifier: Apache-2.0
"""A token is exchanged for a short-lived one of the plane's own (RFC 8693).

A CI system's token, once, for its service account's, by the tenant's rules (`auth.workload`); somebody's own token of
this plane, or of their issuer, for a narrower one of theirs. Each exchange is one transaction with its entry. The
result is never wider than what it was made from: a rule's scope, the scope asked for and the subject token's own hold
together. What was made from a plane token ends with it, and no later than a person's own token would have.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from control_plane import administrative
from control_plane.auth import credentials
from control_plane.auth import store as auth_store
from control_plane.auth.assertions import Asserted, Assertions
from control_plane.auth.claims import read
from control_plane.auth.credentials import Issued
from control_plane.auth.errors import Forbidden, PersonRemoved, TenantRefused, Unauthenticated
from control_plane.auth.principal import Principal, Scope
from control_plane.auth.recognise import LetIn, Recogniser
from control_plane.auth.tokens import is_plane_token
from control_plane.auth.workload import WorkloadRule, accounts
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.services import acts, store
from control_plane.services.account import principal
from control_plane.services.grant import Grant, GrantRefused
from control_plane.services.store import Rule

__all__ = ["DEFAULT_S", "LONGEST_S", "Desk", "Exchanged"]

DEFAULT_S = 900
LONGEST_S = 43_200


class Exchanged(Struct, frozen=True):
    """A token that was given for another, and what it is narrowed to."""

    issued: Issued
    scope: Scope | None
    lasts_s: int


class Desk:
    """Where tokens are exchanged. One a process."""

    def __init__(self, plane: Plane, recogniser: Recogniser, assertions: Assertions, pseudonym_key: bytes) -> None:
        self._plane, self._recogniser, self._assertions = plane, recogniser, assertions
        self._pseudonym_key = pseudonym_key

    async def exchange(self, grant: Grant, address: str | None, let_in: LetIn) -> Exchanged:
        """The token that is given. GrantRefused; IdentityUnavailable and RateLimited as at the door."""
        token = grant.subject_token
        try:
            if not is_plane_token(token) and self._assertions.concerns(token):
                return await self._workload(await self._assertions.verify(token), grant, let_in)
            who = await self._recogniser.recognise({b"authorization": b"Bearer " + _octets(token)}, address, let_in)
        except (Unauthenticated, TenantRefused, PersonRemoved, Forbidden) as refused:
            # RFC 8693 section 2.2.2: whatever is wrong with the subject token, it is the request that is refused.
            raise GrantRefused("invalid_request", refused.detail, field="subject_token") from None
        return await self._narrowed(who, grant)

    async def _workload(self, asserted: Asserted, grant: Grant, let_in: LetIn) -> Exchanged:
        now, tenant = self._plane.now(), asserted.tenant
        async with self._plane.transaction(tenant) as conn:
            rule = await _rule(conn, asserted, grant)
            service = principal(tenant, rule.account, self._pseudonym_key)
            if (refused := await let_in(service)) is not None:
                raise refused
            await _open(conn, tenant, rule.account)
            forgotten = dt.datetime.fromtimestamp(asserted.forgotten_at, dt.UTC)
            if not await store.spend(conn, tenant, asserted.digest, forgotten, now):
                raise GrantRefused(
                    "invalid_request",
                    "the token was exchanged before, and is good for one exchange: ask the CI system for another",
                    code="token_used",
                    field="subject_token",
                )
            scope = _both(rule.scope, grant.scope)
            lasts = min(rule.lasts_s, grant.expires_s or rule.lasts_s)
            claims = {name: asserted.claims[name] for name in rule.claims}
            about = {"service": rule.account, "rule": rule.rule_id, "issuer": asserted.issuer, "claims": claims}
            issued = await self._issue(conn, service, scope, now, lasts, about)
        return Exchanged(issued, scope, lasts)

    async def _narrowed(self, who: Principal, grant: Grant) -> Exchanged:
        now = self._plane.now()
        lasts = min(grant.expires_s or DEFAULT_S, LONGEST_S)
        scope = _both(who.scope, grant.scope)
        async with self._plane.transaction(who.tenant) as conn:
            lasts = min(lasts, int((await _ends(conn, who, grant.subject_token) - now).total_seconds()))
            if lasts < 1:
                raise GrantRefused("invalid_request", "the token is about to expire", field="subject_token")
            # The scope asked for alone: that of the parent is added at each use, as it stands then.
            issued = await self._issue(conn, who, grant.scope, now, lasts, {"narrowed": True})
        return Exchanged(issued, scope, lasts)

    async def _issue(
        self,
        conn: AsyncConnection,
        who: Principal,
        scope: Scope | None,
        now: dt.datetime,
        lasts_s: int,
        about: Mapping[str, Any],
    ) -> Issued:
        issued = await credentials.issue(
            conn,
            who,
            "token",
            at=now,
            expires_at=now + dt.timedelta(seconds=lasts_s),
            scope=scope,
            parent=who.credential,
            about=about,
        )
        body = {
            **about,
            "opened": issued.id,
            "actions": None if scope is None else scope.actions,
            "projects": None if scope is None else scope.projects,
            "expires_at": issued.expires_at.isoformat(),
        }
        await administrative.append(conn, administrative.entry(who, "identity:session:opened", body, None, now))
        return issued


async def _rule(conn: AsyncConnection, asserted: Asserted, grant: Grant) -> Rule:
    """The rule that says whose the token is; the account that is asked for, or the only one."""
    rules = {one.rule_id: one for one in await store.rules(conn, asserted.tenant, issuer=asserted.issuer)}
    values = [WorkloadRule(one.rule_id, one.issuer, one.account, one.claims) for one in rules.values()]
    found = accounts(values, asserted.issuer, asserted.claims)
    if grant.account is not None:
        found = {account: rule for account, rule in found.items() if account == grant.account}
    if not found:
        raise GrantRefused(
            "invalid_request", "no rule gives these claims such a service account", field="subject_token"
        )
    if len(found) > 1:
        said = f"the token stands for {', '.join(sorted(found))}: say which"
        raise GrantRefused("invalid_request", said, field="service_account")
    return rules[next(iter(found.values()))]


async def _open(conn: AsyncConnection, tenant: str, account: str) -> None:
    """GrantRefused where tenant or account are shut."""
    if [one.state for one in await auth_store.tenants(conn)] != ["open"]:
        raise GrantRefused("invalid_request", "the tenant of this token is closed", field="subject_token")
    try:
        await acts.live(conn, tenant, account)
    except Refused as refused:
        raise GrantRefused("invalid_request", refused.detail, field="subject_token") from None


async def _ends(conn: AsyncConnection, who: Principal, token: str) -> dt.datetime:
    """When the token that was just recognised ends."""
    if who.credential is None:
        return dt.datetime.fromtimestamp(float(read(token).claims["exp"]), dt.UTC)
    kept = await credentials.find(conn, who.tenant, who.credential)
    if kept is None:
        raise GrantRefused("invalid_request", "the token is gone", field="subject_token")
    return kept.expires_at


def _both(one: Scope | None, other: Scope | None) -> Scope | None:
    """What both leave. GrantRefused `invalid_scope` where that is nothing."""
    if one is None or other is None:
        return other if one is None else one
    scope = one.within(other)
    if scope.actions == () or scope.projects == ():
        raise GrantRefused("invalid_scope", "nothing of it is within what the subject token allows", field="scope")
    return scope


def _octets(token: str) -> bytes:
    try:
        return token.encode("ascii")
    except UnicodeEncodeError:
        raise GrantRefused("invalid_request", "is no token", field="subject_token") from None
