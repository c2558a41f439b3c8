# SPDX-License-Identifier: Apache-2.0
"""G13: a right that was handed on is never wider, nor longer, than its giver's at the moment of use, and is proven."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from control_plane.accounts import delegations
from control_plane.accounts.delegations import Delegating
from control_plane.auth import rights, tokens
from control_plane.auth.access import ACTIONS, ALWAYS, UNDELEGATED, may, visible
from control_plane.auth.credentials import Issued
from control_plane.auth.errors import Unauthenticated
from control_plane.auth.people import store as people
from control_plane.auth.principal import ROLES, Assignment, Link, Principal, Scope
from control_plane.auth.recognise import BEARER
from control_plane.errors import Refused
from ledger.predicate import Handed, parse_statement
from tests.control_plane.jobs.desk import Desk, person
from tests.control_plane.jobs.ends import finish
from tests.fakes import FakeDriver

ANN = person()
READ = ("job:read", "job:submit", "delegation:own")
names = st.lists(st.sampled_from(["p", "q", "r"]), max_size=3).map(tuple)
scopes = st.builds(
    Scope,
    actions=st.none() | st.lists(st.sampled_from(sorted(ACTIONS)), max_size=6).map(tuple),
    projects=st.none() | names,
)
held = st.lists(st.tuples(st.sampled_from(sorted(ROLES)), st.sampled_from(["p", "q", None])), max_size=4)


async def handed(desk: Desk, who: Principal = ANN, to: str = "robot", **more: Any) -> Issued:
    """A new delegation's secret."""
    told: dict[str, Any] = {"to": to, "actions": READ, "expires_in_s": 600, "reason": "nightly"}
    asked = Delegating(**(told | more))
    return (await delegations.grant(desk.plane, who, asked))[1]


async def bearing(desk: Desk, secret: str, after_s: float = 1) -> Principal:
    """Whom the door takes its bearer for."""
    parsed = tokens.parse(secret)
    assert parsed is not None
    at = desk.plane.now() + dt.timedelta(seconds=after_s)
    return await rights.standing(desk.plane.engine, parsed, BEARER, None, at)


@given(held, scopes, scopes)
def test_what_is_handed_on_is_never_wider(roles: list[tuple[str, str | None]], one: Scope, other: Scope) -> None:
    """Whatever the roles, the scopes and the chain: each step allows a part of what the one before allows."""
    giver = ANN.holding(()).holding(tuple(Assignment(*role) for role in roles))
    giver = replace(giver, roles=tuple(role for role in giver.roles if (role, None) in roles))
    first = replace(giver, scope=one, chain=(Link("d1", giver.actor, "ci"),), via="delegation")
    second = replace(first, scope=one.within(other), chain=(*first.chain, Link("d2", "ci", "bot")))
    for action in sorted(ACTIONS):
        for wide, narrow in ((giver, first), (first, second)):
            for project in ("p", "q", "r", None):
                assert may(wide, action, project) or not may(narrow, action, project)
            seen, left = visible(wide, action), visible(narrow, action)
            assert seen is None or (left is not None and left <= seen)
        if action in UNDELEGATED:
            assert not may(second, action, "p")
    assert may(second, ALWAYS, None)


async def test_a_delegate_acts_for_the_giver_and_the_chain_is_in_the_evidence(desk: Desk, driver: FakeDriver) -> None:
    """G3: who asked, for whom; in the decision's input, the job, its entry and its record."""
    await desk_knows(desk)
    first = await handed(desk)
    second = await handed(desk, await bearing(desk, first.text), "bot")
    who = await bearing(desk, second.text)
    chain = (Link(first.id, ANN.actor, "robot"), Link(second.id, "robot", "bot"))
    assert (who.actor, who.chain, who.via) == (ANN.actor, chain, "delegation")
    job_id = (await desk.submit(who=who)).job_id
    await desk.seal()
    await (await desk.attempt(driver)).advance()
    assert await finish(desk, job_id) == "COMPLETED"
    row = await desk.row(job_id)
    async with desk.plane.transaction("demo") as conn:
        record = parse_statement((await desk.plane.vault.read(conn, "demo", row["statement_blob"])).content)
        judged = json.loads((await desk.plane.vault.read(conn, "demo", row["input_blob"])).content)
    assert record.delegation == tuple(Handed(delegation=one.delegation, by=one.by, to=one.to) for one in chain)
    assert record.governance_record.actor == ANN.actor
    assert [step["to"] for step in judged["principal"]["acting"]] == ["robot", "bot"]
    assert judged["principal"]["via"] == "delegation"
    assert desk.kinds().count("identity:delegation:granted") == 2


async def test_nobody_hands_on_what_they_have_not(desk: Desk) -> None:
    """Nor what is handed to nobody, nor outside what they came with, nor endlessly."""
    for actions, projects, code in (
        (("budget:set",), None, "forbidden"),
        (("account:own",), None, "forbidden"),
        (("job:fly",), None, "request_invalid"),
        (("whoami",), None, "request_invalid"),
        (("job:read",), ("not a name",), "request_invalid"),
    ):
        with pytest.raises(Refused) as refused:
            await handed(desk, actions=actions, projects=projects)
        assert refused.value.code == code
    local = replace(ANN, roles=(), project_roles={"demo": ("quantum-engineer",)})
    await handed(desk, local, projects=("demo",))
    with pytest.raises(Refused, match="in project other"):
        await handed(desk, local, projects=("demo", "other"))
    await desk_knows(desk)
    who = await bearing(desk, (await handed(desk, actions=("job:read", "delegation:own"))).text)
    with pytest.raises(Refused, match="job:submit"):
        await handed(desk, who)
    for _ in range(delegations.MOST_LINKS - 1):
        who = await bearing(desk, (await handed(desk, who, actions=("job:read", "delegation:own"))).text)
    with pytest.raises(Refused, match="times at most"):
        await handed(desk, who, actions=("job:read",))


async def test_what_is_handed_on_ends_with_what_it_hangs_on(desk: Desk) -> None:
    """Never longer than the parent; revoked with it; a person's own sign-in doesn't bound it."""
    await desk_knows(desk)
    first = await handed(desk, expires_in_s=60)
    second = await handed(desk, await bearing(desk, first.text), "bot", expires_in_s=600)
    assert second.expires_at == first.expires_at
    assert await delegations.revoke(desk.plane, ANN, first.id, "done")
    assert await delegations.revoke(desk.plane, ANN, first.id, "done")
    assert desk.kinds().count("identity:delegation:revoked") == 1
    for secret in (first.text, second.text):
        with pytest.raises(Unauthenticated):
            await bearing(desk, secret)
    signed_in = replace(ANN, via="session", credential="0" * 24)
    assert (await bearing(desk, (await handed(desk, signed_in)).text)).subject == ANN.subject


async def test_a_right_that_its_giver_loses_is_lost_to_the_delegate_at_once(desk: Desk) -> None:
    """At the moment of use, not of the grant."""
    await desk_knows(desk)
    secret = (await handed(desk)).text
    assert may(await bearing(desk, secret), "job:submit", "demo")
    async with desk.plane.transaction("demo") as conn:
        await people.remember(conn, replace(ANN, roles=("auditor",)))
    who = await bearing(desk, secret)
    assert not may(who, "job:submit", "demo")
    assert may(who, "job:read", "demo")


async def test_a_delegation_is_its_givers_to_see_and_end(desk: Desk) -> None:
    """A delegate sees and ends what they handed on themselves; a stranger is told nothing."""
    await desk_knows(desk)
    first = await handed(desk)
    delegate = await bearing(desk, first.text)
    second = await handed(desk, delegate, "bot")
    bob = person("bob")
    assert [one.id for one in await delegations.listed(desk.plane, ANN, everybody=False)] == [second.id, first.id]
    assert [one.id for one in await delegations.listed(desk.plane, delegate, everybody=False)] == [second.id]
    assert await delegations.listed(desk.plane, bob, everybody=False) == []
    assert len(await delegations.listed(desk.plane, bob, everybody=True)) == 2
    assert not await delegations.revoke(desk.plane, bob, first.id, None)
    assert not await delegations.revoke(desk.plane, delegate, first.id, None)
    assert await delegations.revoke(desk.plane, delegate, second.id, None)
    assert await delegations.revoke(desk.plane, person("ada", "demo", "quantum-admin"), first.id, None)


async def desk_knows(desk: Desk) -> None:
    """Ann's provider has described her."""
    async with desk.plane.transaction("demo") as conn:
        await people.remember(conn, ANN)
