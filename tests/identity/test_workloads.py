# SPDX-License-Identifier: Apache-2.0
"""G13: a CI job's token, which a real provider gives by client credentials, becomes a service account's."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from tests.e2e.plane import Answer, Plane, bell
from tests.e2e.test_accounts import told
from tests.identity import oidc
from tests.identity.oidc import Provider

WHY = {"reason": "a test"}
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"


def pipeline(client_id: str, **claims: str) -> dict[str, object]:
    """A client of the provider that stands for a pipeline; its tokens carry these claims."""
    return {
        "client_id": client_id,
        "client_secret": "a secret of this test",
        "redirect_uris": [],
        "response_types": [],
        "grant_types": ["client_credentials"],
        "token_claims": {"resource": oidc.RESOURCE, **claims},
    }


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    clients = [
        pipeline("main", repository="acme/solver", ref="refs/heads/main"),
        pipeline("branch", repository="acme/solver", ref="refs/heads/try"),
        pipeline("stranger", repository="evil/solver", ref="refs/heads/main"),
    ]
    with oidc.running(clients, {}) as running:
        yield running


@pytest.fixture(scope="module")
def fading() -> Iterator[Provider]:
    """Another one, which a test ends."""
    with oidc.running([pipeline("main", repository="acme/solver", ref="refs/heads/main")], {}) as running:
        yield running


@pytest.fixture(scope="module")
def plane(provider: Provider, fading: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """A plane that takes these providers' tokens for workloads of `demo`, with an account and a rule for each."""
    config = tmp_path_factory.mktemp("config") / "qcos.toml"
    config.write_text(table(provider) + table(fading))
    running = Plane(
        QCOS_CONFIG=str(config), QCOS_WORKERS="1", QCOS_API_PROCESSES="2", QCOS_PROXY_NETWORKS="127.0.0.0/8,unix"
    )
    running.start()
    roles = [{"role": "quantum-user", "project": "demo"}]
    assert ask(running, "/service-accounts", {"name": "nightly", "roles": roles} | WHY).status == 201
    rule = {
        "account": "nightly",
        "claims": {"repository": "acme/solver", "ref": "refs/heads/main"},
        "projects": ["demo"],
        "actions": ["job:submit", "job:read", "result:read", "evidence:read"],
    }
    for one in (provider, fading):
        assert ask(running, "/workload-rules", rule | {"issuer": one.issuer} | WHY).status == 201
    yield running
    running.stop()


def table(provider: Provider) -> str:
    """The provider's table of qcos.toml."""
    said = {"issuer": provider.issuer, "audience": oidc.AUDIENCE, "tenant": "demo", "workload": True}
    return "\n".join(["[[oidc]]", *(f"{name} = {json.dumps(value)}" for name, value in said.items()), ""])


def ask(plane: Plane, path: str, body: Any) -> Answer:
    """A request of the tenant's administrator."""
    return plane.http("POST", f"/api/v1{path}", json.dumps(body).encode(), user="admin")


def token(provider: Provider, client_id: str) -> str:
    """What the provider gives a pipeline."""
    basic = base64.b64encode(f"{client_id}:a secret of this test".encode()).decode()
    form = urlencode({"grant_type": "client_credentials", "resource": oidc.RESOURCE}).encode()
    request = Request(f"{provider.issuer}/token", form, {"Authorization": f"Basic {basic}"})
    with urlopen(request, timeout=10) as answer:
        return str(json.loads(answer.read())["access_token"])


KIND = {"Content-Type": "application/x-www-form-urlencoded"}


def form(subject: str, **asked: str) -> bytes:
    """What a CI job asks for in exchange for its token."""
    said = {
        "grant_type": EXCHANGE,
        "subject_token": subject,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    }
    return urlencode(said | asked).encode()


def exchange(plane: Plane, subject: str, **asked: str) -> Answer:
    """The exchange of a CI job."""
    return plane.http("POST", "/api/v1/auth/token", form(subject, **asked), user=None, headers=KIND)


def test_a_pipelines_token_ends_in_a_governed_job(plane: Plane, provider: Provider, tmp_path: Path) -> None:
    """By the command that CI authors write: the evidence names the account, the ledger the pipeline."""
    (tmp_path / "token").write_text(token(provider, "main"))
    login = plane.cli("service", "login", "--token-file", str(tmp_path / "token"), "--json")
    assert login.code == 0, login.err
    assert login.json["subject"] == "service:nightly@demo"
    given = login.json["access_token"]
    ran = plane.http("POST", "/api/v1/jobs?wait=60", json.dumps(bell()).encode(), token=given)
    assert ran.json["state"] == "COMPLETED", ran
    evidence = plane.http("GET", f"/api/v1/jobs/{ran.json['job_id']}/evidence", token=given)
    assert b"service:nightly@demo" in evidence.body
    assert plane.http("GET", "/api/v1/ledger/checkpoint", token=given).status == 403, "beyond its rule's scope"
    credential = given.split(".")[1]
    (opened,) = [one for one in told(plane, "identity:session:opened") if one["opened"] == credential]
    assert opened["claims"] == {"repository": "acme/solver", "ref": "refs/heads/main"}
    assert given.rpartition(".")[2] not in json.dumps(opened)


def test_a_token_is_good_for_one_exchange_and_opens_no_door_itself(plane: Plane, provider: Provider) -> None:
    subject = token(provider, "main")
    assert plane.http("GET", "/api/v1/whoami", token=subject).code == "token_invalid"
    given = exchange(plane, subject, scope="job:read", expires_in="60")
    assert given.status == 200, given
    assert (given.json["expires_in"], given.json["scope"]) == (60, "job:read project=demo")
    again = exchange(plane, subject)
    assert (again.status, again.json["code"], again.json["error"]) == (400, "token_used", "invalid_request")


def test_of_one_token_exchanged_at_once_one_is_given(plane: Plane, provider: Provider) -> None:
    """By two processes of the API, each of which asks the database."""
    subject = token(provider, "main")
    with ThreadPoolExecutor(8) as pool:
        codes = sorted(answer.json.get("code", "given") for answer in pool.map(exchange, [plane] * 8, [subject] * 8))
    assert codes == ["given", *["token_used"] * 7]


def test_a_key_behind_a_proxy_holds_where_the_proxy_says_its_caller_is(plane: Plane) -> None:
    """On the socket, too, where the settings say that a proxy sits there; what stands before its word is forged."""
    key = ask(plane, "/service-accounts/nightly/keys", {"networks": ["203.0.113.0/24"]} | WHY).json["key"]
    for said, status in (("203.0.113.9", 200), ("198.51.100.9, 203.0.113.9", 200), ("203.0.113.9, 198.51.100.9", 401)):
        for unix in (False, True):
            answer = plane.http("GET", "/api/v1/whoami", token=key, headers={"X-Forwarded-For": said}, unix=unix)
            assert answer.status == status, said
    assert plane.http("GET", "/api/v1/whoami", token=key).status == 401


@pytest.mark.parametrize("client_id", ["branch", "stranger"])
def test_another_pipelines_token_is_refused(plane: Plane, provider: Provider, client_id: str) -> None:
    """Another branch, and another owner's repository of the same name: the issuer vouches for all of them."""
    refused = exchange(plane, token(provider, client_id))
    assert (refused.status, refused.json["code"]) == (400, "exchange_refused")


def test_a_rule_that_goes_takes_its_tokens_with_it_and_a_rule_for_everybody_is_refused(
    plane: Plane, provider: Provider
) -> None:
    issuer = {"issuer": provider.issuer, "account": "nightly"}
    anybody = ask(plane, "/workload-rules", issuer | {"claims": {"ref": "refs/heads/main"}} | WHY)
    assert (anybody.code, anybody.fields) == ("request_invalid", ["claims"])
    elsewhere = {"issuer": "https://token.actions.githubusercontent.com", "claims": {"repository": "acme/solver"}}
    unknown = ask(plane, "/workload-rules", issuer | elsewhere | WHY)
    assert (unknown.code, unknown.fields) == ("request_invalid", ["issuer"])
    made = ask(plane, "/workload-rules", issuer | {"claims": {"repository": "acme/*", "ref": "refs/heads/try"}} | WHY)
    given = exchange(plane, token(provider, "branch")).json["access_token"]
    assert plane.http("GET", "/api/v1/whoami", token=given).status == 200
    assert ask(plane, f"/workload-rules/{made.json['rule_id']}/remove", WHY).status == 200
    assert plane.http("GET", "/api/v1/whoami", token=given).code == "token_invalid"
    assert exchange(plane, token(provider, "branch")).json["code"] == "exchange_refused"


def test_a_rotated_key_is_fetched_and_a_provider_that_is_down_is_said_to_be(plane: Plane, fading: Provider) -> None:
    """503 in the RFC's words, and never a 500; tokens by a key that is known are still taken.

    Over one connection, so by one process of the API: each fetches keys for itself.
    """
    connection = plane.connection()

    def exchanged(subject: str) -> tuple[int, Any]:
        connection.request("POST", "/api/v1/auth/token", form(subject), KIND)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    assert exchanged(token(fading, "main"))[0] == 200
    fading.rotate()
    assert exchanged(token(fading, "main"))[0] == 200
    known = token(fading, "main")
    fading.rotate()
    unknown = token(fading, "main")
    fading.stop()
    status, refused = exchanged(unknown)
    assert (status, refused["code"], refused["error"]) == (503, "identity_unavailable", "temporarily_unavailable")
    assert exchanged(known)[0] == 200
    connection.close()
