# SPDX-License-Identifier: Apache-2.0
"""I7: somebody of another tenant with every role there, who knows every id, sees, changes and infers nothing."""

from __future__ import annotations

import json
import uuid
from typing import Any

import psycopg
import pytest

from control_plane.auth.matrix import Relation
from control_plane.auth.principal import ROLES
from control_plane.db import Database, conninfo
from tests.e2e.plane import Answer
from tests.tenants.asking import PARAMETER, RULES, ask, code, told
from tests.tenants.world import NOBODY, OTHER, OWN, World

pytestmark = [pytest.mark.tenants, pytest.mark.timeout(300)]
OURS: tuple[Relation, ...] = ("own_project", "other_project", "own_tenant", "own")
TENANTS_OWN = [rule for rule in RULES if rule.owner in ("project", "tenant", "self")]


def stranger(world: World) -> str:
    """Every role in the whole of another tenant."""
    return world.token("stranger", "other", *sorted(ROLES))


def get(world: World, path: str, **headers: str) -> Answer:
    """What the stranger is told."""
    return world.send("GET", f"/api/v1{path}", None, stranger(world), headers)


def post(world: World, path: str, document: Any, **headers: str) -> Answer:
    """What the stranger gets done."""
    return world.send("POST", f"/api/v1{path}", json.dumps(document).encode(), stranger(world), headers)


def secrets(world: World) -> set[str]:
    """What only the first tenant's people know: ids of theirs, names of projects and people, pseudonyms."""
    known = {value for place in OURS for name, value in world.ids.get(place, {}).items() if value != NOBODY.get(name)}
    rows = world.plane_rows(
        "SELECT pseudonym, actor FROM jobs.job WHERE tenant = 'demo'"
        " UNION SELECT entry_id::text, entry_id::text FROM ledger.entry WHERE tenant = 'demo'"
    )
    return known | {OWN, OTHER} | {str(one) for row in rows for one in row}


@pytest.mark.parametrize("rule", TENANTS_OWN, ids=lambda rule: f"{rule.method} {rule.path}")
def test_what_is_anothers_answers_as_what_is_nobodys(filled: World, rule: Any) -> None:
    """Each route that names a tenant's thing: the same status, headers and bytes, but for the id that was asked for."""
    names = PARAMETER.findall(rule.path)
    nothing = told(ask(filled, rule.method, rule.path, "nobody", stranger(filled)), *(NOBODY[n] for n in names))
    assert nothing[0] == 404
    for relation in OURS:
        given = [filled.ids.get(relation, {}).get(name) for name in names[:1]]
        if None in given:
            continue
        answer = ask(filled, rule.method, rule.path, relation, stranger(filled))
        assert told(answer, *(filled.id_of(name, relation) for name in names)) == nothing, relation


@pytest.mark.parametrize("rule", [r for r in RULES if r.method == "GET"], ids=lambda rule: rule.path)
def test_no_answer_names_anything_of_another_tenant(filled: World, rule: Any) -> None:
    """Each address that can be read, lists and what all tenants share among them, is silent about the others."""
    relation: Relation = "plane" if rule.owner == "plane" else "other_tenant"
    answer = ask(filled, rule.method, rule.path, "any" if rule.owner is None else relation, stranger(filled))
    body = answer.body.decode("latin-1")
    found = [name for name in secrets(filled) if name in body]
    assert not found, (answer.status, found)


def test_the_same_look_finds_what_is_there(filled: World) -> None:
    """The probe above is no test that passes by seeing nothing: to its own people the tenant does show."""
    body = filled.ask("GET", "/jobs", "demo", "auditor").body.decode()
    assert {filled.ids["own_project"]["job_id"], OWN, OTHER} <= {name for name in secrets(filled) if name in body}


def test_filters_cursors_and_places_of_another_tenants_lead_nowhere(filled: World) -> None:
    theirs = filled.ids["own_project"]
    page = filled.ask("GET", "/jobs?limit=1", "demo", "auditor")
    cursor = page.headers["x-next-cursor"]
    for path in (
        f"/jobs?cursor={cursor}",
        f"/jobs?project={OWN}",
        f"/approvals?state=all&cursor={cursor}",
        f"/reservations?project={OWN}",
        f"/reservations?node_id={filled.ids['plane']['node_id']}",
        f"/policy/decisions?cursor={cursor}",
        "/ledger/entries?limit=1000",
        "/retention/due?within_days=36500",
        "/retention/holds?released=true",
    ):
        answer = get(filled, path)
        assert answer.status == 200, (path, answer)
        assert not [name for name in secrets(filled) if name in answer.body.decode()], path
    shown = filled.ask("GET", f"/jobs/{theirs['job_id']}", "demo", "auditor")
    assert shown.status == 200


def test_no_place_of_the_log_tells_whose_entry_it_is(filled: World) -> None:
    """A proof is asked by index: another tenant's entry, a signature's leaf, and the far future answer alike."""
    ((theirs,), *_) = filled.plane_rows(
        "SELECT index FROM ledger.entry WHERE tenant = 'demo' ORDER BY index DESC LIMIT 1"
    )
    leaves = filled.plane_rows("SELECT index FROM ledger.entry WHERE tenant IS NULL ORDER BY index LIMIT 1")
    asked = [str(theirs), str(10**9), *(str(index) for (index,) in leaves)]
    first, *others = [told(get(filled, f"/ledger/entries/{index}/proof"), index) for index in asked]
    assert first[0] == 404
    assert all(one == first for one in others)
    ids = filled.plane_rows("SELECT entry_id::text FROM ledger.entry WHERE tenant = 'demo' AND entry_id IS NOT NULL")
    unknown = told(get(filled, f"/ledger/entries/{NOBODY['entry']}/proof"), NOBODY["entry"])
    assert all(told(get(filled, f"/ledger/entries/{entry}/proof"), entry) == unknown for (entry,) in ids[:50])


def test_an_idempotency_key_and_a_chosen_id_are_a_tenants_own(filled: World) -> None:
    """Neither tells that another tenant has used it, and neither leads to what it was used for."""
    key, chosen = str(uuid.uuid4()), f"chosen-{uuid.uuid4().hex[:12]}"
    ours = filled.spec(OWN) | {"job_id": chosen}
    token = filled.token("w-quantum-engineer", "demo", "quantum-engineer")
    body = json.dumps(ours).encode()
    first = filled.send("POST", "/api/v1/jobs", body, token, {"Idempotency-Key": key})
    assert first.status == 202, first
    spec = filled.spec("matrix-foreign") | {"job_id": chosen}
    second = post(filled, "/jobs", spec, **{"Idempotency-Key": key})
    assert (second.status, second.json["job_id"]) == (202, chosen)
    assert second.json["decision"]["id"] != first.json["decision"]["id"]
    mine = get(filled, f"/jobs/{chosen}?wait=30")
    assert mine.json["project"] == "matrix-foreign"
    still = filled.ask("GET", f"/jobs/{chosen}?wait=30", "demo", "auditor").json
    assert (still["project"], still["state"]) == (OWN, "COMPLETED")


def test_what_a_stranger_does_to_names_of_ours_is_done_to_their_own(filled: World) -> None:
    """Budgets, holds and names are a tenant's: those of ours stay what they were."""
    name = f"named-{uuid.uuid4().hex[:12]}"  # of this test alone: others look for the world's own names
    theirs = {"scope": f"project:{name}", "amount": "1000", "currency": "USD", "period": "monthly"}
    assert filled.ask("PUT", "/budgets", "demo", "quantum-admin", theirs).status == 200
    job = filled.ask("POST", "/jobs?wait=60", "demo", "quantum-engineer", filled.spec(name)).json["job_id"]
    before = filled.ask("GET", "/budgets", "demo", "quantum-admin").body
    body = json.dumps(theirs | {"amount": "1"}).encode()
    assert filled.send("PUT", "/api/v1/budgets", body, stranger(filled), {}).status == 200
    assert post(filled, "/retention/holds", {"scope": f"job:{job}", "reason": "a test"}).status == 201
    forget = {"actor": "user:w-quantum-engineer@demo", "reason": "a test"}
    assert code(post(filled, "/actors/forget", forget)) == "not_found"
    assert filled.ask("GET", "/budgets", "demo", "quantum-admin").body == before
    erased = filled.ask("POST", f"/jobs/{job}/erase", "demo", "quantum-admin", {"reason": "a test"})
    assert code(erased) == "retention_running", "no hold of another tenant's keeps it"


def test_the_database_shows_a_transaction_one_tenant_and_none_without(filled: World) -> None:
    """Row-level security, asked as the role of API and workers, in every table that has a tenant."""
    with psycopg.connect(conninfo(Database.of_home(filled.plane.home / "db").app)) as conn:
        tables = [
            name
            for (name,) in conn.execute(
                "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
                " WHERE c.relkind IN ('r', 'p') AND a.attname = 'tenant' AND has_table_privilege(c.oid, 'SELECT')"
            )
        ]
        assert len(tables) > 25
        seen: dict[str, set[str]] = {}
        for asker in ("", "other", "nobody"):
            conn.execute("SELECT set_config('qcos.tenant', %s, false)", (asker,))
            for table in tables:
                for (tenant,) in conn.execute(f"SELECT DISTINCT tenant FROM {table}".encode()):
                    seen.setdefault(asker, set()).add(str(tenant))
    assert not seen.get("", set()) - {"None", "_plane"}, seen
    assert seen["other"] - {"None", "_plane"} == {"other"}, seen
    assert not seen.get("nobody", set()) - {"None", "_plane"}, seen
