# SPDX-License-Identifier: Apache-2.0
"""A person's push on a plane without its processes: who may, and what is told either way (G2, G5, G13)."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from control_plane import policies
from control_plane.auth.providers import OidcIssuer
from control_plane.errors import Refused
from control_plane.policy import store, trial
from control_plane.policy.fault import Fault
from control_plane.policy.revision import PolicySet, load
from control_plane.policy.trial import Judgement
from control_plane.settings import Settings
from tests.control_plane.jobs.desk import Desk, person

SHIPPED = load()
ADMIN = person("ada", "demo", "quantum-admin")


@pytest.fixture(autouse=True)
def _judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is judged is another's matter: here the files decide nothing wrong but one."""

    async def judge(files: dict[str, bytes], _: object) -> Judgement:
        if "qcos/bad/bad.rego" in files:
            return Judgement(None, (Fault("qcos/bad/bad.rego", 3, "dialect", "http.send is not in the dialect"),) * 30)
        return Judgement(PolicySet.of(files), ())

    monkeypatch.setattr(trial, "judge", judge)


async def test_a_refused_push_is_told_with_its_faults_and_keeps_nothing(desk: Desk) -> None:
    with pytest.raises(Refused, match=r"bad\.rego:3: dialect: http\.send") as caught:
        await policies.pushed(desk.plane, ADMIN, {**SHIPPED.files, "qcos/bad/bad.rego": b"x"}, None, "")
    assert caught.value.code == "policy_refused"
    assert len(caught.value.errors) == 30
    assert desk.kinds()[-1] == "policy:push:refused"
    async with desk.plane.transaction(None) as conn:
        assert await store.history(conn, 10) == []


async def test_a_kept_push_is_told_and_the_next_is_on_it(desk: Desk) -> None:
    first = await policies.pushed(desk.plane, ADMIN, SHIPPED.files, None, "first")
    assert (first.number, first.base, first.actor, first.tenant) == (1, None, ADMIN.pseudonym, "demo")
    assert desk.kinds()[-1] == "policy:pushed"
    tests = {**SHIPPED.files, "qcos/quota/more_test.rego": b"package qcos.quota_test\n"}
    second = await policies.pushed(desk.plane, ADMIN, tests, first.revision, "a test")
    assert (second.number, second.revision) == (2, first.revision)  # a test decides nothing
    with pytest.raises(Refused) as caught:
        await policies.pushed(desk.plane, ADMIN, SHIPPED.files, "sha256:" + "0" * 64, "")
    assert caught.value.code == "policy_moved"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table["roles"]["quantum-admin"].remove("policy:push"), "granted to nobody"),
        (
            lambda table: (
                table["roles"]["quantum-admin"].remove("policy:push"),
                table["roles"]["auditor"].append("policy:push"),
            ),
            "none of your roles",
        ),
        (lambda table: table["decided_by_policy"].append("budget:set"), "no policy decides"),
    ],
    ids=["nobody", "not the author", "past the door"],
)
async def test_a_push_never_locks_out_its_author_nor_opens_the_door(desk: Desk, change: object, said: str) -> None:
    """G13, I5."""
    document = json.loads(SHIPPED.files["data/permissions.json"])
    change(document["permissions"])  # type: ignore[operator]  # a lambda of the table above
    files = {**SHIPPED.files, "data/permissions.json": json.dumps(document).encode()}
    with pytest.raises(Refused, match=said):
        await policies.pushed(desk.plane, ADMIN, files, None, "")


def test_policies_are_kept_by_the_tenants_that_are_named() -> None:
    """I7: the files name projects of every tenant."""

    def allowed(settings: Settings, tenant: str) -> bool:
        try:
            policies.require_tenant(settings, person("ada", tenant, "quantum-admin"))
        except Refused as refused:
            assert refused.code == "forbidden"
            return False
        return True

    one = OidcIssuer(issuer="https://a", audience="q", tenant="a")
    alone = Settings(profile="saas", oidc=(one,))
    assert [allowed(Settings(), tenant) for tenant in ("demo", "other")] == [True, False]
    assert [allowed(alone, tenant) for tenant in ("a", "demo")] == [True, False]
    several = replace(alone, oidc=(one, OidcIssuer(issuer="https://b", audience="q", tenant="b")))
    assert [allowed(several, tenant) for tenant in ("a", "b")] == [False, False]
    named = replace(several, policy_tenants=("b",))
    assert [allowed(named, tenant) for tenant in ("a", "b")] == [False, True]


async def test_a_push_that_obliges_to_tell_a_table_that_is_not_there_is_refused(desk: Desk) -> None:
    """Each job that it binds would be refused: better the push than they."""
    document = json.loads(SHIPPED.files["data/obligations.json"])
    document["obligations"]["rules"]["told"] = {"kind": "notify", "value": "finanze", "because": "a slip"}
    files = {**SHIPPED.files, "data/obligations.json": json.dumps(document, indent=2).encode()}
    with pytest.raises(
        Refused, match=r"data/obligations\.json:\d+: .* no \[\[notify\]\] or \[\[mail\]\] table finanze"
    ):
        await policies.pushed(desk.plane, ADMIN, files, None, "")
