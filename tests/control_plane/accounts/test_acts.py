# SPDX-License-Identifier: Apache-2.0
"""G13: who gives what to whom, on a real database: at once, told by entries, and never so that nobody is left."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from msgspec.structs import replace

from control_plane.accounts import people, projects, roles
from control_plane.accounts.people import Adding
from control_plane.accounts.projects import Changing, Creating
from control_plane.accounts.roles import Giving, Mapping
from control_plane.auth import keys, rights
from control_plane.auth.errors import PersonRemoved
from control_plane.auth.issuer import IDENTITY
from control_plane.auth.principal import Assignment, Principal, Role, pseudonym_of
from control_plane.context import Plane
from control_plane.errors import Refused
from tests.control_plane.jobs.conftest import desk, driver, pdp
from tests.control_plane.jobs.desk import Desk, bell

__all__ = ["desk", "driver", "pdp"]

WHY = "a test"


@pytest.fixture
def plane(desk: Desk) -> Plane:
    """A plane that knows its people's pseudonyms."""
    keys.prepare(desk.plane.settings.home, "dev")
    return desk.plane


def somebody(plane: Plane, name: str, *held: str, groups: tuple[str, ...] = ()) -> Principal:
    """As their provider describes them, with these roles of its own."""
    key = keys.pseudonym_key(plane.settings.home)
    user = pseudonym_of(key, tenant="demo", issuer=IDENTITY, subject=name)
    who = Principal(name, name, "demo", "demo", IDENTITY, user, groups=groups)
    return who.holding(tuple(Assignment(role) for role in held))


async def here(plane: Plane, who: Principal) -> Principal:
    """They make a request: who they are now."""
    return await rights.enrich(plane.engine, who)


def told(desk: Desk, kind: str) -> list[dict[str, Any]]:
    """The bodies of the entries of this kind that wait to be sealed."""
    waiting = [json.loads(row) for (row,) in desk.sql("SELECT pending FROM ledger.inbox ORDER BY id")]
    return [entry["body"] for entry in waiting if entry["kind"] == kind]


def giving(role: Role, **so: str | None) -> Giving:
    """What a body would say."""
    return Giving(role=role, reason=WHY, **so)


async def code_of(act: Any) -> str:
    with pytest.raises(Refused) as refused:
        await act
    return refused.value.code


async def test_a_role_counts_from_the_next_request_on_and_is_told_by_pseudonyms(plane: Plane, desk: Desk) -> None:
    admin, ann = somebody(plane, "root", "quantum-admin"), somebody(plane, "ann")
    given = await roles.grant(plane, admin, giving("auditor", issuer=IDENTITY, subject="ann"))
    assert (given.user, (await here(plane, ann)).roles) == (ann.pseudonym, ("auditor",))
    assert await code_of(roles.grant(plane, admin, giving("auditor", user=given.user))) == "conflict"
    await roles.revoke(plane, admin, giving("auditor", user=given.user))
    assert (await here(plane, ann)).roles == ()
    assert await code_of(roles.revoke(plane, admin, giving("auditor", user=given.user))) == "not_found"
    (entry,) = told(desk, "identity:role:granted")
    assert (entry["user"], entry["by"], entry["reason"]) == (ann.pseudonym, admin.pseudonym, WHY)
    assert "ann" not in entry.values()
    assert len(told(desk, "identity:role:revoked")) == 1
    assert [one["user"] for one in told(desk, "identity:user:added")] == [ann.pseudonym]


async def test_somebody_is_named_in_one_way_that_can_be(plane: Plane) -> None:
    admin = somebody(plane, "root", "quantum-admin")
    for so, code in (
        ({"user": "a-" + "0" * 32}, "not_found"),
        ({"user": "a-" + "0" * 32, "subject": "ann", "issuer": IDENTITY}, "request_invalid"),
        ({"subject": "ann"}, "request_invalid"),
        ({"subject": "ann", "issuer": "https://login.exmaple.org"}, "request_invalid"),
        ({"subject": "ann", "issuer": IDENTITY, "project": "nowhere"}, "not_found"),
    ):
        assert await code_of(roles.grant(plane, admin, giving("auditor", **so))) == code, so


async def test_who_is_removed_is_out_whatever_their_provider_says_until_restored(plane: Plane, desk: Desk) -> None:
    admin, ann = somebody(plane, "root", "quantum-admin"), somebody(plane, "ann", "quantum-user")
    await roles.grant(plane, admin, giving("auditor", issuer=IDENTITY, subject="ann"))
    await here(plane, ann)
    await people.remove(plane, admin, ann.pseudonym, WHY)
    with pytest.raises(PersonRemoved):
        await here(plane, replace(ann, team="another"))
    assert await code_of(people.remove(plane, admin, ann.pseudonym, WHY)) == "conflict"
    assert await code_of(roles.grant(plane, admin, giving("finops", user=ann.pseudonym))) == "conflict"
    assert await code_of(people.add(plane, admin, Adding(IDENTITY, "ann", WHY))) == "conflict"
    await people.restore(plane, admin, ann.pseudonym, WHY)
    assert (await here(plane, ann)).roles == ("auditor", "quantum-user")
    assert [one["user"] for one in told(desk, "identity:user:removed")] == [ann.pseudonym]
    assert [one["user"] for one in told(desk, "identity:user:restored")] == [ann.pseudonym]


async def test_a_group_gives_a_role_as_long_as_it_is_mapped(plane: Plane, desk: Desk) -> None:
    admin, ann = somebody(plane, "root", "quantum-admin"), somebody(plane, "ann", groups=("lab-a",))
    asked = Mapping(IDENTITY, "lab-a", "quantum-engineer", WHY, "demo")
    await roles.map_group(plane, admin, asked)
    assert (await here(plane, ann)).project_roles == {"demo": ("quantum-engineer",)}
    assert await code_of(roles.map_group(plane, admin, asked)) == "conflict"
    await roles.unmap_group(plane, admin, asked)
    assert (await here(plane, ann)).project_roles == {}
    assert await code_of(roles.unmap_group(plane, admin, asked)) == "not_found"
    assert [one["group"] for one in told(desk, "identity:group:mapped")] == ["lab-a"]
    assert [one["group"] for one in told(desk, "identity:group:unmapped")] == ["lab-a"]


async def test_nobody_locks_the_last_administrator_out(plane: Plane, desk: Desk) -> None:
    """Neither by a role, nor by removal, nor by a group; and what was refused has changed nothing."""
    only = somebody(plane, "only", groups=("heads",))
    await roles.grant(plane, only, giving("quantum-admin", issuer=IDENTITY, subject="only"))
    await here(plane, only)
    mine = giving("quantum-admin", user=only.pseudonym)
    assert await code_of(roles.revoke(plane, only, mine)) == "last_administrator"
    assert await code_of(people.remove(plane, only, only.pseudonym, WHY)) == "last_administrator"
    assert (await here(plane, only)).roles == ("quantum-admin",)
    assert not told(desk, "identity:role:revoked")
    by_group = Mapping(IDENTITY, "heads", "quantum-admin", WHY)
    await roles.map_group(plane, only, by_group)
    await roles.revoke(plane, only, mine)
    assert await code_of(roles.unmap_group(plane, only, by_group)) == "last_administrator"
    by_provider = somebody(plane, "said", "quantum-admin")
    await here(plane, by_provider)  # their provider's words are known to be so now
    await roles.unmap_group(plane, by_provider, by_group)


async def test_of_two_administrators_who_take_each_others_role_at_once_one_stays(plane: Plane) -> None:
    first, second = somebody(plane, "first"), somebody(plane, "second")
    for one in (first, second):
        await roles.grant(plane, first, giving("quantum-admin", issuer=IDENTITY, subject=one.subject))
        await here(plane, one)
    done = await asyncio.gather(
        roles.revoke(plane, first, giving("quantum-admin", user=second.pseudonym)),
        roles.revoke(plane, second, giving("quantum-admin", user=first.pseudonym)),
        return_exceptions=True,
    )
    refused = [one for one in done if isinstance(one, Refused)]
    assert [one.code for one in refused] == ["last_administrator"]
    assert sorted([(await here(plane, one)).roles for one in (first, second)]) == [(), ("quantum-admin",)]


async def test_a_closed_project_takes_no_jobs_and_an_opened_one_does(plane: Plane, desk: Desk) -> None:
    admin = somebody(plane, "root", "quantum-admin")
    waits = await desk.submit(key="once")
    await projects.close(plane, admin, "demo", WHY)
    assert await code_of(desk.submit()) == "project_closed"
    assert await code_of(desk.submit(dry_run=True)) == "project_closed"
    assert (await desk.submit(key="once")).job_id == waits.job_id, "what was admitted before is told again"
    assert (await desk.row(waits.job_id))["state"] == "QUEUED", "what waits goes on"
    assert await code_of(projects.close(plane, admin, "demo", WHY)) == "conflict"
    await projects.reopen(plane, admin, "demo", WHY)
    assert (await desk.submit(bell())).state == "QUEUED"
    assert [one["state"] for one in told(desk, "project:closed")] == ["closed"]
    assert [one["state"] for one in told(desk, "project:changed")] == ["open"]


async def test_a_project_is_created_once_and_changed_in_what_is_said(plane: Plane) -> None:
    admin = somebody(plane, "root", "quantum-admin")
    made = await projects.create(plane, admin, Creating("catalysis", WHY, "CC-1"))
    assert (made["state"], made["cost_center"]) == ("open", "CC-1")
    assert await code_of(projects.create(plane, admin, Creating("catalysis", WHY))) == "conflict"
    assert (await projects.set_project(plane, admin, "catalysis", Changing(WHY)))["cost_center"] == "CC-1"
    assert (await projects.set_project(plane, admin, "catalysis", Changing(WHY, None)))["cost_center"] is None
    assert await code_of(projects.set_project(plane, admin, "nowhere", Changing(WHY))) == "not_found"
