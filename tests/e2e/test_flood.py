# SPDX-License-Identifier: Apache-2.0
"""A flood of denials at a running plane: each has evidence that verifies offline, and the log stays short (G2, G3)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ledger.canonical import dumps
from tests.e2e.plane import Plane, bell

DENIALS = 60


@pytest.fixture(scope="module")
def flooded() -> Iterator[tuple[Plane, list[str]]]:
    """A plane of its own, and the denied jobs of one person."""
    plane = Plane(QCOS_WORKERS="1")
    plane.start()
    denied = bell(governance__purpose="production-benchmark")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: plane.submit(denied, "user"), range(DENIALS)))
    assert {(answer.status, answer.code) for answer in answers} == {(403, "policy_denied")}
    yield plane, [answer.json["job_id"] for answer in answers]
    plane.stop()


def bundle(plane: Plane, job: str) -> bytes:
    for _ in range(600):
        answer = plane.http("GET", f"/api/v1/jobs/{job}/evidence?", user="user")
        if answer.status == 200:
            return answer.body
        assert answer.code == "evidence_pending"
        plane.http("GET", f"/api/v1/jobs/{job}?wait=1", user="user")
    raise AssertionError("no evidence")


def judged(plane: Plane, data: bytes) -> Any:
    (plane.folder / "bundle.json").write_bytes(data)
    (plane.folder / "trust.json").write_bytes(plane.trust())
    return plane.cli("verify", "bundle.json", "--trust", "trust.json", "--json").json


def test_each_denial_of_a_flood_has_evidence_that_verifies_and_the_log_has_few_entries(
    flooded: tuple[Plane, list[str]],
) -> None:
    plane, jobs = flooded
    bundles = [bundle(plane, job) for job in jobs]
    folded = [data for data in bundles if b'"fold"' in data]
    assert len(folded) == DENIALS - 10
    for data in (bundles[0], folded[0], folded[-1]):
        found = judged(plane, data)
        assert (found["verdict"], found["reason"]) == ("valid", "every check passed")
    size = plane.cli("ledger", "verify", "--json").json
    assert size["ok"], size
    assert size["size"] < DENIALS
    assert plane.cli("ledger", "replay", "--compare", "--json").json["differences"] == []
    job = plane.get(f"/jobs/{jobs[-1]}", "user")
    assert (job["state"], job["evidence"]["state"]) == ("DENIED", "sealed")
    _a_changed_proof_is_found(plane, jobs)


def _a_changed_proof_is_found(plane: Plane, jobs: list[str]) -> None:
    """I4: another record, place, path or none at all."""
    file = json.loads(bundle(plane, jobs[-1]))
    fold = file["proof"]["fold"]
    other = json.loads(bundle(plane, jobs[-2]))["proof"]["fold"]
    flipped = bytearray(base64.b64decode(fold["path"][0]))
    flipped[0] ^= 1
    changes: list[dict[str, Any]] = [
        fold | {"index": fold["index"] ^ 1},
        fold | {"index": 10**6},
        fold | {"record": other["record"]},
        other,
        fold | {"path": fold["path"][1:]},
        fold | {"path": [*fold["path"], fold["path"][-1]]},
        fold | {"path": [base64.b64encode(flipped).decode(), *fold["path"][1:]]},
        fold | {"more": 1},
    ]
    assert judged(plane, dumps(file))["verdict"] == "valid"
    for change in changes:
        assert judged(plane, dumps(file | {"proof": file["proof"] | {"fold": change}}))["verdict"] == "invalid", change
    without = {name: value for name, value in file["proof"].items() if name != "fold"}
    assert judged(plane, dumps(file | {"proof": without}))["verdict"] == "invalid"
    whole = json.loads(bundle(plane, jobs[0]))
    assert judged(plane, dumps(whole | {"proof": whole["proof"] | {"fold": fold}}))["verdict"] == "invalid"
