# SPDX-License-Identifier: Apache-2.0
"""Workload rules are added and taken away, each with its entry: whose tokens stand for which service account (G13)."""

from __future__ import annotations

import secrets
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from control_plane import administrative
from control_plane.auth import credentials, workload
from control_plane.auth.principal import Principal
from control_plane.context import Plane
from control_plane.errors import Refused
from control_plane.services import acts, store
from control_plane.services.account import ISSUER, Actions, Name, Projects, Reasoned, narrowed
from control_plane.services.exchange import DEFAULT_S, LONGEST_S
from control_plane.services.store import Rule
from control_plane.strict import Reason

__all__ = ["MOST_RULES", "Ruling", "add", "remove", "ruling"]

MOST_RULES: Final = 500


class Ruling(Struct, frozen=True, forbid_unknown_fields=True):
    """A rule that is asked for: tokens of this issuer with these claims are the account's, as long and as narrow."""

    issuer: Annotated[str, Meta(min_length=1, max_length=512, pattern=r"^[!-~]+$")]
    account: Name
    claims: workload.Claims
    reason: Reason
    lasts_s: Annotated[int, Meta(ge=60, le=LONGEST_S, description="Seconds.")] = DEFAULT_S
    actions: Actions | None = None
    projects: Projects | None = None


ruling = msgspec.json.Decoder(Ruling)


async def add(plane: Plane, who: Principal, asked: Ruling) -> Rule:
    """Add a rule. Refused `request_invalid` where it pins nobody, or no table names its issuer for this tenant."""
    known = sorted({one.issuer for one in plane.settings.oidc if one.workload and one.tenant == who.tenant})
    if asked.issuer not in known:
        said = f"no [[oidc]] table with workload = true names it for this tenant; named: {', '.join(known) or 'none'}"
        raise _unfit("issuer", said)
    try:
        workload.check(asked.claims)
    except ValueError as error:
        raise _unfit("claims", str(error)) from None
    now, scope = plane.now(), narrowed(who, asked.actions, asked.projects)
    rule = Rule(
        rule_id=secrets.token_hex(8),
        issuer=asked.issuer,
        account=asked.account,
        claims=dict(asked.claims),
        scope=scope,
        lasts_s=asked.lasts_s,
        created_at=now,
        created_by=who.pseudonym,
    )
    async with plane.transaction(who.tenant) as conn:
        await acts.live(conn, who.tenant, asked.account, lock=True)
        if len(await store.rules(conn, who.tenant)) >= MOST_RULES:
            raise Refused("conflict", f"the tenant has {MOST_RULES} rules already: take one away")
        await store.add_rule(conn, who.tenant, rule)
        body = {
            **{name: getattr(rule, name) for name in ("rule_id", "issuer", "claims", "lasts_s")},
            "service": rule.account,
            "actions": None if scope is None else scope.actions,
            "projects": None if scope is None else scope.projects,
        }
        await administrative.append(conn, administrative.entry(who, "identity:workload:added", body, asked.reason, now))
    return rule


async def remove(plane: Plane, who: Principal, rule_id: str, asked: Reasoned) -> Rule:
    """Take a rule away, and with it the tokens that it gave. Refused `not_found`."""
    now = plane.now()
    async with plane.transaction(who.tenant) as conn:
        rule = await store.rule(conn, who.tenant, rule_id)
        if rule is None or not await store.remove_rule(conn, who.tenant, rule_id):
            raise Refused("not_found", "no such rule")
        given = await credentials.held(conn, who.tenant, ISSUER, rule.account, "token")
        ended = [one.id for one in given if one.about.get("rule") == rule_id and one.over(now) is None]
        for one in ended:
            await credentials.revoke(conn, who.tenant, one, by=who.pseudonym, at=now)
        body = {"rule_id": rule_id, "service": rule.account, "credentials": ended}
        await administrative.append(
            conn, administrative.entry(who, "identity:workload:removed", body, asked.reason, now)
        )
    return rule


def _unfit(field: str, said: str) -> Refused:
    return Refused("request_invalid", f"{field}: {said}", errors=({"field": field, "message": said},))
