# SPDX-License-Identifier: Apache-2.0
"""G13, S1: service accounts and their keys on a running plane: shown once, narrow, rotated, revoked at once."""

from __future__ import annotations

import itertools
import json
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.e2e.plane import Answer, Plane, bell
from tests.e2e.test_accounts import told

NUMBERS = itertools.count(1)
WHY = {"reason": "a test"}


def post(plane: Plane, path: str, body: Any, *, user: str = "admin", token: str | None = None) -> Answer:
    """A request below /api/v1."""
    return plane.http("POST", f"/api/v1{path}", json.dumps(body).encode(), user=user, token=token)


@pytest.fixture
def account(plane: Plane) -> str:
    """A fresh service account that may run jobs in the project `demo`."""
    name = f"robot-{next(NUMBERS)}"
    roles = [{"role": "quantum-user", "project": "demo"}]
    made = post(plane, "/service-accounts", {"name": name, "roles": roles} | WHY)
    assert made.status == 201, made
    assert (made.json["actor"], made.json["roles"]) == (f"service:{name}@demo", roles)
    return name


def key(plane: Plane, account: str, **asked: Any) -> Any:
    """A fresh key."""
    made = post(plane, f"/service-accounts/{account}/keys", asked | WHY)
    assert made.status == 201, made
    assert made.headers["cache-control"] == "no-store"
    return made.json


def test_a_key_runs_a_governed_job_and_lies_nowhere(plane: Plane, account: str) -> None:
    """The job's evidence names the account; the key is in no list, entry, row or log."""
    made = key(plane, account, projects=["demo"], actions=["job:submit", "job:read", "result:read", "evidence:read"])
    text = made["key"]
    who = plane.http("GET", "/api/v1/whoami", token=text).json
    assert who["actor"] == f"service:{account}@demo"
    ran = plane.http("POST", "/api/v1/jobs?wait=60", json.dumps(bell()).encode(), token=text)
    assert ran.json["state"] == "COMPLETED", ran
    job = ran.json["job_id"]
    evidence = plane.http("GET", f"/api/v1/jobs/{job}/evidence", token=text)
    assert f"service:{account}@demo" in evidence.body.decode()
    (listed,) = plane.http("GET", f"/api/v1/service-accounts/{account}/keys", user="auditor").json
    assert (listed["key_id"], listed["state"], listed["projects"]) == (made["key_id"], "standing", ["demo"])
    assert listed["used_at"] is not None
    secret = text.rpartition(".")[2]
    (entry,) = [one for one in told(plane, "identity:key:created") if one["key"] == made["key_id"]]
    assert (entry["service"], entry["projects"], entry["reason"]) == (account, ["demo"], "a test")
    assert secret not in json.dumps([listed, entry]) + evidence.body.decode()
    assert not [
        path for path in (plane.home / "log").rglob("*") if path.is_file() and secret in path.read_text("utf-8")
    ]


def test_a_key_is_as_narrow_as_it_was_made(plane: Plane, account: str) -> None:
    """Actions, project and source network; none gives what the account's roles don't."""
    reader = key(plane, account, actions=["job:read"])["key"]
    assert plane.http("GET", "/api/v1/jobs", token=reader).status == 200
    assert post(plane, "/jobs", bell(), token=reader).code == "forbidden"
    elsewhere = key(plane, account, projects=["demo"], actions=["service:manage", "job:read"])["key"]
    assert plane.http("GET", "/api/v1/service-accounts", token=elsewhere).code == "forbidden"
    far = key(plane, account, networks=["192.0.2.0/24", "2001:db8::/32"])["key"]
    refused = plane.http("GET", "/api/v1/whoami", token=far)
    assert (refused.status, refused.code) == (401, "token_invalid")
    forged = plane.http("GET", "/api/v1/whoami", token=far, headers={"X-Forwarded-For": "192.0.2.7"})
    assert forged.status == 401
    near = key(plane, account, networks=["127.0.0.0/8"])["key"]
    assert plane.http("GET", "/api/v1/whoami", token=near).status == 200
    assert plane.http("GET", "/api/v1/whoami", token=near, unix=True).status == 401, "a socket has no network"


def test_rotation_leaves_both_for_the_overlap_and_revoking_ends_one_at_once(plane: Plane, account: str) -> None:
    old = key(plane, account, actions=["job:read"], note="CI variable QCOS_TOKEN")
    path = f"/service-accounts/{account}/keys/{old['key_id']}"
    new = post(plane, f"{path}/rotate", {"overlap_s": 3600} | WHY).json
    assert new["replaces"] == old["key_id"]
    for text in (old["key"], new["key"]):
        assert plane.http("GET", "/api/v1/jobs", token=text).status == 200
    assert post(plane, "/jobs", bell(), token=new["key"]).code == "forbidden", "as narrow as the old one"
    narrower = exchange(plane, old["key"]).json["access_token"]
    assert plane.http("GET", "/api/v1/jobs", token=narrower).status == 200
    assert post(plane, f"{path}/revoke", WHY).json["state"] == "revoked"
    for text in (old["key"], narrower):
        assert plane.http("GET", "/api/v1/jobs", token=text).code == "token_invalid"
    assert plane.http("GET", "/api/v1/jobs", token=new["key"]).status == 200
    assert post(plane, f"{path}/revoke", WHY).code == "conflict"
    assert post(plane, f"{path}/rotate", WHY).code == "conflict"
    at_once = post(plane, f"/service-accounts/{account}/keys/{new['key_id']}/rotate", {"overlap_s": 0} | WHY).json
    assert plane.http("GET", "/api/v1/jobs", token=new["key"]).code == "token_expired"
    assert plane.http("GET", "/api/v1/jobs", token=at_once["key"]).status == 200


def test_a_removed_account_is_out_with_everything_it_held_and_its_name_with_it(plane: Plane, account: str) -> None:
    text = key(plane, account)["key"]
    narrower = exchange(plane, text).json["access_token"]
    assert plane.http("GET", "/api/v1/whoami", token=narrower).status == 200
    assert post(plane, f"/service-accounts/{account}/remove", WHY).json["removed_at"]
    for token in (text, narrower):
        assert plane.http("GET", "/api/v1/whoami", token=token).status in (401, 403)
    assert post(plane, f"/service-accounts/{account}/remove", WHY).code == "conflict"
    assert post(plane, f"/service-accounts/{account}/keys", WHY).code == "conflict"
    assert post(plane, "/service-accounts", {"name": account} | WHY).code == "conflict"


@pytest.mark.parametrize("user", ["engineer", "user", "auditor", "finops", "outsider"])
def test_only_an_administrator_of_the_tenant_makes_keys(plane: Plane, account: str, user: str) -> None:
    """I7: for another tenant's administrator the account isn't there; for everybody else the door is shut."""
    refused = post(plane, f"/service-accounts/{account}/keys", WHY, user=user)
    assert refused.code == "forbidden"
    assert post(plane, "/service-accounts", {"name": "mine"} | WHY, user=user).code == "forbidden"


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"networks": ["10.0.0.1/8"]}, "networks[0]"),
        ({"networks": ["127.0.0.1", "example.org"]}, "networks[1]"),
        ({"projects": ["nowhere"]}, "projects[0]"),
        ({"actions": ["job:*"]}, "actions[0]"),
        ({"actions": []}, "actions"),
        ({"expires_s": 31_708_800}, "expires_s"),
        ({"reason": " "}, "reason"),
    ],
)
def test_a_key_that_is_asked_for_wrongly_is_refused_by_field(
    plane: Plane, account: str, asked: dict[str, Any], field: str
) -> None:
    refused = post(plane, f"/service-accounts/{account}/keys", WHY | asked)
    assert (refused.code, refused.fields) == ("request_invalid", [field])


def exchange(plane: Plane, token: str, **asked: str) -> Answer:
    """A token exchange (RFC 8693)."""
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": token,
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
    } | asked
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    sent = urlencode({name: value for name, value in form.items() if value}).encode()
    return plane.http("POST", "/api/v1/auth/token", sent, user=None, headers=kind)


def test_somebody_exchanges_their_token_for_a_narrower_one(plane: Plane) -> None:
    """A person's token: the new one has their rights of the moment of use, within its scope."""
    given = exchange(plane, plane.tokens["engineer"], scope="job:read project=demo", expires_in="120")
    assert given.status == 200, given
    body = given.json
    assert (body["token_type"], body["expires_in"], body["scope"]) == ("Bearer", 120, "job:read project=demo")
    assert given.headers["cache-control"] == "no-store"
    token = body["access_token"]
    assert plane.http("GET", "/api/v1/jobs", token=token).status == 200
    assert post(plane, "/jobs", bell(), token=token).code == "forbidden"
    again = exchange(plane, token, scope="job:read job:submit")
    assert again.json["scope"] == "job:read project=demo", "never wider than what it was made from"
    assert again.json["expires_in"] <= 120
    assert exchange(plane, token, scope="job:submit").json["error"] == "invalid_scope"


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"grant_type": ""}, "invalid_request"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"subject_token": ""}, "invalid_request"),
        ({"subject_token": "no.to.ken"}, "invalid_request"),
        ({"subject_token": "qcos_key_demo.000000000000000000000000." + "A" * 43}, "invalid_request"),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"}, "invalid_request"),
        ({"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}, "invalid_request"),
        ({"actor_token": "x"}, "invalid_request"),
        ({"audience": "https://elsewhere.example"}, "invalid_target"),
        ({"scope": "everything"}, "invalid_scope"),
        ({"expires_in": "0"}, "invalid_request"),
    ],
)
def test_an_exchange_is_refused_in_the_words_of_the_rfc(plane: Plane, asked: dict[str, str], error: str) -> None:
    """RFC 6749 section 5.2 beside the plane's own code; nothing of the token is in the answer."""
    refused = exchange(plane, plane.tokens["engineer"], **asked)
    assert refused.status == 400, refused
    body = refused.json
    assert refused.headers["content-type"] == "application/json"
    assert (body["error"], body["status"]) == (error, 400)
    assert body["error_description"] == body["detail"] != ""
    assert plane.tokens["engineer"] not in refused.body.decode()


def test_the_command_line_does_it_all(plane: Plane) -> None:
    name = f"robot-{next(NUMBERS)}"
    made = plane.cli(
        *("service", "create", name, "--role", "quantum-user@demo", "--reason", "a test", "--json"), user="admin"
    )
    assert made.code == 0, made.err
    keyed = plane.cli(
        *("service", "key", "create", name, "--action", "job:submit", "--action", "job:read", "--project", "demo"),
        *("--network", "127.0.0.1", "--expires", "12h", "--reason", "a test", "--json"),
        user="admin",
    ).json
    whoami = plane.cli("whoami", "--json", QCOS_TOKEN=keyed["key"])
    assert whoami.json["actor"] == f"service:{name}@demo"
    rotated = plane.cli(
        *("service", "key", "rotate", name, keyed["key_id"], "--overlap", "1h", "--reason", "a test", "--json"),
        user="admin",
    ).json
    assert rotated["replaces"] == keyed["key_id"]
    assert plane.cli("service", "key", "revoke", name, keyed["key_id"], "--reason", "a test", user="admin").code == 0
    listed = plane.cli("service", "key", "list", name, "--json", user="auditor").json
    states = [(one["key_id"], one["state"]) for one in listed]
    assert states == [(rotated["key_id"], "standing"), (keyed["key_id"], "revoked")]
    assert plane.cli("whoami", "--json", QCOS_TOKEN=keyed["key"]).code == 4
    assert name in plane.cli("service", "list", user="auditor").out
