# SPDX-License-Identifier: Apache-2.0
"""Recorded decisions are read as they were judged, by those who may, of their own tenant (G2, I7)."""

from __future__ import annotations

from typing import Any

import msgspec

from control_plane.policy.document import Document
from tests.e2e.plane import Plane, bell


def _all(plane: Plane, query: str) -> list[dict[str, Any]]:
    """Every page, of two each."""
    found: list[dict[str, Any]] = []
    more: str | None = ""
    while more is not None:
        answer = plane.http("GET", f"/api/v1/policy/decisions?limit=2{query}{more}", user="auditor")
        assert answer.status == 200, answer
        found += answer.json
        following = answer.headers.get("x-next-cursor")
        more = None if following is None else f"&cursor={following}"
    return found


def test_decisions_are_read_with_what_was_judged(plane: Plane) -> None:
    """G2: allowed and denied ones, oldest first, each with the document that the policies were given."""
    project = plane.project("10")
    first = plane.run(bell(governance__project=project))
    second = plane.run(bell(governance__project=project, governance__purpose="production"), user="user")
    third = plane.run(bell(governance__project=project, execution__shots=2000))
    since = first["history"][0]["at"]
    mine = [one for one in _all(plane, f"&since={since}") if one["project"] == project]
    assert [one["job_id"] for one in mine] == [job["job_id"] for job in (first, second, third)]
    assert [one["allow"] for one in mine] == [True, False, True]
    assert [one["state"] for one in mine] == ["COMPLETED", "DENIED", "COMPLETED"]
    judged = [msgspec.convert(one["input"], Document) for one in mine]
    assert [document.job.shots for document in judged] == [1000, 1000, 2000]
    assert mine[2]["charged"] == third["cost"]["amount"]
    one = plane.get(f"/policy/decisions/{second['decision']['id']}", user="admin")
    assert one == mine[1] | {"checks": second["decision"]["checks"]}
    assert plane.get(f"/policy/decisions/{second['job_id']}", user="admin") == one
    assert not [one for one in _all(plane, f"&since={since}&until={since}") if one["project"] == project]


def test_an_erased_input_is_said_to_be_gone(plane: Plane) -> None:
    job = plane.run(bell(governance__project=plane.project("10")))
    erased = plane.cli("retention", "erase", job["job_id"], "--reason", "asked for", "--early", "--json", user="admin")
    assert erased.code == 0, erased
    one = plane.get(f"/policy/decisions/{job['job_id']}", user="auditor")
    assert (one["gone"], one["input"], one["allow"]) == ("erased", None, True)


def test_decisions_are_the_tenants_own_and_not_everybodys(plane: Plane) -> None:
    """I7, G13: another tenant's decision doesn't exist; who has no rule to read them is refused."""
    job = plane.run(bell(governance__project=plane.project("10")))
    name = job["decision"]["id"]
    theirs = plane.submit(bell(), user="outsider").json["job_id"]
    assert plane.http("GET", f"/api/v1/policy/decisions/{name}", user="outsider").code == "not_found"
    since = job["history"][0]["at"]
    seen = plane.http("GET", f"/api/v1/policy/decisions?since={since}", user="outsider").json
    assert [one["job_id"] for one in seen] == [theirs]
    assert plane.http("GET", f"/api/v1/policy/decisions/{name}", user="user").code == "forbidden"
    assert plane.http("GET", "/api/v1/policy/decisions", user="finops").code == "forbidden"
    assert plane.http("GET", "/api/v1/policy/decisions/nothing", user="auditor").code == "not_found"
    assert plane.http("GET", "/api/v1/policy/decisions?since=tomorrow", user="auditor").code == "request_invalid"
    assert plane.http("GET", "/api/v1/policy/decisions?since=2026-02-31T00:00:00Z", user="auditor").status == 200
