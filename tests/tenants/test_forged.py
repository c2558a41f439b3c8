# SPDX-License-Identifier: Apache-2.0
"""G13, N13, I10: whatever is sent instead of a credential is 401 on a running plane, never a 500, and in no log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.plane import Answer
from tests.tenants.asking import HANDSHAKE, code
from tests.tenants.world import World

pytestmark = [pytest.mark.tenants, pytest.mark.timeout(300)]
VECTORS = Path(__file__).parents[1] / "vectors" / "credentials"
CODES = frozenset({"token_missing", "token_invalid", "token_expired"})
PERSON, SOCKET = "/api/v1/whoami", "/api/v1/discovery/network/topology/events"


def sent(world: World, path: str, headers: list[list[str]]) -> Answer:
    """A request with exactly these headers, some of which no client library would send."""
    # A socket that brings a cookie comes from the plane's own page, or that is what refuses it.
    handshake = HANDSHAKE | {"Origin": world.plane.status["url"]} if path == SOCKET else {}
    connection = world.plane.connection()
    try:
        connection.putrequest("GET", path)
        for name, value in [*headers, *handshake.items()]:
            connection.putheader(name, value.encode("latin-1"))
        connection.endheaders()
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read())
    finally:
        connection.close()


def corpus(world: World) -> list[dict[str, Any]]:
    """Every forgery: the files of tests/vectors/credentials, and the tokens made for this plane and this moment."""
    files = [case for path in sorted(VECTORS.glob("*.json")) for case in json.loads(path.read_text("utf-8"))]
    tokens = [
        {"name": case["name"], "headers": [["Authorization", f"Bearer {case['token']}"]], "code": case["code"]}
        for case in world.forger.forged()["refused"]
    ]
    return files + tokens


def test_every_forged_credential_is_401_as_a_request_and_as_a_socket(filled: World) -> None:
    cases = corpus(filled)
    wrong = []
    for path in (PERSON, SOCKET):
        for case in cases:
            answer = sent(filled, path, case["headers"])
            wanted = CODES if case["code"] is None else {case["code"]}
            challenged = answer.headers.get("www-authenticate", "").startswith("Bearer ")
            if answer.status != 401 or code(answer) not in wanted or not challenged:
                wrong.append(f"{path} {case['name']}: {answer.status} {answer.body[:200]!r}, wanted {wanted}")
    assert not wrong, "\n".join(wrong)
    logged = "\n".join(
        path.read_text("utf-8", "replace") for path in (filled.plane.home / "log").rglob("*") if path.is_file()
    )
    assert logged
    for case in cases:
        for _, value in case["headers"]:
            secret = value.rpartition(" ")[2].rpartition(".")[2]
            assert len(secret) < 16 or secret not in logged, case["name"]


def test_the_sound_token_of_the_same_issuer_is_let_in(filled: World) -> None:
    """The plane that refuses the forgeries isn't one that refuses everything."""
    answer = sent(filled, PERSON, [["Authorization", f"Bearer {filled.forger.token()}"]])
    assert (answer.status, answer.json["tenant"]) == (200, "demo"), answer
