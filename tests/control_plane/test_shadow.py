# SPDX-License-Identifier: Apache-2.0
"""Shadow mode: a candidate decides again beside the policies in force, tells of differences, acts on nothing (G2)."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from control_plane.policy.embedded import EmbeddedEngine
from control_plane.policy.held import Held
from control_plane.policy.pdp import Pdp
from control_plane.policy.revision import PolicySet, load
from control_plane.shadow import acts, compare, follower
from control_plane.shadow.compare import Said
from control_plane.shadow.follower import Compared, Follower, told
from control_plane.shadow.store import Seen, Shadow
from tests.control_plane.jobs.conftest import desk, driver, pdp
from tests.control_plane.jobs.desk import Desk, person
from tests.fakes import FakeDriver

__all__ = ["desk", "driver", "pdp"]

POLICIES = load()
AUDITOR = person("eve", "demo", "auditor")


def candidate(path: str, *changes: tuple[str, str]) -> PolicySet:
    """The shipped policies with texts of one file replaced."""
    text = POLICIES.files[path].decode()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    return PolicySet.of({**POLICIES.files, path: text.encode()})


def turned() -> PolicySet:
    """Only auditors may submit."""
    held = json.loads(POLICIES.files["data/vocabulary.json"])
    held["vocabulary"]["actions"]["job:submit"] = ["auditor"]
    held["vocabulary"]["purpose_roles"] = []
    return PolicySet.of({**POLICIES.files, "data/vocabulary.json": json.dumps(held).encode()})


def speechless() -> PolicySet:
    """Each decision obliges to something that no plane knows."""
    rules = {"odd": {"kind": "dance", "value": "tango", "because": "it must be"}}
    data = {"obligations": {"rules": rules, "backend_classes": {}}}
    return PolicySet.of({**POLICIES.files, "data/obligations.json": json.dumps(data).encode()})


class Shadowing:
    """Followers of a desk's plane, by the embedded engine."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.opened = desk, list[Follower]()

    def follower(self, name: str = "w1") -> Follower:
        self.opened.append(Follower(self.desk.plane, None, name))
        return self.opened[-1]

    async def begin(self, policies: PolicySet) -> None:
        await self.desk.seal()
        await acts.begin(self.desk.plane, person("ada", "demo", "quantum-admin"), policies, "try it")

    async def catch_up(self, by: Follower | None = None) -> None:
        await self.desk.seal()
        by = by or self.follower()
        while await by.step():
            pass

    async def shown(self, tenant: str = "demo") -> dict[str, Any]:
        return await acts.shown(self.desk.plane, tenant)

    def told(self, kind: str, tenant: str = "demo") -> list[dict[str, Any]]:
        """Bodies of the entries of a kind, sealed or not."""
        sealed = self.desk.sql(
            'SELECT leaf FROM ledger.entry WHERE tenant = %s AND kind = %s ORDER BY "index"', tenant, kind
        )
        rows = [json.loads(bytes(leaf)) for (leaf,) in sealed]
        waiting = self.desk.sql("SELECT pending FROM ledger.inbox WHERE tenant = %s ORDER BY id", tenant)
        rows += [row for (data,) in waiting if (row := json.loads(bytes(data)))["kind"] == kind]
        return [row["body"] for row in rows]


@pytest.fixture
async def shadow(desk: Desk) -> AsyncIterator[Shadowing]:
    made = Shadowing(desk)
    yield made
    for one in made.opened:
        await one.close()


async def test_differences_on_live_traffic_are_entries_and_none_acts(desk: Desk, shadow: Shadowing) -> None:
    """G2: what was decided stays; both ways of differing are told with what each side said."""
    before = await desk.submit()
    await shadow.begin(turned())
    allowed, denied = await desk.submit(), await desk.submit(who=AUDITOR)
    await shadow.catch_up()
    tells = {one["job_id"]: one for one in shadow.told(follower.DIFFERENCE)}
    assert set(tells) == {allowed.job_id, denied.job_id}
    assert before.job_id not in tells
    assert tells[allowed.job_id]["sort"] == "allow_to_deny"
    assert tells[allowed.job_id]["was"] == {"allow": True, "reasons": []}
    assert tells[allowed.job_id]["would"] == {"allow": False, "reasons": ["role_required"]}
    assert tells[denied.job_id]["sort"] == "deny_to_allow"
    assert tells[denied.job_id]["decision_id"] == (denied.decision and denied.decision.id)
    assert tells[denied.job_id]["in_force"] == POLICIES.revision
    assert tells[denied.job_id]["shadow"] == turned().revision
    assert (await desk.state(allowed.job_id), await desk.state(denied.job_id)) == ("QUEUED", "DENIED")
    shown = await shadow.shown()
    assert (shown["state"], shown["lag"]) == ("following", 0)
    assert shown["counts"] == {
        "decided": 2, "same": 0, "deny_to_allow": 1, "allow_to_deny": 1, "other": 0, "undecided": 0
    }  # fmt: skip
    assert (await desk.replayed()).differences == []


@pytest.mark.faults
async def test_a_candidate_that_decides_alike_tells_nothing(desk: Desk, shadow: Shadowing) -> None:
    await shadow.begin(POLICIES)
    await desk.submit()
    await desk.submit(who=AUDITOR)
    await shadow.catch_up()
    assert shadow.told(follower.DIFFERENCE) == []
    assert (await shadow.shown())["counts"]["same"] == 2


async def test_another_worker_goes_on_where_one_was_lost_and_none_compares_twice(desk: Desk, shadow: Shadowing) -> None:
    await shadow.begin(turned())
    await desk.submit()
    await shadow.catch_up(shadow.follower("w1"))
    await desk.submit()
    await shadow.catch_up(second := shadow.follower("w2"))
    assert (await shadow.shown())["counts"]["decided"] == 1  # the first still has the lease
    desk.sql("UPDATE policy.shadow SET lease_until = now() - interval '1 second'")
    await shadow.catch_up(second)
    await shadow.catch_up(shadow.opened[0])
    assert (await shadow.shown())["counts"]["allow_to_deny"] == 2
    assert len(shadow.told(follower.DIFFERENCE)) == 2


@pytest.mark.faults
async def test_a_push_in_between_is_what_the_candidate_is_compared_with_from_then_on(
    desk: Desk, shadow: Shadowing
) -> None:
    await shadow.begin(turned())
    await desk.submit()
    pushed = candidate("data/limits.json", ('"max_windows": 8', '"max_windows": 9'))
    plane, engine = desk.plane, EmbeddedEngine()
    desk.plane = dataclasses.replace(plane, pdp=Pdp(engine, Held(pushed)))
    try:
        await desk.submit()
        await shadow.catch_up()
    finally:
        await engine.close()
    assert [one["in_force"] for one in shadow.told(follower.DIFFERENCE)] == [POLICIES.revision, pushed.revision]


async def test_a_candidate_that_gives_no_decision_is_stopped_with_its_reason_and_harms_nothing(
    desk: Desk, driver: FakeDriver, shadow: Shadowing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I5: the live path decides and runs as if there were no shadow."""
    monkeypatch.setattr(follower, "FRUITLESS", 3)
    await shadow.begin(speechless())
    for _ in range(5):
        await desk.submit()
    await shadow.catch_up()
    shown = await shadow.shown()
    assert shown["state"] == "stopped"
    assert "3 decisions in a row" in shown["reason"]
    assert "dance tango" in shown["reason"]
    assert shown["counts"]["undecided"] == 3
    (end,) = shadow.told(follower.STOPPED)
    assert (end["shadow"], end["reason"]) == (speechless().revision, shown["reason"])
    for _ in range(5):
        desk.lose_lease()
        claimed = await desk.claim(at_most=1)
        assert len(claimed) == 1
    assert (await desk.submit()).state == "QUEUED"


@pytest.mark.faults
async def test_stored_files_that_were_changed_are_not_followed(
    desk: Desk, shadow: Shadowing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "OPENING", 1)
    await shadow.begin(turned())
    desk.sql("UPDATE policy.shadow SET revision = 'sha256:' || repeat('0', 64)")
    await desk.submit()
    await shadow.catch_up()
    shown = await shadow.shown()
    assert (shown["state"], shadow.told(follower.DIFFERENCE)) == ("stopped", [])
    assert "not those of its revision" in shown["reason"]


async def test_a_new_shadow_begins_anew_and_off_ends_it(desk: Desk, shadow: Shadowing) -> None:
    who = person("ada", "demo", "quantum-admin")
    assert await shadow.shown() == {"state": "off"}
    assert await acts.end(desk.plane, who) is None
    await shadow.begin(turned())
    await desk.submit()
    await shadow.catch_up(one := shadow.follower())
    await shadow.begin(POLICIES)
    assert (await shadow.shown())["counts"]["decided"] == 0
    await desk.submit()
    await shadow.catch_up(one)
    assert (await shadow.shown())["counts"]["same"] == 1
    assert await acts.end(desk.plane, who) is not None
    await desk.submit()
    await shadow.catch_up(one)
    shown = await shadow.shown()
    assert (shown["state"], shown["reason"], shown["counts"]["decided"]) == ("stopped", None, 1)
    assert [one["reason"] for one in shadow.told(follower.STOPPED)] == ["another takes its place", None]
    (first, _) = shadow.told(acts.BEGUN)
    assert set(first["files"]) == set(turned().files)


@pytest.mark.faults
async def test_an_input_that_was_erased_is_counted_and_never_guessed(desk: Desk, shadow: Shadowing) -> None:
    await shadow.begin(turned())
    await desk.submit()
    desk.sql("UPDATE ledger.blob SET wrapped_key = NULL, ciphertext = '' WHERE tenant = 'demo'")
    await shadow.catch_up()
    counts = (await shadow.shown())["counts"]
    assert (counts["undecided"], counts["decided"]) == (1, 0)


@pytest.mark.faults
async def test_a_tenant_sees_what_its_own_decisions_gave_and_nothing_else(desk: Desk, shadow: Shadowing) -> None:
    """I7."""
    await shadow.begin(turned())
    await desk.submit()
    await shadow.catch_up()
    other = await shadow.shown("other")
    assert (other["state"], other["counts"]["decided"], other["lag"]) == ("following", 0, 0)
    assert shadow.told(follower.DIFFERENCE, "other") == []


AT = dt.datetime(2026, 11, 21, 10, 15, tzinfo=dt.UTC)
RUN = Shadow(
    run=1, revision="sha256:s", by_tenant="demo", actor="a", message="", started_at=AT, stopped_at=None, reason=None
)
YES, NO = Said(True, (), (), ()), Said(False, ("x",), (), ())


def pair(was: Said, would: Said | None) -> Compared:
    body = {"decision_id": "d", "action": "job:submit", "job_id": "j", "policy_revision": "sha256:p"}
    return Compared(_Leaf(body), was, would)  # type: ignore[arg-type]


@dataclasses.dataclass
class _Leaf:
    """As much of an entry as is told of it."""

    body: dict[str, Any]


def test_a_flood_of_differences_is_counted_and_told_by_one_entry_an_hour() -> None:
    """The first of an hour singly; the others when it is over."""
    flood = [pair(YES, NO)] * (follower.AN_HOUR + 40)
    entries, seen = told(RUN, Seen(tenant="demo", run=1, place=0), flood, AT)
    assert [entry.kind for entry in entries] == [follower.DIFFERENCE] * follower.AN_HOUR
    assert (seen.told, seen.untold, seen.allow_to_deny) == (follower.AN_HOUR, 40, follower.AN_HOUR + 40)
    entries, seen = told(RUN, seen, flood[:1], AT + dt.timedelta(minutes=30))
    assert (entries, seen.untold) == ([], 41)
    entries, seen = told(RUN, seen, flood[:1], AT + dt.timedelta(minutes=60))
    assert [entry.kind for entry in entries] == [follower.COUNTED, follower.DIFFERENCE]
    assert entries[0].body["untold"] == 41
    assert (seen.told, seen.untold, seen.hour) == (1, 0, AT.replace(hour=11, minute=0))


def test_what_is_compared_and_what_is_not() -> None:
    assert compare.difference(YES, YES) is None
    assert compare.difference(YES, NO) == "allow_to_deny"
    assert compare.difference(NO, YES) == "deny_to_allow"
    assert compare.difference(NO, Said(False, ("y",), (), ())) == "other"
    body = {"allow": True, "reasons": ["b", "a"], "allowed_nodes": ["n2", "n1"]}
    duty = {"kind": "notify", "value": "ops", "because": "z", "rule": "r"}
    assert compare.recorded(body | {"obligations": [duty]}) == Said(
        True, ("a", "b"), (("notify", "ops"),), ("n1", "n2")
    )
