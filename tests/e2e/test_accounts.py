# SPDX-License-Identifier: Apache-2.0
"""People, roles and projects are managed by commands on a whole plane, and each act is an entry (G13)."""

from __future__ import annotations

import base64
import json
from typing import Any

from tests.e2e.plane import Plane
from tests.own_plane import until

DEV = "urn:qcos:issuer:dev"


def told(plane: Plane, kind: str, least: int = 1) -> list[dict[str, Any]]:
    """The bodies of the tenant's sealed entries of this kind, oldest first; none before there are so many."""
    start, found = 0, []
    while True:
        page = plane.http("GET", f"/api/v1/ledger/entries?from={start}&limit=1000", user="auditor")
        found += [json.loads(base64.b64decode(one["leaf"]))["body"] for one in page.json if one["kind"] == kind]
        if "x-next-cursor" not in page.headers:
            return found if len(found) >= least else []
        start = int(page.headers["x-next-cursor"])


def test_the_first_administrator_is_named_on_the_planes_machine_and_the_second_by_the_first(plane: Plane) -> None:
    """G13: refused where there is one, with who that is; `--again` is for those who lost theirs, and is told."""
    first = ("admin", "bootstrap", "--issuer", DEV, "--tenant", "demo", "--json")
    done = plane.cli(*first, "--subject", "first")
    assert (done.code, done.json["role"], done.json["tenant"]) == (0, "quantum-admin", "demo"), done
    refused = plane.cli(*first, "--subject", "second")
    assert (refused.code, refused.problem["code"]) == (1, "conflict"), refused
    assert f"first of {DEV}" in refused.problem["detail"]
    assert plane.cli(*first, "--subject", "second", "--again", "--reason", "the first has left").json["again"]
    entries = until(lambda: told(plane, "identity:admin:bootstrapped", 2), "both entries are sealed")
    assert [(one["again"], one["reason"]) for one in entries] == [
        (False, "the first administrator"),
        (True, "the first has left"),
    ]
    assert entries[0]["user"] == done.json["user"]
    assert "first" not in {str(value) for value in entries[0].values()}, "the ledger has the pseudonym alone"


def test_nobody_becomes_administrator_by_a_name_that_no_token_can_have(plane: Plane) -> None:
    first = ("admin", "bootstrap", "--json")
    typo = plane.cli(*first, "--issuer", "https://login.exmaple.org", "--subject", "ann")
    assert (typo.code, typo.problem["code"]) == (2, "unusable_input"), typo
    assert DEV in typo.problem["detail"], "it says which issuers there are"
    unsaid = plane.cli(*first, "--issuer", DEV, "--subject", "ann")
    assert (unsaid.code, unsaid.problem["code"]) == (2, "usage"), unsaid
    unknown = plane.cli(*first, "--issuer", DEV, "--subject", "ann", "--tenant", "nowhere")
    assert (unknown.code, unknown.problem["code"]) == (2, "unusable_input"), unknown
